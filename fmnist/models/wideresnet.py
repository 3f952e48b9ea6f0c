"""Wide residual networks (Zagoruyko and Komodakis, 2016), with pre-activation blocks."""

import torch.nn.functional as F
from torch import Tensor, nn

from fmnist.config import Problem, TrainConfig
from fmnist.errors import check

STEM_CHANNELS = 16


class PreActivationBlock(nn.Module):
    """BN, ReLU, conv 3×3, twice; plus the input, or a 1×1 convolution of the activated input.

    The shortcut is a convolution where the shape changes.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)

        self.shortcut: nn.Module | None = None
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels_in, H, W) -> (B, channels_out, H / stride, W / stride)."""
        activated = F.relu(self.norm1(x))
        out = self.conv2(F.relu(self.norm2(self.conv1(activated))))
        return out + (x if self.shortcut is None else self.shortcut(activated))


class WideResNet(nn.Module):
    """Three stages of `depth` blocks (28, 14, 7), BN, ReLU, average pooling, one linear layer."""

    def __init__(self, depth: int, widths: tuple[int, ...], problem: Problem) -> None:
        super().__init__()
        self.stem = nn.Conv2d(problem.channels, STEM_CHANNELS, 3, 1, 1, bias=False)

        # The first block of every stage but the first halves the map.
        blocks: list[nn.Module] = []
        channels = STEM_CHANNELS
        for stage, width in enumerate(widths):
            for block in range(depth):
                halves = stage > 0 and block == 0
                blocks.append(PreActivationBlock(channels, width, stride=2 if halves else 1))
                channels = width
        self.blocks = nn.Sequential(*blocks)

        self.norm = nn.BatchNorm2d(channels)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(channels, problem.classes)

    def forward(self, images: Tensor) -> Tensor:  # (B, channels, H, W) -> (B, classes)
        features = F.relu(self.norm(self.blocks(self.stem(images))))
        return self.head(self.pool(features).flatten(1))


def _build(config: TrainConfig, problem: Problem, depth: int, widths: tuple[int, ...]) -> nn.Module:
    chosen = config.widths or widths
    check(
        len(chosen) == 3,
        f"widths={chosen}: {config.model} takes three, one per stage, such as 32 64 128",
    )
    return WideResNet(depth, chosen, problem)


def build_wideresnet16(config: TrainConfig, problem: Problem) -> nn.Module:
    """WRN-16-4: 16 layers, 4 times as wide; widths 64 128 256."""
    return _build(config, problem, 2, (64, 128, 256))


def build_wideresnet28(config: TrainConfig, problem: Problem) -> nn.Module:
    """WRN-28-10, of the random erasing paper's best figure; widths 160 320 640."""
    return _build(config, problem, 4, (160, 320, 640))
