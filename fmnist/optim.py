"""Optimisers, learning-rate schedules and weight averaging, each registry a dict literal of builders."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.swa_utils import PARAM_LIST, AveragedModel, get_ema_multi_avg_fn

from fmnist.config import TrainConfig
from fmnist.device import has_bfloat16

Parameters = list[nn.Parameter]
"""A model's trainable parameters, in its own order: the last matrix is the head's."""


def grouped(parameters: Parameters, config: TrainConfig) -> list[dict[str, Any]]:
    """Weight decay on matrices and kernels alone (Bag of Tricks, He et al., 2018, section 3.1)."""
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _sgd(parameters: Parameters, config: TrainConfig, momentum: float, nesterov: bool = False) -> list[Optimizer]:
    return [SGD(grouped(parameters, config), config.lr, momentum, nesterov=nesterov and momentum > 0, fused=True)]


def _muon(parameters: Parameters, config: TrainConfig) -> list[Optimizer]:
    head = next(p for p in reversed(parameters) if p.ndim > 1)
    hidden = [p for p in parameters if p.ndim > 1 and p is not head]
    rest = [p for p in parameters if p.ndim <= 1 or p is head]
    muon = Muon(hidden, config.lr, config.momentum, config.weight_decay)
    return [muon, AdamW(grouped(rest, config), config.lr, fused=True)]


OPTIMIZERS: dict[str, Callable[[Parameters, TrainConfig], list[Optimizer]]] = {
    "sgd": lambda parameters, config: _sgd(parameters, config, 0.0),
    "momentum": lambda parameters, config: _sgd(parameters, config, config.momentum),
    "nesterov": lambda parameters, config: _sgd(parameters, config, config.momentum, nesterov=True),
    "adam": lambda parameters, config: [Adam(grouped(parameters, config), config.lr, fused=True)],
    "adamw": lambda parameters, config: [AdamW(grouped(parameters, config), config.lr, fused=True)],
    "muon": _muon,
}
"""Each gives the optimisers that step together; all follow the config's learning rate."""


class Muon(Optimizer):
    """Momentum whose update is orthogonalised (Jordan et al., 2024), for kernels of convolutions as for matrices.

    A kernel (out, in, h, w) is taken as the matrix (out, in · h · w). The update is scaled to the size of one of Adam's (Liu et
    al., 2025, arXiv:2502.16982), so learning rates of adamw serve. On matrices it equals torch.optim.Muon with
    adjust_lr_fn="match_rms_adamw", which takes nothing else.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, momentum: float, weight_decay: float) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                average = self.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter.grad))
                average.lerp_(parameter.grad, 1 - momentum)
                update = parameter.grad.lerp(average, momentum).flatten(1)  # Nesterov's look ahead
                scale = 0.2 * math.sqrt(max(update.shape))
                parameter.mul_(1 - lr * group["weight_decay"])
                parameter.add_(orthogonalised(update).view_as(parameter), alpha=-lr * scale)


def orthogonalised(matrix: Tensor) -> Tensor:
    """Nearly U Vᵀ of the matrix's singular value decomposition: five steps of a quintic Newton-Schulz iteration, in bfloat16 where
    the device has it: a CPU that emulates it takes 20 times as long as in float32."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.bfloat16() if has_bfloat16(matrix.device.type) else matrix.float()
    if tall := x.shape[0] > x.shape[1]:
        x = x.mT
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrix.dtype)


class Schedule(Protocol):
    """Factor on the peak learning rate.

    Args:
        config: whose parameters are read.
        epoch: epochs done, with fractions.
        progress: share (0 to 1) of the steps after the warm-up that lie behind.
        losses: the loss watched, after each whole epoch.
    """

    def __call__(self, config: TrainConfig, epoch: float, progress: float, losses: Sequence[float]) -> float: ...


def _constant(config: TrainConfig, epoch: float, progress: float, losses: Sequence[float]) -> float:
    return 1.0


def _step(config: TrainConfig, epoch: float, progress: float, losses: Sequence[float]) -> float:
    return config.lr_factor ** int(epoch / config.step_epochs)


def _cosine(config: TrainConfig, epoch: float, progress: float, losses: Sequence[float]) -> float:
    return 0.5 * (1 + math.cos(math.pi * progress))


def _onecycle(config: TrainConfig, epoch: float, progress: float, losses: Sequence[float]) -> float:
    return 1 - progress


def _plateau(config: TrainConfig, epoch: float, progress: float, losses: Sequence[float]) -> float:
    reductions, waited, best = 0, 0, math.inf
    for loss in losses:
        waited = 0 if improves(loss, best) else waited + 1
        best = loss if improves(loss, best) else best
        if waited > config.plateau_epochs:
            reductions, waited = reductions + 1, 0
    return config.lr_factor**reductions


SCHEDULES: dict[str, Schedule] = {
    "constant": _constant,
    "step": _step,
    "cosine": _cosine,
    "onecycle": _onecycle,
    "plateau": _plateau,
}


def improves(loss: float, best: float) -> bool:
    """By more than a ten-thousandth, as PyTorch's ReduceLROnPlateau has it."""
    return loss < best * (1 - 1e-4)


def build_optimizers(config: TrainConfig, model: nn.Module) -> list[Optimizer]:
    """The config's optimisers, one for most names; they step together."""
    return OPTIMIZERS[config.optimizer]([p for p in model.parameters() if p.requires_grad], config)


def lr_at(config: TrainConfig, step: float, steps_per_epoch: int, losses: Sequence[float] = ()) -> float:
    """Learning rate of optimiser step 0 … epochs · steps_per_epoch - 1; `losses` is read by plateau alone."""
    total_steps = config.epochs * steps_per_epoch
    warmup_steps = round(config.warmup * total_steps)
    if step < warmup_steps:
        return config.lr * (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
    return config.lr * SCHEDULES[config.schedule](config, step / steps_per_epoch, progress, losses)


def set_lr(optimizers: list[Optimizer], lr: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr


def decay_of(ema: float, updates: int) -> float:
    """Decay of the moving average at its update of that number: at first it is shorter, so that it forgets the weights that the
    training began with however short the run (as TensorFlow's ExponentialMovingAverage with num_updates does it)."""
    return min(ema, (1 + updates) / (10 + updates))


def build_average(config: TrainConfig, model: nn.Module) -> AveragedModel | None:
    """The exponential moving average of the weights and of batch norm's statistics, if the config asks for one."""
    if not config.ema:
        return None
    average = AveragedModel(model, use_buffers=True)

    def update(averaged: PARAM_LIST, current: PARAM_LIST, _: Tensor | int) -> None:
        updates = int(average.n_averaged)  # on the CPU, unlike what is handed in: no waiting for a GPU
        get_ema_multi_avg_fn(decay_of(config.ema, updates))(averaged, current, updates)

    average.multi_avg_fn = update
    return average
