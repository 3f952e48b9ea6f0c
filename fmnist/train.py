"""`python -m fmnist.train --recipe airnet-quick`: train in this process, without Ray, and leave a run folder."""

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.console import Console

from fmnist.augment import Augmentation, ImageTable
from fmnist.board import FOLDER as BOARD
from fmnist.board import Board
from fmnist.checkpoint import describe, load_state, open_data, save_checkpoint, save_state
from fmnist.cli import chosen, command, resumed_config
from fmnist.config import TrainConfig
from fmnist.data import NOT_NAMED, DataInfo, Source, Split, load_train, pixel_statistics, split_train
from fmnist.device import default_device, resolve, set_threads
from fmnist.errors import InputError
from fmnist.listing import list_models, list_recipes, show
from fmnist.loop import DivergedError, check_batches, start_training, train_epochs
from fmnist.models import count_parameters
from fmnist.plan import measure_speed
from fmnist.progress import TrainingBar
from fmnist.recipes import RECIPES
from fmnist.run import is_complete, open_run, run_to_resume, write_json
from fmnist.summary import stage

STATE_FILE = "last.pt"


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Train one network in this process, on a CPU or one GPU, and leave it in runs/NAME/best/.

    Example: python -m fmnist.train --recipe airnet-quick --epochs 4 --name first
    """

    recipe: str = "airnet-quick"
    """Named config whose values are the defaults of the flags below: --list-recipes shows them."""
    name: str | None = None
    """Name of the run folder, runs/NAME; by default the time."""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Go on with runs/NAME, or with the newest run, after its last whole epoch, exactly as if it had not been interrupted."""
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show the plan, measured on a few batches, and stop."""
    show_augmentation: Path | None = None
    """Draw what augmentation makes of some training images into this PNG file, and stop."""
    list_models: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show the networks, and stop."""
    list_recipes: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show the recipes, and stop."""
    source: Annotated[Source, tyro.conf.arg(name="")] = NOT_NAMED
    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)
    """What to train."""


def main(options: TrainOptions) -> None:
    if show({list_models: options.list_models, list_recipes: options.list_recipes}):
        return
    console = Console(highlight=False, soft_wrap=True)
    resumed = run_to_resume(options.name) if options.resume else None
    if is_complete(resumed):
        console.print(f"{resumed} is complete: nothing to do")
        return
    device = default_device()
    folder, info = open_data(options.source, resumed)
    config, train, validation = split_train(resolve(options.config, device), load_train(folder, info))
    check_batches(config, train)
    if options.show_augmentation is not None:
        show_augmentation(config, train, options.show_augmentation)
        console.print(f"drawn: {options.show_augmentation}")
        return
    set_threads(config)
    fresh = start_training(config, train, len(info.classes), device)
    what = f"{config.model}, {count_parameters(fresh.model):,} parameters, {len(train):,} images of {info.name}"
    how = f"{config.epochs} epoch{'s' * (config.epochs > 1)}, {config.precision} on {device.type}"
    if options.dry_run:
        speed = measure_speed(config, train, len(info.classes), device)
        minutes = config.epochs * len(train) / speed / 60
        console.print(f"plan: {what}, {how}: {speed:,.0f} images/s, about {minutes:.1f} minutes")
        return
    run = open_run(resumed.name if resumed else options.name, resume=options.resume)
    console.print(f"[bold]{run}[/]: {what}, {how}")
    with stage(run, "train") as found:
        trained = train_in(run, config, train, validation, info, console)
        assert trained is not None, "it had no deadline"
        found |= {"validation_accuracy": trained["validation_accuracy"], "config": config.to_dict()}
    console.print(f"saved in {run / 'best'}; next: python -m fmnist.evaluate {run}, or python -m export.to_onnx {run}")


def show_augmentation(config: TrainConfig, train: Split, path: Path, images: int = 6, epochs: int = 9) -> None:
    """Draw the first training images, each as it is and as it would be trained on in the first epochs."""
    from fmnist.plots import plot_augmentations  # here: a second to import

    count, device = min(images, len(train)), torch.device("cpu")
    few = train.images[:count]
    table, index = ImageTable(few, config.shift, device), torch.arange(count)
    statistics = pixel_statistics(train.images)
    draws = (Augmentation.draw(config, epoch, count, few.shape[-1], *statistics, device) for epoch in range(1, epochs + 1))
    columns = [few, *(augmentation.take(table, index) for augmentation in draws)]
    plot_augmentations(torch.stack(columns, 1).numpy(), path)


def train_in(
    run: Path,
    config: TrainConfig,
    train: Split,
    validation: Split | None,
    info: DataInfo,
    console: Console,
    deadline: float = math.inf,
) -> dict[str, Any] | None:
    """Train in a run folder, from the last whole epoch on that it holds; save each epoch, and the checkpoint at the end.

    Args:
        deadline: of time.monotonic(); the training stops after the first epoch that ends later.

    Returns:
        metrics.json: validation_accuracy, epoch (whose weights are kept) and epochs (EpochMetrics as dicts); None at the deadline.

    Raises:
        InputError: the folder holds a training of another config, or the loss is no longer finite.
    """
    device, path = default_device(), run / STATE_FILE
    resume = load_state(path) if path.exists() else None
    state = start_training(config, train, len(info.classes), device)
    if resume:
        state.load_state_dict(resume)  # which raises before anything is written if the config is another
    write_json(run / "config.json", describe(config, info))
    history: list[dict[str, Any]] = resume["history"] if resume else []
    try:
        with TrainingBar(config.epochs, config.model, console) as bar, Board(run / BOARD, len(history)) as board:
            for metrics, state in train_epochs(
                config, train, validation, classes=len(info.classes), device=device, on_step=bar.on_step, resume=resume
            ):
                history.append(metrics.to_dict())
                save_state(path, state.state_dict() | {"history": history})
                bar.on_epoch(metrics)
                board.on_epoch(metrics.to_dict())
                if time.monotonic() > deadline and not state.finished:
                    return None
    except DivergedError as error:
        raise InputError(str(error)) from error
    if state.kept_epoch < state.epoch:
        console.print(f"stopped early: nothing better since epoch {state.kept_epoch}, whose weights are kept")
    kept = history[state.kept_epoch - 1]
    found = {"validation_accuracy": kept["validation_accuracy"], "epoch": state.kept_epoch, "epochs": history}
    save_checkpoint(run / "best", state.model, config, info, found)
    return found


def default_options() -> TrainOptions:
    """The recipe, or what the run to be resumed was started with."""
    if (saved := resumed_config("--recipe")) is None:
        return TrainOptions(config=chosen("--recipe", RECIPES, TrainOptions.recipe).config)
    return TrainOptions(config=TrainConfig.from_dict(saved["train"]))


if __name__ == "__main__":
    command(TrainOptions, main, default_options)
