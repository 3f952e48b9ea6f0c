"""The four files of a data set in MNIST's format: names, contents, and Fashion-MNIST's own hashes.

Needs neither NumPy nor PyTorch, so that a command's --help starts at once.
"""

import gzip
import hashlib
import re
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from fmnist.errors import DataError

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""Hashes of Fashion-MNIST's unpacked files: mirrors compress them differently."""
HASHED_AT_ONCE = 2**20
SUMS_FILE = "SHA256SUMS"
LABELS_FILE = "labels.txt"
PARTS = {
    "train-images": "images",
    "train-labels": "labels",
    "t10k-images": "images",
    "t10k-labels": "labels",
}
"""The four parts of a data set, and what each holds."""
IMPORTED_PARTS = ("images", "labels", "splits", "groups", "sums")
"""The parts of a set that was imported. One file holds all images; for each of them there is a
label, a split (see SPLITS), a group (copies of one picture have the same number), and the sums of
its pixels and of their squares."""
SPLITS = ("train", "validation", "test")
"""A split's number in the file of splits is its place here."""
SPLITS_FILE = "splits-idx1-ubyte"
FILES_FILE = "files.jsonl"
"""Where each image of an imported set came from: a line for each, in their order."""
SUMMARY_FILE = "dataset.json"
"""What an imported set says of itself; its presence says that the set is whole."""
DIMENSIONS = {"images": 3, "labels": 1}
"""The number in a part's usual file name."""
FILE_NAME = re.compile(
    r"(?P<set>.*?)(?P<part>train|t10k|test)-(?P<kind>images|labels)"
    r"[-.]idx\d-(ubyte|short|int)(\.gz)?"
)
IMPORTED_NAME = re.compile(
    r"(?P<part>images|labels|splits|groups)-idx\d-(ubyte|int)|(?P<sums>sums)\.npy"
)


def is_imported(folder: Path) -> bool:
    """Whether the folder holds a set that was imported, and whole."""
    return (folder / SUMMARY_FILE).exists() and (folder / SPLITS_FILE).exists()


def find_files(folder: Path) -> dict[str, Path]:
    """Find the four files by part, whatever stands before train, t10k or test in their names.

    Returns:
        the files of PARTS, or those of IMPORTED_PARTS.

    Raises:
        DataError: a file is missing, or the folder holds several sets.
    """
    if is_imported(folder):
        return _find_imported(folder)

    sets: dict[str, dict[str, Path]] = {}
    # In reverse order, so that a plain file replaces its .gz.
    for path in sorted(_entries(folder), reverse=True):
        match = FILE_NAME.fullmatch(path.name)
        if match is not None:
            # EMNIST's names have "test" where MNIST's have "t10k".
            part = match["part"].replace("test", "t10k")
            sets.setdefault(match["set"], {})[f"{part}-{match['kind']}"] = path

    if len(sets) > 1:
        raise DataError(
            f"data={str(folder)!r}: it holds {len(sets)} sets ({', '.join(sorted(sets))}); "
            "put one in a folder of its own"
        )
    files = next(iter(sets.values()), {})
    missing: list[str] = []
    for part, kind in PARTS.items():
        if part not in files:
            missing.append(f"{part}-idx{DIMENSIONS[kind]}-ubyte")
    if missing:
        raise DataError(
            f"data={str(folder)!r}: it lacks {', '.join(missing)} (plain or .gz); "
            "name the folder that holds them"
        )
    return {part: files[part] for part in PARTS}


def _find_imported(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in _entries(folder):
        match = IMPORTED_NAME.fullmatch(path.name)
        if match is not None:
            files[match["part"] or match["sums"]] = path

    missing = [part for part in IMPORTED_PARTS if part not in files]
    if missing:
        raise DataError(f"data={str(folder)!r}: it lacks {', '.join(missing)}; delete the folder")
    return {part: files[part] for part in IMPORTED_PARTS}


def _entries(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return list(folder.iterdir())


def plain_name(path: Path) -> str:
    """The file's name without .gz."""
    return path.name.removesuffix(".gz")


def set_name(path: Path) -> str:
    """The data set's name as the name of one of its files gives it; empty for MNIST's own names."""
    match = FILE_NAME.fullmatch(path.name)
    assert match is not None, "find_files() gave it"
    return match["set"].strip("-_. ")


def unpack(path: Path) -> bytes:
    """A file's content, unpacked if its name ends in .gz. Raises DataError if it is damaged."""
    with _unpacked(path) as file:
        return file.read()


@contextmanager
def _unpacked(path: Path) -> Generator[IO[bytes]]:
    """Open a file, unpacked if its name ends in .gz. Raises DataError where it cannot be read."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield cast(IO[bytes], file)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be unpacked ({error}): damaged or cut short; "
            "put a whole one in its place"
        ) from error


def hash_content(content: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content, unpacked if its name ends in .gz.

    Raises:
        DataError: it is missing or cannot be unpacked.
    """
    digest = hashlib.sha256()
    with _unpacked(path) as file:
        while block := file.read(HASHED_AT_ONCE):
            digest.update(block)
    return digest.hexdigest()


def hash_files(folder: Path) -> dict[str, str]:
    """SHA-256 of each of the set's files, unpacked, by its plain name.

    Raises:
        DataError: a file is missing or cannot be unpacked.
    """
    return {plain_name(path): hash_file(path) for path in find_files(folder).values()}
