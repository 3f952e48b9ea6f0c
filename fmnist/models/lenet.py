"""The two LeNets of the reports, after LeCun et al. (1998)."""

from torch import Tensor, nn

from fmnist.config import Problem, TrainConfig
from fmnist.models.limits import check_fixed_widths, check_image_size, map_pixels


class LeNet(nn.Module):
    """Two 5×5 convolutions, then linear layers of 120, 84 and the classes.

    Each convolution is followed by an activation and 2×2 pooling.

    Args:
        padding: padding of the first convolution, in pixels.
    """

    def __init__(
        self, problem: Problem, padding: int, activation: type[nn.Module], pool: type[nn.Module]
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(problem.channels, 6, 5, padding=padding),
            activation(),
            pool(2),
            nn.Conv2d(6, 16, 5),
            activation(),
            pool(2),
        )
        # Each 5×5 convolution takes 4 pixels off a side, each pooling halves it.
        pixels = map_pixels(problem, lambda side: ((side + 2 * padding - 4) // 2 - 4) // 2)
        self.head = nn.Sequential(
            nn.Linear(16 * pixels, 120),
            activation(),
            nn.Linear(120, 84),
            activation(),
            nn.Linear(84, problem.classes),
        )

    def forward(self, images: Tensor) -> Tensor:  # (B, channels, H, W) -> (B, classes)
        return self.head(self.features(images).flatten(1))


def build_lenet(config: TrainConfig, problem: Problem) -> nn.Module:
    """LeNet of report E: no padding, ReLU, max-pool; linear 256→120→84→classes."""
    _check(config, problem)
    return LeNet(problem, 0, nn.ReLU, nn.MaxPool2d)


def build_lenet5(config: TrainConfig, problem: Problem) -> nn.Module:
    """LeNet-5 of report A, the paper's: padded to 32×32, tanh, average pooling."""
    _check(config, problem)
    return LeNet(problem, 2, nn.Tanh, nn.AvgPool2d)


def _check(config: TrainConfig, problem: Problem) -> None:
    check_fixed_widths(config)
    check_image_size(config, problem, 16)
