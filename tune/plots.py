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
    with_curve = [record for record in records if record.curve]
    for record in with_curve:
        if record is not best:
            ink = color(0) if record.finished else color(5)
            _plot_curve(axes, record, ".-", color=ink, linewidth=1)

    # Last, so that it lies on top.
    if best is not None:
        name = f"winner: {describe(best.config)}"
        _plot_curve(axes, best, "o-", color=color(1), linewidth=2.5, label=name)

    if with_curve:
        accuracies = sorted(value for record in with_curve for value in record.curve)
        quarter = accuracies[len(with_curve) // 4]
        axes.set_ylim(max(100 * quarter - ROOM_BELOW, 0), None)
        axes.legend(loc="lower right", fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    save_figure(fig, path)


def _plot_curve(axes: Axes, record: TrialRecord, line: str, **style: Any) -> None:
    epochs = range(1, len(record.curve) + 1)
    accuracies = [100 * value for value in record.curve]
    axes.plot(epochs, accuracies, line, **style)
