"""The search in one picture: figures/search.png."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from fmnist.evaluation.plots import color, figure, save_figure
from tune.state import TrialRecord, winner
from tune.words import describe

ROOM_BELOW = 5
"""Per cent shown below the worst quarter of all accuracies; lower ones would flatten the rest."""


def plot_search(records: Sequence[TrialRecord], path: Path) -> None:
    """Draw every trial's validation accuracy by epoch; stopped trials end early, the winner
    stands out."""
    fig, axes = figure("Search: each line is a trial", "epoch", "validation accuracy, %")
    best = winner(records)
    curves = 0
    accuracies: list[float] = []
    for record in records:
        if not record.curve:
            continue

        curves += 1
        accuracies += record.curve
        if record is not best:
            ink = color(0) if record.finished else color(5)
            _plot_curve(axes, record, ".-", color=ink, linewidth=1)

    # Last, so that it lies on top.
    if best is not None:
        name = f"winner: {describe(best.config)}"
        _plot_curve(axes, best, "o-", color=color(1), linewidth=2.5, label=name)

    if curves:
        quarter = sorted(accuracies)[curves // 4]
        axes.set_ylim(max(100 * quarter - ROOM_BELOW, 0), None)
        axes.legend(loc="lower right", fontsize=8)

    # Epochs are whole: by itself the axis would have ticks at 2.5.
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    save_figure(fig, path)


def _plot_curve(axes: Axes, record: TrialRecord, line: str, **style: Any) -> None:
    epochs = range(1, len(record.curve) + 1)
    accuracies = [100 * value for value in record.curve]
    axes.plot(epochs, accuracies, line, **style)
