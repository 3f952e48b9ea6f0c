"""Weights to start from: ImageNet's, or those of a file."""

from pathlib import Path
from urllib.error import URLError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fmnist.config import TrainConfig
from fmnist.errors import InputError, check, first_line

PREFIXES = ("network.", "resnet.")
"""What stands before a network's own names in the weights of a checkpoint of ours."""
NAMES_SHOWN = 3


def imagenet_weights(model: str) -> dict[str, Tensor]:
    """Fetch torchvision's ImageNet weights for a network, or take them from PyTorch's cache.

    Returns:
        a state dict on the CPU.

    Raises:
        InputError: there are none for this network, or they cannot be fetched.
    """
    # Here: torchvision takes a second to import, and few networks have such weights.
    from torchvision.models import ResNet18_Weights, ResNet34_Weights

    known = {
        "resnet18_imagenet": ResNet18_Weights.IMAGENET1K_V1,
        "resnet34_imagenet": ResNet34_Weights.IMAGENET1K_V1,
    }
    check(
        model in known,
        f"weights='imagenet': there are none for {model}; they are for {', '.join(known)}",
    )
    url = known[model].url
    try:
        return torch.hub.load_state_dict_from_url(
            url, map_location="cpu", check_hash=True, weights_only=True, progress=False
        )
    except (URLError, OSError, RuntimeError) as error:
        raise InputError(
            f"weights='imagenet': {url} cannot be fetched ({error}); "
            "fetch it elsewhere and give it as --weights FILE"
        ) from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict from a .safetensors file, or from PyTorch's format without running code.

    Returns:
        tensors by name, on the CPU.

    Raises:
        InputError: the file is missing or damaged, or holds anything but names and tensors.
    """
    name = f"weights={str(path)!r}"
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(
            f"{name} cannot be read: {error.strerror or error}; "
            "give a .safetensors or .pt file, or imagenet"
        ) from error
    except SafetensorError as error:
        raise InputError(f"{name} is damaged or no safetensors file: {error}") from error
    except Exception as error:  # a damaged pickle raises almost anything
        raise InputError(f"{name} is not a file of plain tensors: {first_line(error)}") from error

    is_dict = isinstance(weights, dict)
    check(
        is_dict and all(isinstance(tensor, Tensor) for tensor in weights.values()),
        f"{name}: it must hold a state dict, names and tensors alone",
    )
    return weights


def load_weights(network: nn.Module, weights: dict[str, Tensor], config: TrainConfig) -> None:
    """Copy weights into a network.

    Those of its last linear layer are left out if their shape differs: a head for another number of
    classes starts afresh.

    Args:
        weights: a state dict of the network, or of a Classifier around it.
        config: names the network and the weights in the message.

    Raises:
        InputError: any other tensor of the network is missing or of another shape.
    """
    # Checkpoints of ours name the tensors as their Classifier does, torchvision as its network.
    expected = network.state_dict()
    matching: dict[str, Tensor] = {}
    for full_name, tensor in weights.items():
        name = full_name
        for prefix in PREFIXES:
            name = name.removeprefix(prefix)
        if name in expected and tensor.shape == expected[name].shape:
            matching[name] = tensor

    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    head = linear[-1]
    lacking = sorted(set(expected) - set(matching) - {f"{head}.weight", f"{head}.bias"})
    if lacking:
        shown = ", ".join(lacking[:NAMES_SHOWN])
        more = " …" if len(lacking) > NAMES_SHOWN else ""
        raise InputError(
            f"weights={config.weights!r} are not {config.model}'s: "
            f"{shown}{more} are missing or of another shape; choose the --model they belong to"
        )
    network.load_state_dict(expected | matching)
