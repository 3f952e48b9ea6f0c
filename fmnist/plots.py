"""Figures, drawn without a display."""

import io
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fmnist.run import write_atomic


def figure(title: str, x_label: str, y_label: str, size: tuple[float, float] = (7.0, 4.2)) -> tuple[Figure, Axes]:
    """An empty figure in the house's plain style."""
    fig = Figure(figsize=size, layout="constrained")
    axes = fig.add_subplot()
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return fig, axes


def save_figure(fig: Figure, path: Path) -> None:
    """Write the figure as the PNG file `path`."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=130)
    write_atomic(path, buffer.getvalue())


def plot_training(history: list[dict[str, Any]], path: Path) -> None:
    """Accuracy and loss by epoch, from EpochMetrics as dicts."""
    fig, axes = figure("Training", "epoch", "accuracy, %")
    epochs = [row["epoch"] for row in history]
    axes.plot(epochs, [100 * row["train_accuracy"] for row in history], "o-", color="#30638e", label="training accuracy")
    if history[-1]["validation_accuracy"] is not None:
        held_out = [100 * row["validation_accuracy"] for row in history]
        axes.plot(epochs, held_out, "o-", color="#d1495b", label="validation accuracy")
    losses = axes.twinx()
    losses.plot(epochs, [row["train_loss"] for row in history], ".--", color="#8d99ae", label="training loss")
    losses.set_ylabel("loss")
    losses.spines[["top"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    fig.legend(loc="outside lower center", ncols=3, fontsize=8)
    save_figure(fig, path)


def plot_confusion(confusion: list[list[int]], classes: tuple[str, ...], path: Path) -> None:
    """The confusion matrix in per cent of each true class; the diagonal is the recall."""
    fig, axes = figure("Confusion, % of each true class", "predicted", "true", (7.0, 6.2))
    shares = [[100 * count / max(sum(row), 1) for count in row] for row in confusion]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    axes.grid(visible=False)
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(classes)), classes, fontsize=8)
    for row, values in enumerate(shares):
        for column, value in enumerate(values):
            if value >= 0.5:
                color = "white" if value > 55 else "black"
                axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=color, fontsize=8)
    save_figure(fig, path)
