"""Images and labels in NumPy's arrays: Keras's and MedMNIST's .npz, and folders of such files."""

import re
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fmnist.data.importing.folder import is_hidden, stamp_of
from fmnist.data.importing.item import Entry, Fault, Item, Reader, ReadError, SplitName
from fmnist.data.importing.readers.csv_file import read_label
from fmnist.data.importing.readers.labelled import LabelledReader
from fmnist.data.importing.readers.stored_array import StoredArray, open_archive
from fmnist.data.importing.split_names import WORDS
from fmnist.data.importing.words import first_of
from fmnist.errors import DataError

Kind = Literal["images", "labels"]
KINDS: dict[str, Kind] = {
    "x": "images",
    "image": "images",
    "images": "images",
    "img": "images",
    "imgs": "images",
    "data": "images",
    "y": "labels",
    "label": "labels",
    "labels": "labels",
    "target": "labels",
    "targets": "labels",
}
"""Words of an array's name that say what it holds."""
UNNAMED = "arr_0"
"""What NumPy calls an array that was saved without a name: the file's name then counts."""
LOOKED_FOR = (
    "x_train and y_train, x_test and y_test (Keras), or train_images and train_labels, "
    "val_images …, test_images … (MedMNIST)"
)
SUFFIXES = (".npz", ".npy")
PIXEL_TYPES = "buif"
"""NumPy's kinds: bool, unsigned, signed, floating."""
MAX_LABEL = 2**31


@dataclass(frozen=True, slots=True)
class Pair:
    """Images and their labels."""

    split: SplitName | None
    images: StoredArray
    labels: StoredArray


def recognise_arrays(path: Path) -> Reader | None:
    """Read an .npz file, or a folder that holds one, or the arrays of a set in several files.

    Raises:
        DataError: it is an .npz file, and not one of a data set.
    """
    files = _array_files(path)
    if not files:
        return None

    arrays: list[StoredArray] = []
    for file in files:
        arrays += [StoredArray(file)] if file.suffix.lower() == ".npy" else open_archive(file)
    pairs = _pair(path, arrays)
    pixels = Pixels([pair.images for pair in pairs])
    folder = path if path.is_dir() else path.parent
    what = f"NumPy's arrays ({', '.join(pair.images.key for pair in pairs)})"
    for array in _alone(arrays, pairs):
        what += f" ({array.key} is left out: nothing has its labels)"
    return LabelledReader(what, partial(_list, pairs, pixels), folder)


def _array_files(path: Path) -> list[Path]:
    if path.is_dir():
        # Arrays that lie beside folders are something else, such as features of their pictures.
        visible = [child for child in sorted(path.iterdir()) if not is_hidden(child.name)]
        if any(child.is_dir() for child in visible):
            return []
        return [child for child in visible if child.suffix.lower() in SUFFIXES]
    # Without the suffix the content decides.
    if path.suffix.lower() in SUFFIXES or _is_archive_of_arrays(path):
        return [path]
    return []


def _is_archive_of_arrays(path: Path) -> bool:
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith(".npy") for name in archive.namelist())


def _pair(path: Path, arrays: list[StoredArray]) -> list[Pair]:
    """Find the images and the labels of each split, by the arrays' names."""
    found: dict[SplitName | None, dict[Kind, StoredArray]] = {}
    for array in arrays:
        split, kind = _read_name(array)
        if kind is None:
            continue
        before = found.setdefault(split, {}).setdefault(kind, array)
        if before is not array:
            raise DataError(
                f"data={str(path)!r}: {before.name} and {array.name} are both the "
                f"{split or 'only'} {kind}; name the file that is meant"
            )

    pairs: list[Pair] = []
    for split, parts in found.items():
        if len(parts) == 2:
            pairs.append(Pair(split, parts["images"], parts["labels"]))
    if not pairs:
        names = [array.name for array in arrays]
        raise DataError(f"data={str(path)!r} holds {first_of(names, 10)}; looked for {LOOKED_FOR}")

    for pair in pairs:
        _check_pair(path, pair)
    return pairs


def _alone(arrays: list[StoredArray], pairs: list[Pair]) -> list[StoredArray]:
    """Images of a split without labels."""
    paired = [pair.images for pair in pairs]
    alone: list[StoredArray] = []
    for array in arrays:
        is_paired = any(array is images for images in paired)
        if _read_name(array)[1] == "images" and not is_paired:
            alone.append(array)
    return alone


def _read_name(array: StoredArray) -> tuple[SplitName | None, Kind | None]:
    """The split and the kind that an array's name tells: "x_train", "k49-test-labels"."""
    name = array.path.stem if array.key == UNNAMED else array.key
    split: SplitName | None = None
    kind: Kind | None = None
    for word in re.split(r"[^a-z0-9]+", name.lower()):
        if word in WORDS:
            split = WORDS[word]
        if word in KINDS:
            kind = KINDS[word]
    return split, kind


def _check_pair(path: Path, pair: Pair) -> None:
    images, labels = pair.images, pair.labels
    if images.dtype.kind not in PIXEL_TYPES or _channel_axis(images.shape) is None:
        raise DataError(
            f"data={str(path)!r}: {images.key} is an array of {images.shape} {images.dtype}; "
            "images are numbers, (N, height, width), or (N, height, width, 1 or 3)"
        )
    if len(images) != len(labels):
        raise DataError(
            f"data={str(path)!r}: {images.key} has {len(images):,} images, but {labels.key} has "
            f"{len(labels):,} labels"
        )


def _channel_axis(shape: tuple[int, ...]) -> int | None:
    """The axis of the channels, 0 where there is none; None if these are no images."""
    if len(shape) == 3:
        return 0
    if len(shape) == 4 and shape[3] in (1, 3):
        return 3
    # As PyTorch has them.
    if len(shape) == 4 and shape[1] in (1, 3):
        return 1
    return None


def _list(pairs: list[Pair], pixels: "Pixels") -> Iterator[Entry]:
    for pair in pairs:
        images = pair.images
        stamp = stamp_of(images.path.stat())
        for number, label in enumerate(read_labels(pair.labels)):
            name = f"{images.name}#{number}"
            if label is None:
                yield Fault("no class", name, "its label is empty, negative or no number")
            else:
                read = partial(pixels.read, images, number)
                yield Item(name, label, pair.split, stamp, read)


def read_labels(array: StoredArray) -> list[str | None]:
    """Read labels: numbers or names, (N,) or (N, 1), or a one for the class among zeros, (N, K).

    Returns:
        a label for each image; None where there is none.

    Raises:
        DataError: an image has several labels, or the array holds something else.
    """
    values = array.whole()
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    elif values.ndim == 2 and values.dtype.kind in PIXEL_TYPES:
        values = _decode_one_hot(array, values)
    if values.ndim != 1 or values.dtype.kind not in PIXEL_TYPES + "US":
        raise DataError(
            f"{array.path}: {array.key} is an array of {array.shape} {array.dtype}; labels are "
            "numbers or names, (N,) or (N, 1)"
        )

    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    if values.dtype.kind == "U":
        return [read_label(text) for text in values.tolist()]

    labels: list[str | None] = []
    for value in values.tolist():
        known = 0 <= value < MAX_LABEL and value == int(value)
        labels.append(str(int(value)) if known else None)
    return labels


def _decode_one_hot(array: StoredArray, values: NDArray[Any]) -> NDArray[Any]:
    """The number of the column that is 1, in each row."""
    one_each = ((values != 0).sum(1) == 1) & (values.max(1) == 1)
    if not one_each.all():
        number = int(np.flatnonzero(~one_each)[0])
        raise DataError(
            f"{array.path}: {array.key} has {values.shape[1]} columns, and row {number} does not "
            "choose exactly one: several labels an image are not supported; choose one column, and "
            "save the labels as (N,)"
        )
    return values.argmax(1)


Scale = Literal["as they are", "bytes", "0 to 1"]


class Pixels:
    """Reads images of arrays that were made in one way: all are scaled alike.

    Bytes are often saved as wider numbers, or divided by 255. Such are turned back exactly; other
    values are handed on, for the importer to scale by their range.
    """

    def __init__(self, arrays: list[StoredArray]) -> None:
        self.arrays = arrays
        self._lock = threading.Lock()
        self._scale: Scale | None = None

    def read(self, array: StoredArray, number: int) -> NDArray[Any]:
        """Read an image, (H, W) or (H, W, 3): uint8, or a wider type where it holds more.

        Raises:
            ReadError: a value is no number, or the file has changed.
            DataError: the archive is damaged.
        """
        pixels = array.rows(number, number + 1)[0]
        if _channel_axis(array.shape) == 1:
            pixels = pixels.transpose(1, 2, 0)
        if pixels.ndim == 3 and pixels.shape[2] == 1:
            pixels = pixels[:, :, 0]

        _check_finite(array, pixels)
        match array.dtype.kind, self._find_scale():
            case "b", _:
                return pixels.astype(np.uint8) * np.uint8(255)
            case _, "bytes":
                return pixels.astype(np.uint8)
            case _, "0 to 1":
                return np.rint(pixels * 255.0).astype(np.uint8)
            case _:
                return pixels.astype(pixels.dtype.newbyteorder("="))

    def _find_scale(self) -> Scale:
        """Look through all values, once: the scale must be one for all images."""
        with self._lock:
            if self._scale is None:
                self._scale = _scale_of(self.arrays)
            return self._scale


def _scale_of(arrays: list[StoredArray]) -> Scale:
    # 16 bits without sign are what detectors write: dark ones are no bytes.
    if any(array.dtype.kind == "u" and array.dtype.itemsize == 2 for array in arrays):
        return "as they are"

    lowest, highest, whole = 0.0, 0.0, True
    for array in arrays:
        if array.dtype == np.uint8:
            highest = max(highest, 255.0)
        if array.dtype == np.uint8 or array.dtype.kind == "b":
            continue
        for chunk in array.chunks():
            # A picture with values that are no numbers is a fault, and says nothing of the others.
            values = chunk[np.isfinite(chunk)]
            lowest = min(lowest, float(values.min(initial=0)))
            highest = max(highest, float(values.max(initial=0)))
            whole = whole and bool((values == np.rint(values)).all())

    if lowest < 0 or highest > 255:
        return "as they are"
    if whole and highest > 1:
        return "bytes"
    return "0 to 1" if highest <= 1 else "as they are"


def _check_finite(array: StoredArray, pixels: NDArray[Any]) -> None:
    if array.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise ReadError("unreadable", "some of its pixels are no numbers (NaN or infinite)")
