"""Convert a folder of images, one subfolder a class, to MNIST's file format, once, in the cache."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from fmnist.data.formats import LABELS_FILE
from fmnist.data.idx import write_idx
from fmnist.data.picture import SUFFIXES, ImageError, is_gray, open_image, to_pixels
from fmnist.errors import DataError, check
from fmnist.runs.files import write_json

TEST_SHARE = 6
"""One image in so many is kept for the test where the folder has no split: MNIST's own 10,000 of
70,000, rounded."""
TEST_NAMES = ("test", "val", "valid", "validation")
MIN_SIZE = 8
MAX_CLASSES = 256
"""Labels are unsigned bytes."""
FIT = "pad"
DESCRIPTION = "dataset.json"


@dataclass(frozen=True, slots=True)
class Images:
    """Image files and the number of each one's class."""

    paths: list[Path]
    labels: NDArray[np.uint8]


def import_folder(folder: Path, size: int, cache: Path) -> Path:
    """Convert the images under `folder` unless the cache has them already.

    The folder holds a subfolder for each class, or `train` and `test` (also val, valid, validation)
    that each do. Without such a split one image in six of each class is kept for the test, the same
    ones each time. Gray images stay gray, all others become three channels; each is padded to a
    square and resized.

    Returns:
        the converted data set's folder.

    Raises:
        DataError: there are no two classes with images, the splits' classes differ, or an image
            cannot be read.
    """
    check(size >= MIN_SIZE, f"image_size={size}: it must be at least {MIN_SIZE}")
    if not folder.is_dir():
        raise DataError(f"from_folder={str(folder)!r}: no such folder")

    classes, train, test = _scan_splits(folder)
    name = folder.resolve().name
    target = cache / f"{name}-{size}-{_fingerprint(folder, train, test)}"
    if (target / DESCRIPTION).exists():
        return target

    # All at once: a single colour image makes both splits colour.
    pixels = _read(train.paths + test.paths, size)
    count = len(train.paths)
    _write_split(target, "train", pixels[:count], train.labels)
    _write_split(target, "t10k", pixels[count:], test.labels)
    (target / LABELS_FILE).write_text("\n".join(classes) + "\n")
    # Last: its presence says that the set is whole.
    write_json(target / DESCRIPTION, {"name": name, "fit": FIT})
    return target


def _write_split(
    folder: Path, prefix: str, pixels: NDArray[np.uint8], labels: NDArray[np.uint8]
) -> None:
    write_idx(folder / f"{prefix}-images-idx{pixels.ndim}-ubyte", pixels)
    write_idx(folder / f"{prefix}-labels-idx1-ubyte", labels)


def _scan_splits(folder: Path) -> tuple[list[str], Images, Images]:
    """Names of the classes, training images and test images."""
    parts = {child.name.lower(): child for child in _subfolders(folder)}
    test_name = next((name for name in TEST_NAMES if name in parts), None)
    if "train" not in parts or test_name is None:
        classes, images = _scan(folder)
        train, test = _split(folder, classes, images)
        return classes, train, test

    classes, train = _scan(parts["train"])
    test_classes, test = _scan(parts[test_name])
    if test_classes != classes:
        odd = ", ".join(sorted(set(classes) ^ set(test_classes)))
        raise DataError(
            f"from_folder={str(folder)!r}: train and {test_name} must have the same classes; "
            f"not in both: {odd}"
        )
    return classes, train, test


def _scan(folder: Path) -> tuple[list[str], Images]:
    """Names of the classes, and the images in their subfolders."""
    images_of: dict[str, list[Path]] = {}
    for child in _subfolders(folder):
        images = sorted(path for path in child.rglob("*") if _is_image(path))
        if images:
            images_of[child.name] = images

    classes = list(images_of)
    if not 2 <= len(classes) <= MAX_CLASSES:
        raise DataError(
            f"from_folder={str(folder)!r}: {len(classes)} subfolders with images in them; "
            f"it must hold 2 to {MAX_CLASSES}, one for each class"
        )

    paths: list[Path] = []
    labels: list[int] = []
    for number, images in enumerate(images_of.values()):
        paths += images
        labels += [number] * len(images)
    return classes, Images(paths, np.array(labels, np.uint8))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _subfolders(folder: Path) -> list[Path]:
    shown = [child for child in folder.iterdir() if not child.name.startswith(".")]
    return sorted(child for child in shown if child.is_dir())


def _split(folder: Path, classes: list[str], images: Images) -> tuple[Images, Images]:
    """Keep one image in six of each class for the test, at random, the same ones each time."""
    # The test needs an image of each class.
    counts = np.bincount(images.labels)
    if counts.min() < TEST_SHARE:
        rarest = classes[int(counts.argmin())]
        raise DataError(
            f"from_folder={str(folder)!r}: class {rarest!r} has {counts.min()} images; "
            f"it takes {TEST_SHARE} of each to split, or folders train and test"
        )

    order = np.random.default_rng(0).permutation(len(images.paths))
    place = np.empty(len(order), np.int64)  # of each image within its class, in random order
    for number in range(len(classes)):
        members = order[images.labels[order] == number]
        place[members] = np.arange(len(members))
    is_test = place % TEST_SHARE == 0
    return _take(images, ~is_test), _take(images, is_test)


def _take(images: Images, chosen: NDArray[np.bool_]) -> Images:
    paths = [images.paths[number] for number in np.flatnonzero(chosen)]
    return Images(paths, images.labels[chosen])


def _fingerprint(folder: Path, *parts: Images) -> str:
    """A digest that changes when a file comes, goes or is written."""
    # Sizes and times stand for the contents, which would take long to read.
    digest = hashlib.sha256(str(folder.resolve()).encode())
    for part in parts:
        for path in part.paths:
            status = path.stat()
            name = path.relative_to(folder)
            digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:16]


def _read(paths: list[Path], size: int) -> NDArray[np.uint8]:
    """Pixels (N, size, size) if every image is gray, else (N, 3, size, size)."""

    def read(path: Path) -> NDArray[np.uint8]:
        image = open_image(path)
        channels = 1 if is_gray(image) else 3
        return to_pixels(image, size=size, channels=channels, fit=FIT)

    console = Console(stderr=True)
    try:
        # Threads serve: Pillow decodes and resizes outside of Python's lock.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            pixels = pool.map(read, paths)
            bar = track(pixels, "reading images", len(paths), console=console, transient=True)
            images = list(bar)
    except ImageError as error:
        raise DataError(f"{error}; mend it or take it out of the folder") from error

    # A gray image among colour ones gets three equal channels.
    if any(image.ndim == 3 for image in images):
        images = [np.broadcast_to(image, (3, size, size)) for image in images]
    return np.stack(images)
