"""`python -m fmnist.train`: train one network in this process, without Ray."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console

from fmnist.cli import Flag, Presets, Topics, command, plural
from fmnist.config import TrainConfig
from fmnist.data.info import DataInfo
from fmnist.data.sources import NOT_NAMED, Source
from fmnist.recipes import RECIPES, recipe_config
from fmnist.runs.run_folder import is_complete, open_run, run_to_resume, saved_config
from fmnist.runs.summary import stage

if TYPE_CHECKING:
    from fmnist.data.dataset import TrainingData


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Train one network in this process, on a CPU or one GPU, and leave it in runs/NAME/best/.

    Example: python -m fmnist.train --recipe airnet-quick --epochs 4 --name first
    """

    recipe: str = "airnet-quick"
    """Named config whose values are the defaults of the flags below: --list-recipes shows them."""
    name: str | None = None
    """Name of the run folder, runs/NAME; by default the time."""
    resume: Annotated[bool, Flag] = False
    """Go on with runs/NAME, or with the newest training that is not complete, after its last whole
    epoch, exactly as if it had not been interrupted."""
    dry_run: Annotated[bool, Flag] = False
    """Show the plan, measured on a few batches, and stop."""
    show_augmentation: Path | None = None
    """Draw what augmentation makes of some training images into this PNG file, and stop."""
    list_models: Annotated[bool, Flag] = False
    """Show the networks, and stop."""
    list_recipes: Annotated[bool, Flag] = False
    """Show the recipes, and stop."""
    source: Annotated[Source, Topics()] = NOT_NAMED
    config: Annotated[TrainConfig, Topics()] = RECIPES["airnet-quick"].config


@dataclass(frozen=True, kw_only=True)
class TrainPreset:
    """The flags that decide the defaults of the others."""

    recipe: str = ""
    name: str | None = None
    resume: Annotated[bool, Flag] = False


def default_options(preset: TrainPreset) -> TrainOptions:
    """The recipe's values, or those that the run to be resumed was started with."""
    saved = None
    if preset.resume and not preset.recipe:
        saved = saved_config(run_to_resume(preset.name))
    if saved is not None:
        return TrainOptions(config=TrainConfig.from_dict(saved["train"]))
    return TrainOptions(config=recipe_config(preset.recipe or TrainOptions.recipe))


def main(options: TrainOptions) -> None:
    # Here: PyTorch takes seconds to import, and --help does without.
    from fmnist.data.dataset import TrainingData, load_train, split_train
    from fmnist.listing import list_models, list_recipes, show
    from fmnist.training.checkpoint import open_data
    from fmnist.training.device import default_device, resolve, set_threads
    from fmnist.training.loop import check_batches

    if show({list_models: options.list_models, list_recipes: options.list_recipes}):
        return
    console = Console(highlight=False, soft_wrap=True)
    resumed = run_to_resume(options.name) if options.resume else None
    if is_complete(resumed):
        console.print(f"{resumed} is complete: nothing to do")
        return

    folder, info = open_data(options.source, resumed)
    requested = resolve(options.config, default_device())
    config, train, validation = split_train(requested, load_train(folder, info))
    check_batches(config, train)
    if options.show_augmentation is not None:
        # Here: Matplotlib takes a second more.
        from fmnist.evaluation.augmentations import show_augmentation

        show_augmentation(config, train, options.show_augmentation)
        console.print(f"drawn: {options.show_augmentation}")
        return

    set_threads(config)
    data = TrainingData(train, validation, len(info.classes))
    if options.dry_run:
        _dry_run(config, data, info, console)
        return

    plan = _plan(config, data, info)
    run = open_run(resumed.name if resumed else options.name, resume=options.resume)
    console.print(f"[bold]{run}[/]: {plan}")
    _train(run, config, data, info, console)


def _plan(config: TrainConfig, data: "TrainingData", info: DataInfo) -> str:
    """What will be trained, in words. Raises InputError if the network cannot be built."""
    # Here: as in main.
    from fmnist.models import count_parameters
    from fmnist.training.device import default_device
    from fmnist.training.feed import where_held
    from fmnist.training.loop import start_training

    device = default_device()
    parameters = count_parameters(start_training(config, data, device).model)
    return (
        f"{config.model}, {parameters:,} parameters, {len(data.train):,} images of {info.name}, "
        f"{plural(config.epochs, 'epoch')}, {config.precision} on {device.type}; "
        f"{where_held(data.train.images, device)}"
    )


def _dry_run(config: TrainConfig, data: "TrainingData", info: DataInfo, console: Console) -> None:
    """Print the plan and how long it would take."""
    # Here: as in main.
    from fmnist.training.device import Rank, default_device
    from fmnist.training.throughput import measure_speed

    plan = _plan(config, data, info)
    speed = measure_speed(config, data, Rank(default_device()))
    minutes = config.epochs * len(data.train) / speed / 60
    console.print(f"plan: {plan}: {speed:,.0f} images/s, about {minutes:.1f} minutes")


def _train(
    run: Path, config: TrainConfig, data: "TrainingData", info: DataInfo, console: Console
) -> None:
    """Train in the run folder, and record its figures in summary.json."""
    # Here: as in main.
    from fmnist.training.session import train_in

    with stage(run, "train") as figures:
        result = train_in(run, config, data, info, console)
        assert result is not None, "it had no deadline"
        figures["validation_accuracy"] = result.kept.validation_accuracy
        figures["config"] = config.to_dict()
    console.print(
        f"saved in {run / 'best'}; "
        f"next: python -m fmnist.evaluate {run}, or python -m export.to_onnx {run}"
    )


if __name__ == "__main__":
    command(TrainOptions, main, presets=Presets(TrainPreset, default_options))
