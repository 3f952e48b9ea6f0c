"""The live view of a training is whole on a terminal of 80 columns."""

import io

import pytest
from rich.console import Console

from fmnist.training.metrics import EpochMetrics, StepReport
from fmnist.training.progress import TrainingBar, epoch_line


def metrics(
    epoch: int, images_per_s: float, seconds: float, validation_accuracy: float | None
) -> EpochMetrics:
    return EpochMetrics(
        epoch=epoch,
        train_loss=0.43219,
        train_accuracy=0.85123,
        validation_loss=0.5,
        validation_accuracy=validation_accuracy,
        lr=0.1,
        images_per_s=images_per_s,
        seconds=seconds,
    )


def test_a_line_for_each_epoch() -> None:
    line = epoch_line(metrics(3, 12345.6, 4.56, 0.8612), 10)
    assert line == ("epoch  3/10  loss 0.4322  train 85.12%  val 86.12%  12,346 images/s  4.6 s")
    alone = epoch_line(metrics(3, 12345.6, 4.56, None), 10)
    assert alone == "epoch  3/10  loss 0.4322  train 85.12%  12,346 images/s  4.6 s"


def test_the_longest_line_is_whole_at_80_columns() -> None:
    assert len(epoch_line(metrics(200, 987654.0, 123.4, 1.0), 200)) == 80


def bar_on_terminal(report: StepReport, epochs: int, title: str) -> str:
    """The bar as it stands on a terminal of 80 columns, without colours."""
    bar = TrainingBar(epochs, title, Console(file=io.StringIO(), force_terminal=True))
    bar.on_step(report)
    screen = io.StringIO()
    Console(file=screen, width=80).print(bar.bar.get_renderable())
    return screen.getvalue()


@pytest.mark.parametrize("epochs", [8, 200])
def test_the_bar_is_whole_at_80_columns(epochs: int) -> None:
    report = StepReport(epochs, 50, 100, loss=0.5123, accuracy=0.8123, images_per_s=123456.7)
    shown = bar_on_terminal(report, epochs, "resnet18_imagenet").rstrip("\n")
    assert len(shown) == 80
    assert "\n" not in shown
    assert "…" not in shown
    assert f"epoch {epochs}/{epochs}  loss 0.512  acc 81.2%  123,457 images/s" in shown
    assert shown.endswith("left")
    assert shown.startswith("━")
