"""Train the winner of a search on all training images, test it once, and save it."""

from pathlib import Path

from rich.console import Console

from cluster.job import Request, fit
from cluster.placement import place
from fmnist.config import TrainConfig
from fmnist.data.dataset import Split, TrainingData
from fmnist.evaluation.figures import draw_confusion
from fmnist.evaluation.logits import model_logits
from fmnist.evaluation.metrics import classification_metrics
from fmnist.evaluation.plots import plot_curves
from fmnist.evaluation.predictions import PREDICTIONS, save_predictions
from fmnist.runs.files import write_json
from fmnist.runs.summary import stage
from fmnist.training.checkpoint import save_checkpoint
from fmnist.training.device import default_device
from fmnist.training.tensorboard import FOLDER as BOARD
from tune.setup import SearchSetup
from tune.state import TrialRecord

RETRAIN = "retrain"
"""Folder of the winner's training, in the run; once it is there, the search is closed."""


def final_config(setup: SearchSetup, best: TrialRecord) -> TrainConfig:
    """The winner's config for all training images, its schedule frozen.

    A trial that early stopping ended trains as many epochs as it kept.
    """
    epochs = setup.config.retrain_epochs
    if not epochs and best.config.early_stopping:
        epochs = best.kept_epoch
    return best.config.replace(
        train_images=0,
        validation_images=0,
        early_stopping=0,
        early_epochs=0,
        epochs=epochs or best.config.epochs,
        threads=setup.config.train.threads,
    )


def retrain(
    run: Path, setup: SearchSetup, best: TrialRecord, test: Split, console: Console
) -> None:
    """Train the winner under Ray Train; evaluate it once on the test set; save it to best/."""
    task = setup.task
    config = final_config(setup, best)
    placement = place(setup.resources, global_batch_size=config.global_batch_size)
    write_json(run / RETRAIN / "config.json", config.to_dict())
    console.print(
        f"winner: trial {best.number}, validation {best.accuracy:.2%}; "
        f"retrained on all {len(task.train):,} images by {placement}"
    )

    data = TrainingData(task.train, None, task.data.classes)
    state, seen = setup.storage.state(run, RETRAIN), setup.storage.marker(run)
    request = Request(config, data, placement, state, seen)
    with stage(run, "retrain") as found:
        board = run / BOARD / "winner"
        result = fit(request, board=board, title="winner", console=console)

        device = default_device()
        logits = model_logits(result.model.to(device), test.images, task.data.classes)
        metrics = classification_metrics(logits, test.labels)
        save_predictions(run / "best" / PREDICTIONS, logits, test, task.info.source)
        record = result.to_dict()
        plot_curves({"winner": record["epochs"]}, run / "figures/training.png")
        record |= {
            "validation_accuracy": best.accuracy,
            "trial": best.number,
            "test": metrics,
        }
        figure = run / "figures/confusion.png"
        draw_confusion(metrics, logits, test.labels, task.info.classes, figure)
        found |= {
            "validation_accuracy": best.accuracy,
            "trial_images": len(task.data.train),
            "test_accuracy": metrics["accuracy"],
            "test_images": metrics["images"],
            "config": result.config.to_dict(),
        }

    # After the summary: the weights say that the run is complete, so nothing may be missing then.
    model = result.model.cpu()
    save_checkpoint(run / "best", model, result.config, task.info, record)
