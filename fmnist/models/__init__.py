"""Networks: one file per family, and MODELS, which finds each by its name."""

import pkgutil
from collections.abc import Callable

import torch
from torch import Tensor, nn

from fmnist.config import Problem, TrainConfig
from fmnist.errors import check

Builder = Callable[[TrainConfig, Problem], nn.Module]

MODELS: dict[str, str | Builder] = {
    "airnet": "fmnist.models.airnet:build_airnet",
    "alexnet": "fmnist.models.alexnet:build_alexnet",
    "inception": "fmnist.models.inception:build_inception",
    "lenet": "fmnist.models.lenet:build_lenet",
    "lenet5": "fmnist.models.lenet:build_lenet5",
    "mycnn": "fmnist.models.convnets:build_mycnn",
    "mycnn_fixed": "fmnist.models.convnets:build_mycnn_fixed",
    "resnet18": "fmnist.models.resnet:build_resnet18",
    "resnet18_imagenet": "fmnist.models.resnet:build_resnet18_imagenet",
    "resnet20": "fmnist.models.resnet:build_resnet20",
    "resnet34": "fmnist.models.resnet:build_resnet34",
    "resnet34_imagenet": "fmnist.models.resnet:build_resnet34_imagenet",
    "threeconv": "fmnist.models.convnets:build_threeconv",
    "twoconv": "fmnist.models.convnets:build_twoconv",
    "twoconv_published": "fmnist.models.convnets:build_twoconv_published",
    "vgg16": "fmnist.models.vgg:build_vgg16",
    "vgg16_bn": "fmnist.models.vgg:build_vgg16_bn",
    "vgg_like": "fmnist.models.vgg:build_vgg_like",
    "vgg_like_weighted": "fmnist.models.vgg:build_vgg_like_weighted",
    "wideresnet16": "fmnist.models.wideresnet:build_wideresnet16",
    "wideresnet28": "fmnist.models.wideresnet:build_wideresnet28",
}
"""The builder of each network, or where it is ("module:function"): a family is imported when one of
its networks is built. fmnist/config.py lists the same names."""


class Classifier(nn.Module):
    """A network with its normalisation inside.

    So training, evaluation and export cannot disagree about it.

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
        # Buffers are saved with the weights, and no optimiser steps them.
        self.register_buffer("pixel_mean", pixel_mean)
        self.register_buffer("pixel_std", pixel_std)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (B, classes) of uint8 pixels (B, H, W) or (B, 3, H, W)."""
        images = pixels if pixels.ndim == 4 else pixels.unsqueeze(1)
        return self.network((images.float() - self.pixel_mean) / self.pixel_std)


def builder_of(name: str) -> Builder:
    """The function that builds the network `name`."""
    builder = MODELS[name]
    if isinstance(builder, str):
        return pkgutil.resolve_name(builder)
    return builder


def build_model(
    config: TrainConfig,
    problem: Problem,
    pixel_mean: Tensor | None = None,
    pixel_std: Tensor | None = None,
) -> Classifier:
    """Build the config's network with fresh weights.

    Args:
        pixel_mean, pixel_std: (channels, 1, 1) each; left out where a checkpoint's weights, which
            have them, are loaded next.

    Raises:
        InputError: widths, dropout, class weights or image size do not fit the network or the data.
    """
    weights = config.class_weights
    check(
        isinstance(weights, str) or len(weights) == problem.classes,
        f"class_weights: {len(weights)} numbers, but the data has {problem.classes} classes; "
        "give one for each",
    )
    network = builder_of(config.model)(config, problem)
    # A rate that nothing reads would be reported as if it had been tried.
    if config.dropout is not None:
        has_dropout = any(isinstance(module, nn.Dropout) for module in network.modules())
        check(
            has_dropout,
            f"dropout={config.dropout}: {config.model} has no dropout; "
            "leave it out, or choose another --model",
        )

    shape = (problem.channels, 1, 1)
    if pixel_mean is None:
        pixel_mean = torch.zeros(shape)
    if pixel_std is None:
        pixel_std = torch.ones(shape)
    return Classifier(network, pixel_mean, pixel_std)


def count_parameters(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
