"""Compute accuracy and its interval, precision, recall and F1 (micro, macro, weighted), AUROC."""

# NumPy's counts, not scikit-learn, whose confusion matrix of 20,000 classes takes 3 GB.

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fmnist.evaluation.calibration import calibration_error, reliability_of
from fmnist.evaluation.logits import PART_BYTES, answers, parts, softmax_parts

SCORES = ("precision", "recall", "f1")
AVERAGES = ("micro", "macro", "weighted")
MANY_CLASSES = 100
"""With more classes there is no confusion matrix: only the pairs most often confused are told."""
CONFUSED_PAIRS = 100
AUROC_VALUES = 200_000_000
"""Probabilities (images times classes) up to which the AUROC is computed: some seconds."""
IMBALANCE = 10.0
"""The largest class has so many times the images of the smallest: accuracy is then mostly that of
the large classes."""

Counts = NDArray[np.int64]


def classification_metrics(logits: Tensor, labels: Tensor) -> dict[str, Any]:
    """Compute all metrics that the published reports give, and those that they leave out.

    Micro precision, recall and F1 always equal the accuracy; macro recall equals it where all
    classes have the same number of images. A class that does not occur has no score, and is left
    out of the macro averages.

    Args:
        logits: (N, classes) float32, on the CPU.
        labels: (N,) int64.

    Returns:
        images, accuracy, loss, precision, recall and f1 (each micro, macro, weighted and
        per_class), auroc (macro and per_class, one against the rest; null where there are more than
        AUROC_VALUES probabilities), support (images of each class), confusion (rows: true class;
        null where there are MANY_CLASSES), confused (the most frequent pairs, by their numbers; see
        `frequent_pairs`), top5 (null up to 5 classes), mean_confidence, ece (see
        `calibration_error`); all but counts and loss are fractions.
    """
    classes = logits.shape[1]
    confidence, answer = answers(logits)
    truth, predicted = labels.numpy(), answer.numpy()
    support = np.bincount(truth, minlength=classes)
    return {
        "images": len(truth),
        "accuracy": float((truth == predicted).mean()),
        "loss": mean_loss(logits, labels),
        **_scores(truth, predicted, classes),
        "auroc": _auroc(logits, labels, support),
        "support": support.tolist(),
        "confusion": _confusion(truth, predicted, classes),
        "confused": frequent_pairs(truth, predicted, support),
        "top5": _top5(logits, labels),
        "mean_confidence": confidence.mean().item(),
        "ece": calibration_error(reliability_of(confidence, answer == labels)),
    }


def mean_loss(logits: Tensor, labels: Tensor) -> float:
    """Mean cross-entropy of logits (N, classes)."""
    losses = torch.empty(len(labels), dtype=torch.float64)
    for part in parts(logits):
        losses[part] = F.cross_entropy(logits[part].float(), labels[part], reduction="none")
    return losses.mean().item()


def _scores(truth: Counts, predicted: Counts, classes: int) -> dict[str, dict[str, Any]]:
    """Precision, recall and f1: each micro, macro, weighted and per_class."""
    support = np.bincount(truth, minlength=classes)
    answered = np.bincount(predicted, minlength=classes)
    right = np.bincount(truth[truth == predicted], minlength=classes)
    by_class = {
        "precision": _ratios(right, answered),
        "recall": _ratios(right, support),
        "f1": _ratios(2 * right, support + answered),
    }

    occurs = support > 0
    accuracy = float((truth == predicted).mean())
    scores: dict[str, dict[str, Any]] = {}
    for name, values in by_class.items():
        known = values[occurs]
        scores[name] = {
            "micro": accuracy,
            "macro": float(known.mean()),
            "weighted": float(np.average(known, weights=support[occurs])),
            "per_class": _known_or_none(values, occurs),
        }
    return scores


def _ratios(counts: Counts, totals: Counts) -> NDArray[np.float64]:
    """Quotients; 0 where the divisor is."""
    return counts / np.maximum(totals, 1)


def _known_or_none(values: NDArray[np.float64], known: NDArray[np.bool_]) -> list[float | None]:
    rows: list[float | None] = []
    for value, is_known in zip(values.tolist(), known.tolist(), strict=True):
        rows.append(value if is_known else None)
    return rows


def _auroc(logits: Tensor, labels: Tensor, support: Counts) -> dict[str, Any]:
    """AUROC of each class against the rest, and their mean; None where it is not defined."""
    classes = logits.shape[1]
    others = len(labels) - support
    defined = (support > 0) & (others > 0)
    if logits.numel() > AUROC_VALUES or not defined.any():
        return {"macro": None, "per_class": [None] * classes}

    ranks = 1 - false_rates(logits, labels).numpy()
    areas = np.bincount(labels.numpy(), ranks, minlength=classes) / np.maximum(support, 1)
    return {
        "macro": float(areas[defined].mean()),
        "per_class": _known_or_none(areas, defined),
    }


def false_rates(logits: Tensor, labels: Tensor) -> Tensor:
    """The false-positive rate at which each image is just found as one of its own class.

    It is the share of the other classes' images that are given that class with a higher
    probability; of those with the same one, half count. One less the mean over a class's images is
    its AUROC.

    Args:
        logits: (N, classes) float32.
        labels: (N,) int64.

    Returns:
        (N,) float64; 0 where there is no other class.
    """
    images = len(labels)
    peaks, totals = softmax_parts(logits)
    counts = torch.bincount(labels, minlength=logits.shape[1]).tolist()
    images_of = labels.argsort(stable=True).split(counts)
    rates = torch.zeros(images, dtype=torch.float64)

    # Several classes at once, since logits lie in memory image by image.
    step = max(PART_BYTES // (4 * images), 1)
    for first in range(0, logits.shape[1], step):
        columns = slice(first, first + step)
        scores = ((logits[:, columns].float() - peaks).exp() / totals).T.contiguous()
        for number, row in enumerate(scores, start=first):
            own = images_of[number]
            if 0 < len(own) < images:
                rates[own] = _rates_of(row.numpy(), own.numpy())
    return rates


def _rates_of(scores: NDArray[np.float32], own: Counts) -> Tensor:
    """`false_rates` of the images `own` of a class that the N images have with these scores."""
    values = scores[own]
    above, level = _ranked(scores, values)
    own_above, own_level = _ranked(values, values)
    others = len(scores) - len(own)
    return torch.from_numpy((above - own_above + (level - own_level) / 2) / others)


def _ranked(among: NDArray[np.float32], values: NDArray[np.float32]) -> tuple[Counts, Counts]:
    """How many lie above each value, and how many equal it."""
    ordered = np.sort(among)
    up_to = np.searchsorted(ordered, values, "right")
    below = np.searchsorted(ordered, values, "left")
    return len(among) - up_to, up_to - below


def _confusion(truth: Counts, predicted: Counts, classes: int) -> list[list[int]] | None:
    if classes > MANY_CLASSES:
        return None
    every = np.arange(classes)
    return confusion_of(truth, predicted, every).tolist()


def confusion_of(truth: Counts, predicted: Counts, chosen: Counts) -> Counts:
    """Images by true class (rows) and predicted class (columns), of some classes alone.

    Args:
        truth, predicted: (N,) int64.
        chosen: (M,) the classes' numbers, in ascending order.
    """
    size = len(chosen)
    both = np.isin(truth, chosen) & np.isin(predicted, chosen)
    rows = np.searchsorted(chosen, truth[both])
    columns = np.searchsorted(chosen, predicted[both])
    return np.bincount(rows * size + columns, minlength=size * size).reshape(size, size)


def frequent_pairs(truth: Counts, predicted: Counts, support: Counts) -> list[dict[str, Any]]:
    """List up to CONFUSED_PAIRS pairs of classes that are confused, the most frequent first.

    Returns:
        of each pair: true and predicted (numbers of the classes), count, and share of the true
        class's images.
    """
    classes = len(support)
    wrong = truth != predicted
    codes, counts = np.unique(truth[wrong] * classes + predicted[wrong], return_counts=True)
    # Stable: pairs of the same count stay in the order of their classes.
    order = np.argsort(-counts, kind="stable")[:CONFUSED_PAIRS]

    pairs: list[dict[str, Any]] = []
    for code, count in zip(codes[order].tolist(), counts[order].tolist(), strict=True):
        row, column = divmod(code, classes)
        share = count / int(support[row])
        pairs.append({"true": row, "predicted": column, "count": count, "share": share})
    return pairs


def confused_pairs(metrics: Mapping[str, Any], classes: Sequence[str]) -> list[dict[str, Any]]:
    """The most frequent pairs of `classification_metrics` with the classes' names."""
    pairs: list[dict[str, Any]] = []
    for pair in metrics.get("confused") or _pairs_in(metrics["confusion"]):
        names = {"true": classes[pair["true"]], "predicted": classes[pair["predicted"]]}
        pairs.append(pair | names)
    return pairs


def _pairs_in(confusion: list[list[int]] | None) -> list[dict[str, Any]]:
    """The confused pairs of a matrix: figures of earlier versions have nothing else."""
    counts = np.array(confusion or [[0]])
    truth, predicted = np.indices(counts.shape).reshape(2, -1)
    repeats = counts.flatten()
    return frequent_pairs(truth.repeat(repeats), predicted.repeat(repeats), counts.sum(1))


def _top5(logits: Tensor, labels: Tensor) -> float | None:
    """Share of images whose label is among the five highest logits; None up to 5 classes."""
    if logits.shape[1] <= 5:
        return None
    found = 0
    for part in parts(logits):
        best = logits[part].topk(5).indices
        found += int((best == labels[part, None]).any(1).sum())
    return found / len(labels)


def accuracy_interval(correct: int, images: int) -> tuple[float, float]:
    """95 % interval of an accuracy (Wilson, 1927), as fractions."""
    # Here: SciPy's statistics take a while to import, and workers do without.
    from scipy.stats import binomtest

    low, high = binomtest(correct, images).proportion_ci(method="wilson")
    return float(low), float(high)


def imbalance(support: Sequence[int]) -> float:
    """How many times the images of the smallest class the largest has; classes without images do
    not count."""
    counts = [count for count in support if count]
    return max(counts) / min(counts)
