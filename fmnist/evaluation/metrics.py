"""Compute accuracy and its interval, precision, recall and F1 (micro, macro, weighted), AUROC."""

# scikit-learn, not torchmetrics: the same figures on 10,000 images, in 0.28 s against 0.78, and an
# import of 0.6 s against 4.5.

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fmnist.evaluation.calibration import calibration_error, reliability

SCORES = ("precision", "recall", "f1")
AVERAGES = ("micro", "macro", "weighted")


def classification_metrics(logits: Tensor, labels: Tensor) -> dict[str, Any]:
    """Compute all metrics that the published reports give, and those that they leave out.

    Micro precision, recall and F1 always equal the accuracy; macro recall equals it where all
    classes have the same number of images.

    Args:
        logits: (N, classes) float32.
        labels: (N,) int64.

    Returns:
        images, accuracy, loss, precision, recall and f1 (each micro, macro, weighted and
        per_class), auroc (macro and per_class, one against the rest; null for a class that does not
        occur), support (images of each class), confusion (rows: true class), top5 (null up to 5
        classes), mean_confidence, ece (see `calibration_error`); all but counts and loss are
        fractions.
    """
    # Here: scikit-learn takes a second to import, and workers do without.
    from sklearn.metrics import confusion_matrix

    classes = logits.shape[1]
    truth = labels.cpu().numpy()
    predicted = logits.argmax(1).cpu().numpy()
    probabilities = logits.float().softmax(1).cpu().numpy()
    confusion = confusion_matrix(truth, predicted, labels=list(range(classes)))
    return {
        "images": len(truth),
        "accuracy": float((truth == predicted).mean()),
        "loss": F.cross_entropy(logits.float(), labels).item(),
        **_averaged_scores(truth, predicted, classes),
        "auroc": _auroc(truth, probabilities),
        "support": confusion.sum(1).tolist(),
        "confusion": confusion.tolist(),
        "top5": _top5(logits, labels),
        "mean_confidence": float(probabilities.max(1).mean()),
        "ece": calibration_error(reliability(logits, labels)),
    }


def _averaged_scores(
    truth: NDArray[np.int64], predicted: NDArray[np.int64], classes: int
) -> dict[str, dict[str, Any]]:
    """Precision, recall and f1: each micro, macro, weighted and per_class."""
    # Here: slow to import, as above.
    from sklearn.metrics import precision_recall_fscore_support

    scores: dict[str, dict[str, Any]] = {score: {} for score in SCORES}
    for average in (*AVERAGES, None):  # None is a score for each class.
        values = precision_recall_fscore_support(
            truth,
            predicted,
            labels=list(range(classes)),
            average=average,  # pyright: ignore[reportArgumentType]
            zero_division=0,  # pyright: ignore[reportArgumentType]
        )
        for name, value in zip(SCORES, values[:3], strict=True):
            scores[name][average or "per_class"] = np.asarray(value).tolist()
    return scores


def _auroc(truth: NDArray[np.int64], probabilities: NDArray[np.float32]) -> dict[str, Any]:
    """AUROC of each class against the rest, and their mean; None where it is not defined."""
    # Here: slow to import, as above.
    from sklearn.metrics import roc_auc_score

    per_class: list[float | None] = []
    known: list[float] = []
    for number in range(probabilities.shape[1]):
        positive = truth == number
        if positive.all() or not positive.any():
            per_class.append(None)
            continue
        area = float(roc_auc_score(positive, probabilities[:, number]))
        per_class.append(area)
        known.append(area)

    macro = sum(known) / len(known) if known else None
    return {"macro": macro, "per_class": per_class}


def _top5(logits: Tensor, labels: Tensor) -> float | None:
    """Share of images whose label is among the five highest logits; None up to 5 classes."""
    if logits.shape[1] <= 5:
        return None
    best = logits.topk(5).indices
    return (best == labels[:, None]).any(1).double().mean().item()


def accuracy_interval(correct: int, images: int) -> tuple[float, float]:
    """95 % interval of an accuracy (Wilson, 1927), as fractions."""
    # Here: SciPy's statistics take a while to import, and workers do without.
    from scipy.stats import binomtest

    low, high = binomtest(correct, images).proportion_ci(method="wilson")
    return float(low), float(high)


def confused_pairs(confusion: list[list[int]], classes: Sequence[str]) -> list[dict[str, Any]]:
    """List the pairs of classes that are confused, the most frequent first.

    Args:
        confusion: images by true class (rows) and predicted class (columns).
        classes: their names.

    Returns:
        of each pair that occurs: true, predicted, count, and share of the true class's images.
    """
    pairs: list[dict[str, Any]] = []
    for row, counts in enumerate(confusion):
        for column, count in enumerate(counts):
            if row == column or not count:
                continue
            pair = {
                "true": classes[row],
                "predicted": classes[column],
                "count": count,
                "share": count / sum(counts),
            }
            pairs.append(pair)
    return sorted(pairs, key=lambda pair: -pair["count"])
