"""What the card says of the classes: all of few, the worst of many."""

from typing import Any

import pytest
import torch

from export.bundle.model_card import model_card
from fmnist.config import TrainConfig
from fmnist.evaluation.metrics import classification_metrics, imbalance


def manifest(labels: list[str], truth: torch.Tensor, predicted: torch.Tensor) -> dict[str, Any]:
    """Manifest of a model with these answers to the test images."""
    logits = 3.0 * torch.nn.functional.one_hot(predicted, len(labels)).float()
    metrics = classification_metrics(logits, truth)
    verified = {
        "provider": "cpu",
        "images": len(truth),
        "metrics": metrics,
        "copies": {"images": 0, "accuracy_without": None},
        "imbalance": {"train": 1.0, "test": imbalance(metrics["support"])},
    }
    return {
        "train": [TrainConfig().to_dict()],
        "data": {"name": "own", "sha256": {"images": "0" * 64}},
        "labels": labels,
        "average_flips": False,
        "input": [{"shape": ["batch", 28, 28]}],
        "environment": {"versions": {"torch": "2"}},
        "verified": verified,
        "variants": {},
        "benchmark": None,
    }


def table(card: str) -> list[list[str]]:
    """Cells of the rows of the classes."""
    lines = card.partition("|---|---:|---:|---:|---:|\n")[2].partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_a_class_without_test_images_has_no_scores() -> None:
    truth = torch.tensor([0, 0, 2, 2])
    card = model_card(manifest(["a", "b|<b>", "c"], truth, truth))
    rows = table(card)
    assert [row[0] for row in rows] == ["a", r"b\|\<b\>", "c"]
    assert rows[0][1:3] == ["2", "100.00%"]
    assert rows[1][1:] == ["0", "–", "–", "–"]
    assert r"3 classes: a, b\|\<b\>, c." in card
    assert "no test image is a copy of a training image" in card
    assert "unequal" not in card


def test_copies_and_unequal_classes_are_told() -> None:
    truth = torch.tensor([0] * 40 + [1])
    described = manifest(["a", "b"], truth, torch.zeros(41, dtype=torch.int64))
    described["verified"]["copies"] = {"images": 3, "accuracy_without": 0.5}
    card = model_card(described)
    assert "3 test images are copies of training images, pixel for pixel" in card
    assert "accuracy without: 50.00%" in card
    assert "the largest has the images of the smallest 40 times in the test images" in card
    assert "recall is **50.00%** and F1 49.38%" in card

    # Verified by an earlier version.
    for key in ("copies", "imbalance"):
        del described["verified"][key]
    card = model_card(described)
    assert "copies" not in card
    assert "40 times in the test images" in card


@pytest.mark.parametrize("classes", [1000, 20_000])
def test_of_many_classes_the_worst_are_listed(classes: int) -> None:
    labels = [f"class {number}" for number in range(classes)]
    truth = torch.arange(1000) % classes
    predicted = torch.where(truth % 100 == 0, 1, truth)
    card = model_card(manifest(labels, truth, predicted))
    assert len(card) < 10_000
    assert f"class 28, class 29 and {classes - 30:,} others." in card
    assert f"These are the 30 with the lowest F1 of {classes:,} classes." in card

    rows = table(card)
    assert len(rows) == 30
    assert [row[0] for row in rows[:10]] == [f"class {100 * number}" for number in range(10)]
    assert "class 0 taken for class 1: 1 (100.0% of its images)" in card
