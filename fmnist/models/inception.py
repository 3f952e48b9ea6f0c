"""A small network of Inception blocks (Szegedy et al., 2014), with batch norm.

Report D named them as future work.
"""

import torch
from torch import Tensor, nn

from fmnist.config import Problem, TrainConfig
from fmnist.errors import check
from fmnist.models.limits import check_image_size


def _conv(channels_in: int, channels_out: int, kernel: int) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out), nn.ReLU())


class InceptionBlock(nn.Module):
    """Four branches side by side, a quarter of the channels each.

    They are 1×1; 1×1 and 3×3; 1×1 and twice 3×3; pooling and 1×1.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        quarter = channels_out // 4
        point = _conv(channels_in, quarter, 1)
        single = nn.Sequential(_conv(channels_in, quarter, 1), _conv(quarter, quarter, 3))
        double = nn.Sequential(
            _conv(channels_in, quarter, 1), _conv(quarter, quarter, 3), _conv(quarter, quarter, 3)
        )
        pooled = nn.Sequential(nn.MaxPool2d(3, 1, padding=1), _conv(channels_in, quarter, 1))
        # The name is that of the weights in checkpoints.
        self.ways = nn.ModuleList([point, single, double, pooled])

    def forward(self, x: Tensor) -> Tensor:  # (B, channels_in, H, W) -> (B, channels_out, H, W)
        return torch.cat([way(x) for way in self.ways], 1)


def build_inception(config: TrainConfig, problem: Problem) -> nn.Module:
    """Six Inception blocks in three stages after a 3×3 stem; widths 64 128 256."""
    widths = config.widths or (64, 128, 256)
    check(
        len(widths) == 3 and all(width % 4 == 0 for width in widths),
        f"widths={widths}: inception takes three, one per stage, each a multiple of 4, "
        "such as 32 64 128",
    )
    check_image_size(config, problem, 4)

    channels = widths[0]
    layers: list[nn.Module] = [_conv(problem.channels, channels, 3)]
    for stage, width in enumerate(widths):
        if stage > 0:
            layers.append(nn.MaxPool2d(2))
        layers += [InceptionBlock(channels, width), InceptionBlock(width, width)]
        channels = width

    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, problem.classes))
    return nn.Sequential(*layers, *head)
