"""`python -m fmnist.summary`: the panel that closes a run."""

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from fmnist.config import TrainConfig
from fmnist.runs.files import write_json
from fmnist.runs.summary import read_summary, record
from fmnist.summary import closing_panel
from tests.conftest import Outcome


def shown(run: Path, width: int = 150) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(closing_panel(run, read_summary(run)))
    return console.export_text()


def titles(text: str) -> list[str]:
    """The titles of the panel's lines, in order."""
    return re.findall(r"^│ (\S.*?)  ", text, flags=re.MULTILINE)


def searched(run: Path) -> Path:
    found: dict[str, Any] = {
        "config": TrainConfig().to_dict(),
        "validation_accuracy": 0.9012,
        "trial_images": 5000,
        "files": {"trials": "search/trials.jsonl"},
    }
    record(run, "search", 60.0, 900.0, found)
    return run


def test_what_is_not_done_yet_is_left_out(tmp_path: Path) -> None:
    text = shown(searched(tmp_path))
    assert "90.12% (of the trial, on 5,000 images)" in text
    assert titles(text) == ["best config", "validation", "time", "peak memory"]


def test_stages_add_lines_and_files(tmp_path: Path) -> None:
    searched(tmp_path)
    found: dict[str, Any] = {
        "test_accuracy": 0.8999,
        "test_images": 10000,
        "panel": {"parity": "ONNX logits within 2.0e-06 [1]"},
        "files": {"model": "export/model.onnx"},
    }
    record(tmp_path, "verify", 30.0, 300.0, found)
    for name in ("export/model.onnx", "best/model.safetensors", "search/trials.jsonl"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()

    text = shown(tmp_path)
    own = ["best config", "validation", "test", "parity", "time", "peak memory", "weights"]
    assert titles(text) == [*own, "trials", "model"]
    assert "89.99% of 10,000 images, read once" in text
    assert "ONNX logits within 2.0e-06 [1]" in text
    assert "1.5 min: search 60 s, verify 30 s" in text
    assert str(tmp_path / "export/model.onnx") in text.replace("│\n│", "")


def test_the_panel_is_whole_at_80_columns(tmp_path: Path) -> None:
    record(searched(tmp_path), "verify", 1.0, 1.0, {"panel": {"parity": "word " * 40}})
    text = shown(tmp_path, width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("word") == 40


def test_the_newest_run_with_a_summary_is_shown(
    call: Callable[..., Outcome], tmp_path: Path
) -> None:
    for name in ("first", "second"):
        write_json(tmp_path / "runs" / name / "config.json", {})
    searched(tmp_path / "runs/first")

    outcome = call("fmnist.summary")
    assert outcome.code == 0
    assert "runs/first: the newest run with a summary" in outcome.output
    assert "90.12%" in outcome.output

    missing = call("fmnist.summary", "second")
    assert missing.code == 2
    assert missing.output.startswith("error: run='runs/second': it has no summary.json")
