"""LeNet as report E gives it: 44,426 parameters for 28×28 gray images and 10 classes."""

from torch import Tensor, nn

from fmnist.config import TrainConfig
from fmnist.errors import check


class LeNet(nn.Module):
    """Two 5×5 convolutions without padding, each with ReLU and 2×2 max-pool, then linear 256→120→84→classes."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.head = nn.Sequential(nn.Linear(256, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, classes))

    def forward(self, images: Tensor) -> Tensor:  # (B, 1, 28, 28) -> (B, classes)
        return self.head(self.features(images).flatten(1))


def build_lenet(config: TrainConfig, classes: int) -> nn.Module:
    check(not config.widths, f"widths={config.widths}: lenet has fixed widths; leave it empty")
    return LeNet(classes)
