"""Int8 is near float32, and layers stay in float32 until the gate passes it."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from export.variants.gate import GATES, Gate, difference
from export.variants.int8 import QUANTISED, Int8, build_int8, exclusion_counts, graph_logits
from export.variants.selection import try_variant
from fmnist.data.dataset import Split
from fmnist.data.images import Images


def properties(model: onnx.ModelProto) -> dict[str, str]:
    return {prop.key: prop.value for prop in model.metadata_props}


def test_int8_is_near_float32_the_same_each_time_and_says_the_same_of_itself(
    model: onnx.ModelProto, calibration: Images, judge: Split, tmp_path: Path
) -> None:
    int8 = Int8(model, calibration, tmp_path)
    made = int8.make()
    again = int8.make()
    assert made.SerializeToString(deterministic=True) == again.SerializeToString(deterministic=True)
    assert len(int8.layers) == sum(node.op_type in QUANTISED for node in model.graph.node)
    quantised = sum(node.op_type == "QuantizeLinear" for node in made.graph.node)
    assert quantised >= len(int8.layers)
    assert properties(made) == properties(model)

    images, labels = judge.images, judge.labels.numpy()
    reference = graph_logits(model, images)
    logits = graph_logits(made, images)
    agreement, loss = difference(reference, logits, labels)
    assert agreement > 0.97
    assert abs(loss) < 0.01
    assert np.abs(logits - reference).max() > 1e-3, "nothing was quantised"


def test_layers_go_back_to_float32_until_the_gate_is_passed(
    model: onnx.ModelProto, calibration: Images, judge: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = judge.images, judge.labels.numpy()
    reference = graph_logits(model, images)
    monkeypatch.setitem(GATES, "int8", Gate(0.5, 0.5))
    _, excluded, at_first, _ = build_int8(model, calibration, images, labels, reference)
    assert not excluded

    # Its agreement is the gate's, but the lower end of its interval does not pass.
    monkeypatch.setitem(GATES, "int8", Gate(at_first, 0.1))
    made, excluded, agreement, _ = build_int8(model, calibration, images, labels, reference)
    assert excluded
    if made:
        assert agreement > at_first

    # Nothing passes.
    monkeypatch.setitem(GATES, "int8", Gate(1.1, 0.1))
    variant = try_variant("int8", model, calibration, judge, "cpu")
    assert variant.model is None
    assert variant.why.startswith("it agrees with float32 on")


@pytest.mark.parametrize(
    ("layers", "counts"), [(0, [0]), (1, [0]), (2, [0, 1]), (4, [0, 1, 2]), (5, [0, 1, 2, 4])]
)
def test_the_layers_in_float32_double_and_are_never_all(layers: int, counts: list[int]) -> None:
    assert exclusion_counts(layers) == counts
