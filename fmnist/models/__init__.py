"""Networks: one file per family, and MODELS, which builds each by its name."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fmnist.config import TrainConfig
from fmnist.models.airnet import build_airnet
from fmnist.models.lenet import build_lenet
from fmnist.models.resnet import build_resnet18

MODELS: dict[str, Callable[[TrainConfig, int], nn.Module]] = {
    "airnet": build_airnet,
    "lenet": build_lenet,
    "resnet18": build_resnet18,
}


class Classifier(nn.Module):
    """A network with its normalisation inside, so that training, evaluation and export cannot disagree about it.

    Args:
        network: takes (B, 1, H, W) float32, returns (B, classes) logits.
        pixel_mean: mean of the training pixels, in 0 to 255.
        pixel_std: their standard deviation, in 0 to 255.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, network: nn.Module, pixel_mean: float, pixel_std: float) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean))
        self.register_buffer("pixel_std", torch.tensor(pixel_std))

    def forward(self, pixels: Tensor) -> Tensor:  # (B, H, W) uint8 -> (B, classes)
        images = (pixels.unsqueeze(1).float() - self.pixel_mean) / self.pixel_std
        return self.network(images)


def build_model(config: TrainConfig, *, classes: int, pixel_mean: float = 0.0, pixel_std: float = 1.0) -> Classifier:
    """The config's network with fresh weights; a checkpoint's weights bring the pixel statistics with them."""
    return Classifier(MODELS[config.model](config, classes), pixel_mean, pixel_std)


def count_parameters(model: nn.Module) -> int:
    """Trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
