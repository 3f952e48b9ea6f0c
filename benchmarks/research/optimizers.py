"""Optimisers in place of Nesterov's momentum, in OPTIMIZERS."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from fmnist.config import TrainConfig
from fmnist.training.optimizers import OPTIMIZERS, Parameters, grouped

LOOKAHEAD_STEPS, LOOKAHEAD_SHARE = 5, 0.5
BIAS_FACTOR = 16
SAM_RADIUS = 0.3

build_nesterov = OPTIMIZERS["nesterov"]


class Lookahead(SGD):
    """Every five steps the weights go half of the way from where they last were (Zhang et al.,
    2019)."""

    steps = 0

    @torch.no_grad()
    def step(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, closure: None = None
    ) -> None:
        super().step()
        self.steps += 1
        for group in self.param_groups:
            for parameter in group["params"]:
                slow = self.state[parameter].setdefault("slow", parameter.detach().clone())
                if self.steps % LOOKAHEAD_STEPS == 0:
                    slow.lerp_(parameter, LOOKAHEAD_SHARE)
                    parameter.copy_(slow)


class MomentumSAM(SGD):
    """Gradients are taken a step uphill along the momentum (Becker et al., 2024,
    arXiv:2401.12033): sharpness-aware minimisation without its second pass.

    The step shrinks with the rate, so that the weights which are kept stand on the ground.
    """

    @torch.no_grad()
    def step(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, closure: None = None
    ) -> None:
        parameters: list[Tensor] = []
        for group in self.param_groups:
            parameters += group["params"]

        for parameter in parameters:
            uphill = self.state[parameter].pop("uphill", None)
            if uphill is not None:
                # Down again, to where the gradient's step starts.
                parameter.sub_(uphill)

        super().step()
        momenta = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
        radius = SAM_RADIUS * self.param_groups[0]["lr"] / self.defaults["lr"]
        length = torch.stack([momentum.norm() for momentum in momenta]).norm().clamp(min=1e-12)

        for parameter, momentum in zip(parameters, momenta, strict=True):
            uphill = momentum * (radius / length)
            self.state[parameter]["uphill"] = uphill
            parameter.add_(uphill)


def _build(kind: type[SGD], parameters: Parameters, config: TrainConfig) -> list[Optimizer]:
    groups = grouped(parameters, config)
    return [kind(groups, config.lr, config.momentum, nesterov=True)]


def _build_unfused(parameters: Parameters, config: TrainConfig) -> list[Optimizer]:
    groups = grouped(parameters, config)
    plain = SGD(groups, config.lr, config.momentum, nesterov=True, fused=False, foreach=False)
    return [plain]


def _build_fast_biases(parameters: Parameters, config: TrainConfig) -> list[Optimizer]:
    """Batch norm's shifts and scales learn 16 times as fast, by their gradients, since all
    follow one rate."""
    for parameter in parameters:
        if parameter.ndim == 1:
            parameter.register_hook(lambda gradient: BIAS_FACTOR * gradient)
    return build_nesterov(parameters, config)


def replaced_nesterov(
    build: Callable[[Parameters, TrainConfig], list[Optimizer]],
) -> AbstractContextManager[Any]:
    return patch.dict(OPTIMIZERS, nesterov=build)


lookahead = partial(replaced_nesterov, partial(_build, Lookahead))
momentum_sam = partial(replaced_nesterov, partial(_build, MomentumSAM))
unfused = partial(replaced_nesterov, _build_unfused)
fast_biases = partial(replaced_nesterov, _build_fast_biases)
