"""Learning rate schedules, by name."""

import math
from collections.abc import Sequence
from typing import Protocol

from fmnist.config import TrainConfig

THRESHOLD = 1e-4
"""Relative improvement that counts, as in PyTorch's ReduceLROnPlateau."""


class Schedule(Protocol):
    """Factor on the peak learning rate.

    Args:
        config: has the schedule's parameters.
        epoch: epochs done, with fractions.
        progress: share (0 to 1) of the steps after the warm-up that are done.
        losses: the loss watched, after each whole epoch.
    """

    def __call__(
        self, config: TrainConfig, epoch: float, progress: float, losses: Sequence[float]
    ) -> float: ...


def _constant(config: TrainConfig, epoch: float, progress: float, losses: Sequence[float]) -> float:
    return 1.0


def _step(config: TrainConfig, epoch: float, progress: float, losses: Sequence[float]) -> float:
    return config.lr_factor ** int(epoch / config.step_epochs)


def _cosine(config: TrainConfig, epoch: float, progress: float, losses: Sequence[float]) -> float:
    return 0.5 * (1 + math.cos(math.pi * progress))


def _onecycle(config: TrainConfig, epoch: float, progress: float, losses: Sequence[float]) -> float:
    return 1 - progress


def _plateau(config: TrainConfig, epoch: float, progress: float, losses: Sequence[float]) -> float:
    drops = 0
    waited = 0
    best = math.inf
    for loss in losses:
        if improves(loss, best):
            best = loss
            waited = 0
        else:
            waited += 1
        # A drop starts the patience anew.
        if waited > config.plateau_epochs:
            drops += 1
            waited = 0
    return config.lr_factor**drops


SCHEDULES: dict[str, Schedule] = {
    "constant": _constant,
    "step": _step,
    "cosine": _cosine,
    "onecycle": _onecycle,
    "plateau": _plateau,
}


def improves(loss: float, best: float) -> bool:
    """Whether a loss is below the best by more than a ten-thousandth of it."""
    return loss < best * (1 - THRESHOLD)


def lr_at(
    config: TrainConfig, step: float, steps_per_epoch: int, losses: Sequence[float] = ()
) -> float:
    """Learning rate of an optimiser step.

    Args:
        step: 0 to epochs · steps_per_epoch - 1; a fraction where early epochs are shortened.
        losses: the loss watched, after each whole epoch; read by plateau alone.
    """
    total_steps = config.epochs * steps_per_epoch
    warmup_steps = round(config.warmup * total_steps)
    if step < warmup_steps:
        # The peak comes with the first step after the warm-up, and no step is taken at 0.
        return config.lr * (step + 1) / (warmup_steps + 1)

    progress = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
    epoch = step / steps_per_epoch
    return config.lr * SCHEDULES[config.schedule](config, epoch, progress, losses)
