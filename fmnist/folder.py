"""A folder of images, one subfolder a class, becomes a data set in MNIST's file format, kept in the cache."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from fmnist.errors import check
from fmnist.idx import DataError, write_idx
from fmnist.photo import SUFFIXES, ImageError, is_gray, open_image, to_pixels
from fmnist.run import write_json

TEST_SHARE = 6
"""One image in so many is kept for the test where the folder has no split: MNIST's own 10,000 of 70,000, rounded."""
TEST_NAMES = ("test", "val", "valid", "validation")
FIT = "pad"
DESCRIPTION = "dataset.json"


@dataclass(frozen=True, slots=True)
class Images:
    """Image files and the number of each one's class."""

    paths: list[Path]
    labels: NDArray[np.uint8]


def import_folder(folder: Path, size: int, cache: Path) -> Path:
    """Convert the images under `folder` unless the cache has them already; give the converted data set's folder.

    The folder holds a subfolder for each class, or `train` and `test` (also val, valid, validation) that each do. Without such
    a split one image in six of each class is kept for the test, the same ones each time. Gray images stay gray, all others become
    three channels; each is padded to a square and resized.

    Raises:
        DataError: there are no two classes with images, the splits' classes differ, or an image cannot be read.
    """
    check(size >= 8, f"image_size={size}: it must be at least 8")
    if not folder.is_dir():
        raise DataError(f"from_folder={str(folder)!r}: no such folder")
    classes, train, test = _find(folder)
    target = cache / f"{folder.resolve().name}-{size}-{_fingerprint(folder, train, test)}"
    if (target / DESCRIPTION).exists():
        return target
    pixels = _read(train.paths + test.paths, size)
    for prefix, images in (("train", train), ("t10k", test)):
        part, pixels = pixels[: len(images.paths)], pixels[len(images.paths) :]
        write_idx(target / f"{prefix}-images-idx{part.ndim}-ubyte", part)
        write_idx(target / f"{prefix}-labels-idx1-ubyte", images.labels)
    (target / "labels.txt").write_text("\n".join(classes) + "\n")
    write_json(target / DESCRIPTION, {"name": folder.resolve().name, "fit": FIT})  # last: it says that the set is whole
    return target


def _find(folder: Path) -> tuple[list[str], Images, Images]:
    parts = {child.name.lower(): child for child in _subfolders(folder)}
    test_name = next((name for name in TEST_NAMES if name in parts), None)
    if "train" in parts and test_name:
        classes, train = _scan(parts["train"])
        test_classes, test = _scan(parts[test_name])
        if test_classes != classes:
            odd = ", ".join(sorted(set(classes) ^ set(test_classes)))
            raise DataError(f"from_folder={str(folder)!r}: train and {test_name} must have the same classes; not in both: {odd}")
        return classes, train, test
    classes, images = _scan(folder)
    return classes, *_split(folder, classes, images)


def _scan(folder: Path) -> tuple[list[str], Images]:
    found = {
        child.name: sorted(path for path in child.rglob("*") if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))
        for child in _subfolders(folder)
    }
    classes = [name for name, paths in found.items() if paths]
    if not 2 <= len(classes) <= 256:
        raise DataError(
            f"from_folder={str(folder)!r}: {len(classes)} subfolders with images in them; it must hold 2 to 256, one for each class"
        )
    paths = [path for name in classes for path in found[name]]
    labels = np.repeat(np.arange(len(classes), dtype=np.uint8), [len(found[name]) for name in classes])
    return classes, Images(paths, labels)


def _subfolders(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))


def _split(folder: Path, classes: list[str], images: Images) -> tuple[Images, Images]:
    counts = np.bincount(images.labels)
    if counts.min() < TEST_SHARE:
        few = classes[int(counts.argmin())]
        raise DataError(
            f"from_folder={str(folder)!r}: class {few!r} has {counts.min()} images; "
            f"it takes {TEST_SHARE} of each to split, or folders train and test"
        )
    order = np.random.default_rng(0).permutation(len(images.paths))
    rank = np.empty(len(order), np.int64)  # of each image within its class, in random order
    for number in range(len(classes)):
        members = order[images.labels[order] == number]
        rank[members] = np.arange(len(members))
    test = rank % TEST_SHARE == 0
    return _take(images, ~test), _take(images, test)


def _take(images: Images, chosen: NDArray[np.bool_]) -> Images:
    return Images([path for path, take in zip(images.paths, chosen, strict=True) if take], images.labels[chosen])


def _fingerprint(folder: Path, *parts: Images) -> str:
    """Changes when a file comes, goes or is written."""
    digest = hashlib.sha256(str(folder.resolve()).encode())
    for path in (path for part in parts for path in part.paths):
        status = path.stat()
        digest.update(f"{path.relative_to(folder)}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:16]


def _read(paths: list[Path], size: int) -> NDArray[np.uint8]:
    """Pixels (N, size, size) if every image is gray, else (N, 3, size, size)."""

    def read(path: Path) -> NDArray[np.uint8]:
        image = open_image(path)
        return to_pixels(image, size=size, channels=1 if is_gray(image) else 3, fit=FIT)

    try:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            images = list(track(pool.map(read, paths), "reading images", len(paths), console=Console(stderr=True), transient=True))
    except ImageError as error:
        raise DataError(f"{error}; mend it or take it out of the folder") from error
    if any(image.ndim == 3 for image in images):
        images = [np.broadcast_to(image, (3, size, size)) for image in images]
    return np.stack(images)
