"""The images by which variants are made and judged; none is of the test set."""

import math

import numpy as np
from numpy.typing import NDArray

from export.variants.int8 import calibration_indices
from fmnist.data.dataset import Split
from fmnist.data.sources import Source
from fmnist.evaluation.held_out import held_out_split, training_sample
from fmnist.training.checkpoint import Checkpoint

GOLDEN_PER_CLASS = 2
TRAINING_SAMPLE = 20_000
GOLDEN = 200
"""Golden samples, at most: they travel with every bundle."""
GOLDEN_LOGITS = 1_000_000
"""Logits in them, at most."""
PER_CLASS = 32
"""Training images of each class that decide the ranges of int8."""
CALIBRATED = 1024
"""How many of them there are at most, of all classes together."""
JUDGED = 5000
"""Images by which a variant is judged, where there are so many."""


def samples(checkpoint: Checkpoint, source: Source) -> tuple[Split, Split, Split]:
    """Draw the images for an export, always the same.

    Returns:
        Golden samples, images that decide int8's ranges, and images to judge by: validation images,
        or where the model was trained on those too, training images that are in neither of the
        other two.
    """
    train = training_sample(checkpoint, TRAINING_SAMPLE, source)
    labels = train.labels.numpy()
    # Both draws begin alike, so the golden samples are among the larger one.
    golden = calibration_indices(labels, GOLDEN_PER_CLASS)
    drawn = calibration_indices(labels, GOLDEN_PER_CLASS + PER_CLASS)
    # Where classes have few images each, half of them are left to judge by.
    quarter = max(len(train) // 4, 1)
    most = min(GOLDEN, GOLDEN_LOGITS // len(checkpoint.data.classes), quarter)
    golden = evenly(golden, most)
    calibration = evenly(np.setdiff1d(drawn, golden), min(CALIBRATED, quarter))

    if checkpoint.config.validation_images:
        validation = held_out_split(checkpoint, "validation", source)
        # From all over it: a set may be in the order of its classes.
        judge = validation.take(evenly(np.arange(len(validation)), JUDGED))
    else:
        used = np.concatenate((golden, calibration))
        judge = train.take(np.setdiff1d(np.arange(len(train)), used)[:JUDGED])
    return train.take(golden), train.take(calibration), judge


def evenly(indices: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Up to `most` of the indices, from all over them."""
    step = math.ceil(len(indices) / most)
    return indices[:: max(step, 1)]
