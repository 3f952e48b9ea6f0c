"""NumPy's arrays: what was saved comes back, and what is damaged or hostile is told."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fmnist.data.importing.item import ReadError
from fmnist.data.importing.readers.arrays import recognise_arrays
from fmnist.data.importing.readers.scratch import scratch_folder
from fmnist.errors import DataError
from tests.fmnist.data.importing.conftest import Arrays
from tests.fmnist.data.importing.listed import numbers, of_split, pixels_of, take_apart


def keras(arrays: Arrays) -> dict[str, NDArray[Any]]:
    return {
        "x_train": arrays.train_images,
        "y_train": arrays.train_labels,
        "x_test": arrays.test_images,
        "y_test": arrays.test_labels,
    }


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_keras_arrays_come_back(save: Any, fashion_arrays: Arrays, tmp_path: Path) -> None:
    path = tmp_path / "fashion.npz"
    save(path, **keras(fashion_arrays))
    reader = recognise_arrays(path)
    items, faults = take_apart(reader)
    assert not faults

    train, test = of_split(items, "train"), of_split(items, "test")
    assert len(items) == len(train) + len(test)
    assert np.array_equal(pixels_of(train), fashion_arrays.train_images)
    assert np.array_equal(pixels_of(test), fashion_arrays.test_images)
    assert numbers(train) == fashion_arrays.train_labels.tolist()
    assert numbers(test) == fashion_arrays.test_labels.tolist()
    assert train[17].name == "fashion.npz/x_train#17"
    assert reader is not None and reader.class_order() == list("0123456789")


def test_medmnist_has_three_splits_and_labels_in_a_column(
    colours: NDArray[np.uint8], tmp_path: Path
) -> None:
    """Colour stays, and the classes are in the order of their numbers: 2 before 10."""
    labels = np.arange(40, dtype=np.uint8).reshape(40, 1) % 12
    parts = {"train": slice(24), "val": slice(24, 32), "test": slice(32, 40)}
    arrays: dict[str, Any] = {}
    for name, rows in parts.items():
        arrays |= {f"{name}_images": colours[rows], f"{name}_labels": labels[rows]}
    np.savez_compressed(tmp_path / "pathmnist.npz", allow_pickle=False, **arrays)

    reader = recognise_arrays(tmp_path)
    items, _ = take_apart(reader)
    validation = of_split(items, "validation")
    assert np.array_equal(pixels_of(validation), colours[24:32])
    assert numbers(validation) == labels[24:32, 0].tolist()
    assert reader is not None
    assert reader.class_order() == [str(number) for number in range(12)]


@pytest.mark.parametrize(
    "change",
    [
        lambda images: images[..., None],
        lambda images: images[:, None],
        lambda images: np.asfortranarray(images),
        lambda images: images.astype(np.int64),
        lambda images: images.astype(np.float64),
        lambda images: images.astype(np.float32) / 255,
        lambda images: images.astype(">i4"),
    ],
    ids=["one channel", "channel first", "Fortran", "int64", "float64", "0 to 1", "big-endian"],
)
def test_the_same_bytes_come_from_any_form(
    change: Any, fashion_arrays: Arrays, tmp_path: Path
) -> None:
    labels = fashion_arrays.train_labels
    np.savez_compressed(tmp_path / "set.npz", x=change(fashion_arrays.train_images), y=labels)
    items, faults = take_apart(recognise_arrays(tmp_path / "set.npz"))
    pixels = pixels_of(items)
    assert pixels.dtype == np.uint8 and not faults
    assert np.array_equal(pixels, fashion_arrays.train_images)
    assert {item.split for item in items} == {None}


def test_masks_become_black_and_white(tmp_path: Path) -> None:
    masks = np.zeros((4, 8, 8), bool)
    masks[:, 2:5] = True
    np.savez(tmp_path / "masks.npz", images=masks, labels=[0, 1, 0, 1])
    items, _ = take_apart(recognise_arrays(tmp_path / "masks.npz"))
    assert np.array_equal(pixels_of(items), masks * 255)


def test_deep_pixels_are_left_to_the_importer(tmp_path: Path) -> None:
    """12 bits in 16, even if this picture is dark; and floats beyond 0 to 1."""
    deep = np.full((2, 8, 8), 200, np.uint16)
    np.savez(tmp_path / "deep.npz", images=deep, labels=[0, 1])
    items, _ = take_apart(recognise_arrays(tmp_path / "deep.npz"))
    assert pixels_of(items).dtype == np.uint16

    standardized = np.linspace(-2, 3, 128, dtype=np.float32).reshape(2, 8, 8)
    np.savez(tmp_path / "float.npz", images=standardized, labels=[0, 1])
    items, _ = take_apart(recognise_arrays(tmp_path / "float.npz"))
    assert np.array_equal(pixels_of(items), standardized)


def test_arrays_in_files_of_their_own(fashion_arrays: Arrays, tmp_path: Path) -> None:
    """Kuzushiji-49's four .npz with an unnamed array in each, and .npy."""
    np.savez_compressed(tmp_path / "k49-train-imgs.npz", fashion_arrays.train_images)
    np.savez_compressed(tmp_path / "k49-train-labels.npz", fashion_arrays.train_labels)
    np.save(tmp_path / "X_test.npy", fashion_arrays.test_images)
    np.save(tmp_path / "y_test.npy", fashion_arrays.test_labels)
    items, _ = take_apart(recognise_arrays(tmp_path))
    train, test = of_split(items, "train"), of_split(items, "test")
    assert np.array_equal(pixels_of(train), fashion_arrays.train_images)
    assert np.array_equal(pixels_of(test), fashion_arrays.test_images)
    assert numbers(test) == fashion_arrays.test_labels.tolist()


def test_labels_of_one_column_each_class(fashion_arrays: Arrays, tmp_path: Path) -> None:
    one_hot = np.eye(10)[fashion_arrays.train_labels]
    np.savez(tmp_path / "set.npz", x_train=fashion_arrays.train_images, y_train=one_hot)
    items, _ = take_apart(recognise_arrays(tmp_path / "set.npz"))
    assert numbers(items) == fashion_arrays.train_labels.tolist()


def test_labels_in_words(fashion_arrays: Arrays, tmp_path: Path) -> None:
    images = fashion_arrays.train_images[:3]
    np.savez(tmp_path / "set.npz", x_train=images, y_train=np.array(["cat", " dog ", ""]))
    items, faults = take_apart(recognise_arrays(tmp_path / "set.npz"))
    assert [item.label for item in items] == ["cat", "dog"]
    assert [(fault.kind, fault.name) for fault in faults] == [("no class", "set.npz/x_train#2")]


def test_images_without_labels_are_told(fashion_arrays: Arrays, tmp_path: Path) -> None:
    images, labels = fashion_arrays.train_images[:3], fashion_arrays.train_labels[:3]
    np.savez(tmp_path / "set.npz", x_train=images, y_train=labels, x_test=images)
    reader = recognise_arrays(tmp_path / "set.npz")
    assert reader is not None
    left_out = "(x_test is left out: nothing has its labels)"
    assert reader.what == f"NumPy's arrays (x_train) {left_out}"


def test_labels_txt_names_the_numbers(fashion_arrays: Arrays, tmp_path: Path) -> None:
    """From the smallest on, wherever it begins; a wrong number of lines is told."""
    labels = fashion_arrays.train_labels + 1
    np.savez(tmp_path / "set.npz", x_train=fashion_arrays.train_images, y_train=labels)
    names = [f"class {letter}" for letter in "zyxwvutsrq"]
    (tmp_path / "labels.txt").write_text("\n".join(names))
    reader = recognise_arrays(tmp_path / "set.npz")
    items, _ = take_apart(reader)
    expected = [names[number] for number in fashion_arrays.train_labels]
    assert [item.label for item in items] == expected
    assert reader is not None and reader.class_order() == names

    (tmp_path / "labels.txt").write_text("one\ntwo\n")
    with pytest.raises(DataError, match="has 2 lines, but the labels have 10 values, 1 to 10"):
        take_apart(recognise_arrays(tmp_path / "set.npz"))


def test_unlabelled_images_are_faults(fashion_arrays: Arrays, tmp_path: Path) -> None:
    """As STL-10 and Hugging Face mark them: -1."""
    labels = fashion_arrays.train_labels.copy()
    labels[5] = -1
    np.savez(tmp_path / "set.npz", x_train=fashion_arrays.train_images, y_train=labels)
    items, faults = take_apart(recognise_arrays(tmp_path / "set.npz"))
    assert [(fault.kind, fault.name) for fault in faults] == [("no class", "set.npz/x_train#5")]
    assert len(items) == 299


def test_values_that_are_no_numbers_are_one_picture_s_fault(tmp_path: Path) -> None:
    for value, expected in ((300.0, 300.0), (0.5, 128)):
        images = np.full((3, 8, 8), value)
        images[1, 4, 4] = np.nan
        np.savez(tmp_path / "set.npz", images=images, labels=[0, 1, 0])
        items, _ = take_apart(recognise_arrays(tmp_path / "set.npz"))
        with pytest.raises(ReadError, match="no numbers"):
            items[1].read()
        assert (pixels_of([items[0], items[2]]) == expected).all()


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    marker = tmp_path / "it ran"

    class Hostile:
        def __reduce__(self) -> Any:
            return Path.touch, (marker,)

    objects = np.array([Hostile(), Hostile()], object)
    with (tmp_path / "x.npy").open("wb") as file:
        np.lib.format.write_array(file, objects, allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as archive:
        archive.write(tmp_path / "x.npy", "x_train.npy")
        archive.write(tmp_path / "x.npy", "y_train.npy")
    with pytest.raises(DataError, match=r"'x_train' holds Python objects \(a pickle\)"):
        recognise_arrays(tmp_path / "set.npz")

    (tmp_path / "pickled.npz").write_bytes(pickle.dumps(objects))
    with pytest.raises(DataError, match=r"is no \.npz file"):
        recognise_arrays(tmp_path / "pickled.npz")
    assert not marker.exists()


def test_an_archive_of_something_else_is_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as archive:
        archive.writestr("photos/cat.jpg", b"\xff\xd8")
    with pytest.raises(DataError, match=r"without NumPy arrays \(it holds 'photos/cat.jpg'\)"):
        recognise_arrays(tmp_path / "set.npz")

    np.savez(tmp_path / "other.npz", weights=np.ones(3), bias=np.ones(3))
    with pytest.raises(DataError, match=r"holds 'other.npz/weights', 'other.npz/bias'; looked for"):
        recognise_arrays(tmp_path / "other.npz")


def test_numbers_of_images_and_labels_differ(fashion_arrays: Arrays, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=fashion_arrays.train_images, y_train=np.zeros(301, int))
    with pytest.raises(DataError, match="x_train has 300 images, but y_train has 301 labels"):
        recognise_arrays(tmp_path / "a.npz")


def test_several_labels_an_image_are_refused(fashion_arrays: Arrays, tmp_path: Path) -> None:
    """ChestMNIST's fourteen columns."""
    labels = np.zeros((300, 14), np.uint8)
    labels[:, 3] = 1
    labels[7, 5] = 1
    np.savez(tmp_path / "a.npz", train_images=fashion_arrays.train_images, train_labels=labels)
    with pytest.raises(DataError, match="14 columns, and row 7 does not choose exactly one"):
        take_apart(recognise_arrays(tmp_path / "a.npz"))


@pytest.mark.parametrize("shape", [(5, 784), (5, 8, 8, 8), (5, 8, 8, 2)])
def test_what_are_no_images_is_told(shape: tuple[int, ...], tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=np.zeros(shape, np.uint8), y_train=np.zeros(5))
    with pytest.raises(DataError, match="x_train is an array of"):
        recognise_arrays(tmp_path / "a.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damage_is_told(save: Any, fashion_arrays: Arrays, tmp_path: Path) -> None:
    """A cut file has no directory; a flipped byte is found as it is unpacked."""
    path = tmp_path / "a.npz"
    save(path, **keras(fashion_arrays))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"is no \.npz file"):
        recognise_arrays(path)

    if save is np.savez_compressed:
        damaged = bytearray(whole)
        damaged[20_000] ^= 0xFF
        path.write_bytes(damaged)
        items, _ = take_apart(recognise_arrays(path))
        with pytest.raises(DataError, match="'x_train' cannot be unpacked"):
            items[0].read()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"(300, 28, 28)", b"(300, 28, 28("),
        (b"(300, 28, 28)", b"(300, 28, -8)"),
        (b"(300, 28, 28)", b"(301, 28, 28)"),
        (b"'|u1'", b"'|u9'"),
        (b"NUMPY\x01", b"NUMPY\x07"),
    ],
)
def test_a_damaged_header_is_told(
    old: bytes, new: bytes, fashion_arrays: Arrays, tmp_path: Path
) -> None:
    np.save(tmp_path / "x_train.npy", fashion_arrays.train_images)
    np.save(tmp_path / "y_train.npy", fashion_arrays.train_labels)
    path = tmp_path / "x_train.npy"
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    with pytest.raises(DataError, match="x_train") as raised:
        recognise_arrays(tmp_path)
    assert "\n" not in str(raised.value)


def test_nothing_is_left_of_what_is_unpacked(
    fashion_arrays: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert scratch_folder() == scratch
    np.savez_compressed(tmp_path / "a.npz", allow_pickle=False, **keras(fashion_arrays))
    items, _ = take_apart(recognise_arrays(tmp_path / "a.npz"))
    pixels_of(items)
    assert list(scratch.iterdir()) == []


def test_arrays_beside_folders_of_pictures_are_none_of_ours(tmp_path: Path) -> None:
    (tmp_path / "cats").mkdir()
    np.save(tmp_path / "features.npy", np.ones(3))
    assert recognise_arrays(tmp_path) is None
