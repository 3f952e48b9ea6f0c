import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fmnist.evaluation import plots
from fmnist.evaluation.plots import Panel

CLASSES = tuple(f"a class of a long name {number}" for number in range(26))


def epochs(count: int, validation: bool) -> list[dict[str, Any]]:
    """EpochMetrics of a training, with or without validation images."""
    rows: list[dict[str, Any]] = []
    for epoch in range(1, count + 1):
        row = {
            "epoch": epoch,
            "train_loss": 1 / epoch,
            "train_accuracy": 1 - 0.5 / epoch,
            "validation_loss": 0.5 if validation else None,
            "validation_accuracy": 0.8 if validation else None,
        }
        rows.append(row)
    return rows


def roc(classes: int, path: Path) -> None:
    """Draw the curves of a guesser; the last class does not occur."""
    source = np.random.default_rng(0)
    labels = source.integers(0, classes - 1, 200)
    probabilities = source.dirichlet(np.ones(classes), 200).astype(np.float32)
    curves: list[plots.RocCurve] = []
    for number, name in enumerate(CLASSES[:classes]):
        curve = plots.roc_of(labels == number, probabilities[:, number], name)
        if curve is not None:
            curves.append(curve)
    assert len(curves) == classes - 1
    plots.plot_roc(curves, path, mean=curves[0])


def bars(classes: int, path: Path) -> None:
    values: list[float | None] = np.linspace(0, 1, classes).tolist()
    values[0] = None
    scores: dict[str, list[float | None]] = {"precision": values, "recall": values, "f1": values}
    support = [0, *range(1, classes)]
    plots.plot_class_bars(scores, support, CLASSES[:classes], path)


def images(count: int, *shape: int) -> Any:
    return np.random.default_rng(0).integers(0, 256, (count, *shape)).astype(np.uint8)


def mistakes(count: int, path: Path, *shape: int) -> None:
    caption = f"{plots.short_file('folder/picture.png', 20)}\nlabel\n→ another 90%"
    plots.plot_mistakes(images(count, *shape), [caption] * count, path)


def cams(path: Path, *shape: int) -> None:
    heat = np.zeros((6, *shape[-2:]), np.float32)
    captions = ["→ caption"] * 6
    plots.plot_cams(images(6, *shape), heat, captions, path, 3, ["first", "second"])


ROW = {"low": 0.8, "high": 0.9, "images": 10, "confidence": 0.85, "accuracy": 0.8}
POINTS = [(0.9, 0.01), None, (0.92, None)]
FIGURES: dict[str, Callable[[Path], None]] = {
    "curves": lambda path: plots.plot_curves({"one": epochs(5, True)}, path),
    "curves without validation": lambda path: plots.plot_curves({"one": epochs(1, False)}, path),
    "curves of many": lambda path: plots.plot_curves(
        {f"run {n}": epochs(n, n % 2 == 0) for n in range(1, 12)}, path
    ),
    "losses": lambda path: plots.plot_losses(
        {name: {"1": epochs(3, True)} for name in ("one", "two")}, path, "losses"
    ),
    "roc of 3": lambda path: roc(3, path),
    "roc of 26": lambda path: roc(26, path),
    "confusion of 2": lambda path: plots.plot_confusion(
        [[3, 1], [0, 0]], [4, 0], CLASSES[:2], path
    ),
    "confusion of 26": lambda path: plots.plot_confusion(
        np.eye(26, dtype=int).tolist(), [1] * 26, CLASSES, path
    ),
    "bars of 2": lambda path: bars(2, path),
    "bars of 26": lambda path: bars(26, path),
    "factor": lambda path: plots.plot_factor(
        [Panel("batch", [1, 2, "all"], {"theirs": POINTS, "ours": POINTS})], path, "one"
    ),
    "factors": lambda path: plots.plot_factor(
        [Panel(f"f{n}", [1, 2, 3], {"ours": POINTS}) for n in range(6)], path, "six"
    ),
    "accuracies": lambda path: plots.plot_accuracies(
        {"a": (0.9, 0.88, 0.92), "b": (1, 0.97, 1)}, path, "two"
    ),
    "reliability": lambda path: plots.plot_reliability(
        {"as trained": [ROW], "temperature 1.20": [ROW]}, path
    ),
    "mistakes": lambda path: mistakes(24, path, 28, 28),
    "mistakes in colour": lambda path: mistakes(3, path, 3, 40, 40),
    "no mistakes": lambda path: mistakes(0, path, 28, 28),
    "cams": lambda path: cams(path, 28, 28),
    "cams in colour": lambda path: cams(path, 3, 40, 40),
    "augmentations": lambda path: plots.plot_augmentations(images(4, 6, 28, 28), path),
    "augmentations in colour": lambda path: plots.plot_augmentations(images(2, 3, 3, 40, 40), path),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figure_is_drawn_whole(name: str, tmp_path: Path) -> None:
    """A picture of a sane size, with something in it, whose edges nothing touches."""
    FIGURES[name](tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as image:
        assert 300 < image.width < 2000
        assert 150 < image.height < 2400
        ink = np.asarray(image.convert("L")) < 128

    assert ink.any()
    edges = np.concatenate((ink[0], ink[-1], ink[:, 0], ink[:, -1]))
    assert not edges.any()


def test_names_are_drawn_as_they_are(tmp_path: Path) -> None:
    """Not as formulas, and with an escape where there is nothing to draw."""
    for name in ("$\\frac$ 5$", "\udcff latin", "two\nlines", "\u202egnp.x"):
        plots.plot_confusion([[1]], [1], [name], tmp_path / "figure.png")
    assert plots.short("two\nlines", 20) == "two\\nlines"
    assert plots.short_file("a/b/0123456789.png", 9) == "…6789.png"


def test_scripts_that_no_font_has_are_drawn_without_warnings(tmp_path: Path) -> None:
    # Egyptian hieroglyphs, which Matplotlib's own font lacks.
    names = ("\U00013000", "\U00013001", "cat")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        counts = [[3, 0, 0], [0, 3, 0], [0, 0, 3]]
        plots.plot_confusion(counts, [3, 3, 3], names, tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").stat().st_size > 1000


def test_series_differ_in_gray_print() -> None:
    """No two of the first classes share colour and line, and no two series share a marker."""
    lines = {(plots.color(number), plots.line(number)) for number in range(28)}
    assert len(lines) == 28
    assert len(set(plots.MARKERS)) == len(plots.MARKERS)
    assert len(set(plots.PALETTE)) == len(plots.PALETTE)
