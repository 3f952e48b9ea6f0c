"""Measure and correct confidence: how sure a model is, and how often it is right then."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from fmnist.evaluation.logits import answers, parts

CALIBRATION_BINS = 15
FITTED_VALUES = 50_000_000
"""Logits that a temperature is fitted on, at most: it is a single number."""


def reliability(logits: Tensor, labels: Tensor) -> list[dict[str, Any]]:
    """Compare confidence with accuracy in 15 bins of equal width (Guo et al., 2017).

    Args:
        logits: (N, classes) float32.
        labels: (N,) int64.

    Returns:
        a row for each bin that is not empty: low and high (its bounds), images, confidence and
        accuracy (means, fractions).
    """
    confidence, predicted = answers(logits)
    return reliability_of(confidence, predicted == labels)


def reliability_of(confidence: Tensor, correct: Tensor) -> list[dict[str, Any]]:
    """Compare confidence (N,) float64 with whether the answers are right (N,) bool: see
    `reliability`."""
    right = correct.double()
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

    # Of so many images some do, from all over the split: sets are often in the order of classes.
    step = max(math.ceil(logits.numel() / FITTED_VALUES), 1)
    logits, labels = logits[::step], labels[::step]

    def loss(log_temperature: float) -> float:
        total = 0.0
        for part in parts(logits):
            scaled = logits[part].double() / np.exp(log_temperature)
            total += F.cross_entropy(scaled, labels[part], reduction="sum").item()
        return total / len(labels)

    result = minimize_scalar(loss, bounds=(-4, 4), method="bounded")
    return float(np.exp(result.x))  # pyright: ignore[reportAttributeAccessIssue]
