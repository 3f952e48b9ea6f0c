"""Every network becomes one graph that describes itself and answers as PyTorch does."""

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch

from export.bundle.integrity import check_bundle
from export.bundle.parity import verify
from export.graph.conversion import to_onnx
from fmnist.config import TrainConfig
from fmnist.data.dataset import Split
from fmnist.data.formats import CLASSES, SHA256
from fmnist.data.info import DataInfo
from fmnist.models import MODELS, build_model
from fmnist.training.checkpoint import Checkpoint
from tests.conftest import ROOT
from tests.fmnist.models.test_models import FIXED, narrow

MakeBundle = Callable[..., Path]


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_network_exports_and_verifies(
    name: str, info: DataInfo, official_test: Split, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    config = narrow(name)
    statistics = torch.full((1, 1, 1), 73.0), torch.full((1, 1, 1), 90.0)
    model = build_model(config, info.problem, *statistics).eval()
    made = Checkpoint(model, config, info, {"versions": {}})
    bundle = make_bundle(tmp_path, made).parent

    # Those that cannot be made narrow take their time.
    images = 1000 if name in FIXED else 10000
    few = Split(official_test.images[:images], official_test.labels[:images])
    results = verify(bundle, check_bundle(bundle, "cpu"), [made], few.first(1), few, "cpu")
    assert results["images"] == images
    assert results["onnx_accuracy"] == results["pytorch_accuracy"]
    expected = ["MODEL_CARD.md", "client.py", "golden.npz", "manifest.json", "model.onnx"]
    assert sorted(file.name for file in tmp_path.iterdir()) == expected


def test_the_file_describes_itself_and_nothing_of_this_machine(
    checkpoint: Checkpoint, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    path = make_bundle(tmp_path, checkpoint)
    content = path.read_bytes()
    assert str(ROOT).encode() not in content
    assert b"stack_trace" not in content

    model = onnx.load_model_from_string(content)
    metadata = {prop.key: prop.value for prop in model.metadata_props}
    assert json.loads(metadata["labels"]) == list(CLASSES)
    (config,) = json.loads(metadata["train_config"])
    assert TrainConfig.from_dict(config) == checkpoint.config
    assert json.loads(metadata["data"])["sha256"] == SHA256
    assert model.model_version == 1
    external = onnx.TensorProto.EXTERNAL
    assert all(tensor.data_location != external for tensor in model.graph.initializer)

    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["input"] == [{"name": "pixels", "type": "uint8", "shape": ["batch", 28, 28]}]
    assert manifest["output"][0] == {"name": "logits", "type": "float32", "shape": ["batch", 10]}
    assert manifest["files"]["model.onnx"]["bytes"] == len(content)


def test_exported_twice_is_the_same_to_the_byte(checkpoint: Checkpoint) -> None:
    first, second = (to_onnx([checkpoint]).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second
