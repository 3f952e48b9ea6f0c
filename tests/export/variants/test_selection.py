"""A variant is published only where it is faster."""

import onnx
import pytest

from export.variants import selection
from export.variants.gate import GATES, Gate
from export.variants.selection import speedups, try_variant
from fmnist.data.dataset import Split
from fmnist.data.images import Images


def test_what_is_not_faster_is_not_published(
    model: onnx.ModelProto, calibration: Images, judge: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = judge.first(300)
    monkeypatch.setitem(GATES, "fp16", Gate(0.9, 0.1))
    monkeypatch.setattr(selection, "TIMED_S", 0.02)
    for faster, published in ((1e9, False), (1e-9, True)):
        monkeypatch.setattr(selection, "FASTER", faster)
        variant = try_variant("fp16", model, calibration, few, "cpu")
        assert (variant.model is not None) == published == (not variant.why)
        assert set(variant.speedup) == {"1", "256"}
        assert variant.to_dict()["published"] == published
        assert variant.outcome().startswith("published, " if published else "not published: ")


def test_batches_that_take_too_long_are_not_timed(
    model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(speedups(model, model, "cpu", (28, 28))) == {"1", "256"}
    monkeypatch.setattr(selection, "LONGEST_S", 1e-9)
    assert set(speedups(model, model, "cpu", (28, 28))) == {"1"}
