"""Variants: near float32's answers or not published, and judged by images that nothing was fitted to."""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest

from export import quantize
from export.graph import to_onnx
from export.quantize import (
    GATES,
    Gate,
    Int8,
    answers,
    build_int8,
    calibration_indices,
    difference,
    fp16,
    speedups,
    surely_fails,
    surely_passes,
    try_variant,
)
from export.session import open_session
from export.to_onnx import GOLDEN_PER_CLASS, JUDGED, PER_CLASS, samples
from fmnist.checkpoint import Checkpoint
from fmnist.data import NOT_NAMED, Split


@pytest.fixture(scope="module")
def model(lenet: Checkpoint) -> onnx.ModelProto:
    return to_onnx([lenet])


@pytest.fixture(scope="module")
def calibration(train: Split) -> np.ndarray:
    return train.images[calibration_indices(train.labels.numpy(), 8)].numpy()


@pytest.fixture(scope="module")
def judge(train: Split) -> Split:
    return Split(train.images[-1500:], train.labels[-1500:])


def logits(model: onnx.ModelProto, pixels: np.ndarray) -> np.ndarray:
    return answers(open_session(model.SerializeToString(), "cpu"), pixels)


def test_int8_is_near_float32_the_same_each_time_and_says_the_same_of_itself(
    model: onnx.ModelProto, calibration: np.ndarray, judge: Split, tmp_path: Path
) -> None:
    int8 = Int8(model, calibration, tmp_path)
    made = int8.make()
    assert made.SerializeToString(deterministic=True) == int8.make().SerializeToString(deterministic=True)
    assert len(int8.layers) == sum(node.op_type in quantize.QUANTISED for node in model.graph.node)
    assert sum(node.op_type == "QuantizeLinear" for node in made.graph.node) >= len(int8.layers)
    assert {p.key: p.value for p in made.metadata_props} == {p.key: p.value for p in model.metadata_props}
    reference = logits(model, judge.images.numpy())
    agreement, loss = difference(reference, logits(made, judge.images.numpy()), judge.labels.numpy())
    assert agreement > 0.97
    assert abs(loss) < 0.01
    assert np.abs(logits(made, judge.images.numpy()) - reference).max() > 1e-3, "nothing was quantised"


def test_layers_go_back_to_float32_until_the_gate_is_passed(
    model: onnx.ModelProto, calibration: np.ndarray, judge: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, labels = judge.images.numpy(), judge.labels.numpy()
    reference = logits(model, pixels)
    monkeypatch.setitem(GATES, "int8", Gate(0.5, 0.5))
    _, excluded, at_first, _ = build_int8(model, calibration, pixels, labels, reference)
    assert not excluded
    monkeypatch.setitem(GATES, "int8", Gate(at_first, 0.1))  # which the lower end of its interval does not pass
    made, excluded, agreement, _ = build_int8(model, calibration, pixels, labels, reference)
    assert excluded
    if made:
        assert agreement > at_first
    monkeypatch.setitem(GATES, "int8", Gate(1.1, 0.1))  # nothing passes it
    variant = try_variant("int8", model, calibration, pixels, labels, "cpu")
    assert variant.model is None
    assert variant.why.startswith("it agrees with float32 on")


def test_few_images_leave_doubt() -> None:
    gate = Gate(0.99, 0.003)
    assert surely_passes(gate, 0.996, 0.0, 10_000)
    assert not surely_passes(gate, 0.996, 0.0, 500)
    assert surely_passes(gate, 1.0, 0.0, 500)
    assert not surely_passes(gate, 0.996, 0.0025, 10_000)
    assert not surely_passes(gate, 0.985, 0.0, 10_000)


def test_what_is_not_faster_is_not_published(
    model: onnx.ModelProto, calibration: np.ndarray, judge: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = Split(judge.images[:300], judge.labels[:300])
    monkeypatch.setitem(GATES, "fp16", Gate(0.9, 0.1))
    for faster, published in ((1e9, False), (1e-9, True)):
        monkeypatch.setattr(quantize, "FASTER", faster)
        monkeypatch.setattr(quantize, "TIMED_S", 0.02)
        variant = try_variant("fp16", model, calibration, few.images.numpy(), few.labels.numpy(), "cpu")
        assert (variant.model is not None) == published == (not variant.why)
        assert set(variant.speedup) == {"1", "256"}
        assert variant.to_dict()["published"] == published


def test_fp16_takes_and_gives_what_float32_does(model: onnx.ModelProto, judge: Split) -> None:
    half = fp16(model)
    assert any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in half.graph.initializer)
    agreement, _ = difference(logits(model, judge.images.numpy()), logits(half, judge.images.numpy()), judge.labels.numpy())
    assert agreement >= 0.998


@pytest.mark.parametrize("validation_images", [5000, 0])
def test_no_image_serves_twice(validation_images: int, checkpoint: Checkpoint) -> None:
    config = checkpoint.config.replace(validation_images=validation_images)
    golden, calibration, judge = samples(dataclasses.replace(checkpoint, config=config), NOT_NAMED)
    assert len(golden) == 10 * GOLDEN_PER_CLASS
    assert np.bincount(calibration.labels).tolist() == [PER_CLASS] * 10
    pictures = [{image.tobytes() for image in split.images.numpy()} for split in (golden, calibration, judge)]
    assert not pictures[0] & pictures[1]
    assert len((pictures[0] | pictures[1]) & pictures[2]) <= 1  # the set holds a few images twice
    assert len(judge) <= JUDGED


def test_a_few_images_reject_only_what_fails_plainly() -> None:
    gate = GATES["int8"]
    assert surely_fails(gate, 0.95, 512)
    assert not surely_fails(gate, 0.985, 512)  # below the gate, but 512 images do not settle it
    assert surely_fails(gate, 0.985, 50_000)
    assert not surely_fails(gate, 1.0, 512)


def test_batches_that_take_too_long_are_not_timed(model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(speedups(model, model, "cpu", (28, 28))) == {"1", "256"}
    monkeypatch.setattr(quantize, "LONGEST_S", 1e-9)
    assert set(speedups(model, model, "cpu", (28, 28))) == {"1"}
