"""Changes to airnet: each takes the place of its entry in MODELS."""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, cast
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fmnist.training.loop
from fmnist.config import Problem, TrainConfig
from fmnist.data.dataset import TrainingData, pixel_statistics
from fmnist.models import MODELS, Builder
from fmnist.models.airnet import AirNet, build_airnet
from fmnist.training.loop import start_training
from fmnist.training.state import TrainState

Change = Callable[[AirNet, TrainConfig, Problem], None]
WHITENED_IMAGES = 5000
"""Images whose patches decide the whitening filters."""


def changed_airnet(change: Change) -> AbstractContextManager[Any]:
    """airnet is built with a change."""

    def build(config: TrainConfig, problem: Problem) -> nn.Module:
        network = cast(AirNet, build_airnet(config, problem))
        change(network, config, problem)
        return network

    builder: Builder = build
    return patch.dict(MODELS, airnet=builder)


def activation(kind: type[nn.Module]) -> AbstractContextManager[Any]:
    """Another activation for GELU."""

    def change(network: AirNet, config: TrainConfig, problem: Problem) -> None:
        for module in list(network.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.GELU):
                    setattr(module, name, kind())

    return changed_airnet(change)


def norm_momentum(momentum: float) -> AbstractContextManager[Any]:
    """Another momentum of batch norm's running statistics."""

    def change(network: AirNet, config: TrainConfig, problem: Problem) -> None:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = momentum

    return changed_airnet(change)


class GlobalMax(nn.Module):
    """The largest value of each map, whatever its size."""

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, 1, 1)
        return x.amax((2, 3), keepdim=True)


class GlobalMean(nn.Module):
    """The mean of each map."""

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, 1, 1)
        return x.mean((2, 3), keepdim=True)


def last_pool(kind: type[nn.Module]) -> AbstractContextManager[Any]:
    """Another pooling over the last map."""

    def change(network: AirNet, config: TrainConfig, problem: Problem) -> None:
        network.pool = cast(Any, kind())

    return changed_airnet(change)


class Residual(nn.Module):
    """A block of airnet, and a third convolution around which its input is carried
    (cifar10-airbench96)."""

    def __init__(self, block: nn.Module, channels: int) -> None:
        super().__init__()
        self.block = block
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(x)
        return x + F.gelu(self.norm(self.conv(x)))


def _add_residuals(network: AirNet, config: TrainConfig, problem: Problem) -> None:
    blocks: list[nn.Module] = []
    for block in network.blocks:
        channels = cast(nn.Conv2d, block.conv2).out_channels
        blocks.append(Residual(block, channels))
    network.blocks = nn.Sequential(*blocks)


def residual() -> AbstractContextManager[Any]:
    return changed_airnet(_add_residuals)


def _stride(network: AirNet, config: TrainConfig, problem: Problem) -> None:
    first = cast(Any, network.blocks[0])
    conv = cast(nn.Conv2d, first.conv1)
    first.conv1 = nn.Conv2d(conv.in_channels, conv.out_channels, 3, stride=2, padding=1, bias=False)
    first.pool = nn.Identity()


def strided() -> AbstractContextManager[Any]:
    """A stride in place of the first pooling."""
    return changed_airnet(_stride)


def _whiten_stem(network: AirNet, config: TrainConfig, problem: Problem) -> None:
    """A 3×3 stem that does not learn, with two filters for each pixel of a patch."""
    filters = 2 * 9 * problem.channels
    stem = nn.Conv2d(problem.channels, filters, 3)
    stem.weight.requires_grad = False
    network.stem[0] = stem
    first = cast(Any, network.blocks[0])
    channels = cast(nn.Conv2d, first.conv1).out_channels
    first.conv1 = nn.Conv2d(filters, channels, 3, padding=1, bias=False)


def _start_whitened(config: TrainConfig, data: TrainingData, device: torch.device) -> TrainState:
    """The stem's filters are the directions of the images' 3×3 patches, scaled to equal variance,
    each with both signs; they stay (Page, 2018; cifar10-airbench)."""
    state = start_training(config, data, device)
    mean, deviation = pixel_statistics(data.train.images)
    images = data.train.images[:WHITENED_IMAGES].unsqueeze(1).float()
    normalised = (images.to(device) - mean.to(device)) / deviation.to(device)

    patches = F.unfold(normalised, 3).transpose(1, 2).flatten(0, 1)
    # Eigenvectors of the patches' covariance, whose eigenvalues are the variances.
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (vectors / (values + 1e-2).sqrt()).T.reshape(-1, 1, 3, 3)
    stem = cast(nn.Conv2d, cast(AirNet, state.trained.network).stem[0])
    with torch.no_grad():
        stem.weight.copy_(torch.cat((filters, -filters)))

    return state


@contextmanager
def whitening() -> Generator[None]:
    loop = fmnist.training.loop
    with changed_airnet(_whiten_stem), patch.object(loop, "start_training", _start_whitened):
        yield


silu = partial(activation, nn.SiLU)
relu = partial(activation, nn.ReLU)
max_pool = partial(last_pool, GlobalMax)
mean_pool = partial(last_pool, GlobalMean)
