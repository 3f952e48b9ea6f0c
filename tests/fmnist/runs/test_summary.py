"""A run's summary.json: what the stages add to it."""

import subprocess
import sys
from pathlib import Path

import pytest

from fmnist.errors import InputError
from fmnist.runs.files import read_json
from fmnist.runs.summary import peak_memory, read_summary, record, stage


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


def test_titles_of_stages_are_merged_in_order(tmp_path: Path) -> None:
    parity = {"panel": {"parity": "close"}, "files": {"model": "export/model.onnx"}}
    record(tmp_path, "verify", 1.0, 1.0, parity)
    record(tmp_path, "benchmark", 1.0, 1.0, {"panel": {"latency p50": "25 µs"}})
    record(tmp_path, "verify", 1.0, 1.0, {"panel": {"parity": "closer"}})
    summary = read_summary(tmp_path)
    assert list(summary["panel"].items()) == [("parity", "closer"), ("latency p50", "25 µs")]
    assert summary["files"] == {"model": "export/model.onnx"}


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
        ('{"version": 1, "panel": []}', r"panel=\[\] is no dict"),
        ('{"version": 1, "files": {"model": 3}}', r"files\['model'\]=3 is no str"),
    ],
)
def test_a_summary_that_is_damaged_or_another_versions_is_refused_before_the_work(
    content: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / "summary.json").write_text(content)
    with pytest.raises(InputError, match=words), stage(tmp_path, "export"):
        pytest.fail("the work began")
    assert (tmp_path / "summary.json").read_text() == content


def test_memory_counts_children() -> None:
    with peak_memory() as alone:
        pass
    script = "x = b'x' * 300_000_000; print('taken', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "taken\n"
        with peak_memory() as both:
            pass
        child.kill()
    assert 250 < max(both) - max(alone) < 400
