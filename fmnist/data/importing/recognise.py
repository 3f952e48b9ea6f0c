"""Recognise what a path holds, by looking at it."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from fmnist.data.formats import find_idx
from fmnist.data.importing.folder import recognise_folder
from fmnist.data.importing.item import Reader
from fmnist.data.importing.readers.arrays import recognise_arrays
from fmnist.data.importing.readers.parquet import recognise_parquet
from fmnist.data.importing.readers.shards import recognise_shards
from fmnist.data.importing.readers.tables import recognise_csv
from fmnist.data.importing.words import shown
from fmnist.errors import DataError

LISTED = 10
"""Entries of an unknown folder that the error names."""

Recogniser = Callable[[Path], Reader | Path | None]
"""Returns what reads the source, or a folder with MNIST's four files that are used as they are, or
None where the path holds something else. It raises DataError where it is this kind, and broken."""

RECOGNISERS: dict[str, Recogniser] = {
    "torchvision's folders (FashionMNIST/raw)": find_idx,
    "Parquet with the images' bytes, as Hugging Face has it": recognise_parquet,
    "a tar in WebDataset's form": recognise_shards,
    "NumPy's .npz, as Keras and MedMNIST have it": recognise_arrays,
    "a CSV of pixels, or of paths and labels": recognise_csv,
    "a folder for each class": recognise_folder,
}
"""The kinds of sources in words, in the order they are tried: the surest signs first."""


def recognise(path: Path, argument: str) -> Reader | Path:
    """Find what reads a source.

    Args:
        path: a file or a folder of this machine.
        argument: how errors name it: "data='photos'".

    Raises:
        DataError: nothing is there, or nothing that is known.
    """
    # One of several sets in a folder is called by a name that no file has.
    if not path.exists() and find_idx(path) is None:
        raise DataError(f"{argument}: no such file or folder")

    for recogniser in RECOGNISERS.values():
        found = recogniser(path)
        if found is not None:
            return found

    looked_for = ["MNIST's four files (train-images-idx3-ubyte and so on, plain or .gz)"]
    looked_for += list(RECOGNISERS)
    raise DataError(
        f"{argument}: nothing in it is known. Looked for: {'; '.join(looked_for)}. "
        f"There: {_describe(path)}"
    )


def _describe(path: Path) -> str:
    """What lies at a path: the first entries, and how many there are of each suffix."""
    if not path.is_dir():
        return f"a file of {path.stat().st_size:,} bytes"

    names = sorted(entry.name for entry in path.iterdir())
    if not names:
        return "an empty folder"
    listed = ", ".join(shown(name) for name in names[:LISTED])
    if len(names) > LISTED:
        listed += f" and {len(names) - LISTED:,} more"

    suffixes = Counter(_kind_of(path / name) for name in names)
    counts = ", ".join(f"{count:,} {suffix}" for suffix, count in suffixes.most_common(LISTED))
    return f"{listed} ({counts})"


def _kind_of(path: Path) -> str:
    if path.is_dir():
        return "folders"
    return path.suffix.lower() or "without a suffix"
