"""Draw figures without a display, in one look.

Colours, markers and line styles stay distinct in print and for colour-blind readers. Accuracies and
shares come in as fractions and are drawn in per cent.
"""

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from fmnist.data.origins import printable
from fmnist.evaluation.calibration import calibration_error
from fmnist.runs.files import write_atomic

# Names of classes and files are no formulas, even with two dollar signs in them.
rcParams["text.parse_math"] = False

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000")
"""The colours of Okabe and Ito (2008), without yellow, which is hard to see on white paper."""
MARKERS = "osD^vP*X"
LINES = ("-", "--", "-.", ":")
SERIES_LINES = ("--", "-", ":", "-.")
HATCHES = ("", "///", "...")
GRAY = "#777777"
DPI = 130
TITLE = 11
"""Font size of titles, in points."""
SMALL = 8
"""Font size of ticks, legends and captions, in points."""
SHOWN_CELL = 0.5
"""Per cent below which a cell of the confusion matrix has no number."""
CAM_TITLE = "Grad-CAM: bright is what speaks for the class predicted"
LONGEST_NAME = 40
"""Characters of a class's name beside an axis: folders' names can have 255."""
ROC_MARGIN = 0.02
"""False-positive rate at which the curves decide how far down the enlarged corner reaches."""

Epochs = Sequence[Mapping[str, Any]]
"""EpochMetrics of a training, as dicts."""
Point = tuple[float, float | None] | None
"""Mean and deviation (None if there is none to show); None where nothing was measured."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One factor of a comparison, and the results of each of its values."""

    name: str
    values: Sequence[object]
    """Written below the axis, evenly spaced."""
    series: Mapping[str, Sequence[Point]]
    """One point for each value, by label, such as "report D" and "ours"."""


def figure(
    title: str, x_label: str, y_label: str, size: tuple[float, float] = (7.0, 4.2)
) -> tuple[Figure, Axes]:
    """Make an empty figure in the plain style of all figures here."""
    fig = Figure(figsize=size, layout="constrained")
    axes = fig.add_subplot()
    plain(axes, x_label, y_label)
    axes.set_title(title, loc="left", fontsize=TITLE)
    return fig, axes


def panels(title: str, count: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """Make a figure of `count` empty axes side by side."""
    fig = Figure(figsize=size, layout="constrained")
    fig.suptitle(title, x=0.01, ha="left", fontsize=TITLE)
    sides = [fig.add_subplot(1, count, number + 1) for number in range(count)]
    return fig, sides


def plain(axes: Axes, x_label: str, y_label: str) -> None:
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)


def save_figure(fig: Figure, path: Path) -> None:
    """Write the figure as the PNG file `path`."""
    # By way of memory: whoever opens the file meanwhile sees the old figure or the new one.
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Class names in a script that no font here has are drawn as boxes, without a line for each.
        warnings.filterwarnings("ignore", r"Glyph .* missing from font")
        fig.savefig(buffer, format="png", dpi=DPI)
    write_atomic(path, buffer.getvalue())


def color(number: int) -> str:
    return PALETTE[number % len(PALETTE)]


def line(number: int) -> str:
    """Line style of a curve; 28 curves differ from each other in colour or style.

    Neighbours differ in style too, so that gray print keeps them apart.
    """
    return LINES[(number + 2 * (number // len(PALETTE))) % len(LINES)]


def plot_curves(runs: Mapping[str, Epochs], path: Path) -> None:
    """Draw loss and accuracy by epoch of one run or of many; training dashed, validation solid.

    Training figures are measured on augmented images, with dropout and label smoothing on, so they
    may be worse than the validation figures.

    Args:
        runs: by name, each epoch's EpochMetrics as dicts.
        path: PNG file to write.
    """
    title = "Training"
    if len(runs) == 1:
        title = f"Training: {next(iter(runs))}"
    fig, (losses, accuracies) = panels(title, 2, (9.5, 4.2))

    plain(losses, "epoch", "loss")
    _draw_curves(losses, runs, "loss", scale=1)
    plain(accuracies, "epoch", "accuracy, %")
    _draw_curves(accuracies, runs, "accuracy", scale=100)

    _add_legend(fig, _curve_handles(runs), columns=5)
    save_figure(fig, path)


def _add_legend(fig: Figure, handles: list[Line2D], columns: int) -> None:
    """Add a legend below the axes, with at most `columns` entries side by side."""
    fig.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(handles), columns),
        fontsize=SMALL,
        frameon=False,
    )


def _draw_curves(axes: Axes, runs: Mapping[str, Epochs], quantity: str, scale: float) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for number, history in enumerate(runs.values()):
        for part in ("train", "validation"):
            key = f"{part}_{quantity}"
            epochs: list[int] = []
            values: list[float] = []
            for row in history:
                if row[key] is not None:
                    epochs.append(row["epoch"])
                    values.append(scale * row[key])
            axes.plot(epochs, values, **_curve_style(number, part, color(number)))


def _curve_handles(runs: Mapping[str, Epochs]) -> list[Line2D]:
    """Entries of the legend: the runs, if there are several, then the parts of the data."""
    handles: list[Line2D] = []
    ink = color(0)
    if len(runs) > 1:
        # The line styles mean the same for every run, so their entries take no run's colour.
        ink = GRAY
        for number, name in enumerate(runs):
            style = _curve_style(number, "validation", color(number))
            handles.append(Line2D([], [], **style, label=name))

    train_style = _curve_style(0, "train", ink)
    handles.append(Line2D([], [], **train_style, label="training, as augmented"))

    validated = False
    for history in runs.values():
        for row in history:
            validated |= row["validation_accuracy"] is not None
    # Where no images were held out, there is no such curve to explain.
    if validated:
        handles.append(Line2D([], [], **_curve_style(0, "validation", ink), label="validation"))
    return handles


def _curve_style(number: int, part: str, ink: str) -> dict[str, Any]:
    style = {"color": ink, "marker": MARKERS[number % len(MARKERS)], "markersize": 4}
    # Dashed and hollow, so that gray print keeps the parts apart too.
    if part == "train":
        style |= {"linestyle": "--", "markerfacecolor": "white"}
    return style


def plot_losses(groups: Mapping[str, Mapping[str, Epochs]], path: Path, title: str) -> None:
    """Draw validation loss by epoch, one panel for each factor, one curve for each of its values.

    Args:
        groups: by factor and value, each epoch's EpochMetrics as dicts.
        path: PNG file to write.
        title: title of the figure.
    """
    fig, sides = panels(title, len(groups), (2.9 * len(groups), 3.4))
    for axes, (name, runs) in zip(sides, groups.items(), strict=True):
        plain(axes, "epoch", "")
        axes.set_title(name, fontsize=SMALL)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        for index, (value, history) in enumerate(runs.items()):
            epochs = [row["epoch"] for row in history]
            losses = [row["validation_loss"] for row in history]
            style = _curve_style(index, "validation", color(index))
            axes.plot(epochs, losses, **style, label=value)
        axes.legend(fontsize=SMALL, frameon=False)

    # The panels stand side by side, and the first one's label serves all.
    sides[0].set_ylabel("validation loss")
    save_figure(fig, path)


@dataclass(frozen=True, slots=True)
class RocCurve:
    """True-positive by false-positive rates of a class against the rest, and the area below."""

    false_rate: NDArray[np.float64]  # (P,) ascending, 0 to 1
    true_rate: NDArray[np.float64]  # (P,)
    area: float
    name: str


def roc_of(truth: NDArray[np.bool_], scores: NDArray[np.float32], name: str) -> RocCurve | None:
    """The curve of a class by its probabilities (N,); None where it does not occur, or is the only
    one."""
    # Here: scikit-learn takes a second to import, and other figures do without.
    from sklearn.metrics import auc, roc_curve

    if truth.all() or not truth.any():
        return None
    false_rate, true_rate, _ = roc_curve(truth, scores)
    return RocCurve(false_rate, true_rate, float(auc(false_rate, true_rate)), name)


def plot_roc(
    curves: Sequence[RocCurve],
    path: Path,
    mean: RocCurve | None = None,
    title: str = "ROC, each class against the rest",
) -> None:
    """Draw ROC curves: whole, and their upper left corner enlarged.

    The curves of good models differ in that corner only.

    Args:
        curves: of some classes.
        path: PNG file to write.
        mean: of all classes, drawn in black.
        title: title of the figure.
    """
    width = 10.5
    legend_columns = 1
    if len(curves) > 14:
        # More classes than one column of the legend has room for.
        width = 12.0
        legend_columns = 2
    fig, (whole, corner) = panels(title, 2, (width, 4.4))

    lowest = 90.0
    for number, curve in enumerate(curves):
        style: dict[str, Any] = {"color": color(number), "linestyle": line(number)}
        lowest = min(lowest, _draw_roc_curve((whole, corner), curve, linewidth=1.4, **style))
    if mean is not None:
        _draw_roc_curve((whole, corner), mean, linewidth=2.6, color="black")

    for axes in (whole, corner):
        plain(axes, "false positives, % of the others", "true positives, % of the class")
    whole.plot([0, 100], [0, 100], color=GRAY, linewidth=0.8)
    # A little beyond 0 and 100 %, or the edge would cut the lines that lie there in half.
    corner.set_xlim(-0.15, 10)
    corner.set_ylim(10 * (lowest // 10), 100.4)  # Even the lowest curve is seen.
    corner.set_title("upper left corner", loc="left", fontsize=9)

    _add_roc_legend(fig, whole, legend_columns)
    save_figure(fig, path)


def _add_roc_legend(fig: Figure, axes: Axes, columns: int) -> None:
    # Of one side: both have the same curves.
    handles, names = axes.get_legend_handles_labels()
    fig.legend(
        handles,
        names,
        loc="outside right center",
        title="AUROC",
        ncols=columns,
        fontsize=SMALL,
        frameon=False,
        handlelength=3,
    )


def _draw_roc_curve(sides: Sequence[Axes], curve: RocCurve, **style: Any) -> float:
    """Draw the same curve on all sides; give how high it is at ROC_MARGIN, in per cent of true
    positives."""
    label = f"{curve.area:.4f}  {short(curve.name, 40)}"
    for axes in sides:
        axes.plot(100 * curve.false_rate, 100 * curve.true_rate, label=label, **style)
    return 100 * float(np.interp(ROC_MARGIN, curve.false_rate, curve.true_rate))


def plot_confusion(
    confusion: Sequence[Sequence[int]],
    support: Sequence[int],
    classes: Sequence[str],
    path: Path,
    title: str = "Confusion, % of each true class",
) -> None:
    """Draw the confusion matrix in per cent of each true class; the diagonal is the recall.

    Args:
        confusion: images by true class (rows) and predicted class (columns), of some classes.
        support: images of each of them; more than a row holds where others were predicted too.
        classes: their names.
        path: PNG file to write.
        title: title of the figure.
    """
    side = max(6.2, 0.36 * len(classes))
    fig, axes = figure(title, "predicted", "true", (side + 0.8, side))
    shares: list[list[float]] = []
    for row, images in zip(confusion, support, strict=True):
        total = max(images, 1)  # A class that does not occur has a row of zeros.
        shares.append([100 * count / total for count in row])

    # The whole range, so that the same share has the same shade in every figure.
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    axes.grid(visible=False)
    places = range(len(classes))
    names = [short(name, LONGEST_NAME) for name in classes]
    slanted: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(places, names, fontsize=SMALL, **slanted)
    axes.set_yticks(places, names, fontsize=SMALL)

    for (row, column), share in np.ndenumerate(shares):
        if share < SHOWN_CELL:
            continue
        # On the dark end of the colour map black could not be read.
        ink = "white" if share > 55 else "black"
        text = f"{share:.0f}"
        axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=SMALL)

    save_figure(fig, path)


def plot_class_bars(
    scores: Mapping[str, Sequence[float | None]],
    support: Sequence[int],
    classes: Sequence[str],
    path: Path,
    title: str = "Scores of each class",
) -> None:
    """Draw precision, recall and F1 of each class as bars.

    Args:
        scores: up to three, by name: one fraction for each class; a class without images has none.
        support: images of each class.
        classes: their names.
        path: PNG file to write.
        title: title of the figure.
    """
    fig, axes = figure(title, "%", "", (7.0, 1.2 + 0.46 * len(classes)))
    height = 0.8 / len(scores)
    middle = (len(scores) - 1) / 2
    for number, (name, values) in enumerate(scores.items()):
        offset = (number - middle) * height
        places: list[float] = []
        widths: list[float] = []
        for row, value in enumerate(values):
            places.append(row + offset)
            widths.append(100 * (value or 0.0))

        # Hatched too, so that gray print keeps the scores apart.
        style = {"color": color(number), "hatch": HATCHES[number], "height": 0.9 * height}
        _draw_bars(axes, places, widths, label={"f1": "F1"}.get(name, name), **style)

    names: list[str] = []
    for name, count in zip(classes, support, strict=True):
        names.append(f"{short(name, LONGEST_NAME)}  ({count:,})")
    axes.set_yticks(range(len(classes)), names, fontsize=SMALL)
    # The first class is on top; right of the longest bar there is room for its number.
    axes.set_ylim(len(classes) - 0.5, -0.5)
    axes.set_xlim(0, 105)
    axes.set_xticks(range(0, 101, 20))
    axes.grid(visible=False, axis="y")

    fig.legend(loc="outside lower center", ncols=len(scores), fontsize=SMALL, frameon=False)
    save_figure(fig, path)


def _draw_bars(axes: Axes, places: list[float], widths: list[float], **style: Any) -> None:
    """Draw bars to the right, each with its number at its end."""
    axes.barh(places, widths, edgecolor="white", linewidth=0, **style)
    for place, width in zip(places, widths, strict=True):
        if width:
            axes.text(width + 0.7, place, f"{width:.1f}", va="center", fontsize=5.5)


def plot_accuracies(
    scores: Mapping[str, tuple[float, float, float]], path: Path, title: str
) -> None:
    """Draw the accuracy of each run as a point, and its interval as a bar.

    Args:
        scores: by the run's name: accuracy, and its interval's low and high end, as fractions.
        path: PNG file to write.
        title: title of the figure.
    """
    fig, axes = figure(title, "accuracy, %", "", (7.0, 1.4 + 0.35 * len(scores)))
    for row, (accuracy, low, high) in enumerate(scores.values()):
        errors = [[100 * (accuracy - low)], [100 * (high - accuracy)]]
        marker = MARKERS[row % len(MARKERS)]
        axes.errorbar(100 * accuracy, row, xerr=errors, fmt=marker, color=color(row), capsize=4)
        axes.annotate(
            f"{accuracy:.2%}",
            (100 * accuracy, row),
            (0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=SMALL,
        )

    # The first run is on top, with room for the number above its point.
    axes.set_yticks(range(len(scores)), list(scores), fontsize=SMALL)
    axes.set_ylim(len(scores) - 0.5, -0.7)
    save_figure(fig, path)


def plot_factor(
    comparison: Sequence[Panel],
    path: Path,
    title: str,
    y_label: str = "accuracy, %",
    columns: int = 4,
) -> None:
    """Draw one panel for each factor (or network): accuracy by its values, several series at once.

    A series has the same colour and marker in every panel; deviations are error bars.

    Args:
        comparison: the panels; their means and deviations are fractions.
        path: PNG file to write.
        title: title of the figure.
        y_label: written left of each row of panels.
        columns: panels side by side, at most.
    """
    columns = min(columns, len(comparison))
    rows = math.ceil(len(comparison) / columns)
    fig = Figure(figsize=(max(2.9 * columns, 5), 3.0 * rows + 0.6), layout="constrained")
    fig.suptitle(title, x=0.01, ha="left", fontsize=TITLE)

    labels: list[str] = []
    for panel in comparison:
        labels += [label for label in panel.series if label not in labels]

    for number, panel in enumerate(comparison):
        axes = fig.add_subplot(rows, columns, number + 1)
        leftmost = number % columns == 0
        plain(axes, panel.name, y_label if leftmost else "")
        _draw_panel(axes, panel, labels)

    # One legend for all panels, since a series looks the same in each.
    handles: list[Line2D] = []
    for index, label in enumerate(labels):
        handles.append(Line2D([], [], **_series_style(index), label=label))
    _add_legend(fig, handles, columns=4)
    save_figure(fig, path)


def _draw_panel(axes: Axes, panel: Panel, labels: Sequence[str]) -> None:
    """Draw a factor's series; `labels` are those of the whole figure, in their order."""
    for label, points in panel.series.items():
        _draw_series(axes, labels.index(label), len(labels), points)

    values = [str(value) for value in panel.values]
    axes.set_xticks(range(len(values)), values, fontsize=SMALL)
    axes.set_xlim(-0.5, len(values) - 0.5)
    axes.tick_params(axis="y", labelsize=SMALL)


def _draw_series(axes: Axes, index: int, count: int, points: Sequence[Point]) -> None:
    # Side by side, so that error bars do not hide one another.
    shift = 0.12 * (index - (count - 1) / 2)
    places: list[float] = []
    means: list[float] = []
    errors: list[float] = []
    for place, point in enumerate(points):
        if point is None:
            continue
        mean, deviation = point
        places.append(place + shift)
        means.append(100 * mean)
        errors.append(100 * (deviation or 0))

    if not places:
        return

    # Without any deviation there are no bars: those of length 0 would look like measured ones.
    bars = errors if any(errors) else None
    axes.errorbar(places, means, bars, capsize=2.5, elinewidth=1, **_series_style(index))


def _series_style(index: int) -> dict[str, Any]:
    style: dict[str, Any] = {
        "color": color(index),
        "linewidth": 1.2,
        "markersize": 5,
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": SERIES_LINES[index % len(SERIES_LINES)],
    }
    if index % 2 == 0:
        style["markerfacecolor"] = "white"
    return style


def plot_reliability(series: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Draw accuracy by confidence, and how many images have that confidence.

    A perfectly calibrated model lies on the diagonal.

    Args:
        series: by label, the rows of `fmnist.evaluation.calibration.reliability`.
        path: PNG file to write.
    """
    fig = Figure(figsize=(5.2, 5.6), layout="constrained")
    grid = fig.add_gridspec(2, 1, height_ratios=(3, 1))
    upper = fig.add_subplot(grid[0])
    lower = fig.add_subplot(grid[1])
    plain(upper, "", "accuracy, %")
    plain(lower, "confidence, %", "images, %")
    upper.set_title("Reliability: is it right as often as it is sure?", loc="left", fontsize=TITLE)
    upper.plot([0, 100], [0, 100], color=GRAY, linewidth=1, label="perfect")

    for number, (name, rows) in enumerate(series.items()):
        confidences: list[float] = []
        accuracies: list[float] = []
        for row in rows:
            confidences.append(100 * row["confidence"])
            accuracies.append(100 * row["accuracy"])

        label = f"{name}: calibration error {calibration_error(rows):.1%}"
        style: dict[str, Any] = {"color": color(number), "linestyle": LINES[number]}
        upper.plot(confidences, accuracies, marker=MARKERS[number], label=label, **style)
        _draw_shares(lower, rows, color(number), LINES[number])

    # Just beyond 100 %, or the edge would cut the marks that lie there.
    for axes in (upper, lower):
        axes.set_xlim(0, 101)
    upper.set_ylim(0, 101)
    lower.set_ylim(0, None)
    upper.legend(loc="upper left", fontsize=SMALL, frameon=False)
    save_figure(fig, path)


def _draw_shares(axes: Axes, rows: Sequence[Mapping[str, Any]], ink: str, linestyle: str) -> None:
    """Draw the share of the images in each bin of confidence, as a histogram of outlines."""
    total = sum(row["images"] for row in rows)
    for row in rows:
        axes.bar(
            100 * row["low"],
            100 * row["images"] / total,
            100 * (row["high"] - row["low"]),
            align="edge",
            fill=False,
            edgecolor=ink,
            linestyle=linestyle,
        )


def plot_mistakes(
    images: NDArray[np.uint8], captions: Sequence[str], path: Path, columns: int = 6
) -> None:
    """Draw misclassified images.

    Args:
        images: (N, H, W) or (N, 3, H, W).
        captions: of each image its label, its prediction and that one's probability.
        path: PNG file to write.
        columns: images side by side.
    """
    title = "No mistakes"
    if captions:
        title = "The surest mistakes: label → prediction and its probability"

    tiles: list[Tile] = []
    for index, (image, caption) in enumerate(zip(images, captions, strict=True)):
        row, column = divmod(index, columns)
        tiles.append(Tile(1.25 * column, row, image, caption))

    _plot_tiles(tiles, path, title)


def plot_cams(
    images: NDArray[np.uint8],
    cams: NDArray[np.float32],
    captions: Sequence[str],
    path: Path,
    columns: int = 3,
    row_names: Sequence[str] = (),
    title: str = CAM_TITLE,
) -> None:
    """Draw pairs of an image and its heat map laid over it.

    Args:
        images: (N, H, W) or (N, 3, H, W).
        cams: (N, H, W), 0 to 1.
        captions: written over each pair.
        path: PNG file to write.
        columns: pairs side by side.
        row_names: written left of each row that has one.
        title: title of the figure.
    """
    tiles: list[Tile] = []
    for index, (image, cam, caption) in enumerate(zip(images, cams, captions, strict=True)):
        row, column = divmod(index, columns)
        x = 2.3 * column
        heat = 255 * colormaps["inferno"](cam)[..., :3]
        overlay = (0.35 * _channels_last(image) + 0.65 * heat).astype(np.uint8)
        tiles.append(Tile(x, row, image, caption))
        tiles.append(Tile(x + 1.04, row, overlay.transpose(2, 0, 1), ""))

    _plot_tiles(tiles, path, title, row_names)


def plot_augmentations(
    grid: NDArray[np.uint8], path: Path, title: str = "Augmentation at work"
) -> None:
    """Draw rows of images: the first of each row is the original, the others are made from it.

    Args:
        grid: (rows, columns, H, W) or (rows, columns, 3, H, W).
        path: PNG file to write.
        title: title of the figure.
    """
    tiles: list[Tile] = []
    for row, images in enumerate(grid):
        for column, image in enumerate(images):
            gap = 0.2 * (column > 0)  # Sets the originals apart.
            caption = {(0, 0): "original", (0, 1): "augmented"}.get((row, column), "")
            tiles.append(Tile(1.06 * column + gap, row, image, caption))

    _plot_tiles(tiles, path, title)


def short(name: str, length: int) -> str:
    """Cut a name that is longer than `length`; what cannot be drawn is escaped."""
    name = printable(name)
    return name if len(name) <= length else f"{name[: length - 1]}…"


def short_file(file: str, length: int) -> str:
    """A file's name without its folders; of a longer one the end, which tells files apart."""
    name = printable(Path(file).name)
    return name if len(name) <= length else f"…{name[1 - length :]}"


@dataclass(frozen=True, slots=True)
class Tile:
    """A picture in a grid of pictures."""

    x: float
    """Where its left edge is; a tile is 1 wide."""
    row: int
    image: NDArray[np.uint8]  # (H, W) or (3, H, W)
    caption: str


def _plot_tiles(
    tiles: Sequence[Tile], path: Path, title: str, row_names: Sequence[str] = ()
) -> None:
    # All tiles share one pair of axes: one pair for each would take many times as long.
    tops = _row_tops(tiles)
    width = max((tile.x + 1 for tile in tiles), default=3)
    height = tops[-1] + 1
    names_width = 1.1 if row_names else 0.0
    figure_width = max(0.95 * width + 0.2 + names_width, 0.09 * len(title))
    fig = Figure(figsize=(figure_width, 0.95 * height + 0.5), layout="constrained")
    fig.suptitle(title, x=0.01, ha="left", fontsize=TITLE)

    axes = fig.add_subplot()
    for tile in tiles:
        top = tops[tile.row]
        extent = (tile.x, tile.x + 1, top + 1, top)
        axes.imshow(_channels_last(tile.image), extent=extent, interpolation="nearest")
        axes.text(tile.x, top - 0.04, tile.caption, fontsize=7, va="bottom", linespacing=1.1)
    for row, name in enumerate(row_names):
        axes.text(-0.1, tops[row] + 0.5, name, fontsize=SMALL, ha="right", va="center")

    # Rows count from the top; a figure that is wider for its title has its tiles on the left.
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_anchor("W")
    axes.axis("off")
    save_figure(fig, path)


def _row_tops(tiles: Sequence[Tile]) -> list[float]:
    """Where each row of tiles begins, from the top, with room for the captions above it."""
    rows = 1 + max((tile.row for tile in tiles), default=0)
    caption_lines = [0] * rows
    for tile in tiles:
        if tile.caption:
            lines = tile.caption.count("\n") + 1
            caption_lines[tile.row] = max(caption_lines[tile.row], lines)

    tops: list[float] = []
    lines_above = 0
    for row in range(rows):
        lines_above += caption_lines[row]
        tops.append(row * 1.06 + 0.16 * lines_above)

    return tops


def _channels_last(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn (H, W) or (3, H, W) into (H, W, 3)."""
    if image.ndim == 2:
        return np.stack([image] * 3, 2)
    return image.transpose(1, 2, 0)
