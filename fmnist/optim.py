"""Optimisers and learning-rate schedules, each a dict literal of builders."""

import math
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from fmnist.config import TrainConfig

Group = dict[str, Any]

OPTIMIZERS: dict[str, Callable[[list[Group], TrainConfig, bool], Optimizer]] = {
    "sgd": lambda groups, config, fused: SGD(groups, config.lr, fused=fused),
    "momentum": lambda groups, config, fused: SGD(groups, config.lr, config.momentum, fused=fused),
    "nesterov": lambda groups, config, fused: SGD(groups, config.lr, config.momentum, nesterov=config.momentum > 0, fused=fused),
    "adam": lambda groups, config, fused: Adam(groups, config.lr, fused=fused),
    "adamw": lambda groups, config, fused: AdamW(groups, config.lr, fused=fused),
}

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
    "onecycle": lambda progress: 1 - progress,
}
"""Factor on the peak learning rate, by the share (0 to 1) of the steps after the warm-up that lie behind."""


def build_optimizer(config: TrainConfig, model: nn.Module) -> Optimizer:
    """The config's optimiser; weight decay on matrices and kernels alone (Bag of Tricks, He et al., 2018, section 3.1)."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups: list[Group] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return OPTIMIZERS[config.optimizer]([group for group in groups if group["params"]], config, True)


def lr_at(config: TrainConfig, step: int, total_steps: int) -> float:
    """Learning rate of optimiser step `step` of 0 … total_steps - 1."""
    warmup_steps = round(config.warmup * total_steps)
    if step < warmup_steps:
        return config.lr * (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
    return config.lr * SCHEDULES[config.schedule](progress)


def set_lr(optimizer: Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr
