"""What verification prints and records, and the test set it takes."""

from pathlib import Path
from typing import Any

import pytest

from export.bundle.verification import describe_values, find_test_set, summary_entries
from fmnist.data.dataset import load_info
from fmnist.data.info import DataInfo
from fmnist.data.sources import Source
from fmnist.errors import DataError, InputError

RESULTS: dict[str, Any] = {
    "provider": "cpu",
    "images": 10_000,
    "onnx_accuracy": 0.9123,
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
    assert list(describe_values(RESULTS)) == [alone, second]

    parity = "largest logit difference 3.8e-06 (at most 1.6e-04), 2 labels differ; PyTorch 91.21%"
    assert list(describe_values(RESULTS | PARITY)) == [first + parity, second]


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
    test = find_test_set(info, Source())
    assert test is not None
    assert len(test) == 500

    other = DataInfo("other", ("a", "b"), {"x": "0"})
    monkeypatch.setenv("FMNIST_DATA", str(small_data))
    assert find_test_set(other, Source()) is None, "it is not at hand"
    with pytest.raises(DataError, match="the model was trained on another set, other"):
        find_test_set(other, Source(data=str(small_data)))
    with pytest.raises(InputError):
        find_test_set(info, Source(data=str(tmp_path)))
