"""Timing: turns, percentiles, load, noise; and the whole command."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export import timing
from export.backends import Backend
from export.benchmark import Shipped, fastest_choice, offline, pareto_front, shipped, summarise
from export.timing import Timed, highest_rate, latencies_under_load, measure, own_cost, percentile
from fmnist.checkpoint import Checkpoint, save_checkpoint
from fmnist.run import read_json
from tests.conftest import Outcome

PIXELS = np.zeros((1, 28, 28), np.uint8)
X = Backend("x", "float32", lambda threads: lambda pixels: None)


def test_backends_take_turns() -> None:
    calls: list[str] = []
    backends = {name: (lambda _, name=name: calls.append(name)) for name in ("a", "b")}
    found = measure(backends, PIXELS, min_seconds=0.0)
    assert calls[:2] == ["a", "b"]
    assert all(len(timed.times) >= 20 for timed in found.values())


def test_no_p99_of_few_calls() -> None:
    assert summarise(X, "cpu", 1, 4, Timed(0.1, [0.001] * 999, 0.0)).p99_us is None
    row = summarise(X, "cpu", 1, 4, Timed(0.1, [0.001] * 1000, 0.0))
    assert (row.p50_us, row.p99_us, row.images_per_s, row.warmup_ms, row.noisy) == (1000.0, 1000.0, 4000.0, 100.0, False)
    assert summarise(X, "cpu", 1, 4, Timed(0.1, [0.001] * 1000, 0.5)).noisy


def test_percentiles_are_times_that_were_measured() -> None:
    times = [float(number) for number in range(1, 11)]
    assert [percentile(times, rank) for rank in (50, 90, 99)] == [5.0, 9.0, 10.0]


def test_a_noisy_measurement_is_made_again_and_the_quietest_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = iter([[[1.0], [9.0], [1.0], [9.0]], [[2.0], [2.0], [2.1]], [[5.0]]])
    monkeypatch.setattr(timing, "_take_turns", lambda *_: {"x": next(turns)})
    found = measure({"x": lambda _: None}, PIXELS, 0.0)["x"]
    assert found.times == [2.0, 2.0, 2.1]
    assert next(turns) == [[5.0]]  # quiet the second time: there was no third


class Clock:
    """A scripted clock: looking at it takes a microsecond, and work as long as it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        self.now += 1e-6
        return self.now

    def millisecond(self, pixels: np.ndarray) -> None:
        self.now += 0.001


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A load is tried for a tenth of the time."""
    monkeypatch.setattr(timing, "SERVER_CALLS", 100)
    monkeypatch.setattr(timing, "SERVER_S", 0.1)


@pytest.mark.usefixtures("hasty")
def test_load_queues_up_and_the_highest_rate_is_below_capacity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "time", clock := Clock())
    slow = clock.millisecond
    light, heavy = (percentile(latencies_under_load(slow, PIXELS, rate), 90) for rate in (50.0, 900.0))
    assert 0.001 <= light < 0.0015 < 0.002 < heavy
    overloaded = latencies_under_load(slow, PIXELS, 5000.0)
    assert overloaded[-1] > 10 * overloaded[0]  # it falls behind
    assert overloaded[0] == pytest.approx(0.001, abs=1e-5)
    assert 500 < highest_rate(slow, PIXELS, 0.01) < 1000
    assert highest_rate(slow, PIXELS, 0.0005) == 0.0


def test_the_cost_of_timing_is_one_look_at_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "time", Clock())
    assert own_cost() == pytest.approx(1e-6)


def test_offline_takes_the_best_batch_with_all_threads() -> None:
    rows = [summarise(X, "cpu", threads, batch, Timed(0.0, [seconds] * 20, 0.0)) for threads, batch, seconds in
            ((1, 256, 0.001), (2, 32, 0.01), (2, 256, 0.02), (2, 1024, 0.5))]  # fmt: skip
    (best,) = offline(rows, 2)
    assert (best.mode, best.batch, best.images_per_s) == ("offline", 256, 12800.0)


def test_the_fastest_session_options(checkpoint: Checkpoint, make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    choice, tried = fastest_choice(make_bundle(tmp_path, checkpoint), (28, 28), 1)
    assert set(tried) == {"default", "no spinning", "no arena", "no memory pattern", "no layout"}
    slower = {"arena": "no arena", "pattern": "no memory pattern", "layout": "no layout", "spinning": "no spinning"}
    for field, name in slower.items():
        assert (
            getattr(choice, field) == (tried["default"] / tried[name] < 1.03) or abs(tried["default"] / tried[name] - 1.03) < 0.01
        )


@pytest.mark.usefixtures("hasty")
def test_the_command(
    checkpoint: Checkpoint,
    make_bundle: Callable[..., Path],
    tmp_path: Path,
    call: Callable[..., Outcome],
    data_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("a", "b"):
        run = tmp_path / "runs" / name
        save_checkpoint(run / "best", checkpoint.model, checkpoint.config, checkpoint.data, {})
        shutil.copy(run / "best/config.json", run / "config.json")
        make_bundle(run / "export", checkpoint)
    few = ("--batches", 1, 8, "--threads", 1, "--min-seconds", 0.1, "--no-compiled")
    done = call("export.benchmark", "a", *few)
    assert done.code == 0, done.output
    assert "onnxruntime" in done.output
    assert "…" not in done.output  # 80 columns hold it all
    found = read_json(tmp_path / "runs/a/export/benchmark.json")
    modes = {(row["mode"], row["backend"], row["batch"]) for row in found["rows"]}
    assert {("single-stream", b, n) for b in ("pytorch", "onnxruntime") for n in (1, 8)} <= modes
    assert ("server", "onnxruntime", 1) in modes
    assert {batch for mode, _, batch in modes if mode == "offline"} <= {1, 8, 256, 1024}
    for row in found["rows"]:
        assert 0 < row["p50_us"] <= row["p90_us"]
        assert (row["p99_us"] is None) == (row["calls"] < 1000)
    manifest = read_json(tmp_path / "runs/a/export/manifest.json")
    assert manifest["benchmark"] == found
    assert manifest["session"] == found["session"]
    assert "onnxruntime on cpu" in (tmp_path / "runs/a/export/MODEL_CARD.md").read_text()
    assert Image.open(tmp_path / "runs/a/figures/latency.png").size[0] > 300
    summary = json.loads((tmp_path / "runs/a/summary.json").read_text())
    assert set(summary["latency_p50_us"]) == {"pytorch", "onnxruntime", "openvino"}
    for name in ("a", "b"):
        assert call("export.verify", name, "--data", data_folder).code == 0

    missing = call("export.benchmark", "--compare", "a", "b")
    assert (missing.code, "compare='b': not measured yet" in missing.output) == (2, True)
    call("export.benchmark", "b", *few, "--modes", "single-stream")
    both = call("export.benchmark", "--compare", "a", "b")
    assert both.code == 0
    assert "onnxruntime, p50 µs" in both.output
    assert "test accuracy" in both.output
    assert "accuracy against latency: runs/pareto.png" in both.output
    assert Image.open(tmp_path / "runs/pareto.png").size[0] > 300
    points = [point for name in ("a", "b") for point in shipped(tmp_path / "runs" / name / "export")]
    assert [(point.name, point.precision) for point in points] == [("a", "float32"), ("b", "float32")]
    for point in points:
        manifest = read_json(tmp_path / "runs" / point.name / "export/manifest.json")
        assert point.accuracy == manifest["verified"]["onnx_accuracy"]
        assert point.latency_us == manifest["benchmark"]["rows"][1]["p50_us"]


def test_the_front_is_what_no_other_beats_in_both() -> None:
    known = {"slow": (9.0, 0.9), "quick": (1.0, 0.7), "beaten": (5.0, 0.7), "twin": (3.0, 0.8), "best": (3.0, 0.85)}
    points = [Shipped(name, "float32", *values) for name, values in known.items()]
    assert [point.name for point in pareto_front(points)] == ["quick", "best", "slow"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("--batches", 0), "batches=(0,)"), (("--server-p99-ms", 0), "server_p99_ms=0"), (("--compare", "a"), "two runs or more")],
)
def test_bad_input(call: Callable[..., Outcome], arguments: tuple[object, ...], words: str) -> None:
    done = call("export.benchmark", *arguments)
    assert (done.code, words in done.output) == (2, True), done.output
