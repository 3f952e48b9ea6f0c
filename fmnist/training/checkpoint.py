"""Checkpoints to ship, and the exact state to resume a training from.

A checkpoint folder holds model.safetensors, config.json (the TrainConfig, the data and the
environment) and metrics.json. The weights are plain tensors: loading them runs no code.
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
from fmnist.data.dataset import load_info
from fmnist.data.info import DataInfo
from fmnist.data.sources import Source, find_data
from fmnist.errors import InputError, check, first_line
from fmnist.models import Classifier, build_model
from fmnist.runs.files import read_json, write_atomic, write_json
from fmnist.runs.provenance import environment
from fmnist.runs.run_folder import CONFIG, WEIGHTS

METRICS = "metrics.json"
PICKLE_STARTS = (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05")
"""First bytes of PyTorch's zipped pickles, and of plain ones."""
NAMES_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A trained model and where it comes from."""

    model: Classifier
    config: TrainConfig
    data: DataInfo
    environment: dict[str, Any]


def describe(config: TrainConfig, data: DataInfo) -> dict[str, Any]:
    """What config.json says: the whole config, the data's names and hashes, versions, commit."""
    return {"train": config.to_dict(), "data": asdict(data), "environment": environment()}


def save_checkpoint(
    folder: Path, model: Classifier, config: TrainConfig, data: DataInfo, metrics: dict[str, Any]
) -> None:
    """Write the checkpoint; the weights last, since their presence says that it is whole."""
    # Contiguous: safetensors refuses tensors in NHWC order.
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        tensors[name] = tensor.detach().cpu().contiguous()

    write_json(folder / CONFIG, describe(config, data))
    write_json(folder / METRICS, metrics)
    write_atomic(folder / WEIGHTS, save(tensors))


def load_checkpoint(folder: Path) -> Checkpoint:
    """Load the checkpoint in `folder`, its model in evaluation mode on the CPU.

    Raises:
        InputError: a file is missing or damaged, or the config has a key that this version does not
            know.
    """
    path = folder / CONFIG
    saved = read_json(path)
    try:
        config = TrainConfig.from_dict(saved["train"])
        data = DataInfo.from_dict(saved["data"])
        environment_then = saved["environment"]
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} is not a checkpoint's config: {error!r}") from error

    model = load_model(config, data, folder / WEIGHTS)
    return Checkpoint(model.eval(), config, data, environment_then)


def open_data(source: Source, resumed: Path | None) -> tuple[Path, DataInfo]:
    """Find the data's folder and describe it.

    Args:
        source: what the command line names.
        resumed: a run whose data is taken, where it is still there, if nothing is named.

    Raises:
        InputError: the data cannot be had, or the run began with another set.
    """
    trained_on: DataInfo | None = None
    if resumed is not None and (resumed / CONFIG).exists():
        trained_on = DataInfo.from_dict(read_json(resumed / CONFIG)["data"])
    folder = find_data(source, trained_on)
    return folder, load_info(folder, trained_on)


def load_model(config: TrainConfig, data: DataInfo, path: Path) -> Classifier:
    """Load the config's network with the weights in a safetensors file.

    Nothing of the network's size is allocated before the file is seen to hold exactly that.

    Raises:
        InputError: the file is missing or damaged, or holds other tensors than the network has.
    """
    tensors = _read_tensors(path)
    # The meta device gives names and shapes without memory.
    with torch.device("meta"):
        expected = build_model(config, data.problem).state_dict()
    differences = _differences(tensors, expected)
    check(
        not differences,
        f"{path} does not hold the weights that config.json describes: it {differences}",
    )

    model = build_model(config, data.problem)
    model.load_state_dict(tensors)
    return model


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        with path.open("rb") as file:
            start = file.read(2)
        if start in PICKLE_STARTS:
            raise InputError(
                f"{path} is a pickle, which could run any code when loaded: "
                "save the weights as safetensors"
            )
        return load_file(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise InputError(
            f"{path} is damaged or cut short ({error}); "
            "put a whole one in its place, or train again"
        ) from error


def _differences(tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> str:
    """How a file's tensors differ from the network's, in words; empty if they do not."""
    both = sorted(set(tensors) & set(expected))
    names = {
        "lacks": sorted(set(expected) - set(tensors)),
        "has unknown": sorted(set(tensors) - set(expected)),
        "has another shape for": [n for n in both if tensors[n].shape != expected[n].shape],
        "has another type for": [n for n in both if tensors[n].dtype != expected[n].dtype],
    }
    parts: list[str] = []
    for what, differing in names.items():
        if differing:
            more = " …" if len(differing) > NAMES_SHOWN else ""
            parts.append(f"{what} {', '.join(differing[:NAMES_SHOWN])}{more}")
    return "; ".join(parts)


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write what `train_epochs` needs to go on exactly: weights, optimiser, epoch, config."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomic(path, buffer.getbuffer())


def load_state(path: Path) -> dict[str, Any]:
    """Read a training state; only tensors and plain values are unpickled.

    Raises:
        InputError: the file is damaged.
    """
    try:
        # PyTorch warns of what it suspects of a damaged pickle; the error is enough.
        with warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises almost anything
        raise InputError(f"{path} is not a training state: {first_line(error)}") from error
