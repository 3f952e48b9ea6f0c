import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from fmnist.checkpoint import Checkpoint, data_info, load_checkpoint, save_checkpoint
from fmnist.config import Problem, TrainConfig
from fmnist.data import Source, load_info, load_train, split_train
from fmnist.errors import InputError
from fmnist.evaluate import (
    accuracy_interval,
    classification_metrics,
    combine,
    compute_logits,
    confused_pairs,
    evaluate,
    fit_temperature,
    held_out_split,
    reliability,
    training_sample,
)
from fmnist.models import build_model
from fmnist.run import write_json

# Three classes; predictions 0 0 1 2 2 2 for labels 0 0 0 1 2 2.
PREDICTED, LABELS = torch.tensor([0, 0, 1, 2, 2, 2]), torch.tensor([0, 0, 0, 1, 2, 2])
LOGITS = 3.0 * torch.nn.functional.one_hot(PREDICTED, 3).float()


def test_metrics_by_hand() -> None:
    metrics = classification_metrics(LOGITS, LABELS)
    assert metrics["accuracy"] == pytest.approx(4 / 6)
    assert metrics["confusion"] == [[2, 1, 0], [0, 0, 1], [0, 0, 2]]
    assert metrics["precision"]["per_class"] == pytest.approx([1, 0, 2 / 3])
    assert metrics["recall"]["per_class"] == pytest.approx([2 / 3, 0, 1])
    assert metrics["f1"]["macro"] == pytest.approx((0.8 + 0 + 0.8) / 3)
    assert metrics["f1"]["weighted"] == pytest.approx((3 * 0.8 + 0 + 2 * 0.8) / 6)
    assert metrics["recall"]["micro"] == metrics["f1"]["micro"] == pytest.approx(metrics["accuracy"])
    assert metrics["support"] == [3, 1, 2]
    sure = LOGITS.softmax(1).max().item()
    assert metrics["mean_confidence"] == pytest.approx(sure)
    assert metrics["ece"] == pytest.approx(sure - 4 / 6)
    assert metrics["top5"] is None


def test_auroc_is_a_ranking_and_null_for_a_class_that_does_not_occur() -> None:
    logits = torch.tensor([[2.0, 0, 0], [1.0, 0, 0], [0.5, 0, 0], [0.0, 0, 0]])
    metrics = classification_metrics(logits, torch.tensor([0, 1, 0, 1]))
    assert metrics["auroc"]["per_class"][0] == pytest.approx(0.75)
    assert metrics["auroc"]["per_class"][2] is None


def test_evaluation_leaves_the_mode_as_it_was() -> None:
    model = build_model(TrainConfig(model="airnet", widths=(4, 4, 4)), Problem(10)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    compute_logits(model, torch.randint(0, 256, (700, 28, 28), dtype=torch.uint8))
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def checkpoint(data_folder: Path, validation_images: int) -> Checkpoint:
    config = TrainConfig(model="lenet", validation_images=validation_images)
    return Checkpoint(build_model(config, Problem(10)), config, load_info(data_folder), {})


def test_images_trained_on_are_refused(data_folder: Path) -> None:
    with pytest.raises(InputError, match="trained on all"):
        held_out_split(checkpoint(data_folder, 0), "validation", Source(data=str(data_folder)))
    assert len(held_out_split(checkpoint(data_folder, 5000), "validation", Source(data=str(data_folder)))) == 5000
    assert len(held_out_split(checkpoint(data_folder, 0), "test", Source(data=str(data_folder)))) == 10000


def test_another_data_set_is_refused(data_folder: Path, small_data: Path) -> None:
    with pytest.raises(InputError, match="another set"):
        held_out_split(checkpoint(data_folder, 0), "test", Source(data=str(small_data)))


def test_top5_where_there_are_more_classes() -> None:
    logits = torch.arange(7.0).repeat(4, 1)  # the five largest are classes 2 to 6
    assert classification_metrics(logits, torch.tensor([6, 2, 1, 0]))["top5"] == 0.5


def test_reliability_by_hand() -> None:
    rows = reliability(torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.95, 0.05], [0.4, 0.6]]).log(), torch.tensor([0, 1, 0, 1]))
    assert [row["images"] for row in rows] == [1, 2, 1]
    assert [row["accuracy"] for row in rows] == [1, 0.5, 1]
    assert [row["confidence"] for row in rows] == pytest.approx([0.6, 0.9, 0.95])
    assert all(row["low"] < row["confidence"] <= row["high"] for row in rows)


def test_interval_is_wilsons() -> None:
    """Wilson's formula, z = 1.959964: the centre moves towards one half."""
    assert accuracy_interval(9, 10) == pytest.approx((0.595850, 0.982124), abs=1e-6)
    assert accuracy_interval(10, 10)[1] == 1


def test_confused_pairs_by_hand() -> None:
    pairs = confused_pairs([[2, 1, 0], [0, 0, 1], [0, 3, 2]], ("a", "b", "c"))
    assert pairs[0] == {"true": "c", "predicted": "b", "count": 3, "share": 0.6}
    assert [(pair["true"], pair["predicted"]) for pair in pairs[1:]] == [("a", "b"), ("b", "c")]


def test_ensemble_by_average_and_by_vote() -> None:
    """Two members are for class 1 by a hair, one for class 0 with all its weight: the mean and the majority differ."""
    members = [torch.tensor([row]).log() for row in ([0.45, 0.5, 0.05], [0.45, 0.5, 0.05], [0.9, 0.05, 0.05])]
    average, vote = combine(members, "average").softmax(1), combine(members, "vote").softmax(1)
    assert average[0].tolist() == pytest.approx([0.6, 0.35, 0.05])
    assert vote[0].tolist() == pytest.approx([(1 + 0.3) / 3.5, (2 + 0.175) / 3.5, 0.025 / 3.5])
    assert torch.allclose(combine(members[:1], "average").softmax(1), members[0].softmax(1))
    with pytest.raises(InputError, match="median"):
        combine(members, "median")


def test_a_tied_vote_goes_to_the_larger_sum() -> None:
    members = [torch.tensor([row]).log() for row in ([0.5, 0.3, 0.2], [0.1, 0.3, 0.6], [0.1, 0.6, 0.3])]
    assert combine(members, "vote").argmax(1).item() == 1  # sums .7, 1.2, 1.1
    assert combine(members[:2], "vote").argmax(1).item() == 2  # sums .6, .6, .8


def test_an_ensemble_that_excludes_a_class_has_a_finite_loss() -> None:
    sure = torch.tensor([[200.0, 0.0]])
    for how in ("average", "vote"):
        assert torch.isfinite(combine([sure, sure], how)).all()


def test_temperature_finds_what_the_logits_were_multiplied_by() -> None:
    source = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(5000, 4, generator=source)
    labels = logits.softmax(1).multinomial(1, generator=source).flatten()  # perfectly calibrated, but for chance
    assert fit_temperature(3 * logits, labels) == pytest.approx(3, rel=0.08)
    scaled = 3 * logits / fit_temperature(3 * logits, labels)
    assert classification_metrics(scaled, labels)["ece"] < classification_metrics(3 * logits, labels)["ece"] / 5


def test_training_sample_is_of_the_images_trained_on(trained: Any, small_data: Path) -> None:
    mine = trained[0].checkpoint
    sample = training_sample(mine, 500, Source(data=str(small_data)))
    assert torch.equal(sample.images, training_sample(mine, 500, Source(data=str(small_data))).images)
    seen = {image.numpy().tobytes() for image in split_train(mine.config, load_train(small_data, mine.data))[1].images}
    assert len(sample) == 500
    assert all(image.numpy().tobytes() in seen for image in sample.images)


def test_command_leaves_json_and_figures(call: Callable[..., Any], trained: Any, tmp_path: Path) -> None:
    run = trained[0].save(tmp_path / "runs/first")
    ended = call("fmnist.evaluate", "first", "--temperature")
    assert ended.code == 0
    found = json.loads((run / "evaluation-test.json").read_text())
    direct = evaluate(load_checkpoint(run / "best"), held_out_split(trained[0].checkpoint, "test", Source()), torch.device("cpu"))
    assert found["confusion"] == direct["confusion"]
    for key in ("accuracy", "loss", "ece", "mean_confidence", "top5"):
        assert found[key] == pytest.approx(direct[key])
    low, high = found["accuracy_interval"]
    assert low < found["accuracy"] < high
    assert found["train"]["images"] == 500
    assert found["train"]["gap"] == pytest.approx(found["train"]["accuracy"] - found["accuracy"])
    assert found["temperature"]["loss"] <= found["loss"] + 0.01
    for words in (f"{found['accuracy']:.2%}", "micro", "Ankle boot", "most confused", "not augmented", "temperature"):
        assert words in ended.output
    names = ("curves", "roc", "confusion", "classes", "mistakes", "reliability")
    assert {file.name for file in (run / "figures").iterdir()} == {f"{name}.png" for name in names}
    for name in names:
        with Image.open(run / "figures" / f"{name}.png") as image:
            assert 500 < image.width < 2000
            assert 400 < image.height < 2000


def test_ensemble_from_the_command_line(call: Callable[..., Any], trained: Any, tmp_path: Path) -> None:
    for number, name in enumerate(("a", "b")):
        trained[number].save(tmp_path / "runs" / name)
    ended = call("fmnist.evaluate", "a", "b", "--combine", "vote", "--split", "validation")
    assert ended.code == 0
    found = json.loads((tmp_path / "runs/a+b/evaluation-validation.json").read_text())
    split = held_out_split(trained[0].checkpoint, "validation", Source())
    logits = [compute_logits(one.checkpoint.model, split.images) for one in trained]
    assert found["accuracy"] == (combine(logits, "vote").argmax(1) == split.labels).double().mean().item()
    assert not (tmp_path / "runs/a/figures").exists()
    assert call("fmnist.evaluate", "a", "b", "--out", "elsewhere").code == 0
    assert (tmp_path / "elsewhere/figures/roc.png").exists()


def assert_one_line(ended: Any, *words: str) -> None:
    assert ended.code == 2
    assert ended.output.count("\n") == 1
    for word in words:
        assert word in ended.output


def test_members_that_do_not_fit_together(call: Callable[..., Any], trained: Any, tmp_path: Path) -> None:
    run = trained[0].save(tmp_path / "runs/first")
    saved = trained[0].checkpoint
    letters = data_info({**json.loads((run / "best/config.json").read_text())["data"], "classes": list("ABC"), "sha256": {}})
    config = TrainConfig(model="lenet", validation_images=300)
    save_checkpoint(tmp_path / "runs/letters/best", build_model(config, letters.problem), config, letters, {})
    assert_one_line(call("fmnist.evaluate", "first", "letters"), "first", "letters", "different classes", "10 and 3")
    save_checkpoint(tmp_path / "runs/more/best", saved.model, saved.config.replace(validation_images=400), saved.data, {})
    assert_one_line(
        call("fmnist.evaluate", "first", "more", "--split", "validation"), "first", "more", "300 and 400", "--split test"
    )
    assert_one_line(call("fmnist.evaluate", "first", "first"), "first", "twice")


def test_a_run_without_validation_images(call: Callable[..., Any], trained: Any, tmp_path: Path) -> None:
    saved = trained[0].checkpoint
    save_checkpoint(tmp_path / "runs/all/best", saved.model, saved.config.replace(validation_images=0), saved.data, {})
    assert_one_line(call("fmnist.evaluate", "all", "--split", "validation"), "trained on all", "--split test")
    assert_one_line(call("fmnist.evaluate", "all", "--temperature"), "temperature", "'all'", "no validation images")
    assert_one_line(call("fmnist.evaluate", "all", "--temperature", "--split", "validation"), "temperature", "--split test")


def test_weights_of_another_network(call: Callable[..., Any], trained: Any, tmp_path: Path) -> None:
    run = trained[0].save(tmp_path / "runs/mixed")
    config = json.loads((run / "best/config.json").read_text())
    write_json(run / "best/config.json", config | {"train": config["train"] | {"model": "airnet"}})
    assert_one_line(call("fmnist.evaluate", "mixed"), "model.safetensors", "does not hold the weights")
    shutil.rmtree(run / "best")
    assert_one_line(call("fmnist.evaluate", "mixed"), "no trained model")
