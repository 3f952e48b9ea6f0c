import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from fmnist.config import TrainConfig
from fmnist.errors import InputError
from fmnist.run import read_json
from fmnist.summary import closing_panel, peak_memory, record, stage


def test_stages_add_up(tmp_path: Path) -> None:
    record(tmp_path, "search", 10.123, 900.4, {"validation_accuracy": 0.9})
    record(tmp_path, "retrain", 20.0, 700.0, {"test_accuracy": 0.91})
    assert read_json(tmp_path / "summary.json") == {
        "version": 1,
        "validation_accuracy": 0.9,
        "test_accuracy": 0.91,
        "seconds": {"search": 10.12, "retrain": 20.0},
        "peak_memory_mb": 900,
    }


def test_a_stage_that_fails_records_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), stage(tmp_path, "search") as found:
        found["validation_accuracy"] = 1.0
        raise RuntimeError
    assert not (tmp_path / "summary.json").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be read"),
        ("[]", "does not hold an object"),
        ("{}", "has version None, this is fmnist's 1"),
        ('{"version": 7}', "has version 7"),
        ('{"version": 1, "seconds": 3}', "seconds=3 is no dict"),
    ],
)
def test_a_summary_that_is_damaged_or_another_versions_is_told_before_the_work(content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(content)
    with pytest.raises(InputError, match=words), stage(tmp_path, "export"):
        pytest.fail("the work began")
    assert (tmp_path / "summary.json").read_text() == content


def test_memory_counts_children() -> None:
    with peak_memory() as alone:
        pass
    script = "x = b'x' * 300_000_000; print('taken', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "taken\n"
        with peak_memory() as both:
            pass
        child.kill()
    assert 250 < max(both) - max(alone) < 400


def test_panel_shows_what_there_is(tmp_path: Path) -> None:
    record(tmp_path, "search", 60.0, 900.0, {"config": TrainConfig().to_dict(), "validation_accuracy": 0.9012})
    found = {
        "test_accuracy": 0.8999,
        "test_images": 10000,
        "parity_max_abs_diff": 2e-6,
        "parity_tolerance": 1e-4,
        "onnx_test_accuracy": 0.8999,
        "latency_p50_us": {"pytorch": 200.0, "onnxruntime": 25.0},
        "latency_setting": "1 CPU thread",
    }
    for summary, shown in ((read_json(tmp_path / "summary.json"), ["90.12%"]), (found, ["89.99%", "8.0×", "2.0e-06"])):
        console = Console(width=150, record=True, file=(tmp_path / "out").open("w"))
        console.print(closing_panel(tmp_path, {"seconds": {}, "peak_memory_mb": 1} | summary))
        text = console.export_text()
        assert all(word in text for word in shown)
