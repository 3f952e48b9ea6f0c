"""What damaged files once led to, found by benchmarks/fuzz.py: each is refused in one line now."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.damage import deep_json, many_dimensions
from export.client import Client, ClientError
from fmnist.config import TrainConfig
from fmnist.data.dataset import Split, TrainingData
from fmnist.data.idx import parse_idx
from fmnist.data.info import DataInfo
from fmnist.errors import DataError, InputError
from fmnist.models import build_model
from fmnist.runs.files import read_json
from fmnist.training.checkpoint import Checkpoint, load_checkpoint, load_state, save_checkpoint
from fmnist.training.loop import start_training


@pytest.mark.parametrize(
    "content",
    [
        many_dimensions(),
        struct.pack(">5I", 0x0804, *[2**16] * 4),
        struct.pack(">I", 0x0800) + bytes(5),
    ],
)
def test_sizes_that_overflow(content: bytes) -> None:
    with pytest.raises(DataError, match=r"not an IDX file|bytes where its header promises"):
        parse_idx(Path("images"), content)


def test_json_nested_deeper_than_python_recurses(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(deep_json())
    with pytest.raises(InputError, match="cannot be read"):
        read_json(tmp_path / "manifest.json")

    (tmp_path / "model.onnx").touch()
    with pytest.raises(ClientError, match="damaged"):
        Client(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lr": "fast"}, "lr='fast' is no float"),
        ({"widths": [8, 16.5, 32]}, "is no tuple"),
        ({"flip": 1}, "flip='1' is no bool"),
        ({"class_weights": [1, None]}, "class_weights="),
        # 500 GB, if it were built first.
        ({"widths": [60_000, 60_000, 60_000]}, "another shape"),
        ({"widths": [10**12, 8, 8]}, "each must be from 1 to"),
    ],
)
def test_configs_of_other_types_or_of_a_network_larger_than_its_weights(
    change: dict[str, Any], words: str, tmp_path: Path, info: DataInfo
) -> None:
    config = TrainConfig(widths=(8, 16, 32))
    save_checkpoint(tmp_path, build_model(config, info.problem), config, info, {})

    saved = read_json(tmp_path / "config.json")
    saved["train"] |= change
    (tmp_path / "config.json").write_text(json.dumps(saved))
    with pytest.raises(InputError, match=words):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "change",
    [{"classes": 5}, {"image_size": 0}, {"channels": 2}, {"classes": ["a"]}, {"sha256": {"a": 1}}],
)
def test_data_that_cannot_be(change: dict[str, Any], tmp_path: Path, info: DataInfo) -> None:
    config = TrainConfig(widths=(8, 16, 32))
    save_checkpoint(tmp_path, build_model(config, info.problem), config, info, {})

    saved = read_json(tmp_path / "config.json")
    saved["data"] |= change
    (tmp_path / "config.json").write_text(json.dumps(saved))
    with pytest.raises(InputError):
        load_checkpoint(tmp_path)


def test_states_that_are_empty_or_of_something_else(tmp_path: Path, train: Split) -> None:
    (tmp_path / "last.pt").touch()
    with pytest.raises(InputError, match="is not a training state"):
        load_state(tmp_path / "last.pt")

    config = TrainConfig(widths=(8, 16, 32), precision="fp32")
    torch.save({"config": config.to_dict(), "model": {}}, tmp_path / "last.pt")
    few = Split(train.images[:64], train.labels[:64])
    begun = start_training(config, TrainingData(few, None, 10), torch.device("cpu"))
    with pytest.raises(InputError, match="resume: the saved training is damaged"):
        begun.load_state_dict(load_state(tmp_path / "last.pt"))


@pytest.mark.parametrize(
    "change",
    [
        {"session": ["arena"]},
        {"session": {"arena": [1]}},
        {"labels": 5},
        {"model": "/dev/zero"},
        {"input": [{"shape": "x"}]},
        {"input": [{"shape": ["batch", 28, 27]}]},
        {"data": None},
        {"data": {"image_size": 28}},
        {"data": {"image_size": [28, 29]}},
        {"data": {"image_size": [28, True]}},
        {"data": {"channels": 3}},
        {"data": {"fit": "squash"}},
        {"data": {"pad_colour": ["black"]}},
        {"data": {"pixel_range": [5]}},
        {"data": {"pixel_range": "01"}},
    ],
    ids=str,
)
def test_manifests_that_would_mislead_the_client(
    change: dict[str, Any], checkpoint: Checkpoint, make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    make_bundle(tmp_path, checkpoint)
    path = tmp_path / "manifest.json"
    manifest = json.loads(path.read_text())
    if isinstance(change.get("data"), dict):
        change = {"data": manifest["data"] | change["data"]}
    path.write_text(json.dumps(manifest | change))
    with pytest.raises(ClientError):
        Client(tmp_path)
