"""`python -m cluster.train --recipe airnet-quick`: the same training as fmnist.train, as a DDP job under Ray Train."""

from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.console import Console

from cluster.connect import cluster
from cluster.job import fit, parse_workers, place
from cluster.nodes import check_nodes
from cluster.storage import open_storage
from fmnist.board import FOLDER as BOARD
from fmnist.checkpoint import describe, open_data, save_checkpoint
from fmnist.cli import chosen, command, resumed_config, value_of
from fmnist.config import TrainConfig
from fmnist.data import NOT_NAMED, Source, load_train, split_train
from fmnist.loop import check_batches
from fmnist.models import build_model
from fmnist.recipes import RECIPES
from fmnist.run import is_complete, open_run, write_json
from fmnist.summary import stage


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """Train one network with DDP under Ray Train, and leave it in runs/NAME/best/.

    Example: python -m cluster.train --recipe airnet-quick --workers 2
    """

    recipe: str = "airnet-quick"
    """Named config whose values are the defaults of the flags below: python -m fmnist.train --list-recipes shows them."""
    name: str | None = None
    """Name of the run folder, runs/NAME; by default the time."""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Go on with runs/NAME, or with the newest run, after its last whole epoch."""
    source: Annotated[Source, tyro.conf.arg(name="")] = NOT_NAMED
    address: str | None = None
    """Ray cluster to join: auto or HOST:6379, on one of its nodes; by default one is started on this machine."""
    storage: str | None = None
    """Where the run folder is kept: a folder that all nodes share, or s3://BUCKET/PREFIX; by default runs/, for one machine."""
    workers: str = ""
    """Processes: a number, or MIN:MAX to go on with fewer when machines leave and with more when they come. By default one for each
    GPU, or for each node where there are none."""
    gpus_per_worker: float | None = None
    """1 where there are GPUs; 0 trains on CPUs."""
    verbose: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Let Ray say what it does."""
    config: Annotated[TrainConfig, tyro.conf.arg(name="")]
    """What to train."""


def main(options: ClusterOptions) -> None:
    console = Console(highlight=False, soft_wrap=True)
    parse_workers(options.workers)
    storage = open_storage(options.storage)
    resumed = storage.run_to_resume(options.name) if options.resume else None
    if is_complete(resumed):
        console.print(f"{resumed} is complete: nothing to do")
        return
    folder, info = open_data(options.source, resumed)
    config, train, validation = split_train(options.config, load_train(folder, info))
    build_model(config, info.problem)  # raises before Ray is started
    with cluster(options.address, verbose=options.verbose) as resources:
        placement = place(resources, options.workers, options.gpus_per_worker, config.global_batch_size)
        check_batches(config, train)
        if options.address is not None:
            check_nodes(storage)
        run = open_run(resumed.name if resumed else options.name, resume=options.resume, runs=storage.runs)
        with storage.mirrored(run, console.print):
            write_json(run / "config.json", describe(config, info))
            console.print(f"[bold]{run}[/]: {config.model} on {placement}, of {resources}")
            with stage(run, "train") as found:
                trained = fit(
                    config,
                    train,
                    validation,
                    classes=len(info.classes),
                    placement=placement,
                    state=storage.state(run),
                    seen=storage.marker(run),
                    board=run / BOARD,
                    title=config.model,
                    console=console,
                )
                accuracy = trained.history[trained.kept_epoch - 1]["validation_accuracy"]
                found |= {"validation_accuracy": accuracy, "config": trained.config.to_dict()}
            metrics = {"validation_accuracy": accuracy, "epoch": trained.kept_epoch, "epochs": trained.history}
            save_checkpoint(run / "best", trained.model, trained.config, info, metrics)
    console.print(f"saved in {run / 'best'}; next: python -m fmnist.evaluate {run}, or python -m export.to_onnx {run}")


def default_options() -> ClusterOptions:
    """The recipe, or what the run to be resumed was started with."""
    if (saved := resumed_config("--recipe", lambda name: open_storage(value_of("--storage")).run_to_resume(name))) is None:
        return ClusterOptions(config=chosen("--recipe", RECIPES, ClusterOptions.recipe).config)
    return ClusterOptions(config=TrainConfig.from_dict(saved["train"]))


if __name__ == "__main__":
    command(ClusterOptions, main, default_options)
