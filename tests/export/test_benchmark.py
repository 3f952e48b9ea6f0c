import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from export.benchmark import benchmark, measure, summarise
from export.bundle import write_bundle
from export.to_onnx import to_onnx
from fmnist.checkpoint import Checkpoint


def test_both_backends_are_measured_side_by_side(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = write_bundle(tmp_path, to_onnx(checkpoint), checkpoint)
    rows = benchmark(path, checkpoint, "cpu", (1, 8), (1,), min_seconds=0.2)
    assert [(row.backend, row.batch) for row in rows] == [(b, n) for n in (1, 8) for b in ("pytorch", "onnxruntime")]
    for row in rows:
        assert row.calls >= 20
        assert 0 < row.p50_us <= row.p90_us
        assert (row.p99_us is None) == (row.calls < 1000)
        assert row.images_per_s == pytest.approx(row.batch * 1e6 / row.p50_us, rel=0.8)
        json.dumps(asdict(row))


def test_backends_take_turns() -> None:
    calls: list[str] = []
    backends = {name: (lambda _, name=name: calls.append(name)) for name in ("a", "b")}
    times = measure(backends, np.zeros((1, 28, 28), np.uint8), min_seconds=0.0)
    assert calls[:2] == ["a", "b"]
    assert all(len(seconds) >= 20 for _, seconds in times.values())


def test_no_p99_of_few_calls() -> None:
    assert summarise("x", "cpu", 1, 4, 0.1, [0.001] * 999).p99_us is None
    row = summarise("x", "cpu", 1, 4, 0.1, [0.001] * 1000)
    assert (row.p50_us, row.p99_us, row.images_per_s, row.warmup_ms) == (1000.0, 1000.0, 4000.0, 100.0)
