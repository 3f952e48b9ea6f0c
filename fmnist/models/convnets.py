"""Small convolutional networks of the reports: MyCNN (A), the two-conv network (B) and the three-conv network (D)."""

from torch import Tensor, nn

from fmnist.config import Problem, TrainConfig
from fmnist.errors import check


def _check(config: TrainConfig, problem: Problem, size: int) -> None:
    check(not config.widths, f"widths={config.widths}: {config.model} has fixed widths; leave it empty")
    check(problem.size >= size, f"images of {problem.size}×{problem.size}: {config.model} needs {size}×{size} or more")


def _dropout(config: TrainConfig) -> nn.Dropout:
    return nn.Dropout(0.5 if config.dropout is None else config.dropout)


class MyCNN(nn.Module):
    """conv 1→10 k5, pool, ReLU; conv 10→20 k5, pool, ReLU; linear 320→50, ReLU, dropout, linear 50→classes.

    Report A gives the layers but no widths: these are the usual ones of small MNIST networks, assumed.

    Args:
        softmax: as the report published it: what should be logits are probabilities, and cross-entropy takes softmax of them
            once more. The loss then cannot fall below 1.46 with ten classes, and the gradients fade where they are needed.
    """

    def __init__(self, config: TrainConfig, problem: Problem, softmax: bool) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(problem.channels, 10, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(10, 20, 5), nn.MaxPool2d(2), nn.ReLU()
        )
        side = ((problem.size - 4) // 2 - 4) // 2
        self.head = nn.Sequential(nn.Linear(20 * side * side, 50), nn.ReLU(), _dropout(config), nn.Linear(50, problem.classes))
        self.last = nn.Softmax(1) if softmax else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:  # (B, channels, H, W) -> (B, classes)
        return self.last(self.head(self.features(images).flatten(1)))


def build_mycnn(config: TrainConfig, problem: Problem) -> nn.Module:
    """MyCNN of report A as published: its forward returns softmax, which cross-entropy then takes again."""
    _check(config, problem, 16)
    return MyCNN(config, problem, softmax=True)


def build_mycnn_fixed(config: TrainConfig, problem: Problem) -> nn.Module:
    """MyCNN without the softmax inside: the one-line fix."""
    _check(config, problem, 16)
    return MyCNN(config, problem, softmax=False)


class TwoConv(nn.Module):
    """conv 1→32 k5 p2, conv 32→64 k3 p2, each with batch norm, ReLU and max-pool; linear 4096→4096→classes.

    Args:
        published: as report B's code has it: ReLU before batch norm, and no dropout; else as the report says.
    """

    def __init__(self, config: TrainConfig, problem: Problem, published: bool) -> None:
        super().__init__()

        def stage(channels_in: int, channels_out: int, kernel: int) -> list[nn.Module]:
            norm, relu = nn.BatchNorm2d(channels_out), nn.ReLU()
            conv = nn.Conv2d(channels_in, channels_out, kernel, padding=2)
            return [conv, *((relu, norm) if published else (norm, relu)), nn.MaxPool2d(2)]

        self.features = nn.Sequential(*stage(problem.channels, 32, 5), *stage(32, 64, 3))
        inputs = 64 * ((problem.size // 2 + 2) // 2) ** 2  # 4096 for 28×28
        dropout = [] if published else [_dropout(config)]
        self.head = nn.Sequential(nn.Linear(inputs, 4096), nn.ReLU(), *dropout, nn.Linear(4096, problem.classes))

    def forward(self, images: Tensor) -> Tensor:  # (B, channels, H, W) -> (B, classes)
        return self.head(self.features(images).flatten(1))


def build_twoconv(config: TrainConfig, problem: Problem) -> nn.Module:
    """The two-conv network of report B as described: batch norm before ReLU, dropout before the head."""
    _check(config, problem, 4)
    return TwoConv(config, problem, published=False)


def build_twoconv_published(config: TrainConfig, problem: Problem) -> nn.Module:
    """The same as its published code has it: ReLU before batch norm, no dropout."""
    _check(config, problem, 4)
    return TwoConv(config, problem, published=True)


class ThreeConv(nn.Module):
    """conv 1→32, 32→64, 64→128, all 3×3 with padding, each with ReLU and 2×2 max-pool; linear 1152→512→classes."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels_in, channels_out in ((problem.channels, 32), (32, 64), (64, 128)):
            layers += [nn.Conv2d(channels_in, channels_out, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        inputs = 128 * (problem.size // 8) ** 2
        self.head = nn.Sequential(nn.Linear(inputs, 512), nn.ReLU(), nn.Linear(512, problem.classes))

    def forward(self, images: Tensor) -> Tensor:  # (B, channels, H, W) -> (B, classes)
        return self.head(self.features(images).flatten(1))


def build_threeconv(config: TrainConfig, problem: Problem) -> nn.Module:
    """The three-conv network of report D's one-factor study."""
    _check(config, problem, 8)
    return ThreeConv(problem)
