"""Splits that keep copies together, the maker's own validation images, and imported sets."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fmnist.config import TrainConfig
from fmnist.data import dataset, formats
from fmnist.data.dataset import (
    Split,
    image_hashes,
    load_info,
    load_test,
    load_train,
    split_train,
)
from fmnist.data.idx import write_idx
from fmnist.errors import DataError, InputError


def numbered(
    count: int, *, groups: torch.Tensor | None = None, own: torch.Tensor | None = None
) -> Split:
    """Images whose pixels are their number, in three classes."""
    pixels = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1)
    return Split(pixels, torch.arange(count) % 3, groups, own)


def numbers(split: Split) -> list[int]:
    return split.images.tensor().flatten().tolist()


def test_copies_of_a_picture_stay_on_one_side_of_the_split() -> None:
    # Pictures 0, 30, 60, … are copies of one another, and so on up to 9, 39, 69, ….
    groups = torch.arange(150)
    groups = torch.where(groups % 30 < 10, groups % 30, groups)
    config, train, validation = split_train(
        TrainConfig(validation_images=30), numbered(150, groups=groups)
    )
    assert validation is not None
    assert validation.groups is not None
    assert train.groups is not None
    assert not set(validation.groups.tolist()) & set(train.groups.tolist())
    assert sorted(numbers(train) + numbers(validation)) == list(range(150))
    assert 15 <= len(validation) <= 60
    assert len(validation.labels.unique()) == 3

    # The config keeps the number asked for, so that the same split is made again.
    assert config.validation_images == 30
    _, _, again = split_train(config, numbered(150, groups=groups))
    assert again is not None
    assert numbers(again) == numbers(validation)


def test_groups_of_one_picture_each_hold_out_exactly_the_number() -> None:
    _, train, validation = split_train(
        TrainConfig(validation_images=30), numbered(150, groups=torch.arange(150))
    )
    assert validation is not None
    assert (len(train), len(validation)) == (120, 30)


def test_a_class_of_copies_of_one_picture_cannot_be_split() -> None:
    groups = torch.arange(60)
    groups[::3] = 0
    with pytest.raises(InputError, match="copies of a single training image"):
        split_train(TrainConfig(validation_images=12), numbered(60, groups=groups))


def test_the_makers_own_validation_images_are_kept() -> None:
    own = torch.arange(60) >= 50
    config, train, validation = split_train(TrainConfig(), numbered(60, own=own))
    assert validation is not None
    assert numbers(validation) == list(range(50, 60))
    assert numbers(train) == list(range(50))
    assert config.validation_images == 10

    # As a run that is resumed asks for them.
    _, _, again = split_train(config, numbered(60, own=own))
    assert again is not None
    assert numbers(again) == list(range(50, 60))


def test_the_makers_own_validation_images_are_trained_on_where_none_are_held_out() -> None:
    own = torch.arange(60) >= 50
    _, train, validation = split_train(TrainConfig(validation_images=0), numbered(60, own=own))
    assert validation is None
    assert numbers(train) == list(range(60))


def test_another_number_than_the_makers_own_is_refused() -> None:
    own = torch.arange(60) >= 50
    with pytest.raises(InputError) as raised:
        split_train(TrainConfig(validation_images=12), numbered(60, own=own))
    assert str(raised.value) == (
        "validation_images=12: the data has a validation split of its own, 10 images; "
        "leave it out, or give 0 to train on them too"
    )


def test_image_hashes_do_not_depend_on_how_many_are_read_at_once(
    train: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = train.first(50).images
    together = list(image_hashes(few))
    monkeypatch.setattr(dataset, "READ_AT_ONCE", 1)
    assert list(image_hashes(few)) == together
    assert len(set(together)) == 50


def write_imported(folder: Path, pixels: NDArray[np.uint8]) -> None:
    """An imported set of 300 classes, with two training, one validation and one test image each."""
    count = len(pixels)
    write_idx(folder / f"images-idx{pixels.ndim}-ubyte", pixels)
    write_idx(folder / "labels-idx1-int", (np.arange(count) % 300).astype(np.int32))
    write_idx(folder / "splits-idx1-ubyte", np.repeat([0, 2, 1, 0], 300).astype(np.uint8))
    write_idx(folder / "groups-idx1-int", np.arange(count, dtype=np.int32))
    np.save(folder / "sums.npy", np.zeros((count, 1, 2), np.int64))
    summary = {
        "name": "mine",
        "classes": [f"class\n{number}" for number in range(300)],
        "fit": "crop",
        "pad_colour": "edge",
        "pixel_range": [0.0, 4095.0],
    }
    (folder / "dataset.json").write_text(json.dumps(summary))


def test_an_imported_set_is_loaded_by_its_index(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1200, 6, 4), np.uint8)
    write_imported(tmp_path, pixels)
    info = load_info(tmp_path)
    assert (info.name, info.fit, info.pad_colour) == ("mine", "crop", "edge")
    assert info.pixel_range == (0.0, 4095.0)
    assert info.image_size == (6, 4)
    assert len(info.classes) == 300
    assert info.classes[7] == "class\n7"

    train, test = load_train(tmp_path, info), load_test(tmp_path, info)
    assert torch.equal(test.images.tensor(), torch.from_numpy(pixels[300:600]))
    assert test.labels.tolist() == list(range(300))
    assert len(train) == 900
    assert train.groups is None
    _, rest, validation = split_train(TrainConfig(), train)
    assert validation is not None
    assert torch.equal(validation.images.tensor(), torch.from_numpy(pixels[600:900]))
    assert rest.labels.tolist() == list(range(300)) * 2


def test_an_imported_set_that_changed_is_refused(tmp_path: Path) -> None:
    write_imported(tmp_path, np.zeros((1200, 6, 4), np.uint8))
    info = load_info(tmp_path)
    write_imported(tmp_path, np.ones((1200, 6, 4), np.uint8))
    with pytest.raises(DataError, match="it changed while it was in use"):
        load_train(tmp_path, info)


def test_an_imported_set_that_lacks_a_file_is_refused(tmp_path: Path) -> None:
    write_imported(tmp_path, np.zeros((1200, 6, 4), np.uint8))
    (tmp_path / "groups-idx1-int").unlink()
    with pytest.raises(DataError, match="it lacks groups; delete the folder"):
        load_info(tmp_path)


def test_the_hash_of_a_large_file_is_remembered_until_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "REMEMBERED_BYTES", 1000)
    hashed: list[Path] = []
    real = formats.hash_file

    def counting(path: Path) -> str:
        hashed.append(path)
        return real(path)

    monkeypatch.setattr(formats, "hash_file", counting)
    path = tmp_path / "large"
    path.write_bytes(bytes(2000))
    first = formats.known_hash(path)
    assert formats.known_hash(path) == first
    assert hashed == [path]

    path.write_bytes(bytes(1999) + b"\x01")
    assert formats.known_hash(path) != first
    assert hashed == [path, path]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_class_names_as_editors_save_them(encoding: str, tmp_path: Path) -> None:
    pixels = np.zeros((4, 8, 8), np.uint8)
    for prefix in ("train", "t10k"):
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte", pixels)
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte", np.array([0, 1, 0, 1], np.uint8))
    (tmp_path / "labels.txt").write_bytes("Größe\r\nÄrmel\r\n".encode(encoding))
    assert load_info(tmp_path).classes == ("Größe", "Ärmel")


def test_class_names_that_are_no_text_are_told(tmp_path: Path) -> None:
    pixels = np.zeros((4, 8, 8), np.uint8)
    for prefix in ("train", "t10k"):
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte", pixels)
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte", np.array([0, 1, 0, 1], np.uint8))
    (tmp_path / "labels.txt").write_bytes("Größe\nÄrmel\n".encode("latin-1"))
    with pytest.raises(DataError, match="is not UTF-8 text"):
        load_info(tmp_path)


def test_a_packed_file_too_large_for_memory_is_refused_with_the_remedy(
    fashion: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "LARGEST_PACKED", 1_000_000)
    info = load_info(fashion)
    with pytest.raises(InputError, match=r"`gunzip --keep train-images-idx3-ubyte\.gz`"):
        load_train(fashion, info)
