"""airnet: a small, fast network in the shape of cifar10-airbench94 (Keller Jordan, 2024), for small images."""

from torch import Tensor, nn

from fmnist.config import Problem, TrainConfig
from fmnist.errors import check

STEM_CHANNELS = 16


class Block(nn.Module):
    """3×3 convolution, 2×2 max-pool, batch norm, GELU; then a second 3×3 convolution with batch norm and GELU."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.pool = nn.MaxPool2d(2)
        self.activation = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:  # (B, channels_in, H, W) -> (B, channels_out, H // 2, W // 2)
        x = self.activation(self.norm1(self.pool(self.conv1(x))))
        return self.activation(self.norm2(self.conv2(x)))


class AirNet(nn.Module):
    """A 2×2 convolution, three blocks that halve the map (27, 13, 6, 3), one max-pool over what is left, one linear layer.

    With the default widths it has 282,746 parameters for 28×28 gray images and 10 classes.
    """

    def __init__(self, widths: tuple[int, ...], problem: Problem) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(problem.channels, STEM_CHANNELS, 2), nn.GELU())
        channels = (STEM_CHANNELS, *widths)
        self.blocks = nn.Sequential(*(Block(c_in, c_out) for c_in, c_out in zip(channels, widths, strict=False)))
        self.pool = nn.MaxPool2d((problem.size - 1) // 2 ** len(widths))
        self.head = nn.Linear(widths[-1], problem.classes)

    def forward(self, images: Tensor) -> Tensor:  # (B, channels, H, W) -> (B, classes)
        return self.head(self.pool(self.blocks(self.stem(images))).flatten(1))


def build_airnet(config: TrainConfig, problem: Problem) -> nn.Module:
    """Small and fast, after cifar10-airbench; widths 24 64 128."""
    widths = config.widths or (24, 64, 128)
    check(len(widths) == 3, f"widths={widths}: airnet takes three, one per block, such as 24 64 128")
    check(problem.size >= 9, f"images of {problem.size}×{problem.size}: airnet needs 9×9 or more")
    return AirNet(widths, problem)
