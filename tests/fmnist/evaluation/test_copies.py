from pathlib import Path

import numpy as np
import torch

from fmnist.data.dataset import Split, load_info, load_test, load_train
from fmnist.evaluation.copies import copies_in_words, describe_copies, find_copies
from tests.fmnist.imported import write_imported


def numbered(numbers: list[int], groups: list[int] | None = None) -> Split:
    """Images whose pixels are their number."""
    pixels = torch.tensor(numbers, dtype=torch.uint8).view(-1, 1, 1)
    known = None if groups is None else torch.tensor(groups)
    return Split(pixels, torch.zeros(len(numbers), dtype=torch.int64), known)


def test_copies_are_found_by_their_pixels_or_by_their_groups() -> None:
    assert find_copies(numbered([1, 2, 3]), numbered([4, 2, 1])).tolist() == [False, True, True]
    # Groups are believed: the pixels are not read again.
    seen, split = numbered([1, 2], groups=[0, 1]), numbered([1, 2, 3], groups=[7, 8, 1])
    assert find_copies(seen, split).tolist() == [False, False, True]


def test_accuracy_without_copies() -> None:
    seen = numbered([1, 2])
    correct = torch.tensor([True, True, True, False])
    assert describe_copies(seen, numbered([1, 2, 3, 4]), correct) == {
        "images": 2,
        "accuracy_without": 0.5,
    }
    for numbers in ([5, 6, 7, 8], [1, 2, 1, 2]):
        count = len([number for number in numbers if number < 3])
        found = describe_copies(seen, numbered(numbers), correct)
        assert found == {"images": count, "accuracy_without": None}


def test_an_imported_set_without_copies_is_not_read(tmp_path: Path) -> None:
    """Its import has compared all images: with its pixels out of reach there is still an answer."""
    images = np.arange(8, dtype=np.uint8).repeat(4).reshape(8, 2, 2)
    splits = ["train"] * 5 + ["test"] * 3
    folder = write_imported(tmp_path / "own", images, np.arange(8) % 2, splits, ("a", "b"))
    info = load_info(folder)
    seen, test = load_train(folder, info), load_test(folder, info)
    (folder / "images-idx3-ubyte").write_bytes(b"")
    assert find_copies(seen, test).tolist() == [False] * 3


def test_copies_in_words() -> None:
    assert copies_in_words({"images": 0, "accuracy_without": None}, "test") == (
        "no test image is a copy of a training image"
    )
    assert copies_in_words({"images": 1, "accuracy_without": 0.5}, "test") == (
        "one test image is a copy of a training image, pixel for pixel; accuracy without: 50.00%"
    )
    assert copies_in_words({"images": 1234, "accuracy_without": None}, "validation") == (
        "1,234 validation images are copies of training images, pixel for pixel: "
        "there are no others"
    )
