"""airnet: a small, fast network for small images, after cifar10-airbench94 (Jordan, 2024)."""

from torch import Tensor, nn

from fmnist.config import Problem, TrainConfig
from fmnist.errors import check
from fmnist.models.limits import check_image_size

STEM_CHANNELS = 16


class Block(nn.Module):
    """Conv 3×3, max-pool 2×2, batch norm, GELU; then another conv 3×3, batch norm, GELU."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.pool = nn.MaxPool2d(2)
        self.activation = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels_in, H, W) -> (B, channels_out, H // 2, W // 2)."""
        # Pooling before the norm and the activation spares them three quarters of the pixels.
        x = self.activation(self.norm1(self.pool(self.conv1(x))))
        return self.activation(self.norm2(self.conv2(x)))


class AirNet(nn.Module):
    """A 2×2 convolution, three blocks that halve the map (27, 13, 6, 3), and a linear head.

    One max-pool over what is left of the map stands before the head. With the default widths the
    network has 282,746 parameters for 28×28 gray images and 10 classes.
    """

    def __init__(self, widths: tuple[int, ...], problem: Problem) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(problem.channels, STEM_CHANNELS, 2), nn.GELU())

        blocks: list[nn.Module] = []
        channels = STEM_CHANNELS
        for width in widths:
            blocks.append(Block(channels, width))
            channels = width
        self.blocks = nn.Sequential(*blocks)

        # The stem takes a pixel off each side, and every block halves the map.
        halvings = 2 ** len(widths)
        left = ((problem.height - 1) // halvings, (problem.width - 1) // halvings)
        self.pool = nn.MaxPool2d(left)
        self.head = nn.Linear(channels, problem.classes)

    def forward(self, images: Tensor) -> Tensor:  # (B, channels, H, W) -> (B, classes)
        return self.head(self.pool(self.blocks(self.stem(images))).flatten(1))


def build_airnet(config: TrainConfig, problem: Problem) -> nn.Module:
    """Small and fast, after cifar10-airbench; widths 24 64 128."""
    widths = config.widths or (24, 64, 128)
    check(
        len(widths) == 3,
        f"widths={widths}: airnet takes three, one per block, such as 24 64 128",
    )
    check_image_size(config, problem, 9)
    return AirNet(widths, problem)
