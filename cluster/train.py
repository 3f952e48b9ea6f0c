"""`python -m cluster.train`: the training of fmnist.train as a DDP job under Ray Train."""

from dataclasses import dataclass
from typing import Annotated

from rich.console import Console

from cluster.placement import parse_workers
from fmnist.cli import Flag, Presets, Topics, command
from fmnist.config import TrainConfig, topic
from fmnist.data.sources import NOT_NAMED, Source
from fmnist.recipes import RECIPES, recipe_config
from fmnist.runs.files import write_json
from fmnist.runs.run_folder import is_complete, open_run, saved_config
from fmnist.runs.summary import stage


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """Train one network with DDP under Ray Train, and leave it in runs/NAME/best/.

    Example: python -m cluster.train --recipe airnet-quick --workers 2
    """

    recipe: str = "airnet-quick"
    """Named config whose values are the defaults of the flags below: python -m fmnist.train
    --list-recipes shows them."""
    name: str | None = None
    """Name of the run folder, runs/NAME; by default the time."""
    resume: Annotated[bool, Flag] = False
    """Go on with runs/NAME, or with the newest training that is not complete, after its last whole
    epoch."""
    verbose: Annotated[bool, Flag] = False
    """Show what Ray prints."""
    address: str | None = topic("cluster", None)
    """Ray cluster to join: auto or HOST:6379, on one of its nodes; by default one is started on
    this machine."""
    storage: str | None = topic("cluster", None)
    """Where the run folder is kept: a folder that all nodes share, or s3://BUCKET/PREFIX. By
    default runs/, for one machine."""
    workers: str = topic("cluster", "")
    """Processes: a number, or MIN:MAX to go on with fewer when machines leave and with more when
    they come. By default one for each GPU, or for each node where there are none."""
    gpus_per_worker: float | None = topic("cluster", None)
    """1 where there are GPUs; 0 trains on CPUs."""
    source: Annotated[Source, Topics()] = NOT_NAMED
    config: Annotated[TrainConfig, Topics()] = RECIPES["airnet-quick"].config

    def __post_init__(self) -> None:
        parse_workers(self.workers)


@dataclass(frozen=True, kw_only=True)
class ClusterPreset:
    """The flags that decide the defaults of the others."""

    recipe: str = ""
    name: str | None = None
    resume: Annotated[bool, Flag] = False
    storage: str | None = None


def default_options(preset: ClusterPreset) -> ClusterOptions:
    """The recipe's values, or those that the run to be resumed was started with."""
    saved = None
    if preset.resume and not preset.recipe:
        from cluster.storage import open_storage  # here: PyTorch and PyArrow take seconds

        saved = saved_config(open_storage(preset.storage).run_to_resume(preset.name, "training"))
    if saved is not None:
        return ClusterOptions(config=TrainConfig.from_dict(saved["train"]))
    return ClusterOptions(config=recipe_config(preset.recipe or ClusterOptions.recipe))


def main(options: ClusterOptions) -> None:
    # Here: PyTorch and Ray take seconds to import, and --help does without.
    from cluster.connect import cluster
    from cluster.job import Request, fit
    from cluster.nodes import check_nodes
    from cluster.placement import place
    from cluster.shared_data import where_shared
    from cluster.storage import open_storage
    from fmnist.data.dataset import TrainingData, load_train, split_train
    from fmnist.models import build_model
    from fmnist.training.checkpoint import describe, open_data, save_checkpoint
    from fmnist.training.loop import check_batches
    from fmnist.training.tensorboard import FOLDER as BOARD

    console = Console(highlight=False, soft_wrap=True)
    storage = open_storage(options.storage)
    resumed = storage.run_to_resume(options.name, "training") if options.resume else None
    if is_complete(resumed):
        console.print(f"{resumed} is complete: nothing to do")
        return

    folder, info = open_data(options.source, resumed)
    config, train, validation = split_train(options.config, load_train(folder, info))
    data = TrainingData(train, validation, len(info.classes))
    build_model(config, info.problem)  # raises before Ray is started

    with cluster(options.address, verbose=options.verbose) as resources:
        batch = config.global_batch_size
        placement = place(resources, options.workers, options.gpus_per_worker, batch)
        check_batches(config, train)
        if options.address is not None:
            check_nodes(storage)

        name = resumed.name if resumed else options.name
        run = open_run(name, resume=options.resume, runs=storage.runs)
        with storage.mirrored(run, console.print):
            write_json(run / "config.json", describe(config, info))
            console.print(
                f"[bold]{run}[/]: {config.model} on {placement}, of {resources}; "
                f"{where_shared(data)}"
            )
            request = Request(config, data, placement, storage.state(run), storage.marker(run))
            with stage(run, "train") as found:
                result = fit(request, board=run / BOARD, title=config.model, console=console)
                found["validation_accuracy"] = result.kept.validation_accuracy
                found["config"] = result.config.to_dict()
            save_checkpoint(run / "best", result.model, result.config, info, result.to_dict())
    console.print(
        f"saved in {run / 'best'}; "
        f"next: python -m fmnist.evaluate {run}, or python -m export.to_onnx {run}"
    )


if __name__ == "__main__":
    command(ClusterOptions, main, presets=Presets(ClusterPreset, default_options))
