"""What verification prints and records, and the test set it takes."""

from pathlib import Path
from typing import Any

import pytest

from export.bundle.verification import describe_values, find_splits, summary_entries
from fmnist.data.dataset import load_info
from fmnist.data.info import DataInfo
from fmnist.data.sources import Source
from fmnist.errors import DataError, InputError

RESULTS: dict[str, Any] = {
    "provider": "cpu",
    "images": 10_000,
    "onnx_accuracy": 0.9123,
    "copies": {"images": 0, "accuracy_without": None},
    "imbalance": {"train": 1.0, "test": 9.9},
    "variants": {"int8": {"accuracy": 0.91, "accuracy_loss": 0.0023, "agreement": 0.99}},
}
PARITY = {
    "max_abs_diff": 3.8e-6,
    "tolerance": 1.6e-4,
    "labels_differing": 2,
    "pytorch_accuracy": 0.9121,
}


def test_what_is_said_of_a_bundle_that_passed() -> None:
    first = "[green]passed[/] on cpu: 10,000 test images, accuracy 91.23%; "
    second = "[green]passed[/] int8: accuracy 91.00%, +0.23 points lost, the same class on 99.00%"
    alone = f"{first}no checkpoint at hand to compare with"
    none = "no test image is a copy of a training image"
    assert list(describe_values(RESULTS)) == [alone, none, second]

    parity = "largest logit difference 3.8e-06 (at most 1.6e-04), 2 labels differ; PyTorch 91.21%"
    assert list(describe_values(RESULTS | PARITY)) == [first + parity, none, second]


def test_copies_and_unequal_classes_are_told() -> None:
    results = RESULTS | {
        "copies": {"images": 91, "accuracy_without": 0.7},
        "imbalance": {"train": 40.0, "test": 2.0},
        "metrics": {"recall": {"macro": 0.6}, "f1": {"macro": 0.5}},
    }
    _, copies, unequal, _ = describe_values(results)
    assert copies == (
        "91 test images are copies of training images, pixel for pixel; accuracy without: 70.00%"
    )
    assert unequal == (
        "[yellow]unequal classes[/]; each class alike: macro recall 60.00%, macro F1 50.00%"
    )


def test_what_goes_into_the_summary() -> None:
    assert summary_entries(RESULTS) == {"parity_provider": "cpu", "onnx_test_accuracy": 0.9123}

    assert summary_entries(RESULTS | PARITY) == {
        "parity_provider": "cpu",
        "onnx_test_accuracy": 0.9123,
        "parity_max_abs_diff": 3.8e-6,
        "parity_tolerance": 1.6e-4,
        "panel": {
            "parity": "ONNX logits within 3.8e-06 of PyTorch's (1.6e-04 allowed), test 91.23%"
        },
    }


def test_the_test_set_is_that_of_the_training_or_none(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = load_info(small_data)
    splits = find_splits(info, Source())
    assert splits is not None
    assert [len(split) for split in splits] == [3000, 500]

    other = DataInfo("other", ("a", "b"), {"x": "0"})
    monkeypatch.setenv("FMNIST_DATA", str(small_data))
    assert find_splits(other, Source()) is None, "it is not at hand"
    with pytest.raises(DataError, match="the model was trained on another set, other"):
        find_splits(other, Source(data=str(small_data)))
    with pytest.raises(InputError):
        find_splits(info, Source(data=str(tmp_path)))
