"""Small networks of the reports: MyCNN (A), two convolutions (B) and three convolutions (D)."""

from torch import Tensor, nn

from fmnist.config import Problem, TrainConfig
from fmnist.models.limits import check_fixed_widths, check_image_size, map_pixels


def _dropout(config: TrainConfig) -> nn.Dropout:
    return nn.Dropout(0.5 if config.dropout is None else config.dropout)


class MyCNN(nn.Module):
    """Conv 1→10 5×5, pool, ReLU; conv 10→20 5×5, pool, ReLU; linear 320→50→classes.

    Between the linear layers are ReLU and dropout. Report A gives the layers but no widths: these
    are the usual ones of small MNIST networks, assumed.

    Args:
        softmax: as the report published it: what should be logits are probabilities, and
            cross-entropy takes softmax of them once more. The loss then cannot fall below 1.46 with
            ten classes, and the gradients fade where they are needed.
    """

    def __init__(self, config: TrainConfig, problem: Problem, softmax: bool) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(problem.channels, 10, 5),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(10, 20, 5),
            nn.MaxPool2d(2),
            nn.ReLU(),
        )
        # Each 5×5 convolution takes 4 pixels off a side, each pooling halves it.
        pixels = map_pixels(problem, lambda side: ((side - 4) // 2 - 4) // 2)
        self.head = nn.Sequential(
            nn.Linear(20 * pixels, 50),
            nn.ReLU(),
            _dropout(config),
            nn.Linear(50, problem.classes),
        )
        self.last = nn.Softmax(1) if softmax else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:  # (B, channels, H, W) -> (B, classes)
        return self.last(self.head(self.features(images).flatten(1)))


def build_mycnn(config: TrainConfig, problem: Problem) -> nn.Module:
    """MyCNN of report A as published: it returns softmax, which cross-entropy takes again."""
    return _build_mycnn(config, problem, softmax=True)


def build_mycnn_fixed(config: TrainConfig, problem: Problem) -> nn.Module:
    """MyCNN without the softmax inside: the one-line fix."""
    return _build_mycnn(config, problem, softmax=False)


def _build_mycnn(config: TrainConfig, problem: Problem, softmax: bool) -> nn.Module:
    check_fixed_widths(config)
    check_image_size(config, problem, 16)
    return MyCNN(config, problem, softmax)


class TwoConv(nn.Module):
    """Conv 1→32 5×5, conv 32→64 3×3, both padded by 2; linear 4096→4096→classes.

    Each convolution is followed by batch norm, ReLU and max-pool.

    Args:
        published: as report B's code has it: ReLU before batch norm, and no dropout; else as the
            report says.
    """

    def __init__(self, config: TrainConfig, problem: Problem, published: bool) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *self._stage(problem.channels, 32, 5, published),
            *self._stage(32, 64, 3, published),
        )
        # The second convolution, 3×3 padded by 2, makes the map larger by 2: 28, 14, 16, 8.
        inputs = 64 * map_pixels(problem, lambda side: (side // 2 + 2) // 2)
        dropout = [] if published else [_dropout(config)]
        self.head = nn.Sequential(
            nn.Linear(inputs, 4096), nn.ReLU(), *dropout, nn.Linear(4096, problem.classes)
        )

    @staticmethod
    def _stage(
        channels_in: int, channels_out: int, kernel: int, published: bool
    ) -> list[nn.Module]:
        conv = nn.Conv2d(channels_in, channels_out, kernel, padding=2)
        norm = nn.BatchNorm2d(channels_out)
        if published:
            return [conv, nn.ReLU(), norm, nn.MaxPool2d(2)]
        return [conv, norm, nn.ReLU(), nn.MaxPool2d(2)]

    def forward(self, images: Tensor) -> Tensor:  # (B, channels, H, W) -> (B, classes)
        return self.head(self.features(images).flatten(1))


def build_twoconv(config: TrainConfig, problem: Problem) -> nn.Module:
    """Two-conv network of report B as described: batch norm before ReLU, and dropout."""
    return _build_twoconv(config, problem, published=False)


def build_twoconv_published(config: TrainConfig, problem: Problem) -> nn.Module:
    """Two-conv network of report B as its code has it: ReLU before batch norm, no dropout."""
    return _build_twoconv(config, problem, published=True)


def _build_twoconv(config: TrainConfig, problem: Problem, published: bool) -> nn.Module:
    check_fixed_widths(config)
    check_image_size(config, problem, 4)
    return TwoConv(config, problem, published)


class ThreeConv(nn.Module):
    """Conv 1→32→64→128, all 3×3 with padding, ReLU and max-pool; linear 1152→512→classes."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = problem.channels
        for width in (32, 64, 128):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            channels = width
        self.features = nn.Sequential(*layers)

        inputs = channels * map_pixels(problem, lambda side: side // 8)
        self.head = nn.Sequential(
            nn.Linear(inputs, 512), nn.ReLU(), nn.Linear(512, problem.classes)
        )

    def forward(self, images: Tensor) -> Tensor:  # (B, channels, H, W) -> (B, classes)
        return self.head(self.features(images).flatten(1))


def build_threeconv(config: TrainConfig, problem: Problem) -> nn.Module:
    """The three-conv network of report D's one-factor study."""
    check_fixed_widths(config)
    check_image_size(config, problem, 8)
    return ThreeConv(problem)
