"""`python -m cluster.train --recipe airnet-quick`: the same training as fmnist.train, as a DDP job under Ray Train."""

from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.console import Console

from cluster.connect import cluster
from cluster.job import fit, place
from fmnist.board import FOLDER as BOARD
from fmnist.checkpoint import describe, open_data, save_checkpoint
from fmnist.cli import chosen, command, resumed_config
from fmnist.config import TrainConfig
from fmnist.data import NOT_NAMED, Source, load_train, split_train
from fmnist.loop import check_batches
from fmnist.models import build_model
from fmnist.recipes import RECIPES
from fmnist.run import is_complete, open_run, run_to_resume, write_json
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
    """Ray cluster to join, such as auto or ray://host:10001; by default one is started on this machine."""
    workers: int = 0
    """Processes, each with a GPU where there are any; 0 takes one per GPU, or one with all CPU threads."""
    verbose: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Let Ray say what it does."""
    config: Annotated[TrainConfig, tyro.conf.arg(name="")]
    """What to train."""


def main(options: ClusterOptions) -> None:
    console = Console(highlight=False, soft_wrap=True)
    resumed = run_to_resume(options.name) if options.resume else None
    if is_complete(resumed):
        console.print(f"{resumed} is complete: nothing to do")
        return
    folder, info = open_data(options.source, resumed)
    config, train, validation = split_train(options.config, load_train(folder, info))
    build_model(config, info.problem)  # raises before Ray is started
    with cluster(options.address, verbose=options.verbose) as resources:
        placement = place(resources, options.workers)
        check_batches(config, train, placement.workers)
        run = open_run(resumed.name if resumed else options.name, resume=options.resume)
        write_json(run / "config.json", describe(config, info))
        console.print(f"[bold]{run}[/]: {config.model} on {placement}, of {resources}")
        with stage(run, "train") as found:
            trained = fit(
                config,
                train,
                validation,
                classes=len(info.classes),
                placement=placement,
                folder=run / "train",
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
    if (saved := resumed_config("--recipe")) is None:
        return ClusterOptions(config=chosen("--recipe", RECIPES, ClusterOptions.recipe).config)
    return ClusterOptions(config=TrainConfig.from_dict(saved["train"]))


if __name__ == "__main__":
    command(ClusterOptions, main, default_options)
