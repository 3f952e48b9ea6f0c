import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fmnist.config import TrainConfig
from fmnist.data.info import DataInfo
from fmnist.data.sources import Source
from fmnist.evaluation.ensemble import combine
from fmnist.evaluation.held_out import held_out_split, split_logits
from fmnist.evaluation.metrics import classification_metrics
from fmnist.models import build_model
from fmnist.runs.files import write_json
from fmnist.training.checkpoint import load_checkpoint, save_checkpoint

FIGURES = ("curves", "roc", "confusion", "classes", "mistakes", "reliability")


def test_command_leaves_json_and_figures(
    call: Callable[..., Any], trained: Any, tmp_path: Path
) -> None:
    run = trained[0].save(tmp_path / "runs/first")
    ended = call("fmnist.evaluate", "first", "--temperature")
    assert ended.code == 0
    evaluation = json.loads((run / "evaluation-test.json").read_text())

    split = held_out_split(trained[0].checkpoint, "test", Source())
    logits = split_logits(load_checkpoint(run / "best"), split)
    direct = classification_metrics(logits, split.labels)
    assert evaluation["confusion"] == direct["confusion"]
    for key in ("accuracy", "loss", "ece", "mean_confidence", "top5"):
        assert evaluation[key] == pytest.approx(direct[key])

    low, high = evaluation["accuracy_interval"]
    assert low < evaluation["accuracy"] < high
    train = evaluation["train"]
    assert train["images"] == 500
    assert train["gap"] == pytest.approx(train["accuracy"] - evaluation["accuracy"])
    assert evaluation["temperature"]["loss"] <= evaluation["loss"] + 0.01

    accuracy = f"{evaluation['accuracy']:.2%}"
    words = ("micro", "Ankle boot", "most confused", "not augmented", "temperature")
    for word in (accuracy, *words):
        assert word in ended.output

    drawn = {file.name for file in (run / "figures").iterdir()}
    assert drawn == {f"{name}.png" for name in FIGURES}
    for name in FIGURES:
        with Image.open(run / "figures" / f"{name}.png") as image:
            assert 500 < image.width < 2000
            assert 400 < image.height < 2000


def test_ensemble_from_the_command_line(
    call: Callable[..., Any], trained: Any, tmp_path: Path
) -> None:
    trained[0].save(tmp_path / "runs/a")
    trained[1].save(tmp_path / "runs/b")
    ended = call("fmnist.evaluate", "a", "b", "--combine", "vote", "--split", "validation")
    assert ended.code == 0

    evaluation = json.loads((tmp_path / "runs/a+b/evaluation-validation.json").read_text())
    split = held_out_split(trained[0].checkpoint, "validation", Source())
    logits = [split_logits(one.checkpoint, split) for one in trained]
    right = combine(logits, "vote").argmax(1) == split.labels
    assert evaluation["accuracy"] == right.double().mean().item()
    assert not (tmp_path / "runs/a/figures").exists()

    assert call("fmnist.evaluate", "a", "b", "--out", "elsewhere").code == 0
    assert (tmp_path / "elsewhere/figures/roc.png").exists()


def assert_one_line(ended: Any, *words: str) -> None:
    """It was refused in one line that has these words."""
    assert ended.code == 2
    assert ended.output.count("\n") == 1
    for word in words:
        assert word in ended.output


def test_members_that_do_not_fit_together(
    call: Callable[..., Any], trained: Any, tmp_path: Path
) -> None:
    run = trained[0].save(tmp_path / "runs/first")
    saved = json.loads((run / "best/config.json").read_text())["data"]
    letters = DataInfo.from_dict(saved | {"classes": list("ABC"), "sha256": {}})
    config = TrainConfig(model="lenet", validation_images=300)
    model = build_model(config, letters.problem)
    save_checkpoint(tmp_path / "runs/letters/best", model, config, letters, {})
    ended = call("fmnist.evaluate", "first", "letters")
    assert_one_line(ended, "first", "letters", "different classes", "10 and 3")

    first = trained[0].checkpoint
    config = first.config.replace(validation_images=400)
    save_checkpoint(tmp_path / "runs/more/best", first.model, config, first.data, {})
    ended = call("fmnist.evaluate", "first", "more", "--split", "validation")
    assert_one_line(ended, "first", "more", "300 and 400", "--split test")

    assert_one_line(call("fmnist.evaluate", "first", "first"), "first", "twice")


def test_a_run_without_validation_images(
    call: Callable[..., Any], trained: Any, tmp_path: Path
) -> None:
    first = trained[0].checkpoint
    config = first.config.replace(validation_images=0)
    save_checkpoint(tmp_path / "runs/all/best", first.model, config, first.data, {})

    ended = call("fmnist.evaluate", "all", "--split", "validation")
    assert_one_line(ended, "trained on all", "--split test")
    ended = call("fmnist.evaluate", "all", "--temperature")
    assert_one_line(ended, "temperature", "'all'", "no validation images")
    ended = call("fmnist.evaluate", "all", "--temperature", "--split", "validation")
    assert_one_line(ended, "temperature", "--split test")


def test_weights_of_another_network(call: Callable[..., Any], trained: Any, tmp_path: Path) -> None:
    run = trained[0].save(tmp_path / "runs/mixed")
    config = json.loads((run / "best/config.json").read_text())
    config["train"]["model"] = "airnet"
    write_json(run / "best/config.json", config)
    ended = call("fmnist.evaluate", "mixed")
    assert_one_line(ended, "model.safetensors", "does not hold the weights")

    shutil.rmtree(run / "best")
    assert_one_line(call("fmnist.evaluate", "mixed"), "no trained model")
