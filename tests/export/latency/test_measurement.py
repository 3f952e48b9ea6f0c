"""Rows of what was measured, and the fastest session options."""

from collections.abc import Callable
from pathlib import Path

from export.latency.backends import Backend
from export.latency.measurement import (
    SWITCHED_OFF,
    Row,
    Workload,
    fastest_choice,
    offline,
    summarise,
    summary_entries,
)
from export.timing import Timed
from fmnist.training.checkpoint import Checkpoint


def backend(name: str = "x") -> Backend:
    return Backend(name, "float32", lambda threads: lambda pixels: None)


def test_no_p99_of_few_calls() -> None:
    few = summarise(backend(), "cpu", 1, 4, Timed(0.1, [0.001] * 999, 0.0))
    assert few.p99_us is None

    row = summarise(backend(), "cpu", 1, 4, Timed(0.1, [0.001] * 1000, 0.0))
    assert (row.p50_us, row.p99_us) == (1000.0, 1000.0)
    assert (row.images_per_s, row.warmup_ms, row.noisy) == (4000.0, 100.0, False)
    assert summarise(backend(), "cpu", 1, 4, Timed(0.1, [0.001] * 1000, 0.5)).noisy


def test_offline_takes_the_best_batch_with_all_threads() -> None:
    measured = [(1, 256, 0.001), (2, 32, 0.01), (2, 256, 0.02), (2, 1024, 0.5)]
    rows = [
        summarise(backend(), "cpu", threads, batch, Timed(0.0, [seconds] * 20, 0.0))
        for threads, batch, seconds in measured
    ]
    (best,) = offline(rows, 2)
    assert (best.mode, best.batch, best.images_per_s) == ("offline", 256, 12800.0)


def test_the_summary_has_one_image_with_the_fewest_threads() -> None:
    workload = Workload(
        provider="cpu",
        modes=("single-stream",),
        batches=(1, 8),
        threads=(1, 2),
        image=(28, 28),
        min_seconds=0.0,
        server_p99_ms=10.0,
    )

    def row(name: str, threads: int, batch: int, seconds: float) -> Row:
        return summarise(backend(name), "cpu", threads, batch, Timed(0.0, [seconds] * 20, 0.0))

    rows = [row("onnxruntime", 1, 1, 85e-6), row("onnxruntime", 2, 1, 1.0)]
    entries = summary_entries([*rows, row("onnxruntime", 1, 8, 1.0)], workload)
    assert entries == {"latency_p50_us": {"onnxruntime": 85.0}, "latency_setting": "1 thread"}

    entries = summary_entries([*rows, row("pytorch", 1, 1, 210e-6)], workload)
    assert entries["panel"] == {
        "latency p50": "ONNX Runtime 85 µs, PyTorch 210 µs: 2.5× (batch 1, 1 thread)"
    }
    assert summary_entries(rows[1:], workload) == {}


def test_the_fastest_session_options(
    checkpoint: Checkpoint, make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    choice, tried_us = fastest_choice(make_bundle(tmp_path, checkpoint), (28, 28), 1)
    assert list(tried_us) == ["default", *SWITCHED_OFF.values()]
    for field, name in SWITCHED_OFF.items():
        ratio = tried_us["default"] / tried_us[name]
        # What was tried is rounded, so a ratio at the bound itself proves nothing.
        stays_on = getattr(choice, field)
        assert stays_on == (ratio < 1.03) or abs(ratio - 1.03) < 0.01
