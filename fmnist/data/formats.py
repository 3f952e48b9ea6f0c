"""The four files of a data set in MNIST's format: names, contents, and Fashion-MNIST's own hashes.

Needs neither NumPy nor PyTorch, so that a command's --help starts at once.
"""

import gzip
import hashlib
import re
import zlib
from pathlib import Path

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
SUMS_FILE = "SHA256SUMS"
LABELS_FILE = "labels.txt"
PARTS = {
    "train-images": "images",
    "train-labels": "labels",
    "t10k-images": "images",
    "t10k-labels": "labels",
}
"""The four parts of a data set, and what each holds."""
DIMENSIONS = {"images": 3, "labels": 1}
"""The number in a part's usual file name."""
FILE_NAME = re.compile(
    r"(?P<set>.*?)(?P<part>train|t10k|test)-(?P<kind>images|labels)[-.]idx\d-ubyte(\.gz)?"
)


def find_files(folder: Path) -> dict[str, Path]:
    """Find the four files by part, whatever stands before train, t10k or test in their names.

    Raises:
        DataError: a file is missing, or the folder holds several sets.
    """
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
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be unpacked ({error}): damaged or cut short; "
            "put a whole one in its place"
        ) from error


def hash_content(content: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def hash_files(folder: Path) -> dict[str, str]:
    """SHA-256 of each of the four files, unpacked, by its plain name.

    Raises:
        DataError: a file is missing or cannot be unpacked.
    """
    hashes: dict[str, str] = {}
    for path in find_files(folder).values():
        hashes[plain_name(path)] = hash_content(unpack(path))
    return hashes
