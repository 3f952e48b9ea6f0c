"""Checkpoints and training states: round trips, and every way in which files can be wrong."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fmnist.config import TrainConfig
from fmnist.data.info import DataInfo
from fmnist.errors import InputError
from fmnist.models import build_model
from fmnist.training.checkpoint import load_checkpoint, load_state, save_checkpoint

INFO = DataInfo("some", ("a", "b", "c"), {"x": "y"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = TrainConfig(model="airnet", widths=(4, 8, 8))
    mean, deviation = torch.full((1, 1, 1), 70.0), torch.full((1, 1, 1), 80.0)
    model = build_model(config, INFO.problem, mean, deviation)
    model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    save_checkpoint(tmp_path / "best", model, config, INFO, {"validation_accuracy": 0.5})
    return tmp_path / "best"


def test_round_trip(folder: Path) -> None:
    loaded = load_checkpoint(folder)
    assert loaded.data == INFO
    assert loaded.config == TrainConfig(model="airnet", widths=(4, 8, 8))
    assert (loaded.model.pixel_mean.item(), loaded.model.pixel_std.item()) == (70.0, 80.0)
    assert not loaded.model.training
    assert loaded.environment["versions"]["torch"]

    pixels = torch.randint(0, 256, (4, 28, 28), dtype=torch.uint8)
    again = load_checkpoint(folder)
    assert torch.equal(loaded.model(pixels), again.model(pixels))


def drop(tensors: dict[str, torch.Tensor], path: Path) -> None:
    del tensors["network.head.bias"]
    save_file(tensors, path)


def add(tensors: dict[str, torch.Tensor], path: Path) -> None:
    save_file(tensors | {"network.tail": torch.zeros(1)}, path)


def truncate(tensors: dict[str, torch.Tensor], path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def pickle_it(tensors: dict[str, torch.Tensor], path: Path) -> None:
    torch.save(tensors, path)


def pickle_plainly(tensors: dict[str, torch.Tensor], path: Path) -> None:
    path.write_bytes(pickle.dumps({"weights": [1.0, 2.0]}))


def empty(tensors: dict[str, torch.Tensor], path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (drop, "lacks network.head.bias"),
        (add, "has unknown network.tail"),
        (truncate, "damaged or cut short"),
        (empty, "damaged or cut short"),
        (pickle_it, "is a pickle"),
        (pickle_plainly, "is a pickle"),
        (lambda _, path: path.unlink(), "cannot be read"),
    ],
)
def test_damaged_weights(
    damage: Callable[[dict[str, torch.Tensor], Path], None], words: str, folder: Path
) -> None:
    weights = folder / "model.safetensors"
    damage(load_file(weights), weights)

    with pytest.raises(InputError, match=words) as caught:
        load_checkpoint(folder)
    assert "model.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("part", "key"), [("train", "colour"), ("train", "widths")])
def test_config_that_does_not_fit(folder: Path, part: str, key: str) -> None:
    path = folder / "config.json"
    saved = json.loads(path.read_text())
    saved[part][key] = [5, 8, 8]
    path.write_text(json.dumps(saved))

    words = "colour" if key == "colour" else "does not hold the weights"
    with pytest.raises(InputError, match=words):
        load_checkpoint(folder)


def test_state_runs_no_code(tmp_path: Path) -> None:
    torch.save({"model": Path("x")}, tmp_path / "state.pt")
    with pytest.raises(InputError, match="not a training state"):
        load_state(tmp_path / "state.pt")

    (tmp_path / "state.pt").write_bytes(b"junk")
    with pytest.raises(InputError, match="not a training state"):
        load_state(tmp_path / "state.pt")
