"""Draw an evaluation; of many classes, those that are worth a look."""

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fmnist.data.dataset import Split
from fmnist.evaluation import plots
from fmnist.evaluation.ensemble import Member
from fmnist.evaluation.logits import answers, class_probabilities
from fmnist.evaluation.many_classes import SHOWN_CLASSES, most_confused, worst_classes
from fmnist.evaluation.metrics import SCORES, confusion_of, false_rates
from fmnist.evaluation.predictions import Mistake

ROC_CURVES = 28
"""Curves that differ from each other in colour or style."""
WORST_CURVES = 8
"""Classes with a curve of their own where there are more."""

Classes = tuple[str, ...]


def draw(
    members: list[Member],
    evaluation: dict[str, Any],
    metrics: dict[str, Any],
    logits: Tensor,
    split: Split,
    folder: Path,
) -> None:
    """Draw an evaluation as PNG files in `folder`.

    Args:
        evaluation: as `fmnist.evaluation.report.describe` gives it.
        metrics: `classification_metrics` of the logits.
        logits: (N, classes) float32.
        split: the N images.
    """
    classes = members[0].checkpoint.data.classes
    # Members whose epochs were not kept have no curve.
    curves = {member.name: member.epochs for member in members if member.epochs}
    if curves:
        plots.plot_curves(curves, folder / "curves.png")

    draw_roc(metrics, logits, split.labels, classes, folder / "roc.png")
    draw_confusion(metrics, logits, split.labels, classes, folder / "confusion.png")
    draw_classes(metrics, classes, folder / "classes.png")
    draw_mistakes(evaluation["surest_mistakes"], split, folder / "mistakes.png")

    # Predictions stay the same at every temperature: only the reliability is drawn for both.
    bins = {"as trained": evaluation["reliability"]}
    scaled = evaluation["temperature"]
    if scaled is not None:
        bins[f"temperature {scaled['value']:.2f}"] = scaled["reliability"]
    plots.plot_reliability(bins, folder / "reliability.png")


def draw_roc(
    metrics: dict[str, Any], logits: Tensor, labels: Tensor, classes: Classes, path: Path
) -> None:
    """Draw the ROC curve of each class; of many, those of the worst and the mean of all."""
    numbers = list(range(len(classes)))
    title = "ROC, each class against the rest"
    mean: plots.RocCurve | None = None
    if len(classes) > ROC_CURVES:
        numbers = worst_classes(metrics, "auroc")[:WORST_CURVES]
        title = f"{title}: the {len(numbers)} worst of {len(classes):,} classes"
        if metrics["auroc"]["macro"] is not None:
            mean = _mean_curve(metrics, logits, labels)

    curves: list[plots.RocCurve] = []
    probabilities = class_probabilities(logits, numbers).numpy()
    for number, scores in zip(numbers, probabilities.T, strict=True):
        curve = plots.roc_of(labels.numpy() == number, scores, classes[number])
        if curve is not None:
            curves.append(curve)
    plots.plot_roc(curves, path, mean, title)


def _mean_curve(metrics: dict[str, Any], logits: Tensor, labels: Tensor) -> plots.RocCurve:
    """The macro mean: each class counts alike, however many images it has."""
    rates = false_rates(logits, labels).numpy()
    support = np.array(metrics["support"])
    weights = 1 / support[labels.numpy()] / (support > 0).sum()

    order = np.argsort(rates)
    false_rate = np.concatenate(([0.0], rates[order], [1.0]))
    true_rate = np.concatenate(([0.0], weights[order].cumsum(), [1.0]))
    return plots.RocCurve(false_rate, true_rate, metrics["auroc"]["macro"], "mean of all")


def draw_confusion(
    metrics: dict[str, Any], logits: Tensor, labels: Tensor, classes: Classes, path: Path
) -> None:
    """Draw the confusion matrix; of many classes, those most often confused."""
    confusion = metrics["confusion"]
    support = metrics["support"]
    title = "Confusion, % of each true class"
    if confusion is None:
        _, predicted = answers(logits)
        chosen = most_confused(metrics)
        confusion = confusion_of(labels.numpy(), predicted.numpy(), np.array(chosen)).tolist()
        title = f"{title}: the most confused {len(chosen)} of {len(classes):,} classes"
        classes = tuple(classes[number] for number in chosen)
        support = [support[number] for number in chosen]
    plots.plot_confusion(confusion, support, classes, path, title)


def draw_classes(metrics: dict[str, Any], classes: Classes, path: Path) -> None:
    """Draw the scores of each class; of many, those with the lowest F1."""
    chosen = list(range(len(classes)))
    title = "Scores of each class"
    if len(chosen) > SHOWN_CLASSES:
        chosen = worst_classes(metrics)[:SHOWN_CLASSES]
        title = f"The lowest F1: {len(chosen)} of {len(classes):,} classes"

    scores: dict[str, list[float | None]] = {}
    for score in SCORES:
        values = metrics[score]["per_class"]
        scores[score] = [values[number] for number in chosen]
    support = [metrics["support"][number] for number in chosen]
    names = [classes[number] for number in chosen]
    plots.plot_class_bars(scores, support, names, path, title)


def draw_mistakes(rows: list[dict[str, Any]], split: Split, path: Path) -> None:
    """Draw the surest mistakes, each with the name of its file where the set was imported."""
    mistakes = [Mistake(**row) for row in rows]
    captions: list[str] = []
    for one in mistakes:
        caption = (
            f"{plots.short(one.true, 20)}\n→ {plots.short(one.predicted, 14)} {one.confidence:.0%}"
        )
        if one.file is not None:
            caption = f"{plots.short_file(one.file, 22)}\n{caption}"
        captions.append(caption)

    images = split.images[np.array([one.index for one in mistakes], dtype=np.int64)]
    plots.plot_mistakes(images.numpy(), captions, path)
