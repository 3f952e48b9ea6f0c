"""Parquet with the images' bytes: what was written comes back, and what is odd is told."""

import json
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from numpy.typing import NDArray

from fmnist.data.formats import CLASSES
from fmnist.data.importing.item import Item, ReadError
from fmnist.data.importing.readers.parquet import recognise_parquet
from fmnist.errors import DataError
from tests.fmnist.data.importing.conftest import Arrays
from tests.fmnist.data.importing.listed import (
    as_png,
    numbers,
    of_split,
    pixels_of,
    take_apart,
)

IMAGE = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


def write(
    path: Path,
    images: Sequence[NDArray[Any] | None],
    labels: Any,
    names: Sequence[str] | None = None,
    group: int = 100,
) -> None:
    """Write a file as Hugging Face's library does, with the names of the classes in the schema."""
    files = [None if image is None else as_png(image) for image in images]
    column = [None if file is None else {"bytes": file, "path": None} for file in files]
    table = pyarrow.table({"image": pyarrow.array(column, IMAGE), "label": labels})
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        table = table.replace_schema_metadata(metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, path, row_group_size=group)


@pytest.mark.parametrize(
    ("folder", "files"),
    [
        ("", ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet")),
        ("data", ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet")),
        ("fashion_mnist", ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet")),
        ("", ("train/0000.parquet", "test/0000.parquet")),
    ],
)
def test_hugging_face_s_files_come_back(
    folder: str, files: tuple[str, str], fashion_arrays: Arrays, tmp_path: Path
) -> None:
    arrays = fashion_arrays
    train_file, test_file = (tmp_path / folder / file for file in files)
    write(train_file, list(arrays.train_images), arrays.train_labels, CLASSES)
    write(test_file, list(arrays.test_images), arrays.test_labels, CLASSES)
    (tmp_path / "README.md").touch()

    reader = recognise_parquet(tmp_path)
    items, faults = take_apart(reader)
    trained, tested = of_split(items, "train"), of_split(items, "test")
    assert not faults and len(items) == 420
    assert np.array_equal(pixels_of(trained), arrays.train_images)
    assert np.array_equal(pixels_of(tested), arrays.test_images)
    assert [item.label for item in trained] == [CLASSES[number] for number in arrays.train_labels]
    assert trained[17].name == f"{train_file.relative_to(tmp_path)}#17"
    assert reader is not None and reader.class_order() == list(CLASSES)


@pytest.mark.parametrize("group", [300, 7])
def test_rows_are_found_in_any_order_and_by_many_threads(
    group: int, fashion_arrays: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a few batches are kept: most of these jumps begin a row group anew."""
    monkeypatch.setattr("fmnist.data.importing.readers.parquet.BATCH_ROWS", range(4, 5))
    path = tmp_path / "train.parquet"
    write(path, list(fashion_arrays.train_images), fashion_arrays.train_labels, group=group)
    items, _ = take_apart(recognise_parquet(path))

    order = random.Random(0).sample(range(300), 300)
    with ThreadPoolExecutor(8) as pool:
        shuffled = list(pool.map(lambda number: pixels_of([items[number]])[0], order))
    assert np.array_equal(np.stack(shuffled), fashion_arrays.train_images[order])
    assert np.array_equal(pixels_of(items), fashion_arrays.train_images)


def test_other_columns_and_types(fashion_arrays: Arrays, tmp_path: Path) -> None:
    """Plain bytes, words as labels packed by pandas, a split in a column, and others beside."""
    count = len(fashion_arrays.test_images)
    words = [f"garment {number}" for number in fashion_arrays.test_labels]
    columns = {
        "id": list(range(count)),
        "png": [as_png(image) for image in fashion_arrays.test_images],
        "category": pyarrow.array(words).dictionary_encode(),
        "split": ["train", "val"] * (count // 2),
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "set.parquet")
    reader = recognise_parquet(tmp_path / "set.parquet")
    items, faults = take_apart(reader)
    assert not faults and [item.label for item in items] == words
    assert [item.split for item in items[:2]] == ["train", "validation"]
    assert np.array_equal(pixels_of(items), fashion_arrays.test_images)
    assert reader is not None and reader.class_order() is None


def test_an_unknown_split_is_refused(fashion_arrays: Arrays, tmp_path: Path) -> None:
    columns = {
        "png": [as_png(image) for image in fashion_arrays.test_images[:4]],
        "label": [0, 1, 0, 1],
        "split": ["train", None, "fold seven", "train"],
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "test.parquet")
    reader = recognise_parquet(tmp_path / "test.parquet")
    assert reader is not None
    entries = reader.entries()
    # Where the field is empty, the file's name says it.
    splits = [item.split for item in (next(entries), next(entries)) if isinstance(item, Item)]
    assert splits == ["train", "test"]
    with pytest.raises(DataError, match="column 'split' has 'fold seven' in row 2"):
        next(entries)


def test_numbers_without_names_are_in_their_order(fashion_arrays: Arrays, tmp_path: Path) -> None:
    labels = [11 * int(number) for number in fashion_arrays.test_labels]
    write(tmp_path / "set.parquet", list(fashion_arrays.test_images), labels)
    reader = recognise_parquet(tmp_path / "set.parquet")
    items, _ = take_apart(reader)
    assert numbers(items) == labels
    assert reader is not None
    assert reader.class_order() == [str(11 * number) for number in range(10)]


def test_cifar_100_has_two_labels(colours: NDArray[np.uint8], tmp_path: Path) -> None:
    """One of them must be named so that it is clear which one is meant."""
    table = {"img": [as_png(image) for image in colours], "fine": [0] * 40, "coarse": [1] * 40}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "set.parquet")
    with pytest.raises(DataError, match="has the columns 'img: binary', 'fine: int64'"):
        recognise_parquet(tmp_path / "set.parquet")

    table["label"] = table.pop("fine")
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "set.parquet")
    items, _ = take_apart(recognise_parquet(tmp_path / "set.parquet"))
    assert np.array_equal(pixels_of(items), colours)
    assert set(numbers(items)) == {0}


def test_nulls_are_faults(fashion_arrays: Arrays, tmp_path: Path) -> None:
    images: list[Any] = list(fashion_arrays.test_images[:6])
    images[1] = None
    labels = [0, 1, None, -1, 99, 3]
    write(tmp_path / "train.parquet", images, pyarrow.array(labels), CLASSES)
    items, faults = take_apart(recognise_parquet(tmp_path / "train.parquet"))
    assert [(fault.kind, fault.name) for fault in faults] == [
        ("no class", "train.parquet#2"),
        ("no class", "train.parquet#3"),
        ("no class", "train.parquet#4"),
    ]
    assert [fault.detail for fault in faults] == [
        "its label is null",
        "its label is '-1'",
        "its label is '99'",
    ]
    with pytest.raises(ReadError, match="the image is null"):
        items[1].read()
    assert np.array_equal(pixels_of([items[0], items[2]]), fashion_arrays.test_images[[0, 5]])


def test_a_class_that_is_named_twice_is_told(fashion_arrays: Arrays, tmp_path: Path) -> None:
    names = ["cat", "dog", "cat"]
    write(tmp_path / "a.parquet", list(fashion_arrays.test_images[:2]), [0, 1], names)
    with pytest.raises(DataError, match="names the class 'cat' twice"):
        recognise_parquet(tmp_path / "a.parquet")


def test_damage(fashion_arrays: Arrays, tmp_path: Path) -> None:
    """A file alone is refused in a line; among others it is a fault, and they are read."""
    images, labels = list(fashion_arrays.test_images), fashion_arrays.test_labels
    write(tmp_path / "train-00000.parquet", images, labels)
    whole = (tmp_path / "train-00000.parquet").read_bytes()
    for content in (whole[: len(whole) // 2], b"PAR1", b"", whole[:-20] + b"x" * 16 + whole[-4:]):
        cut = tmp_path / "train-00001.parquet"
        cut.write_bytes(content)
        with pytest.raises(DataError, match="no Parquet file in it can be read") as raised:
            recognise_parquet(cut)
        assert "\n" not in str(raised.value)

        items, faults = take_apart(recognise_parquet(tmp_path))
        assert len(items) == 120
        assert [(fault.kind, fault.name) for fault in faults] == [("unreadable", cut.name)]


def test_damage_within_is_the_fault_of_those_rows(fashion_arrays: Arrays, tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    write(path, list(fashion_arrays.test_images), fashion_arrays.test_labels, group=60)
    content = bytearray(path.read_bytes())
    content[30:60] = bytes(30)
    path.write_bytes(content)
    items, _ = take_apart(recognise_parquet(path))
    with pytest.raises(ReadError):
        items[0].read()
    assert np.array_equal(pixels_of(items[60:]), fashion_arrays.test_images[60:])


def test_a_file_that_was_written_to_meanwhile(fashion_arrays: Arrays, tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    write(path, list(fashion_arrays.test_images), fashion_arrays.test_labels)
    items, _ = take_apart(recognise_parquet(path))
    write(path, list(fashion_arrays.test_images[:50]), fashion_arrays.test_labels[:50])
    with pytest.raises(ReadError) as raised:
        items[0].read()
    assert raised.value.kind == "changed while it was read"


def test_configurations_are_named(fashion_arrays: Arrays, tmp_path: Path) -> None:
    for name in ("cropped", "full"):
        write(tmp_path / name / "train.parquet", list(fashion_arrays.test_images), [0] * 120)
    with pytest.raises(DataError, match=r"holds Parquet files in 'cropped', 'full'; name one"):
        recognise_parquet(tmp_path)


def test_parquet_beside_folders_of_pictures_is_none_of_ours(tmp_path: Path) -> None:
    (tmp_path / "cats").mkdir()
    table = pyarrow.table({"path": ["a", "b"], "score": [0.1, 0.2]})
    pyarrow.parquet.write_table(table, tmp_path / "scores.parquet")
    assert recognise_parquet(tmp_path) is None
    with pytest.raises(DataError, match="has the columns 'path: string', 'score: double'"):
        recognise_parquet(tmp_path / "scores.parquet")
