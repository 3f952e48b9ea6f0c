"""TensorBoard files of a training: `tensorboard --logdir runs` shows every run, and every trial of a search."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tensorboardX import SummaryWriter
from tensorboardX.summary import hparams

FOLDER = "tensorboard"
CHARTS = {
    "loss/train": "train_loss",
    "loss/validation": "validation_loss",
    "accuracy/train": "train_accuracy",
    "accuracy/validation": "validation_accuracy",
    "lr": "lr",
    "images_per_s": "images_per_s",
}


class Board:
    """Writes a point per epoch to each chart.

    Args:
        folder: where the files go.
        epochs_done: of a training that is resumed; what an interrupted one wrote beyond them is taken back.
    """

    def __init__(self, folder: Path, epochs_done: int = 0) -> None:
        self.writer = SummaryWriter(str(folder), purge_step=epochs_done + 1, write_to_disk=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.writer.close()

    def on_epoch(self, metrics: dict[str, Any]) -> None:
        """Args: metrics: EpochMetrics as a dict."""
        for chart, name in CHARTS.items():
            if metrics.get(name) is not None:
                self.writer.add_scalar(chart, metrics[name], metrics["epoch"])
        self.writer.flush()

    def end_trial(self, config: dict[str, Any], found: dict[str, float]) -> None:
        """Give the trial a row in TensorBoard's table of hyper-parameters, and close its files."""
        plain = {key: value if isinstance(value, int | float | str) else str(value) for key, value in config.items()}
        for summary in hparams(plain, found):
            self.writer._get_file_writer().add_summary(summary)  # pyright: ignore[reportPrivateUsage]  # add_hparams makes a folder more
        self.writer.close()
