"""Initial weights: rules by name, and files of weights to start from.

What a rule does not name keeps PyTorch's default, which for convolutions and linear layers shrinks
the signal's variance to about a third per layer with ReLU: a plain network of 16 layers starts out
with the same logits for all images (see fmnist/models/vgg.py).
"""

from collections.abc import Callable
from pathlib import Path

from torch import nn

from fmnist.config import TrainConfig
from fmnist.models.pretrained import imagenet_weights, load_weights, read_weights
from fmnist.models.resnet import ThreeChannels


def _xavier(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.01)


def _he(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _normal(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.01)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


INITS: dict[str, Callable[[nn.Module], None] | None] = {
    "pytorch": None,
    "xavier": _xavier,
    "he": _he,
    "normal": _normal,
}
"""Rules, applied to every module of a network.

xavier: Glorot and Bengio (2010), uniform, for convolutions and linear layers; normal(1, .01) for
batch norm's weights, as report B has it. he: He et al. (2015), normal, by fan-in, no bias. normal:
normal(0, .01), no bias, as the AlexNet paper has it.
"""


def initialise(network: nn.Module, config: TrainConfig) -> None:
    """Apply the config's rule, then its file of weights.

    Raises:
        InputError: the file cannot be had, or its tensors are not this network's.
    """
    rule = INITS[config.init]
    if rule is not None:
        network.apply(rule)
    if not config.weights:
        return

    if config.weights == "imagenet":
        weights = imagenet_weights(config.model)
    else:
        weights = read_weights(Path(config.weights))
    # torchvision's weights have the names of the network inside.
    inner = network.resnet if isinstance(network, ThreeChannels) else network
    load_weights(inner, weights, config)
