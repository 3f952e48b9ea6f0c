"""Initial weights: rules by name, and files of weights to begin from.

What a rule does not name keeps PyTorch's default, which for convolutions and linear layers shrinks the signal's variance to about a
third per layer with ReLU: a plain network of 16 layers starts out blind (see fmnist/models/vgg.py).
"""

from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fmnist.config import TrainConfig
from fmnist.errors import InputError, check, first_line
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


INITS: dict[str, Callable[[nn.Module], None] | None] = {"pytorch": None, "xavier": _xavier, "he": _he, "normal": _normal}
"""Applied to every module of a network.

xavier: Glorot and Bengio (2010), uniform, for convolutions and linear layers; normal(1, .01) for batch norm's weights, as report B
has it. he: He et al. (2015), normal, by fan-in, no bias. normal: normal(0, .01), no bias, as the AlexNet paper has it.
"""


def initialise(network: nn.Module, config: TrainConfig) -> None:
    """Apply the config's rule, then its file of weights.

    Raises:
        InputError: the file cannot be had, or its tensors are not this network's.
    """
    if (rule := INITS[config.init]) is not None:
        network.apply(rule)
    if config.weights:
        found = _imagenet(config.model) if config.weights == "imagenet" else _read(Path(config.weights))
        _load(network.resnet if isinstance(network, ThreeChannels) else network, found, config)


def _imagenet(model: str) -> dict[str, Tensor]:
    from torchvision.models import ResNet18_Weights, ResNet34_Weights  # here: a second to import

    known = {"resnet18_imagenet": ResNet18_Weights.IMAGENET1K_V1, "resnet34_imagenet": ResNet34_Weights.IMAGENET1K_V1}
    check(model in known, f"weights='imagenet': there are none for {model}; they are for {', '.join(known)}")
    url = known[model].url
    try:
        return torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True, weights_only=True, progress=False)
    except (URLError, OSError, RuntimeError) as error:
        raise InputError(
            f"weights='imagenet': {url} cannot be fetched ({error}); fetch it elsewhere and give it as --weights FILE"
        ) from error


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(
            f"weights={str(path)!r} cannot be read: {error.strerror or error}; give a .safetensors or .pt file, or imagenet"
        ) from error
    except SafetensorError as error:
        raise InputError(f"weights={str(path)!r} is damaged or no safetensors file: {error}") from error
    except Exception as error:  # a damaged pickle raises almost anything
        raise InputError(f"weights={str(path)!r} is not a file of plain tensors: {first_line(error)}") from error
    tensors = isinstance(found, dict) and all(isinstance(tensor, Tensor) for tensor in found.values())
    check(tensors, f"weights={str(path)!r}: it must hold a state dict, names and tensors alone")
    return found


def _load(network: nn.Module, found: dict[str, Tensor], config: TrainConfig) -> None:
    """Copy the tensors; those of the last linear layer may have another shape, and are then left out."""
    names = {name.removeprefix("network.").removeprefix("resnet."): tensor for name, tensor in found.items()}  # our checkpoints'
    expected = network.state_dict()
    head = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
    matching = {name: tensor for name, tensor in names.items() if name in expected and tensor.shape == expected[name].shape}
    left = sorted(set(expected) - set(matching) - {f"{head}.weight", f"{head}.bias"})
    what = f"weights={config.weights!r} are not {config.model}'s"
    check(
        not left,
        f"{what}: {', '.join(left[:3])}{' …' * (len(left) > 3)} are missing or of another shape; choose the --model they belong to",
    )
    network.load_state_dict(expected | matching)
