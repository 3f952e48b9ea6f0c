"""TensorBoard files of a training: `tensorboard --logdir runs` shows every run and every trial."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tensorboardX import SummaryWriter
from tensorboardX.summary import hparams

from fmnist.training.metrics import CHARTS, EpochMetrics

FOLDER = "tensorboard"


class Board:
    """Writes a point per epoch to each chart.

    Args:
        folder: where the files go.
        epochs_done: epochs that earlier sessions trained; points that an interrupted session wrote
            beyond them are removed.
    """

    def __init__(self, folder: Path, epochs_done: int = 0) -> None:
        self.folder = folder
        self.epochs_done = epochs_done
        self.writer: SummaryWriter | None = None

    def open(self) -> SummaryWriter:
        """The file, opened by the first point: opening it removes points beyond `epochs_done`."""
        if self.writer is None:
            first = self.epochs_done + 1
            self.writer = SummaryWriter(str(self.folder), purge_step=first, write_to_disk=True)
        return self.writer

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def on_epoch(self, metrics: EpochMetrics) -> None:
        writer = self.open()
        for chart, name in CHARTS.items():
            value = getattr(metrics, name)
            if value is not None:
                writer.add_scalar(chart, value, metrics.epoch)
        # A reader sees each epoch as it ends.
        writer.flush()

    def end_trial(self, config: dict[str, Any], metrics: dict[str, float]) -> None:
        """Add the trial to TensorBoard's table of hyper-parameters, and close its files.

        Args:
            config: the trial's hyper-parameters; what TensorBoard cannot show becomes text.
            metrics: what the trial reached, by name.
        """
        plain: dict[str, Any] = {}
        for name, value in config.items():
            shown = isinstance(value, int | float | str)
            plain[name] = value if shown else str(value)

        # SummaryWriter.add_hparams would write into a folder of its own.
        file = self.open()._get_file_writer()  # pyright: ignore[reportPrivateUsage]
        for summary in hparams(plain, metrics):
            file.add_summary(summary)
        self.close()
