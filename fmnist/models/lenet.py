"""LeNet as report E gives it: 44,426 parameters for 28×28 gray images and 10 classes."""

from torch import Tensor, nn

from fmnist.config import Problem, TrainConfig
from fmnist.errors import check


class LeNet(nn.Module):
    """Two 5×5 convolutions without padding, each with ReLU and 2×2 max-pool, then linear 256→120→84→classes."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(problem.channels, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)
        )
        side = ((problem.size - 4) // 2 - 4) // 2  # 4 for 28×28
        self.head = nn.Sequential(
            nn.Linear(16 * side * side, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, problem.classes)
        )

    def forward(self, images: Tensor) -> Tensor:  # (B, channels, H, W) -> (B, classes)
        return self.head(self.features(images).flatten(1))


def build_lenet(config: TrainConfig, problem: Problem) -> nn.Module:
    """LeNet of report E: two convolutions, three linear layers."""
    check(not config.widths, f"widths={config.widths}: lenet has fixed widths; leave it empty")
    check(problem.size >= 16, f"images of {problem.size}×{problem.size}: lenet needs 16×16 or more")
    return LeNet(problem)
