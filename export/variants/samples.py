"""The images by which variants are made and judged; none is of the test set."""

import numpy as np

from export.variants.int8 import calibration_indices
from fmnist.data.dataset import Split
from fmnist.data.sources import Source
from fmnist.evaluation.held_out import held_out_split, training_sample
from fmnist.training.checkpoint import Checkpoint

GOLDEN_PER_CLASS = 2
TRAINING_SAMPLE = 20_000
PER_CLASS = 32
"""Training images of each class that decide the ranges of int8."""
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
    calibration = np.setdiff1d(drawn, golden)

    if checkpoint.config.validation_images:
        judge = held_out_split(checkpoint, "validation", source)
    else:
        judge = train.take(np.setdiff1d(np.arange(len(train)), drawn))
    few = np.arange(min(JUDGED, len(judge)))
    return train.take(golden), train.take(calibration), judge.take(few)
