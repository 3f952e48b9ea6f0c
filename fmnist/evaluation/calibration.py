"""Measure and correct confidence: how sure a model is, and how often it is right then."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

CALIBRATION_BINS = 15


def reliability(logits: Tensor, labels: Tensor) -> list[dict[str, Any]]:
    """Compare confidence with accuracy in 15 bins of equal width (Guo et al., 2017).

    Args:
        logits: (N, classes) float32.
        labels: (N,) int64.

    Returns:
        a row for each bin that is not empty: low and high (its bounds), images, confidence and
        accuracy (means, fractions).
    """
    confidence, predicted = logits.double().softmax(1).max(1)
    right = (predicted == labels).double()
    # A bin includes its upper bound, hence ceil; a confidence of 0 belongs to the first.
    bins = (confidence * CALIBRATION_BINS).ceil().long().clamp(1, CALIBRATION_BINS) - 1

    rows: list[dict[str, Any]] = []
    for number in bins.unique().tolist():
        inside = bins == number
        row = {
            "low": number / CALIBRATION_BINS,
            "high": (number + 1) / CALIBRATION_BINS,
            "images": int(inside.sum()),
            "confidence": confidence[inside].mean().item(),
            "accuracy": right[inside].mean().item(),
        }
        rows.append(row)

    return rows


def calibration_error(rows: Sequence[Mapping[str, Any]]) -> float:
    """Expected calibration error, a fraction (Guo et al., 2017).

    It is the mean of |confidence - accuracy| over the bins, weighted by their images.

    Args:
        rows: the bins, from `reliability`.
    """
    images = sum(row["images"] for row in rows)
    weighted = sum(row["images"] * abs(row["confidence"] - row["accuracy"]) for row in rows)
    return weighted / max(images, 1)


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Find the number by which to divide the logits for the lowest loss (Guo et al., 2017).

    It changes a model's confidence and never its predictions. Fit it on validation images.

    Args:
        logits: (N, classes) float32.
        labels: (N,) int64.
    """
    # Here: SciPy's optimisers take a while to import, and most evaluations do without.
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        return F.cross_entropy(logits.double() / np.exp(log_temperature), labels).item()

    result = minimize_scalar(loss, bounds=(-4, 4), method="bounded")
    return float(np.exp(result.x))  # pyright: ignore[reportAttributeAccessIssue]
