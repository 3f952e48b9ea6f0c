import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fmnist.config import TrainConfig
from fmnist.data.info import DataInfo
from fmnist.models import build_model
from fmnist.training.checkpoint import save_checkpoint


def test_command(
    call: Callable[..., Any], trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So long that 80 columns do not hold the names unfolded.
    long = "long-" * 8 + "1"
    short = "short-" * 8 + "2"
    trained[0].save(tmp_path / "runs" / long)
    trained[1].save(tmp_path / "runs" / short)
    monkeypatch.setenv("COLUMNS", "80")
    ended = call("fmnist.compare", long, short)
    assert ended.code == 0

    folder = tmp_path / "runs" / f"{long}+{short}"
    comparison = json.loads((folder / "comparison-test.json").read_text())
    rows = {row["run"]: row for row in comparison["runs"]}
    assert rows[long]["parameters"] == 44426
    assert rows[long]["validation_accuracy"] == trained[0].epochs[-1]["validation_accuracy"]

    (pair,) = comparison["pairs"]
    difference = (rows[long]["accuracy"] - rows[short]["accuracy"]) * comparison["images"]
    assert pair["b"] - pair["c"] == pytest.approx(difference)
    assert pair["significant"]
    assert pair["p_holm"] == pair["p"]

    assert "first better" in ended.output
    assert "…" not in ended.output
    for row in rows.values():
        assert f"{100 * row['accuracy']:.2f} " in ended.output
        assert f" {row['loss']:.4f} " in ended.output
    for name in ("curves", "compare"):
        with Image.open(folder / f"figures/{name}.png") as image:
            assert 500 < image.width < 2000


def test_bad_input(call: Callable[..., Any], trained: Any, tmp_path: Path) -> None:
    run = trained[0].save(tmp_path / "runs/first")
    saved = json.loads((run / "best/config.json").read_text())["data"]
    saved |= {"sha256": {"train-images-idx3-ubyte": "0"}, "name": "elsewhere"}
    other = DataInfo.from_dict(saved)
    config = TrainConfig(model="lenet")
    model = build_model(config, other.problem)
    save_checkpoint(tmp_path / "runs/other/best", model, config, other, {})
    trained_on_all = config.replace(validation_images=0)
    save_checkpoint(tmp_path / "runs/all/best", model, trained_on_all, other, {})

    for words, message in (
        ((), "two or more"),
        (("first",), "two or more"),
        (("first", "nowhere"), "no such folder"),
        (("first", "other"), "different data"),
        (("other", "all", "--split", "validation"), "--split test"),
    ):
        ended = call("fmnist.compare", *words)
        assert ended.code == 2
        assert message in ended.output
        assert ended.output.count("\n") == 1
