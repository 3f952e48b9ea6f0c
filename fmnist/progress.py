"""The live view of one training: a bar on a terminal, a line per epoch elsewhere."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fmnist.loop import EpochMetrics, StepReport


class TrainingBar:
    """Shows loss, accuracy, images/s and the time left of a training of `epochs` epochs."""

    def __init__(self, epochs: int, title: str, console: Console) -> None:
        self.console = console
        self.epochs = epochs
        self.title = title
        self.workers = 1
        """Processes that share the work; images/s are those of all."""
        self.bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[status]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task(title, total=float(epochs), status="starting")

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.stop()

    def on_step(self, report: StepReport) -> None:
        done = report.epoch - 1 + report.step / report.steps_per_epoch
        status = (
            f"epoch {report.epoch}/{self.epochs}  loss {report.loss:.3f}  acc {report.accuracy:.1%}  "
            f"{speed(report.images_per_s, self.workers)}"
        )
        self.bar.update(self.task, completed=done, status=status)

    def on_epoch(self, metrics: EpochMetrics) -> None:
        self.bar.update(self.task, completed=float(metrics.epoch))
        self.console.print(epoch_line(metrics, self.epochs, self.workers), highlight=False, soft_wrap=True)


def speed(images_per_s: float, workers: int) -> str:
    return f"{images_per_s:,.0f} images/s" + (f" ({images_per_s / workers:,.0f} a worker)" if workers > 1 else "")


def epoch_line(metrics: EpochMetrics, epochs: int, workers: int = 1) -> str:
    validation = "" if metrics.validation_accuracy is None else f"  validation {metrics.validation_accuracy:.2%}"
    return (
        f"epoch {metrics.epoch:>{len(str(epochs))}}/{epochs}  loss {metrics.train_loss:.4f}  train {metrics.train_accuracy:.2%}"
        f"{validation}  {speed(metrics.images_per_s, workers)}  {metrics.seconds:.1f} s"
    )
