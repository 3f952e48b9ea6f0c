"""A split as NumPy arrays, which Ray's object store hands to every trial of a node without a
copy."""

import warnings

import numpy as np
import torch
from numpy.typing import NDArray

from fmnist.data.dataset import Split

Arrays = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Images, (N, H, W) or (N, 3, H, W), and labels, (N,)."""


def to_arrays(split: Split) -> Arrays:
    return split.images.numpy(), split.labels.numpy()


def from_arrays(arrays: Arrays) -> Split:
    images, labels = arrays
    with warnings.catch_warnings():
        # Shared arrays are read-only, and nothing writes to them.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return Split(torch.from_numpy(images), torch.from_numpy(labels))
