"""`python -m fmnist.train --recipe airnet-quick`: train in this process, without Ray, and leave a run folder."""

from dataclasses import dataclass
from typing import Annotated, Any

import tyro
from rich.console import Console

from fmnist.checkpoint import describe, load_state, save_checkpoint, save_state
from fmnist.cli import chosen, command
from fmnist.config import TrainConfig
from fmnist.data import find_data, load_info, load_train, split_train
from fmnist.device import default_device, resolve, set_threads
from fmnist.errors import InputError
from fmnist.loop import DivergedError, check_batches, train_epochs
from fmnist.models import build_model, count_parameters
from fmnist.progress import TrainingBar
from fmnist.recipes import RECIPES
from fmnist.run import RUNS, is_complete, open_run, write_json
from fmnist.summary import stage

STATE_FILE = "last.pt"


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Train one network in this process, on a CPU or one GPU, and leave it in runs/NAME/best/.

    Example: python -m fmnist.train --recipe airnet-quick --epochs 4 --name first
    """

    recipe: str = "airnet-quick"
    """Named config whose values are the defaults of the flags below: see fmnist/recipes.py."""
    name: str | None = None
    """Name of the run folder, runs/NAME; by default the time."""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Go on with runs/NAME after its last whole epoch, exactly as if it had not been interrupted."""
    data: str | None = None
    """Folder with the four files of the MNIST format; by default Fashion-MNIST is found or fetched."""
    config: Annotated[TrainConfig, tyro.conf.arg(name="")]
    """What to train."""


def main(options: TrainOptions) -> None:
    console = Console()
    if is_complete(options.name, options.resume):
        console.print(f"{RUNS}/{options.name} is complete: nothing to do")
        return
    device = default_device()
    config = resolve(options.config, device)
    folder = find_data(options.data)
    info = load_info(folder)
    model = build_model(config, classes=len(info.classes))
    train, validation = split_train(
        load_train(folder), validation_images=config.validation_images, train_images=config.train_images
    )
    check_batches(config, len(train))
    run = open_run(options.name, resume=options.resume)
    state_path = run / STATE_FILE
    resume = load_state(state_path) if options.resume and state_path.exists() else None
    history: list[dict[str, Any]] = resume["history"] if resume else []
    if resume:
        model.load_state_dict(resume["model"])  # killed after the last epoch, there may be none left to run
    write_json(run / "config.json", describe(config, info))
    console.print(
        f"[bold]{run}[/]: {config.model}, {count_parameters(model):,} parameters, {len(train):,} images, "
        f"{config.epochs} epochs, {config.precision} on {device.type}",
        highlight=False,
        soft_wrap=True,
    )
    set_threads(config)
    with stage(run, "train") as found:
        try:
            with TrainingBar(config.epochs, config.model, console) as bar:
                for metrics, state in train_epochs(
                    config, train, validation, classes=len(info.classes), device=device, on_step=bar.on_step, resume=resume
                ):
                    bar.on_epoch(metrics)
                    history.append(metrics.to_dict())
                    save_state(state_path, state.state_dict() | {"history": history})
                    model = state.model
        except DivergedError as error:
            raise InputError(str(error)) from error
        accuracy = history[-1]["validation_accuracy"]
        found |= {"validation_accuracy": accuracy, "config": config.to_dict()}
    save_checkpoint(run / "best", model, config, info, {"validation_accuracy": accuracy, "epochs": history})
    console.print(
        f"saved in {run / 'best'}; next: python -m fmnist.evaluate {run}, or python -m export.to_onnx {run}",
        highlight=False,
        soft_wrap=True,
    )


if __name__ == "__main__":
    recipe = chosen("--recipe", RECIPES, TrainOptions.recipe)
    command(TrainOptions, main, default=TrainOptions(config=recipe))
