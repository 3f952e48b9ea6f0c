"""`python -m cluster.train --recipe airnet-quick`: the same training as fmnist.train, as a DDP job under Ray Train."""

from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.console import Console

from cluster.connect import cluster
from cluster.job import fit, place
from fmnist.checkpoint import describe, save_checkpoint
from fmnist.cli import chosen, command
from fmnist.config import TrainConfig
from fmnist.data import find_data, load_info, load_train, split_train
from fmnist.loop import check_batches
from fmnist.recipes import RECIPES
from fmnist.run import RUNS, is_complete, open_run, write_json
from fmnist.summary import stage


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """Train one network with DDP under Ray Train, and leave it in runs/NAME/best/.

    Example: python -m cluster.train --recipe airnet-quick --workers 2
    """

    recipe: str = "airnet-quick"
    """Named config whose values are the defaults of the flags below: see fmnist/recipes.py."""
    name: str | None = None
    """Name of the run folder, runs/NAME; by default the time."""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Go on with runs/NAME after its last whole epoch."""
    data: str | None = None
    """Folder with the four files of the MNIST format; by default Fashion-MNIST is found or fetched."""
    address: str | None = None
    """Ray cluster to join, such as auto or ray://host:10001; by default one is started on this machine."""
    workers: int = 0
    """Processes, each with a GPU where there are any; 0 takes one per GPU, or one with all CPU threads."""
    config: Annotated[TrainConfig, tyro.conf.arg(name="")]
    """What to train."""


def main(options: ClusterOptions) -> None:
    console, config = Console(), options.config
    if is_complete(options.name, options.resume):
        console.print(f"{RUNS}/{options.name} is complete: nothing to do")
        return
    folder = find_data(options.data)
    info = load_info(folder)
    train, validation = split_train(
        load_train(folder), validation_images=config.validation_images, train_images=config.train_images
    )
    with cluster(options.address) as resources:
        placement = place(resources, options.workers)
        check_batches(config, len(train), placement.workers)
        run = open_run(options.name, resume=options.resume)
        write_json(run / "config.json", describe(config, info))
        console.print(f"[bold]{run}[/]: {config.model} on {placement}, of {resources}", highlight=False, soft_wrap=True)
        with stage(run, "train") as found:
            trained = fit(
                config,
                train,
                validation,
                classes=len(info.classes),
                placement=placement,
                folder=run / "train",
                title=config.model,
                console=console,
            )
            accuracy = trained.history[-1]["validation_accuracy"]
            found |= {"validation_accuracy": accuracy, "config": trained.config.to_dict()}
        metrics = {"validation_accuracy": accuracy, "epochs": trained.history}
        save_checkpoint(run / "best", trained.model, trained.config, info, metrics)
    console.print(
        f"saved in {run / 'best'}; next: python -m fmnist.evaluate {run}, or python -m export.to_onnx {run}",
        highlight=False,
        soft_wrap=True,
    )


if __name__ == "__main__":
    command(ClusterOptions, main, default=ClusterOptions(config=chosen("--recipe", RECIPES, ClusterOptions.recipe)))
