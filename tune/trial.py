"""One trial of a search: the one training loop, reporting each epoch to Ray Tune."""

import time
import warnings
from typing import Any

import numpy as np
import ray.tune
import torch
from numpy.typing import NDArray

from fmnist.config import TrainConfig
from fmnist.data import Split
from fmnist.device import default_device, set_threads
from fmnist.loop import DivergedError, train_epochs
from fmnist.plan import measure_speed

METRIC = "validation_accuracy"
WORST = 0.0
"""What a diverged trial reports: Tune would let one that reports NaN run to its end."""

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


def run_trial(params: dict[str, Any], *, base: TrainConfig, train: Arrays, validation: Arrays, classes: int) -> None:
    """Train `base` with a trial's candidate values.

    Args:
        params: "trial" holds the trial's "number" and its "candidate", values of TrainConfig's fields.
    """
    config = base.replace(**params["trial"]["candidate"])
    set_threads(config)
    try:
        for metrics, state in train_epochs(
            config, from_arrays(train), from_arrays(validation), classes=classes, device=default_device()
        ):
            ray.tune.report(metrics.to_dict() | {"diverged": None, "kept_epoch": state.kept_epoch})
    except DivergedError as error:
        ray.tune.report({"epoch": config.epochs, METRIC: WORST, "diverged": str(error)})
