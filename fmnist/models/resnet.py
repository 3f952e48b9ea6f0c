"""Residual networks (He et al., 2015).

ResNet-18 and ResNet-34 have the four stages of the paper's ImageNet networks, ResNet-20 the three
of its CIFAR-10 ones (section 4.2), here with 1×1 shortcuts where the shape changes. All three have
a stem for small images: one 3×3 convolution of stride 1 and no pooling. The two named …_imagenet
are torchvision's, stem and all, of the reports B and E.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from fmnist.config import Problem, TrainConfig
from fmnist.errors import check
from fmnist.models.limits import check_fixed_widths


class BasicBlock(nn.Module):
    """Conv 3×3, BN, ReLU, conv 3×3, BN; plus the identity, or a 1×1 shortcut and BN.

    The shortcut is a convolution where the shape changes.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)

        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False),
                nn.BatchNorm2d(channels_out),
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels_in, H, W) -> (B, channels_out, H / stride, W / stride)."""
        out = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(out)) + self.shortcut(x))


class ResNet(nn.Module):
    """Stages of basic blocks; each stage after the first halves the map (28, 14, 7, 4)."""

    def __init__(self, depths: tuple[int, ...], widths: tuple[int, ...], problem: Problem) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(problem.channels, widths[0], 3, 1, 1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
        )

        # The first block of every stage but the first halves the map.
        blocks: list[nn.Module] = []
        channels = widths[0]
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            for block in range(depth):
                halves = stage > 0 and block == 0
                blocks.append(BasicBlock(channels, width, stride=2 if halves else 1))
                channels = width
        self.blocks = nn.Sequential(*blocks)

        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(channels, problem.classes)

    def forward(self, images: Tensor) -> Tensor:  # (B, channels, H, W) -> (B, classes)
        return self.head(self.pool(self.blocks(self.stem(images))).flatten(1))


class ThreeChannels(nn.Module):
    """torchvision's network for colour images; it gets gray ones as three equal channels."""

    def __init__(self, build: Callable[..., nn.Module], problem: Problem) -> None:
        super().__init__()
        self.resnet = build(num_classes=problem.classes)

    def forward(self, images: Tensor) -> Tensor:  # (B, channels, H, W) -> (B, classes)
        # Three channels already, or one that is shown three times without a copy.
        return self.resnet(images.expand(-1, 3, -1, -1))


def _build(
    config: TrainConfig, problem: Problem, depths: tuple[int, ...], widths: tuple[int, ...]
) -> nn.Module:
    chosen = config.widths or widths
    example = " ".join(str(width // 4) for width in widths)
    check(
        len(chosen) == len(depths),
        f"widths={chosen}: {config.model} takes {len(depths)}, one per stage, such as {example}",
    )
    return ResNet(depths, chosen, problem)


def build_resnet18(config: TrainConfig, problem: Problem) -> nn.Module:
    """ResNet-18, 3×3 stem; widths 64 128 256 512."""
    return _build(config, problem, (2, 2, 2, 2), (64, 128, 256, 512))


def build_resnet20(config: TrainConfig, problem: Problem) -> nn.Module:
    """ResNet-20 as for CIFAR-10; widths 16 32 64."""
    return _build(config, problem, (3, 3, 3), (16, 32, 64))


def build_resnet34(config: TrainConfig, problem: Problem) -> nn.Module:
    """ResNet-34, 3×3 stem; widths 64 128 256 512."""
    return _build(config, problem, (3, 4, 6, 3), (64, 128, 256, 512))


def _torchvision(config: TrainConfig, problem: Problem, name: str) -> nn.Module:
    # Here: torchvision takes a second to import, and two networks of many need it.
    from torchvision import models

    check_fixed_widths(config)
    return ThreeChannels(getattr(models, name), problem)


def build_resnet18_imagenet(config: TrainConfig, problem: Problem) -> nn.Module:
    """ResNet-18 as for ImageNet: 7×7 stem of stride 2, pooling; --weights imagenet."""
    return _torchvision(config, problem, "resnet18")


def build_resnet34_imagenet(config: TrainConfig, problem: Problem) -> nn.Module:
    """ResNet-34 as for ImageNet: 7×7 stem of stride 2, pooling; --weights imagenet."""
    return _torchvision(config, problem, "resnet34")
