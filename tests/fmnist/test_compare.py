import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from fmnist.checkpoint import data_info, save_checkpoint
from fmnist.compare import compare_pairs, holm, mcnemar
from fmnist.config import TrainConfig
from fmnist.models import build_model


def test_mcnemar_by_hand() -> None:
    """9 images that only the first has right, 1 that only the second has: two-sided p = 2 · (1 + 10) / 2¹⁰."""
    first = torch.tensor([True] * 9 + [False] + [True] * 50 + [False] * 7)
    second = torch.tensor([False] * 9 + [True] + [True] * 50 + [False] * 7)
    b, c, p = mcnemar(first, second)
    assert (b, c) == (9, 1)
    assert p == pytest.approx(22 / 1024)
    assert mcnemar(second, first) == (1, 9, pytest.approx(22 / 1024))


def test_models_that_never_differ_do_not_differ() -> None:
    right = torch.tensor([True, False])
    assert mcnemar(right, right) == (0, 0, 1.0)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([0.02]) == [0.02]


def test_correction_takes_away_a_chance_find() -> None:
    """p = .021 counts alone, and no longer among three pairs."""
    first = torch.tensor([True] * 9 + [False] + [True] * 4)
    second = torch.tensor([False] * 9 + [True] + [True] * 4)
    assert compare_pairs(["a", "b"], [first, second])[0]["significant"]
    pairs = compare_pairs(["a", "b", "c"], [first, second, second])
    assert [(pair["first"], pair["second"]) for pair in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert not any(pair["significant"] for pair in pairs)


def test_command(call: Callable[..., Any], trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long, short = "long-" * 8 + "1", "short-" * 8 + "2"  # so long that 80 columns do not hold the table on lines of their own
    for number, name in enumerate((long, short)):
        trained[number].save(tmp_path / "runs" / name)
    monkeypatch.setenv("COLUMNS", "80")
    ended = call("fmnist.compare", long, short)
    assert ended.code == 0
    found = json.loads((tmp_path / "runs" / f"{long}+{short}" / "comparison-test.json").read_text())
    rows = {row["run"]: row for row in found["runs"]}
    assert rows[long]["parameters"] == 44426
    assert rows[long]["validation_accuracy"] == trained[0].epochs[-1]["validation_accuracy"]
    (pair,) = found["pairs"]
    difference = (rows[long]["accuracy"] - rows[short]["accuracy"]) * found["images"]
    assert pair["b"] - pair["c"] == pytest.approx(difference)
    assert pair["significant"]
    assert pair["p_holm"] == pair["p"]
    assert "first better" in ended.output
    assert "…" not in ended.output
    for row in rows.values():
        assert f"{100 * row['accuracy']:.2f} " in ended.output
        assert f" {row['loss']:.4f} " in ended.output
    for name in ("curves", "compare"):
        with Image.open(tmp_path / "runs" / f"{long}+{short}" / f"figures/{name}.png") as image:
            assert 500 < image.width < 2000


def test_bad_input(call: Callable[..., Any], trained: Any, tmp_path: Path) -> None:
    run = trained[0].save(tmp_path / "runs/first")
    data = json.loads((run / "best/config.json").read_text())["data"]
    other = data_info(data | {"sha256": {"train-images-idx3-ubyte": "0"}, "name": "elsewhere"})
    config = TrainConfig(model="lenet")
    save_checkpoint(tmp_path / "runs/other/best", build_model(config, other.problem), config, other, {})
    save_checkpoint(tmp_path / "runs/all/best", build_model(config, other.problem), config.replace(validation_images=0), other, {})
    for words, said in (
        ((), "two or more"),
        (("first",), "two or more"),
        (("first", "nowhere"), "no such folder"),
        (("first", "other"), "different data"),
        (("other", "all", "--split", "validation"), "--split test"),
    ):
        ended = call("fmnist.compare", *words)
        assert ended.code == 2
        assert said in ended.output
        assert ended.output.count("\n") == 1
