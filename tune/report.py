"""Pictures of a search."""

from pathlib import Path

from matplotlib.ticker import MaxNLocator

from fmnist.plots import color, figure, save_figure
from tune.live import TrialRecord, describe, winner


def plot_search(records: list[TrialRecord], path: Path) -> None:
    """The fan: every trial's validation accuracy by epoch; stopped trials end early, the winner stands out."""
    fig, axes = figure("Search: each line is a trial", "epoch", "validation accuracy, %")
    best = winner(records)
    curves = [record for record in records if record.curve]
    for record in sorted(curves, key=lambda r: r is best):
        epochs = range(1, len(record.curve) + 1)
        values = [100 * value for value in record.curve]
        if record is best:
            axes.plot(epochs, values, "o-", color=color(1), linewidth=2.5, label=f"winner: {describe(record.config)}")
        else:
            ink = color(0) if record.finished else color(5)
            axes.plot(epochs, values, ".-", color=ink, linewidth=1)
    if curves:
        worst = sorted(value for record in curves for value in record.curve)[len(curves) // 4]
        axes.set_ylim(max(100 * worst - 5, 0), None)
        axes.legend(loc="lower right", fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    save_figure(fig, path)
