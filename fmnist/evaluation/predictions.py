"""Save the predictions on a split, so that they can be drawn without the data set."""

import io
from pathlib import Path

import numpy as np
from torch import Tensor

from fmnist.data.dataset import Split
from fmnist.runs.files import write_atomic

MISTAKES = 24
"""Mistakes that are drawn, at most."""
PREDICTIONS = "test_predictions.npz"
"""File beside a checkpoint: see save_predictions."""


def surest_mistakes(logits: Tensor, labels: Tensor) -> Tensor:
    """Indices of the mistakes with the highest probability, that one first: (M,) int64.

    M is at most MISTAKES.

    Args:
        logits: (N, classes) float32.
        labels: (N,) int64.
    """
    confidence, predicted = logits.float().softmax(1).max(1)
    wrong = (predicted != labels).nonzero().flatten()
    # Stable, so that equals keep their order on every machine.
    order = confidence[wrong].argsort(descending=True, stable=True)
    return wrong[order][:MISTAKES]


def save_predictions(path: Path, logits: Tensor, split: Split) -> None:
    """Save a model's predictions on a split, and its surest mistakes, as a compressed npz.

    The file holds logits (N, classes) float32 and labels (N,); and of the surest mistakes their
    indices in the split, mistakes (M,) int64, and their images (M, H, W) or (M, 3, H, W) uint8.
    """
    wrong = surest_mistakes(logits, split.labels)
    # A byte for each label, up to 256 classes.
    label_type = np.min_scalar_type(logits.shape[1])
    # By way of memory, so that the file is written whole or not at all.
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        logits=logits.float().numpy(),
        labels=split.labels.numpy().astype(label_type),
        mistakes=wrong.numpy(),
        images=split.images[wrong].numpy(),
    )
    write_atomic(path, buffer.getvalue())
