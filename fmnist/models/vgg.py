"""VGG16 (Simonyan and Zisserman, 2014) for small images, and report C's network in VGG's manner."""

import torch
from torch import Tensor, nn

from fmnist.config import Problem, TrainConfig
from fmnist.errors import check
from fmnist.models.limits import check_fixed_widths, check_image_size, map_pixels

STAGES = (2, 2, 3, 3, 3)


class VGG16(nn.Module):
    """Thirteen 3×3 convolutions in five stages, each closed by 2×2 pooling, and a linear head.

    The two hidden layers of the head are 8 times as wide as the last stage.

    Report A gave VGG16 up. Two things were wrong. Five poolings that round down leave nothing (28,
    14, 7, 3, 1, 0), "output size is too small": here they round up (28, 14, 7, 4, 2, 1), and no
    layer has to go. And where the report dropped a pooling the network stayed at 10 %: PyTorch's
    default initialisation shrinks the signal's variance to about a third in every layer, so that
    after 16 of them the logits are the same for all images, and the gradients with them. With He's
    initialisation (2015), which the original lacked too and made up for by training shallower
    networks first, it trains; with batch norm it trains under either. The recipes a-vgg16-sgd,
    a-vgg16-default-init and a-vgg16-bn show all three.
    """

    def __init__(
        self, widths: tuple[int, ...], dropout: float, batch_norm: bool, problem: Problem
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = problem.channels
        for depth, width in zip(STAGES, widths, strict=True):
            for _ in range(depth):
                layers.append(nn.Conv2d(channels, width, 3, padding=1))
                if batch_norm:
                    layers.append(nn.BatchNorm2d(width))
                layers.append(nn.ReLU())
                channels = width
            # Rounded up, so that something is left after the fifth.
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)

        hidden = 8 * channels
        self.head = nn.Sequential(
            nn.Linear(channels, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, problem.classes),
        )

    def forward(self, images: Tensor) -> Tensor:  # (B, channels, H, W) -> (B, classes)
        return self.head(self.pool(self.features(images)).flatten(1))


def _vgg16(config: TrainConfig, problem: Problem, batch_norm: bool) -> nn.Module:
    widths = config.widths or (64, 128, 256, 512, 512)
    check(
        len(widths) == len(STAGES),
        f"widths={widths}: {config.model} takes five, one per stage, such as 16 32 64 128 128",
    )
    dropout = 0.5 if config.dropout is None else config.dropout
    return VGG16(widths, dropout, batch_norm, problem)


def build_vgg16(config: TrainConfig, problem: Problem) -> nn.Module:
    """VGG16 of report A, which gave it up; train it with --init he; widths 64 128 256 512 512."""
    return _vgg16(config, problem, batch_norm=False)


def build_vgg16_bn(config: TrainConfig, problem: Problem) -> nn.Module:
    """VGG16 with batch norm after each convolution; widths 64 128 256 512 512."""
    return _vgg16(config, problem, batch_norm=True)


class WeightedPadding(nn.Module):
    """Pads by one pixel with the nearest border pixel times a learned weight for each channel.

    After Liu et al., whom report C cites for up to 1.52 points on Fashion-MNIST: their abstract
    says that weighted values take the place of zeros, the rest is our choice. A weight of 0 is zero
    padding, where it starts.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, 1, 1))
        self.edge = nn.ReplicationPad2d(1)
        self.zero = nn.ZeroPad2d(1)

    def forward(self, x: Tensor) -> Tensor:  # (B, channels, H, W) -> (B, channels, H + 2, W + 2)
        inner = self.zero(x)
        return inner + self.weight * (self.edge(x) - inner)


class VGGLike(nn.Module):
    """Report C's network: six convolutions, two poolings, three linear layers, with dropout."""

    def __init__(self, dropout: float, weighted_padding: bool, problem: Problem) -> None:
        super().__init__()

        def conv(channels_in: int, channels_out: int) -> list[nn.Module]:
            if not weighted_padding:
                return [nn.Conv2d(channels_in, channels_out, 3, padding=1), nn.ReLU()]
            padding = WeightedPadding(channels_in)
            return [padding, nn.Conv2d(channels_in, channels_out, 3), nn.ReLU()]

        self.features = nn.Sequential(
            *conv(problem.channels, 32),
            *conv(32, 32),
            nn.Dropout(dropout),
            *conv(32, 64),
            nn.MaxPool2d(2),
            nn.Dropout(dropout),
            *conv(64, 128),
            *conv(128, 128),
            *conv(128, 256),
            nn.MaxPool2d(2),
            nn.Dropout(dropout),
        )
        self.head = nn.Sequential(
            nn.Linear(256 * map_pixels(problem, lambda side: side // 4), 512),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(512, 64),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(64, problem.classes),
        )

    def forward(self, images: Tensor) -> Tensor:  # (B, channels, H, W) -> (B, classes)
        return self.head(self.features(images).flatten(1))


def _vgg_like(config: TrainConfig, problem: Problem, weighted_padding: bool) -> nn.Module:
    check_fixed_widths(config)
    check_image_size(config, problem, 4)
    dropout = 0.25 if config.dropout is None else config.dropout
    return VGGLike(dropout, weighted_padding, problem)


def build_vgg_like(config: TrainConfig, problem: Problem) -> nn.Module:
    """Report C's network in VGG's manner: six convolutions, two poolings, three linear layers."""
    return _vgg_like(config, problem, weighted_padding=False)


def build_vgg_like_weighted(config: TrainConfig, problem: Problem) -> nn.Module:
    """The same with weighted padding, which report C named as future work."""
    return _vgg_like(config, problem, weighted_padding=True)
