"""The live view of one training: a bar on a terminal, and a line per epoch everywhere.

Both are whole on a terminal of 80 columns, up to 999 epochs and 999,999 images/s.
"""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from fmnist.training.metrics import EpochMetrics, StepReport


class TrainingBar:
    """Shows loss, accuracy, images/s (of all workers together) and the time left.

    Args:
        epochs: epochs that the training has.
        title: what is trained, for messages about it.
    """

    def __init__(self, epochs: int, title: str, console: Console) -> None:
        self.epochs = epochs
        self.title = title
        self.console = console
        self.bar = Progress(
            BarColumn(bar_width=None),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            expand=True,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task(f"{title}: starting", total=float(epochs))

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def on_step(self, report: StepReport) -> None:
        done = report.epoch - 1 + report.step / report.steps_per_epoch
        status = (
            f"epoch {report.epoch}/{self.epochs}  loss {report.loss:.3f}  "
            f"acc {report.accuracy:.1%}  {report.images_per_s:,.0f} images/s"
        )
        self.bar.update(self.task, completed=done, description=status)

    def on_epoch(self, metrics: EpochMetrics) -> None:
        self.bar.update(self.task, completed=float(metrics.epoch))
        self.console.print(epoch_line(metrics, self.epochs), highlight=False, soft_wrap=True)


def epoch_line(metrics: EpochMetrics, epochs: int) -> str:
    """One epoch in words; the validation accuracy only where there are validation images."""
    width = len(str(epochs))
    parts = [
        f"epoch {metrics.epoch:>{width}}/{epochs}",
        f"loss {metrics.train_loss:.4f}",
        f"train {metrics.train_accuracy:.2%}",
    ]
    if metrics.validation_accuracy is not None:
        parts.append(f"val {metrics.validation_accuracy:.2%}")
    parts.append(f"{metrics.images_per_s:,.0f} images/s")
    parts.append(f"{metrics.seconds:.1f} s")
    return "  ".join(parts)
