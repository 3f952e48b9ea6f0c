"""The four files of a data set in MNIST's format: names, contents, and Fashion-MNIST's own hashes.

Needs neither NumPy nor PyTorch, so that a command's --help starts at once.
"""

import gzip
import hashlib
import re
import string
import zlib
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

from fmnist.errors import DataError
from fmnist.runs.files import read_json, write_json

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
REMEMBERED_BYTES = 2**26
"""A larger file is hashed once: while its size and time are the same, its hash is remembered."""
REMEMBERED_FILE = ".hashes.json"
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
AFTER_SET = "-_. "
"""What may stand between a set's name and the rest of a file's."""
RAW = "raw"
"""The folder in which torchvision keeps a set's files."""
DIGITS = "0123456789"
EMNIST_CLASSES = {
    "emnist-balanced": DIGITS + string.ascii_uppercase + "abdefghnqrt",
    "emnist-byclass": DIGITS + string.ascii_uppercase + string.ascii_lowercase,
    "emnist-bymerge": DIGITS + string.ascii_uppercase + "abdefghnqrt",
    "emnist-digits": DIGITS,
    "emnist-letters": string.ascii_uppercase,
    "emnist-mnist": DIGITS,
}
"""The classes of EMNIST's sets, in the order of their labels (Cohen et al., 2017). In some, small
letters that look like capitals are one class with them."""
IMPORTED_NAME = re.compile(
    r"(?P<part>images|labels|splits|groups)-idx\d-(ubyte|int)|(?P<sums>sums)\.npy"
)


def is_imported(folder: Path) -> bool:
    """Whether the folder holds a set that was imported, and whole."""
    return (folder / SUMMARY_FILE).exists() and (folder / SPLITS_FILE).exists()


def holds_data(path: Path) -> bool:
    """Whether a folder holds files of MNIST's format, or a set that was imported."""
    if is_imported(path):
        return True
    return any(FILE_NAME.fullmatch(entry.name) is not None for entry in _entries(path))


def find_files(folder: Path) -> dict[str, Path]:
    """Find the four files by part, whatever stands before train, t10k or test in their names.

    Args:
        folder: the folder that holds them; of several sets in one folder, the folder and the set's
            name, as in EMNIST/raw/emnist-letters.

    Returns:
        the files of PARTS, or those of IMPORTED_PARTS.

    Raises:
        DataError: a file is missing, or the folder holds several sets.
    """
    if is_imported(folder):
        return _find_imported(folder)

    sets = _find_sets(folder) or _find_named_set(folder)
    if len(sets) > 1:
        names = sorted(sets)
        # MNIST's own file names name no set.
        example = next(name for name in names if name)
        raise DataError(
            f"data={str(folder)!r}: it holds {len(sets)} sets ({', '.join(names)}); "
            f"name one: {str(folder / example)!r}"
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


def find_idx(path: Path) -> Path | None:
    """Find where a set of MNIST's four files lies, at a path or where torchvision puts it.

    Args:
        path: the folder of the files, or torchvision's folder of the set (FashionMNIST, with raw in
            it), or its root, with one such set in it; or a set by its name, as `find_files` has it.

    Returns:
        what `find_files` takes; None if there is none.

    Raises:
        DataError: the root holds several sets.
    """
    if is_imported(path) or _find_named_set(path):
        return path
    for folder in (path, path / RAW):
        if _find_sets(folder):
            return folder

    found = [child / RAW for child in sorted(_entries(path)) if _find_sets(child / RAW)]
    if len(found) > 1:
        names = [folder.parent.name for folder in found]
        raise DataError(
            f"data={str(path)!r}: it holds {len(found)} sets ({', '.join(names)}); "
            f"name one: {str(path / names[0])!r}"
        )
    return found[0] if found else None


def _find_sets(folder: Path) -> dict[str, dict[str, Path]]:
    """The files of each set in a folder, by the set's name and the part."""
    sets: dict[str, dict[str, Path]] = {}
    # In reverse order, so that a plain file replaces its .gz.
    for path in sorted(_entries(folder), reverse=True):
        match = FILE_NAME.fullmatch(path.name)
        if match is not None:
            # EMNIST's names have "test" where MNIST's have "t10k".
            part = match["part"].replace("test", "t10k")
            name = match["set"].strip(AFTER_SET)
            sets.setdefault(name, {})[f"{part}-{match['kind']}"] = path
    return sets


def _find_named_set(path: Path) -> dict[str, dict[str, Path]]:
    """The files of the set that the last part of a path names, in the folder above it."""
    # A folder of that name may lie there too: it holds the set's sums.
    named = _find_sets(path.parent).get(path.name) if path.name else None
    return {} if named is None else {path.name: named}


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
    return match["set"].strip(AFTER_SET)


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


def known_hash(path: Path) -> str:
    """SHA-256 of a file, unpacked; a large one's is remembered beside it, while it is unchanged.

    Raises:
        DataError: it is missing or cannot be unpacked.
    """
    if not path.exists() or path.stat().st_size <= REMEMBERED_BYTES:
        return hash_file(path)

    memory = path.with_name(REMEMBERED_FILE)
    remembered: dict[str, Any] = read_json(memory) if memory.exists() else {}
    stamp = _stamp(path)
    entry = remembered.get(path.name)
    if entry is not None and entry["stamp"] == stamp:
        return entry["sha256"]

    remembered[path.name] = {"stamp": stamp, "sha256": hash_file(path)}
    # Where the folder cannot be written to, the file is hashed each time.
    with suppress(OSError):
        write_json(memory, remembered)
    return remembered[path.name]["sha256"]


def _stamp(path: Path) -> list[int]:
    """Size and time of a file: they change when it is written."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]
