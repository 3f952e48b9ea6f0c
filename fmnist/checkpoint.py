"""Checkpoints: safetensors weights and config.json to ship, and the exact state to resume a training from.

A checkpoint folder holds model.safetensors, config.json (the TrainConfig, the data and the environment) and
metrics.json. The weights are plain tensors: loading them runs no code.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from fmnist.config import TrainConfig
from fmnist.data import DataInfo
from fmnist.errors import InputError
from fmnist.models import Classifier, build_model
from fmnist.run import environment, read_json, write_atomic, write_json


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A trained model and where it comes from."""

    model: Classifier
    config: TrainConfig
    data: DataInfo
    environment: dict[str, Any]


def describe(config: TrainConfig, data: DataInfo) -> dict[str, Any]:
    """What config.json says of a training: the whole config, the data's names and hashes, versions and commit."""
    return {"train": config.to_dict(), "data": asdict(data), "environment": environment()}


def save_checkpoint(folder: Path, model: Classifier, config: TrainConfig, data: DataInfo, metrics: dict[str, Any]) -> None:
    """Write the checkpoint; the weights last, since their presence says that it is whole."""
    write_json(folder / "config.json", describe(config, data))
    write_json(folder / "metrics.json", metrics)
    write_atomic(folder / "model.safetensors", save(_plain(model.state_dict())))


def load_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint in `folder`, its model in evaluation mode on the CPU.

    Raises:
        InputError: a file is missing or damaged, or the config has a key that this version does not know.
    """
    saved = read_json(folder / "config.json")
    try:
        config = TrainConfig.from_dict(saved["train"])
        data = DataInfo(saved["data"]["name"], tuple(saved["data"]["classes"]), saved["data"]["sha256"])
        model = build_model(config, classes=len(data.classes))
        model.load_state_dict(load_file(folder / "model.safetensors"))
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder / 'config.json'} is not a checkpoint's config: {error!r}") from error
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{folder / 'model.safetensors'} does not hold the weights that config.json describes: {reason}"
        ) from error
    return Checkpoint(model.eval(), config, data, saved["environment"])


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write what `train_epochs` needs to go on exactly: weights, optimiser, epoch, config."""
    temporary = path.with_name(f".{path.name}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, temporary)
    temporary.replace(path)


def load_state(path: Path) -> dict[str, Any]:
    """Raises InputError if the file is damaged. Only tensors and plain values are unpickled."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises almost anything
        raise InputError(f"{path} is not a training state: {str(error).splitlines()[0]}") from error


def _plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
