"""Networks: one file per family, and MODELS, which builds each by its name."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fmnist.config import Problem, TrainConfig
from fmnist.errors import check
from fmnist.models.airnet import build_airnet
from fmnist.models.lenet import build_lenet
from fmnist.models.resnet import build_resnet18, build_resnet20, build_resnet34
from fmnist.models.wideresnet import build_wideresnet16, build_wideresnet28

MODELS: dict[str, Callable[[TrainConfig, Problem], nn.Module]] = {
    "airnet": build_airnet,
    "lenet": build_lenet,
    "resnet18": build_resnet18,
    "resnet20": build_resnet20,
    "resnet34": build_resnet34,
    "wideresnet16": build_wideresnet16,
    "wideresnet28": build_wideresnet28,
}


class Classifier(nn.Module):
    """A network with its normalisation inside, so that training, evaluation and export cannot disagree about it.

    Args:
        network: takes (B, channels, H, W) float32, returns (B, classes) logits.
        pixel_mean: (channels, 1, 1), mean of the training pixels, in 0 to 255.
        pixel_std: (channels, 1, 1), their standard deviation, in 0 to 255.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, network: nn.Module, pixel_mean: Tensor, pixel_std: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("pixel_mean", pixel_mean)
        self.register_buffer("pixel_std", pixel_std)

    def forward(self, pixels: Tensor) -> Tensor:  # (B, H, W) or (B, 3, H, W) uint8 -> (B, classes)
        images = pixels if pixels.ndim == 4 else pixels.unsqueeze(1)
        return self.network((images.float() - self.pixel_mean) / self.pixel_std)


def build_model(
    config: TrainConfig, problem: Problem, pixel_mean: Tensor | None = None, pixel_std: Tensor | None = None
) -> Classifier:
    """The config's network with fresh weights; a checkpoint's weights bring the pixel statistics with them.

    Raises:
        InputError: widths, class weights or image size do not fit the network or the data.
    """
    weights = config.class_weights
    fine = isinstance(weights, str) or len(weights) == problem.classes
    check(fine, f"class_weights: {len(weights)} numbers, but the data has {problem.classes} classes; give one for each")
    shape = (problem.channels, 1, 1)
    mean = torch.zeros(shape) if pixel_mean is None else pixel_mean
    std = torch.ones(shape) if pixel_std is None else pixel_std
    return Classifier(MODELS[config.model](config, problem), mean, std)


def count_parameters(model: nn.Module) -> int:
    """Trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
