"""Checkpoints: safetensors weights and config.json to ship, and the exact state to resume a training from.

A checkpoint folder holds model.safetensors, config.json (the TrainConfig, the data and the environment) and
metrics.json. The weights are plain tensors: loading them runs no code.
"""

import io
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from fmnist.config import TrainConfig
from fmnist.data import DataInfo, Source, find_data, load_info
from fmnist.errors import InputError, check, check_fields, first_line
from fmnist.models import Classifier, build_model
from fmnist.run import WEIGHTS, environment, read_json, write_atomic, write_json


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
    write_atomic(folder / WEIGHTS, save(_plain(model.state_dict())))


def load_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint in `folder`, its model in evaluation mode on the CPU.

    Raises:
        InputError: a file is missing or damaged, or the config has a key that this version does not know.
    """
    saved = read_json(folder / "config.json")
    try:
        config = TrainConfig.from_dict(saved["train"])
        data = data_info(saved["data"])
        environment_then = saved["environment"]
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder / 'config.json'} is not a checkpoint's config: {error!r}") from error
    model = load_model(config, data, folder / WEIGHTS)
    return Checkpoint(model.eval(), config, data, environment_then)


def data_info(saved: dict[str, Any]) -> DataInfo:
    """A DataInfo from its dict. Raises InputError on an unknown key, or a value of another type."""
    check_fields("data", saved, DataInfo)
    values = dict(saved)
    for key in ("classes", "label_values"):
        if key in values:
            values[key] = tuple(values[key])
    return DataInfo(**values)


def open_data(source: Source, resumed: Path | None) -> tuple[Path, DataInfo]:
    """The data's folder and what it is; for a run that is resumed it is the run's own, found again by itself.

    Raises:
        InputError: the data cannot be had, or a run began with another set.
    """
    then = None
    if resumed is not None and (resumed / "config.json").exists():
        then = data_info(read_json(resumed / "config.json")["data"])
    folder = find_data(source, then)
    return folder, load_info(folder, then)


def load_model(config: TrainConfig, data: DataInfo, path: Path) -> Classifier:
    """The config's network with the weights in a safetensors file.

    Nothing of the network's size is allocated before the file is seen to hold just that.

    Raises:
        InputError: the file is missing or damaged, or holds other tensors than the network has.
    """
    try:
        with path.open("rb") as file:
            start = file.read(2)
        if start in (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05"):
            raise InputError(f"{path} is a pickle, which could run any code when loaded: save the weights as safetensors")
        found = load_file(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise InputError(f"{path} is damaged or cut short ({error}); put a whole one in its place, or train again") from error
    with torch.device("meta"):
        expected = build_model(config, data.problem).state_dict()
    both = sorted(set(found) & set(expected))
    problems = {
        "lacks": sorted(set(expected) - set(found)),
        "has unknown": sorted(set(found) - set(expected)),
        "has another shape for": [name for name in both if found[name].shape != expected[name].shape],
        "has another type for": [name for name in both if found[name].dtype != expected[name].dtype],
    }
    said = "; ".join(f"{what} {', '.join(names[:3])}{' …' * (len(names) > 3)}" for what, names in problems.items() if names)
    check(not said, f"{path} does not hold the weights that config.json describes: it {said}")
    model = build_model(config, data.problem)
    model.load_state_dict(found)
    return model


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write what `train_epochs` needs to go on exactly: weights, optimiser, epoch, config."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomic(path, buffer.getbuffer())


def load_state(path: Path) -> dict[str, Any]:
    """Raises InputError if the file is damaged. Only tensors and plain values are unpickled."""
    try:
        with warnings.catch_warnings(action="ignore"):  # what PyTorch suspects of a damaged pickle
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises almost anything
        raise InputError(f"{path} is not a training state: {first_line(error)}") from error


def _plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
