import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch

from export.check import check_bundle
from export.graph import to_onnx
from export.verify import verify
from fmnist.checkpoint import Checkpoint
from fmnist.config import TrainConfig
from fmnist.data import CLASSES, SHA256, DataInfo, Split
from fmnist.models import MODELS, build_model
from tests.conftest import ROOT
from tests.fmnist.test_models import FIXED, narrow

MakeBundle = Callable[..., Path]


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_network_exports_and_verifies(
    name: str, info: DataInfo, official_test: Split, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    config = narrow(name)
    model = build_model(config, info.problem, torch.full((1, 1, 1), 73.0), torch.full((1, 1, 1), 90.0)).eval()
    made = Checkpoint(model, config, info, {"versions": {}})
    bundle = make_bundle(tmp_path, made).parent
    images = 1000 if name in FIXED else 10000  # those that cannot be made narrow take their time
    few = Split(official_test.images[:images], official_test.labels[:images])
    found = verify(bundle, check_bundle(bundle, "cpu"), [made], few, "cpu")
    assert found["images"] == images
    assert found["onnx_accuracy"] == found["pytorch_accuracy"]
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
    assert [TrainConfig.from_dict(one) for one in json.loads(metadata["train_config"])] == [checkpoint.config]
    assert json.loads(metadata["data"])["sha256"] == SHA256
    assert model.model_version == 1
    assert not any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["input"] == [{"name": "pixels", "type": "uint8", "shape": ["batch", 28, 28]}]
    assert manifest["output"][0] == {"name": "logits", "type": "float32", "shape": ["batch", 10]}
    assert manifest["files"]["model.onnx"]["bytes"] == len(content)


def test_exported_twice_is_the_same_to_the_byte(checkpoint: Checkpoint) -> None:
    first, second = (to_onnx([checkpoint]).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second
