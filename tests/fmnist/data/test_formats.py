"""Files by name, unpacked by name."""

import gzip
from pathlib import Path

import pytest
import torch

from fmnist.data.dataset import Split, load_info, load_test
from fmnist.data.formats import (
    EMNIST_CLASSES,
    PARTS,
    find_files,
    find_idx,
    plain_name,
    set_name,
    unpack,
)
from fmnist.errors import DataError
from tests.fmnist.data.files import write_small_set


def test_files_are_found_whatever_stands_before_their_names(tmp_path: Path) -> None:
    names = (
        "emnist-letters-train-images-idx3-ubyte.gz",
        "emnist-letters-train-labels.idx1-ubyte",
        "emnist-letters-test-images-idx3-ubyte",
        "emnist-letters-test-labels-idx1-ubyte.gz",
    )
    for name in (*names, "emnist-letters-mapping.txt"):
        (tmp_path / name).touch()

    files = find_files(tmp_path)
    assert files == dict(zip(PARTS, (tmp_path / name for name in names), strict=True))
    assert {set_name(path) for path in files.values()} == {"emnist-letters"}
    assert plain_name(files["train-images"]) == "emnist-letters-train-images-idx3-ubyte"


def test_unpacking_goes_by_the_name(tmp_path: Path) -> None:
    packed = gzip.compress(b"content")
    for name, expected in (("file.gz", b"content"), ("file", packed)):
        (tmp_path / name).write_bytes(packed)
        assert unpack(tmp_path / name) == expected


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(b"content" * 100)[:-12],
        b"no gzip",
        gzip.compress(b"content")[:10] + b"\xff" * 20,
    ],
)
def test_a_damaged_archive_is_told(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file.gz"
    path.write_bytes(content)
    with pytest.raises(DataError) as raised:
        unpack(path)
    assert str(raised.value).startswith(f"{path} cannot be unpacked (")
    assert str(raised.value).endswith("): damaged or cut short; put a whole one in its place")


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(tmp_path / "none")


MNIST_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def touch_set(folder: Path, prefix: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in MNIST_NAMES:
        (folder / f"{prefix}{name}").touch()


@pytest.mark.parametrize("below", ["", "FashionMNIST", "FashionMNIST/raw"])
def test_torchvision_s_folders_are_seen_from_any_level(below: str, tmp_path: Path) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    touch_set(raw)
    assert find_idx(tmp_path / below) == raw


def test_other_folders_hold_no_idx_files(tmp_path: Path) -> None:
    (tmp_path / "cats" / "raw").mkdir(parents=True)
    (tmp_path / "cats" / "raw" / "1.png").touch()
    assert find_idx(tmp_path) is None
    assert find_idx(tmp_path / "cats" / "raw" / "1.png") is None
    assert find_idx(tmp_path / "none" / "none") is None


def test_one_of_several_sets_in_a_root_is_to_be_named(tmp_path: Path) -> None:
    for name in ("MNIST", "FashionMNIST"):
        touch_set(tmp_path / name / "raw")
    with pytest.raises(DataError) as raised:
        find_idx(tmp_path)
    assert str(raised.value) == (
        f"data='{tmp_path}': it holds 2 sets (FashionMNIST, MNIST); "
        f"name one: '{tmp_path}/FashionMNIST'"
    )
    assert find_idx(tmp_path / "MNIST") == tmp_path / "MNIST" / "raw"


def test_one_of_emnist_s_sets_is_named_after_its_folder(tmp_path: Path) -> None:
    raw = tmp_path / "EMNIST" / "raw"
    for name in ("emnist-letters", "emnist-byclass"):
        touch_set(raw, f"{name}-")
    assert find_idx(tmp_path) == raw
    with pytest.raises(DataError) as raised:
        find_files(raw)
    assert str(raised.value) == (
        f"data='{raw}': it holds 2 sets (emnist-byclass, emnist-letters); "
        f"name one: '{raw}/emnist-byclass'"
    )

    letters = raw / "emnist-letters"
    assert find_idx(letters) == letters
    # The sums of the set make a folder of its name.
    for _ in range(2):
        files = find_files(letters)
        assert files["train-images"] == raw / "emnist-letters-train-images-idx3-ubyte"
        assert set_name(files["t10k-labels"]) == "emnist-letters"
        letters.mkdir(exist_ok=True)
    assert find_idx(raw / "emnist-digits") is None


def test_emnist_has_its_own_classes(train: Split, tmp_path: Path) -> None:
    """A set in a folder of several is loaded; its images lie on their side in the files."""
    counts = {name: len(classes) for name, classes in EMNIST_CLASSES.items()}
    assert counts == {
        "emnist-balanced": 47,
        "emnist-byclass": 62,
        "emnist-bymerge": 47,
        "emnist-digits": 10,
        "emnist-letters": 26,
        "emnist-mnist": 10,
    }
    several = {"emnist-letters": 26, "emnist-digits": 10}
    for name, classes in several.items():
        written = write_small_set(tmp_path, train, classes)
        for file in MNIST_NAMES:
            (tmp_path / file).rename(tmp_path / f"{name}-{file}")
        # No read without a write: the sums lie in a folder of the set's name.
        info = load_info(tmp_path / name)
        assert info.name == name and "".join(info.classes) == EMNIST_CLASSES[name]
        assert load_info(tmp_path / name) == info
        images = load_test(tmp_path / name, info).images.tensor()
        assert torch.equal(images.swapaxes(1, 2), written.images.tensor())
