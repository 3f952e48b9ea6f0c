import pytest
import torch

from fmnist.evaluation.metrics import accuracy_interval, classification_metrics, confused_pairs

# Three classes; predictions 0 0 1 2 2 2 for labels 0 0 0 1 2 2.
PREDICTED = torch.tensor([0, 0, 1, 2, 2, 2])
LABELS = torch.tensor([0, 0, 0, 1, 2, 2])
LOGITS = 3.0 * torch.nn.functional.one_hot(PREDICTED, 3).float()


def test_metrics_by_hand() -> None:
    metrics = classification_metrics(LOGITS, LABELS)
    accuracy = pytest.approx(4 / 6)
    assert metrics["accuracy"] == accuracy
    assert metrics["confusion"] == [[2, 1, 0], [0, 0, 1], [0, 0, 2]]
    assert metrics["support"] == [3, 1, 2]

    assert metrics["precision"]["per_class"] == pytest.approx([1, 0, 2 / 3])
    assert metrics["recall"]["per_class"] == pytest.approx([2 / 3, 0, 1])
    assert metrics["recall"]["micro"] == accuracy
    assert metrics["f1"]["micro"] == metrics["recall"]["micro"]
    assert metrics["f1"]["macro"] == pytest.approx((0.8 + 0 + 0.8) / 3)
    assert metrics["f1"]["weighted"] == pytest.approx((3 * 0.8 + 0 + 2 * 0.8) / 6)

    # Every image has the same confidence, so that there is one bin.
    confidence = LOGITS.softmax(1).max().item()
    assert metrics["mean_confidence"] == pytest.approx(confidence)
    assert metrics["ece"] == pytest.approx(confidence - 4 / 6)
    assert metrics["top5"] is None


def test_auroc_is_a_ranking_and_null_for_a_class_that_does_not_occur() -> None:
    logits = torch.tensor([[2.0, 0, 0], [1.0, 0, 0], [0.5, 0, 0], [0.0, 0, 0]])
    metrics = classification_metrics(logits, torch.tensor([0, 1, 0, 1]))
    assert metrics["auroc"]["per_class"][0] == pytest.approx(0.75)
    assert metrics["auroc"]["per_class"][2] is None


def test_top5_where_there_are_more_classes() -> None:
    logits = torch.arange(7.0).repeat(4, 1)  # The five largest are classes 2 to 6.
    assert classification_metrics(logits, torch.tensor([6, 2, 1, 0]))["top5"] == 0.5


def test_interval_is_wilsons() -> None:
    """Wilson's formula, z = 1.959964: the centre moves towards one half."""
    assert accuracy_interval(9, 10) == pytest.approx((0.595850, 0.982124), abs=1e-6)
    assert accuracy_interval(10, 10)[1] == 1


def test_confused_pairs_by_hand() -> None:
    pairs = confused_pairs([[2, 1, 0], [0, 0, 1], [0, 3, 2]], ("a", "b", "c"))
    assert pairs[0] == {"true": "c", "predicted": "b", "count": 3, "share": 0.6}
    assert [(pair["true"], pair["predicted"]) for pair in pairs[1:]] == [("a", "b"), ("b", "c")]
