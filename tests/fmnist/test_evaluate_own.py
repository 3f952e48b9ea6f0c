"""fmnist.evaluate on sets as users have them: imported, with copies, unequal, of many classes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fmnist.config import TrainConfig
from fmnist.data.dataset import Split, load_info
from fmnist.data.formats import CLASSES
from fmnist.models import build_model
from fmnist.training.checkpoint import save_checkpoint
from tests.fmnist.conftest import train_lenet
from tests.fmnist.imported import write_imported

COPIES = 30


@pytest.fixture
def own(tmp_path: Path, train: Split, official_test: Split) -> Path:
    """2,400 training images of Fashion-MNIST, of coats all and of bags one in sixteen, and 300 test
    images; 30 of these are training images, and none is of the last class."""
    labels = train.labels.numpy()
    bags = np.flatnonzero(labels == CLASSES.index("Bag"))
    kept = np.setdiff1d(np.arange(len(labels)), bags[np.arange(len(bags)) % 16 > 0])[:2400]
    tested = np.flatnonzero(official_test.labels.numpy() != len(CLASSES) - 1)[:270]
    copied = kept[labels[kept] != len(CLASSES) - 1][:COPIES]

    images = (train.images[kept], official_test.images[tested], train.images[copied])
    numbers = (labels[kept], official_test.labels.numpy()[tested], labels[copied])
    splits = ["train"] * 2400 + ["test"] * 300
    pixels = np.concatenate([part.numpy() for part in images])
    return write_imported(tmp_path / "pictures", pixels, np.concatenate(numbers), splits, CLASSES)


def test_files_copies_and_unequal_classes_are_told(
    call: Callable[..., Any], own: Path, tmp_path: Path, one_thread: None
) -> None:
    run = train_lenet(own, epochs=2).save(tmp_path / "runs/own")
    ended = call("fmnist.evaluate", "own", "--temperature")
    assert ended.code == 0, ended.output
    evaluation = json.loads((run / "evaluation-test.json").read_text())

    copies = evaluation["copies"]
    assert copies["images"] == COPIES
    without = f"accuracy without: {copies['accuracy_without']:.2%}"
    assert (
        f"30 test images are copies of training images, pixel for pixel; {without}" in ended.output
    )

    assert evaluation["imbalance"]["train"] > 10
    assert "unequal classes: the largest has the images of the smallest" in ended.output
    assert evaluation["support"][-1] == 0
    assert evaluation["f1"]["per_class"][-1] is None
    assert "1 of 10 classes have no test image (–)" in ended.output
    known = evaluation["recall"]["per_class"][:-1]
    assert evaluation["recall"]["macro"] == pytest.approx(np.mean(known))

    mistakes = evaluation["surest_mistakes"]
    assert len(mistakes) == 24
    for mistake in mistakes:
        # The test images follow the 2,400 trained on.
        assert mistake["file"] == f"{mistake['true']}/{2400 + mistake['index']}.png"
        assert mistake["true"] != mistake["predicted"]
    assert (run / "figures/mistakes.png").exists()


def test_grad_cam_of_an_imported_set_names_the_files(
    call: Callable[..., Any], own: Path, tmp_path: Path, one_thread: None
) -> None:
    """A line more over each picture than where the list of files is gone."""
    run = train_lenet(own, epochs=1).save(tmp_path / "runs/own")
    heights: list[int] = []
    for _ in range(2):
        assert call("fmnist.explain", "own", "--per-class", 1).code == 0
        with Image.open(run / "figures/grad_cam.png") as image:
            heights.append(image.height)
        (own / "files.jsonl").unlink(missing_ok=True)
    assert heights[0] > heights[1]


@pytest.mark.parametrize("classes", [1000, 20_000])
def test_many_classes(
    classes: int, call: Callable[..., Any], tmp_path: Path, one_thread: None
) -> None:
    """An untrained network on noise: it is right about few images, and all is told at once."""
    source = np.random.default_rng(0)
    train_images, test_images = classes, 800
    pixels = source.integers(0, 256, (train_images + test_images, 12, 12), np.uint8)
    labels = np.concatenate((np.arange(classes), source.integers(0, classes, test_images)))
    splits = ["train"] * train_images + ["test"] * test_images
    names = [f"class {number}" for number in range(classes)]
    info = load_info(write_imported(tmp_path / "pictures", pixels, labels, splits, names))

    config = TrainConfig(model="airnet", widths=(4, 4, 4), validation_images=0)
    model = build_model(config, info.problem)
    save_checkpoint(tmp_path / "runs/many/best", model, config, info, {})
    ended = call("fmnist.evaluate", "many")
    assert ended.code == 0, ended.output
    evaluation = json.loads((tmp_path / "runs/many/evaluation-test.json").read_text())
    assert evaluation["confusion"] is None
    assert len(evaluation["f1"]["per_class"]) == classes
    assert len(evaluation["confused"]) == 100
    assert 0 <= evaluation["accuracy"] <= evaluation["top5"] < 0.1

    assert "top-5" in ended.output
    assert f"all {classes:,} classes: in the JSON file" in ended.output
    assert ended.output.count("class ") < 60
    for name in ("roc", "confusion", "classes", "mistakes", "reliability"):
        with Image.open(tmp_path / "runs/many/figures" / f"{name}.png") as image:
            assert 500 < image.width < 2500
            assert 400 < image.height < 2500

    assert call("fmnist.explain", "many").code == 0
