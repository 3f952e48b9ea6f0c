"""What a network needs, measured in a process of its own before a search: without Ray Tune, which takes seconds to import."""

import time
import warnings

import numpy as np
import torch
from numpy.typing import NDArray

from fmnist.config import TrainConfig
from fmnist.data import Split
from fmnist.device import default_device, set_threads
from fmnist.plan import measure_speed

Arrays = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""A split as NumPy arrays, which Ray's object store hands to every trial of a machine without a copy."""


def to_arrays(split: Split) -> Arrays:
    return split.images.numpy(), split.labels.numpy()


def from_arrays(arrays: Arrays) -> Split:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nobody writes to the images
        return Split(torch.from_numpy(arrays[0]), torch.from_numpy(arrays[1]))


def measure_network(config: TrainConfig, train: Arrays, classes: int, threads: int) -> tuple[float, float]:
    """The time at which this process began to work, and the images/s of training `config` here."""
    began = time.time()
    set_threads(config.replace(threads=config.threads or threads))
    return began, measure_speed(config, from_arrays(train), classes, default_device())


def measure_memory(config: TrainConfig, train: Arrays, classes: int) -> tuple[int, int]:
    """Bytes of this process's GPU that PyTorch takes at the peak of training `config`, and that the GPU has."""
    measure_speed(config, from_arrays(train), classes, default_device())
    return torch.cuda.max_memory_reserved(), torch.cuda.get_device_properties(0).total_memory
