"""Networks: one file per family, and MODELS, which builds each by its name."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fmnist.config import Problem, TrainConfig
from fmnist.errors import check
from fmnist.models.airnet import build_airnet
from fmnist.models.alexnet import build_alexnet
from fmnist.models.convnets import build_mycnn, build_mycnn_fixed, build_threeconv, build_twoconv, build_twoconv_published
from fmnist.models.inception import build_inception
from fmnist.models.lenet import build_lenet, build_lenet5
from fmnist.models.resnet import (
    build_resnet18,
    build_resnet18_imagenet,
    build_resnet20,
    build_resnet34,
    build_resnet34_imagenet,
)
from fmnist.models.vgg import build_vgg16, build_vgg16_bn, build_vgg_like, build_vgg_like_weighted
from fmnist.models.wideresnet import build_wideresnet16, build_wideresnet28

MODELS: dict[str, Callable[[TrainConfig, Problem], nn.Module]] = {
    "airnet": build_airnet,
    "alexnet": build_alexnet,
    "inception": build_inception,
    "lenet": build_lenet,
    "lenet5": build_lenet5,
    "mycnn": build_mycnn,
    "mycnn_fixed": build_mycnn_fixed,
    "resnet18": build_resnet18,
    "resnet18_imagenet": build_resnet18_imagenet,
    "resnet20": build_resnet20,
    "resnet34": build_resnet34,
    "resnet34_imagenet": build_resnet34_imagenet,
    "threeconv": build_threeconv,
    "twoconv": build_twoconv,
    "twoconv_published": build_twoconv_published,
    "vgg16": build_vgg16,
    "vgg16_bn": build_vgg16_bn,
    "vgg_like": build_vgg_like,
    "vgg_like_weighted": build_vgg_like_weighted,
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
        InputError: widths, dropout, class weights or image size do not fit the network or the data.
    """
    weights = config.class_weights
    fine = isinstance(weights, str) or len(weights) == problem.classes
    check(fine, f"class_weights: {len(weights)} numbers, but the data has {problem.classes} classes; give one for each")
    network = MODELS[config.model](config, problem)
    dropped = config.dropout is None or any(isinstance(module, nn.Dropout) for module in network.modules())
    check(dropped, f"dropout={config.dropout}: {config.model} has no dropout; leave it out, or choose another --model")
    shape = (problem.channels, 1, 1)
    mean = torch.zeros(shape) if pixel_mean is None else pixel_mean
    std = torch.ones(shape) if pixel_std is None else pixel_std
    return Classifier(network, mean, std)


def count_parameters(model: nn.Module) -> int:
    """Trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
