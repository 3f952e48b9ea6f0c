"""The command benchmark, as a whole."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from export import timing
from export.latency.charts import shipped
from fmnist.runs.files import read_json
from fmnist.training.checkpoint import Checkpoint
from tests.conftest import Outcome
from tests.export.conftest import save_run

FEW = ("--batches", 1, 8, "--threads", 1, "--min-seconds", 0.1, "--no-compiled")


@pytest.fixture
def runs(
    checkpoint: Checkpoint,
    make_bundle: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """The folder of two runs, a and b, each with a bundle; a load is tried for a short time."""
    monkeypatch.setattr(timing, "SERVER_CALLS", 100)
    monkeypatch.setattr(timing, "SERVER_S", 0.1)
    folder = tmp_path / "runs"
    for name in ("a", "b"):
        save_run(folder / name, checkpoint)
        make_bundle(folder / name / "export", checkpoint)
    return folder


def test_it_measures_every_backend_in_every_mode(
    runs: Path, call: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = call("export.benchmark", "a", *FEW)
    assert done.code == 0, done.output
    assert "onnxruntime" in done.output
    # 80 columns hold it all.
    assert "…" not in done.output

    results = read_json(runs / "a/export/benchmark.json")
    measured = {(row["mode"], row["backend"], row["batch"]) for row in results["rows"]}
    for backend in ("pytorch", "onnxruntime"):
        assert {("single-stream", backend, batch) for batch in (1, 8)} <= measured
    assert ("server", "onnxruntime", 1) in measured
    assert {batch for mode, _, batch in measured if mode == "offline"} <= {1, 8, 256, 1024}
    for row in results["rows"]:
        assert 0 < row["p50_us"] <= row["p90_us"]
        assert (row["p99_us"] is None) == (row["calls"] < 1000)

    manifest = read_json(runs / "a/export/manifest.json")
    assert manifest["benchmark"] == results
    assert manifest["session"] == results["session"]
    assert "onnxruntime on cpu" in (runs / "a/export/MODEL_CARD.md").read_text()
    assert Image.open(runs / "a/figures/latency.png").size[0] > 300
    summary = json.loads((runs / "a/summary.json").read_text())
    assert set(summary["latency_p50_us"]) == {"pytorch", "onnxruntime", "openvino"}
    assert summary["panel"]["latency p50"].endswith("× (batch 1, 1 thread)")


def test_it_compares_runs(runs: Path, call: Callable[..., Outcome], data_folder: Path) -> None:
    for name in ("a", "b"):
        assert call("export.verify", name, "--data", data_folder).code == 0
    assert call("export.benchmark", "a", *FEW, "--modes", "single-stream").code == 0
    missing = call("export.benchmark", "--compare", "a", "b")
    assert (missing.code, "compare='b': not measured yet" in missing.output) == (2, True)

    assert call("export.benchmark", "b", *FEW, "--modes", "single-stream").code == 0
    both = call("export.benchmark", "--compare", "a", "b")
    assert both.code == 0
    assert "onnxruntime, p50 µs" in both.output
    assert "test accuracy" in both.output
    assert "accuracy against latency: runs/pareto.png" in both.output
    assert Image.open(runs / "pareto.png").size[0] > 300

    for name in ("a", "b"):
        (point,) = shipped(runs / name / "export")
        assert (point.name, point.precision) == (name, "float32")
        manifest = read_json(runs / name / "export/manifest.json")
        assert point.accuracy == manifest["verified"]["onnx_accuracy"]
        assert point.latency_us == manifest["benchmark"]["rows"][1]["p50_us"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--batches", 0), "batches=(0,)"),
        (("--server-p99-ms", 0), "server_p99_ms=0"),
        (("--compare", "a"), "two runs or more"),
    ],
)
def test_bad_input(call: Callable[..., Outcome], arguments: tuple[object, ...], words: str) -> None:
    done = call("export.benchmark", *arguments)
    assert (done.code, words in done.output) == (2, True), done.output
