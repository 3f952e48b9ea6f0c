"""Figures, drawn without a display: one look, and colours and marks that print and colour-blind readers keep apart.

Accuracies and shares come in as fractions and are drawn in per cent.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from fmnist.run import write_atomic

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000")
"""Okabe and Ito (2008), without the yellow, which white paper swallows."""
MARKERS = "osD^vP*X"
LINES = ("-", "--", "-.", ":")
HATCHES = ("", "///", "...")
GRAY = "#777777"
DPI = 130
SMALL = 8
"""Font size of ticks, legends and captions, in points."""

Point = tuple[float, float | None] | None
"""Mean and deviation (None if there is none to show); None where nothing was measured."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One factor of a comparison, and what each of its values led to."""

    name: str
    values: Sequence[object]
    """As they are to be written below the axis, evenly spaced."""
    series: Mapping[str, Sequence[Point]]
    """By label, such as "report D" and "ours": one point for each value."""


def figure(title: str, x_label: str, y_label: str, size: tuple[float, float] = (7.0, 4.2)) -> tuple[Figure, Axes]:
    """An empty figure in the house's plain style."""
    fig = Figure(figsize=size, layout="constrained")
    axes = fig.add_subplot()
    plain(axes, x_label, y_label)
    axes.set_title(title, loc="left", fontsize=11)
    return fig, axes


def panels(title: str, count: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """A figure of `count` axes side by side, in the same style."""
    fig = Figure(figsize=size, layout="constrained")
    fig.suptitle(title, x=0.01, ha="left", fontsize=11)
    return fig, [fig.add_subplot(1, count, number + 1) for number in range(count)]


def plain(axes: Axes, x_label: str, y_label: str) -> None:
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)


def save_figure(fig: Figure, path: Path) -> None:
    """Write the figure as the PNG file `path`."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=DPI)
    write_atomic(path, buffer.getvalue())


def color(number: int) -> str:
    return PALETTE[number % len(PALETTE)]


def line(number: int) -> str:
    """Neighbours differ, and so do those that have the same colour: 28 lines in all."""
    return LINES[(number + 2 * (number // len(PALETTE))) % len(LINES)]


def plot_curves(runs: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Loss and accuracy by epoch of one run or of many; training dashed, validation solid.

    Training figures are those of augmented images, with dropout and label smoothing at work: they may be the worse ones.

    Args:
        runs: by name, each epoch's EpochMetrics as dicts.
    """
    alone = len(runs) == 1
    fig, sides = panels(f"Training: {next(iter(runs))}" if alone else "Training", 2, (9.5, 4.2))
    for axes, what, scale in zip(sides, ("loss", "accuracy"), (1, 100), strict=True):
        plain(axes, "epoch", "accuracy, %" if what == "accuracy" else what)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        for number, history in enumerate(runs.values()):
            for part in ("train", "validation"):
                rows = [row for row in history if row[f"{part}_{what}"] is not None]
                values = [scale * row[f"{part}_{what}"] for row in rows]
                axes.plot([row["epoch"] for row in rows], values, **_curve_style(number, part, color(number)))
    handles = (
        [] if alone else [Line2D([], [], **_curve_style(i, "validation", color(i)), label=name) for i, name in enumerate(runs)]
    )
    key = color(0) if alone else GRAY
    handles.append(Line2D([], [], **_curve_style(0, "train", key), label="training, as augmented"))
    if any(row["validation_accuracy"] is not None for history in runs.values() for row in history):
        handles.append(Line2D([], [], **_curve_style(0, "validation", key), label="validation"))
    fig.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 5), fontsize=SMALL, frameon=False)
    save_figure(fig, path)


def _curve_style(number: int, part: str, ink: str) -> dict[str, Any]:
    hollow = {"linestyle": "--", "markerfacecolor": "white"} if part == "train" else {}
    return {"color": ink, "marker": MARKERS[number % len(MARKERS)], "markersize": 4} | hollow


def plot_losses(groups: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]], path: Path, title: str) -> None:
    """Validation loss by epoch, one panel for each factor and one curve for each of its values.

    Args:
        groups: by factor and value, each epoch's EpochMetrics as dicts.
    """
    fig, sides = panels(title, len(groups), (2.9 * len(groups), 3.4))
    for number, (axes, (name, runs)) in enumerate(zip(sides, groups.items(), strict=True)):
        plain(axes, "epoch", "validation loss" if number == 0 else "")
        axes.set_title(name, fontsize=SMALL)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        for index, (value, history) in enumerate(runs.items()):
            losses = [row["validation_loss"] for row in history]
            axes.plot([row["epoch"] for row in history], losses, **_curve_style(index, "validation", color(index)), label=value)
        axes.legend(fontsize=SMALL, frameon=False)
    save_figure(fig, path)


def plot_roc(labels: NDArray[np.int64], probabilities: NDArray[np.float32], classes: Sequence[str], path: Path) -> None:
    """ROC curve of each class against the rest, whole and its upper left corner, where good models' curves are.

    Args:
        labels: (N,).
        probabilities: (N, classes).
    """
    from sklearn.metrics import auc, roc_curve

    many = len(classes) > 14
    fig, (whole, corner) = panels("ROC, each class against the rest", 2, (12.0 if many else 10.5, 4.4))
    lowest = 90.0
    for number, name in enumerate(classes):
        truth = labels == number
        if truth.all() or not truth.any():
            continue
        false_rate, true_rate, _ = roc_curve(truth, probabilities[:, number])
        lowest = min(lowest, 100 * float(np.interp(0.02, false_rate, true_rate)))
        label = f"{auc(false_rate, true_rate):.4f}  {name}"
        for axes in (whole, corner):
            axes.plot(100 * false_rate, 100 * true_rate, color=color(number), linestyle=line(number), linewidth=1.4, label=label)
    for axes in (whole, corner):
        plain(axes, "false positives, % of the others", "true positives, % of the class")
    whole.plot([0, 100], [0, 100], color=GRAY, linewidth=0.8)
    corner.set_xlim(-0.15, 10)
    corner.set_ylim(10 * (lowest // 10), 100.4)
    corner.set_title("upper left corner", loc="left", fontsize=9)
    handles, names = whole.get_legend_handles_labels()
    fig.legend(
        handles, names, loc="outside right center", title="AUROC", ncols=2 if many else 1, fontsize=SMALL, frameon=False,
        handlelength=3,
    )  # fmt: skip
    save_figure(fig, path)


def plot_confusion(confusion: Sequence[Sequence[int]], classes: Sequence[str], path: Path) -> None:
    """The confusion matrix in per cent of each true class; the diagonal is the recall."""
    side = max(6.2, 0.36 * len(classes))
    fig, axes = figure("Confusion, % of each true class", "predicted", "true", (side + 0.8, side))
    shares = [[100 * count / max(sum(row), 1) for count in row] for row in confusion]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    axes.grid(visible=False)
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor", fontsize=SMALL)
    axes.set_yticks(range(len(classes)), classes, fontsize=SMALL)
    for row, values in enumerate(shares):
        for column, value in enumerate(values):
            if value >= 0.5:
                ink = "white" if value > 55 else "black"
                axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=ink, fontsize=SMALL)
    save_figure(fig, path)


def plot_class_bars(scores: Mapping[str, Sequence[float]], support: Sequence[int], classes: Sequence[str], path: Path) -> None:
    """Precision, recall and F1 (up to three scores, by name) of each class as bars.

    Args:
        support: images of each class; one that has none is left without bars.
    """
    fig, axes = figure("Scores of each class", "%", "", (7.0, 1.2 + 0.46 * len(classes)))
    height = 0.8 / len(scores)
    for number, (name, values) in enumerate(scores.items()):
        places = [row + (number - (len(scores) - 1) / 2) * height for row in range(len(classes))]
        widths = [100 * value if count else 0 for value, count in zip(values, support, strict=True)]
        bar_label = {"f1": "F1"}.get(name, name)
        axes.barh(
            places,
            widths,
            0.9 * height,
            color=color(number),
            hatch=HATCHES[number],
            edgecolor="white",
            linewidth=0,
            label=bar_label,
        )
        for place, width in zip(places, widths, strict=True):
            axes.text(width + 0.7, place, f"{width:.1f}" if width else "", va="center", fontsize=5.5)
    names = [f"{name}  ({count:,})" for name, count in zip(classes, support, strict=True)]
    axes.set_yticks(range(len(classes)), names, fontsize=SMALL)
    axes.set_ylim(len(classes) - 0.5, -0.5)
    axes.set_xlim(0, 105)
    axes.set_xticks(range(0, 101, 20))
    axes.grid(visible=False, axis="y")
    fig.legend(loc="outside lower center", ncols=len(scores), fontsize=SMALL, frameon=False)
    save_figure(fig, path)


def plot_accuracies(scores: Mapping[str, tuple[float, float, float]], path: Path, title: str) -> None:
    """Accuracy of each run, by name: (accuracy, low, high), fractions, the interval as a bar."""
    fig, axes = figure(title, "accuracy, %", "", (7.0, 1.4 + 0.35 * len(scores)))
    for row, (accuracy, low, high) in enumerate(scores.values()):
        errors = [[100 * (accuracy - low)], [100 * (high - accuracy)]]
        axes.errorbar(100 * accuracy, row, xerr=errors, fmt=MARKERS[row % len(MARKERS)], color=color(row), capsize=4)
        axes.annotate(f"{accuracy:.2%}", (100 * accuracy, row), (0, 6), textcoords="offset points", ha="center", fontsize=SMALL)
    axes.set_yticks(range(len(scores)), list(scores), fontsize=SMALL)
    axes.set_ylim(len(scores) - 0.5, -0.7)
    save_figure(fig, path)


def plot_factor(comparison: Sequence[Panel], path: Path, title: str, y_label: str = "accuracy, %", columns: int = 4) -> None:
    """One panel for each factor (or network): accuracy, in fractions, by its values; several series side by side.

    A series has the same colour and marker in every panel; deviations are error bars.
    """
    columns = min(columns, len(comparison))
    rows = -(-len(comparison) // columns)
    fig = Figure(figsize=(max(2.9 * columns, 5), 3.0 * rows + 0.6), layout="constrained")
    fig.suptitle(title, x=0.01, ha="left", fontsize=11)
    labels = list(dict.fromkeys(label for panel in comparison for label in panel.series))
    for number, panel in enumerate(comparison):
        axes = fig.add_subplot(rows, columns, number + 1)
        plain(axes, panel.name, y_label if number % columns == 0 else "")
        for label, points in panel.series.items():
            _draw_series(axes, labels.index(label), len(labels), points)
        axes.set_xticks(range(len(panel.values)), list(map(str, panel.values)), fontsize=SMALL)
        axes.set_xlim(-0.5, len(panel.values) - 0.5)
        axes.tick_params(axis="y", labelsize=SMALL)
    handles = [Line2D([], [], **_series_style(index), label=label) for index, label in enumerate(labels)]
    fig.legend(handles=handles, loc="outside lower center", ncols=min(len(labels), 4), fontsize=SMALL, frameon=False)
    save_figure(fig, path)


def _draw_series(axes: Axes, index: int, count: int, points: Sequence[Point]) -> None:
    shift = 0.12 * (index - (count - 1) / 2)  # side by side, so that error bars do not hide one another
    known = [(place + shift, *point) for place, point in enumerate(points) if point is not None]
    if not known:
        return
    places, means, deviations = zip(*known, strict=True)
    errors = [100 * (deviation or 0) for deviation in deviations]
    style = _series_style(index)
    axes.errorbar(places, [100 * mean for mean in means], errors if any(errors) else None, capsize=2.5, elinewidth=1, **style)


def _series_style(index: int) -> dict[str, Any]:
    fill = {} if index % 2 else {"markerfacecolor": "white"}
    marks = {"marker": MARKERS[index % len(MARKERS)], "linestyle": ("--", "-", ":", "-.")[index % 4]}
    return {"color": color(index), "linewidth": 1.2, "markersize": 5} | marks | fill


def plot_reliability(series: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Accuracy by confidence, and how many images have it; a model that is as sure as it is right lies on the diagonal.

    Args:
        series: by label, the rows of `fmnist.evaluate.reliability`.
    """
    fig = Figure(figsize=(5.2, 5.6), layout="constrained")
    grid = fig.add_gridspec(2, 1, height_ratios=(3, 1))
    upper, lower = fig.add_subplot(grid[0]), fig.add_subplot(grid[1])
    plain(upper, "", "accuracy, %")
    plain(lower, "confidence, %", "images, %")
    upper.set_title("Reliability: is it right as often as it is sure?", loc="left", fontsize=11)
    upper.plot([0, 100], [0, 100], color=GRAY, linewidth=1, label="perfect")
    for number, (name, rows) in enumerate(series.items()):
        total = sum(row["images"] for row in rows)
        gap = sum(row["images"] * abs(row["confidence"] - row["accuracy"]) for row in rows) / max(total, 1)
        style: dict[str, Any] = {"color": color(number), "linestyle": LINES[number]}
        at = [100 * row["confidence"] for row in rows]
        upper.plot(
            at,
            [100 * row["accuracy"] for row in rows],
            marker=MARKERS[number],
            label=f"{name}: calibration error {gap:.1%}",
            **style,
        )
        bars = [(100 * row["low"], 100 * row["images"] / total, 100 * (row["high"] - row["low"])) for row in rows]
        for low, share, width in bars:
            lower.bar(low, share, width, align="edge", fill=False, edgecolor=style["color"], linestyle=style["linestyle"])
    for axes in (upper, lower):
        axes.set_xlim(0, 101)
    upper.set_ylim(0, 101)
    lower.set_ylim(0, None)
    upper.legend(loc="upper left", fontsize=SMALL, frameon=False)
    save_figure(fig, path)


def plot_mistakes(images: NDArray[np.uint8], said: Sequence[tuple[str, str, float]], path: Path, columns: int = 6) -> None:
    """Images (N, H, W) or (N, 3, H, W) that were mistaken, each with its label, what was predicted, and the probability of that."""
    tiles = [
        Tile(1.25 * (index % columns), index // columns, image, f"{short(truth, 20)}\n→ {short(predicted, 14)} {probability:.0%}")
        for index, (image, (truth, predicted, probability)) in enumerate(zip(images, said, strict=True))
    ]
    _plot_tiles(tiles, path, "The surest mistakes: label → prediction and its probability" if tiles else "No mistakes")


def plot_cams(
    images: NDArray[np.uint8],
    cams: NDArray[np.float32],
    captions: Sequence[str],
    path: Path,
    columns: int = 3,
    row_names: Sequence[str] = (),
) -> None:
    """Pairs of an image and its heat map laid over it, `columns` pairs a row.

    Args:
        images: (N, H, W) or (N, 3, H, W).
        cams: (N, H, W), 0 to 1.
        captions: written over each pair.
        row_names: written left of each row, if it has a name.
    """
    tiles: list[Tile] = []
    for index, (image, cam, caption) in enumerate(zip(images, cams, captions, strict=True)):
        row, x = index // columns, 2.3 * (index % columns)
        heat = 255 * colormaps["inferno"](cam)[..., :3]
        over = (0.35 * _colours(image) + 0.65 * heat).astype(np.uint8)
        tiles += [Tile(x, row, image, caption), Tile(x + 1.04, row, over.transpose(2, 0, 1), "")]
    _plot_tiles(tiles, path, "Grad-CAM: bright is what speaks for the class predicted", row_names)


def plot_augmentations(grid: NDArray[np.uint8], path: Path, title: str = "Augmentation at work") -> None:
    """Images (rows, columns, H, W) or (rows, columns, 3, H, W): each row's first is the original, the others are made from it."""
    tiles = [
        Tile(1.06 * column + 0.2 * (column > 0), row, image, {(0, 0): "original", (0, 1): "augmented"}.get((row, column), ""))
        for row, images in enumerate(grid)
        for column, image in enumerate(images)
    ]
    _plot_tiles(tiles, path, title)


def short(name: str, length: int) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"


@dataclass(frozen=True, slots=True)
class Tile:
    """A picture in a grid of pictures."""

    x: float
    """Of its left edge; a tile is 1 wide."""
    row: int
    image: NDArray[np.uint8]  # (H, W) or (3, H, W)
    caption: str


def _plot_tiles(tiles: Sequence[Tile], path: Path, title: str, row_names: Sequence[str] = ()) -> None:
    """All tiles in one pair of axes, which takes a fraction of the time that one for each would."""
    lines = [max((tile.caption.count("\n") + 1 if tile.caption else 0 for tile in tiles if tile.row == row), default=0)
             for row in range(1 + max((tile.row for tile in tiles), default=0))]  # fmt: skip
    tops = [row * 1.06 + 0.16 * sum(lines[: row + 1]) for row in range(len(lines))]
    width, height = max((tile.x + 1 for tile in tiles), default=3), tops[-1] + 1
    wide = max(0.95 * width + 0.2 + 1.1 * bool(row_names), 0.09 * len(title))
    fig = Figure(figsize=(wide, 0.95 * height + 0.5), layout="constrained")
    fig.suptitle(title, x=0.01, ha="left", fontsize=11)
    axes = fig.add_subplot()
    for tile in tiles:
        top = tops[tile.row]
        axes.imshow(_colours(tile.image), extent=(tile.x, tile.x + 1, top + 1, top), interpolation="nearest")
        axes.text(tile.x, top - 0.04, tile.caption, fontsize=7, va="bottom", linespacing=1.1)
    for row, name in enumerate(row_names):
        axes.text(-0.1, tops[row] + 0.5, name, fontsize=SMALL, ha="right", va="center")
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_anchor("W")
    axes.axis("off")
    save_figure(fig, path)


def _colours(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W) or (3, H, W) as (H, W, 3)."""
    return np.stack([image] * 3, 2) if image.ndim == 2 else image.transpose(1, 2, 0)
