"""Verification must fail on what is wrong, each with its own message."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from export.to_onnx import to_onnx
from export.verify import VerificationError, compare, verify
from fmnist.checkpoint import Checkpoint
from fmnist.data import Split
from fmnist.errors import InputError


@pytest.fixture(scope="module")
def exported(checkpoint: Checkpoint) -> bytes:
    return to_onnx(checkpoint).SerializeToString()


def change_weights(model: onnx.ModelProto, name: str, change: Callable[[np.ndarray], None]) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name.endswith(name))
    values = onnx.numpy_helper.to_array(tensor).copy()
    change(values)
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


def nudge(model: onnx.ModelProto) -> None:
    def change(values: np.ndarray) -> None:
        values.flat[7] += 0.05

    change_weights(model, "blocks.1.conv1.weight", change)


def poison(model: onnx.ModelProto) -> None:
    def change(values: np.ndarray) -> None:
        values.flat[7] = np.nan

    change_weights(model, "head.weight", change)  # max-pooling would hide it


def fix_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 256


def rename(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = "image"
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            if name == "pixels":
                node.input[position] = "image"


def skip_softmax(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.op_type == "Softmax":
            node.op_type = "Sigmoid"
            del node.attribute[:]


@pytest.mark.parametrize(
    ("tamper", "words"),
    [
        (nudge, "values: logits differ"),
        (poison, "NaN"),
        (fix_batch, "shapes: the input is"),
        (rename, "names: the graph has"),
        (skip_softmax, "softmax"),
    ],
)
def test_tampered_graphs_fail(
    tamper: Callable[[onnx.ModelProto], None],
    words: str,
    exported: bytes,
    checkpoint: Checkpoint,
    official_test: Split,
    tmp_path: Path,
) -> None:
    model = onnx.load_model_from_string(exported)
    tamper(model)
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(VerificationError, match=words):
        verify(tmp_path / "model.onnx", checkpoint, official_test, "cpu")


def test_another_checkpoint_fails(exported: bytes, checkpoint: Checkpoint, official_test: Split, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(exported)
    torch.manual_seed(1)
    model = type(checkpoint.model)(checkpoint.model.network, torch.full((1, 1, 1), 70.0), torch.full((1, 1, 1), 90.0)).eval()
    other = Checkpoint(model, checkpoint.config, checkpoint.data, {})
    with pytest.raises(VerificationError, match="logits differ"):
        verify(tmp_path / "model.onnx", other, official_test, "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to run on")
def test_a_provider_that_cannot_be_had_is_no_silent_cpu(
    exported: bytes, checkpoint: Checkpoint, official_test: Split, tmp_path: Path
) -> None:
    (tmp_path / "model.onnx").write_bytes(exported)
    with pytest.raises(InputError, match="provider='cuda'"):
        verify(tmp_path / "model.onnx", checkpoint, official_test, "cuda")


def test_not_a_model(checkpoint: Checkpoint, official_test: Split, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"junk")
    with pytest.raises(InputError, match="cannot be loaded"):
        verify(tmp_path / "model.onnx", checkpoint, official_test, "cpu")


LABELS = np.array([0, 1])


def test_a_label_may_differ_only_where_the_margin_is_narrow() -> None:
    reference = np.array([[1.0, 1.00001], [0.0, 5.0]], np.float32)
    near = reference + np.array([[2e-5, 0], [0, 0]], np.float32)
    assert compare(reference, near, LABELS, "cpu").labels_differing == 1
    with pytest.raises(VerificationError, match="differ by up to"):
        compare(reference, reference + np.float32(2e-4), LABELS, "cpu")


def test_tolerance_grows_with_the_logits() -> None:
    reference = np.array([[1000.0, 0.0]], np.float32)
    assert compare(reference, reference + np.float32(5e-3), LABELS[:1], "cpu").tolerance == pytest.approx(0.0101)
