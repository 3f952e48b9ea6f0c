"""How long will it take? Measured on a few batches, before an expensive start."""

import torch

from fmnist.config import TrainConfig
from fmnist.data import Split
from fmnist.loop import train_epochs

MEASURE_S = 0.5
MIN_STEPS, MAX_STEPS = 3, 60


def measure_speed(config: TrainConfig, train: Split, classes: int, device: torch.device) -> float:
    """Images/s of training `config`: a first batch to warm up, then as many as fit in about half a second."""
    batch = config.global_batch_size

    def seconds(steps: int) -> float:
        few = Split(train.images[: steps * batch], train.labels[: steps * batch])
        metrics, _ = next(train_epochs(config.replace(epochs=1, early_epochs=0, lr=1e-6), few, classes=classes, device=device))
        return steps * batch / metrics.images_per_s

    seconds(1)
    steps = min(max(round(MEASURE_S / max(seconds(1), 1e-4)), MIN_STEPS), MAX_STEPS, max(len(train) // batch, 1))
    return steps * batch / seconds(steps)
