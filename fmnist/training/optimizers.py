"""Optimisers, by name."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from fmnist.config import TrainConfig
from fmnist.training.device import has_bfloat16

Parameters = list[nn.Parameter]
"""A model's trainable parameters, in its own order: the last matrix is the head's."""

ITERATIONS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Muon's Newton-Schulz iteration: singular values come near 1 fast, and stay near it."""
ADAM_UPDATE = 0.2
"""Root mean square of Adam's usual update, which Muon's is scaled to."""


def grouped(parameters: Parameters, config: TrainConfig) -> list[dict[str, Any]]:
    """Group so that matrices and kernels alone have weight decay.

    Bag of Tricks (He et al., 2018), section 3.1.
    """
    decayed = [p for p in parameters if p.ndim > 1]
    others = [p for p in parameters if p.ndim <= 1]
    groups: list[dict[str, Any]] = []
    if decayed:
        groups.append({"params": decayed, "weight_decay": config.weight_decay})
    if others:
        groups.append({"params": others, "weight_decay": 0.0})
    return groups


def _build_sgd(parameters: Parameters, config: TrainConfig) -> list[Optimizer]:
    return [SGD(grouped(parameters, config), config.lr, momentum=0.0, fused=True)]


def _build_momentum(parameters: Parameters, config: TrainConfig) -> list[Optimizer]:
    return [SGD(grouped(parameters, config), config.lr, momentum=config.momentum, fused=True)]


def _build_nesterov(parameters: Parameters, config: TrainConfig) -> list[Optimizer]:
    groups = grouped(parameters, config)
    momentum = config.momentum
    return [SGD(groups, config.lr, momentum=momentum, nesterov=momentum > 0, fused=True)]


def _build_adam(parameters: Parameters, config: TrainConfig) -> list[Optimizer]:
    return [Adam(grouped(parameters, config), config.lr, fused=True)]


def _build_adamw(parameters: Parameters, config: TrainConfig) -> list[Optimizer]:
    return [AdamW(grouped(parameters, config), config.lr, fused=True)]


def _build_muon(parameters: Parameters, config: TrainConfig) -> list[Optimizer]:
    """Muon for the hidden matrices and kernels, AdamW for the head and all vectors."""
    matrices = [p for p in parameters if p.ndim > 1]
    head = matrices[-1]
    hidden = matrices[:-1]
    rest = [p for p in parameters if p.ndim <= 1 or p is head]
    muon = Muon(hidden, config.lr, config.momentum, config.weight_decay)
    return [muon, AdamW(grouped(rest, config), config.lr, fused=True)]


OPTIMIZERS: dict[str, Callable[[Parameters, TrainConfig], list[Optimizer]]] = {
    "sgd": _build_sgd,
    "momentum": _build_momentum,
    "nesterov": _build_nesterov,
    "adam": _build_adam,
    "adamw": _build_adamw,
    "muon": _build_muon,
}
"""Each gives the optimisers that step together; all follow the config's learning rate."""


class Muon(Optimizer):
    """Momentum whose update is orthogonalised (Jordan et al., 2024), for kernels and matrices.

    A kernel (out, in, h, w) is taken as the matrix (out, in · h · w). The update is scaled to the
    size of one of Adam's (Liu et al., 2025, arXiv:2502.16982), so learning rates of adamw serve. On
    matrices it equals torch.optim.Muon with adjust_lr_fn="match_rms_adamw", which takes nothing
    else.
    """

    def __init__(
        self, parameters: Iterable[Tensor], lr: float, momentum: float, weight_decay: float
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, closure: None = None
    ) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        lr, momentum, gradient = group["lr"], group["momentum"], parameter.grad
        assert gradient is not None
        average = self.state[parameter].setdefault("momentum_buffer", torch.zeros_like(gradient))
        average.lerp_(gradient, 1 - momentum)

        # Nesterov's look ahead.
        update = gradient.lerp(average, momentum).flatten(1)
        scale = ADAM_UPDATE * math.sqrt(max(update.shape))
        parameter.mul_(1 - lr * group["weight_decay"])
        parameter.add_(orthogonalise(update).view_as(parameter), alpha=-lr * scale)


def orthogonalise(matrix: Tensor) -> Tensor:
    """Compute nearly U Vᵀ of the matrix's singular value decomposition.

    Five steps of a quintic Newton-Schulz iteration, in bfloat16 where the device has it: a CPU that
    emulates it takes 20 times as long as in float32.
    """
    a, b, c = COEFFICIENTS
    x = matrix.bfloat16() if has_bfloat16(matrix.device.type) else matrix.float()
    # The Gram matrix is that of the shorter side.
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.mT

    # Singular values of at most 1, where the iteration converges.
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        polynomial = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.addmm(x, polynomial, x, beta=a)

    if tall:
        x = x.mT
    return x.to(matrix.dtype)


def build_optimizers(config: TrainConfig, model: nn.Module) -> list[Optimizer]:
    """Build the config's optimisers, one for most names; they step together."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    return OPTIMIZERS[config.optimizer](trainable, config)


def set_lr(optimizers: list[Optimizer], lr: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr
