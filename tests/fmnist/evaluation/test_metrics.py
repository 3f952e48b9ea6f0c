import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, roc_auc_score

from fmnist.evaluation.metrics import (
    CONFUSED_PAIRS,
    accuracy_interval,
    classification_metrics,
    confused_pairs,
    imbalance,
)

# Three classes; predictions 0 0 1 2 2 2 for labels 0 0 0 1 2 2.
PREDICTED = torch.tensor([0, 0, 1, 2, 2, 2])
LABELS = torch.tensor([0, 0, 0, 1, 2, 2])


def logits_of(predicted: torch.Tensor, classes: int) -> torch.Tensor:
    """Logits of a model that is equally sure of all its answers."""
    return 3.0 * torch.nn.functional.one_hot(predicted, classes).float()


LOGITS = logits_of(PREDICTED, 3)


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
    predicted = torch.tensor([0, 0, 1, 2, 1, 1, 1, 2, 2])
    labels = torch.tensor([0, 0, 0, 1, 2, 2, 2, 2, 2])
    metrics = classification_metrics(logits_of(predicted, 3), labels)
    assert metrics["confusion"] == [[2, 1, 0], [0, 0, 1], [0, 3, 2]]

    # Figures of earlier versions have the matrix alone.
    for figures in (metrics, {"confusion": metrics["confusion"]}):
        pairs = confused_pairs(figures, ("a", "b", "c"))
        assert pairs[0] == {"true": "c", "predicted": "b", "count": 3, "share": 0.6}
        assert [(pair["true"], pair["predicted"]) for pair in pairs[1:]] == [("a", "b"), ("b", "c")]

    right = classification_metrics(logits_of(labels, 3), labels)
    assert confused_pairs(right, ("a", "b", "c")) == []


def test_a_class_that_does_not_occur_has_no_score_and_lowers_no_average() -> None:
    """Three classes trained, two of them in the test, all answers right: torchmetrics#1494."""
    labels = torch.tensor([0, 0, 2, 2])
    metrics = classification_metrics(logits_of(labels, 3), labels)
    for score in ("precision", "recall", "f1"):
        assert metrics[score]["macro"] == metrics[score]["weighted"] == 1
        assert metrics[score]["per_class"] == [1, None, 1]
    assert metrics["auroc"] == {"macro": 1, "per_class": [1, None, 1]}
    assert metrics["support"] == [2, 0, 2]

    # Taken for one that does not occur, an image is still wrong about its own.
    wrong = classification_metrics(logits_of(torch.tensor([0, 1, 2, 2]), 3), labels)
    assert wrong["recall"]["macro"] == 0.75
    assert wrong["f1"]["macro"] == pytest.approx((2 / 3 + 1) / 2)
    # A class that is never predicted has a precision of 0, as ever.
    never = classification_metrics(logits_of(torch.zeros(4, dtype=torch.int64), 3), labels)
    assert never["precision"]["per_class"] == [0.5, None, 0]


def test_scores_and_auroc_are_scikit_learns() -> None:
    """On 2,000 images of 7 classes, with ties among the probabilities."""
    source = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 7, (2000,), generator=source)
    logits = torch.randn(2000, 7, generator=source) + 2 * torch.nn.functional.one_hot(labels, 7)
    # Half of the images have another's logits.
    logits[1000:] = logits[:1000]
    metrics = classification_metrics(logits, labels)

    truth, predicted = labels.numpy(), logits.argmax(1).numpy()
    for average in ("macro", "weighted"):
        expected = precision_recall_fscore_support(truth, predicted, average=average)
        for score, value in zip(("precision", "recall", "f1"), expected, strict=False):
            assert metrics[score][average] == pytest.approx(value)

    probabilities = logits.softmax(1).numpy()
    for number, area in enumerate(metrics["auroc"]["per_class"]):
        expected = roc_auc_score(truth == number, probabilities[:, number])
        assert area == pytest.approx(expected, abs=1e-6)
    assert confusion_matrix(truth, predicted).tolist() == metrics["confusion"]


def many(images: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of a model that is often right, and labels: the classes in turn."""
    source = torch.Generator().manual_seed(0)
    labels = torch.arange(images) % classes
    logits = torch.randn(images, classes, generator=source)
    logits[torch.arange(images), labels] += 4
    return logits, labels


def test_1000_classes() -> None:
    logits, labels = many(4000, 1000)
    metrics = classification_metrics(logits, labels)
    assert metrics["confusion"] is None
    assert len(metrics["confused"]) == CONFUSED_PAIRS
    counts = [pair["count"] for pair in metrics["confused"]]
    assert counts == sorted(counts, reverse=True)

    predicted = logits.argmax(1)
    for pair in metrics["confused"][:5]:
        both = (labels == pair["true"]) & (predicted == pair["predicted"])
        assert pair["count"] == int(both.sum())
        assert pair["share"] == pair["count"] / 4

    probabilities = logits.softmax(1).numpy()
    for number in (0, 123, 999):
        expected = roc_auc_score(labels.numpy() == number, probabilities[:, number])
        assert metrics["auroc"]["per_class"][number] == pytest.approx(expected, abs=1e-6)
    assert metrics["auroc"]["macro"] == pytest.approx(np.mean(metrics["auroc"]["per_class"]))
    assert metrics["accuracy"] < metrics["top5"] < 1


def test_20000_classes_of_which_most_do_not_occur() -> None:
    logits, labels = many(500, 20_000)
    metrics = classification_metrics(logits, labels)
    assert metrics["support"].count(0) == 19_500
    assert metrics["f1"]["per_class"].count(None) == 19_500
    accuracy = (logits.argmax(1) == labels).double().mean().item()
    # Each class that occurs has one image.
    assert metrics["recall"]["macro"] == pytest.approx(accuracy)
    assert metrics["auroc"]["per_class"].count(None) == 19_500
    assert 0.9 < metrics["auroc"]["macro"] < 1


def test_auroc_of_too_many_probabilities_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = many(40, 10)
    monkeypatch.setattr("fmnist.evaluation.metrics.AUROC_VALUES", 399)
    assert classification_metrics(logits, labels)["auroc"] == {
        "macro": None,
        "per_class": [None] * 10,
    }


def test_results_do_not_depend_on_the_parts_they_are_computed_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logits, labels = many(300, 20)
    whole = classification_metrics(logits, labels)
    for module in ("logits", "metrics"):
        monkeypatch.setattr(f"fmnist.evaluation.{module}.PART_BYTES", 2000)
    assert classification_metrics(logits, labels) == whole


def test_imbalance_is_that_of_the_classes_that_occur() -> None:
    assert imbalance([40, 0, 10, 20]) == 4
