"""CSV files: of pixels as Kaggle has them, or of paths and labels."""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from fmnist.data.importing.folder import is_hidden
from fmnist.data.importing.item import Entry, LeftOut, Reader
from fmnist.data.importing.readers.csv_file import (
    LABEL_WORDS,
    PATH_WORDS,
    SUFFIXES,
    csv_files,
    describe_columns,
    open_csv,
)
from fmnist.data.importing.readers.labelled import LabelledReader
from fmnist.data.importing.readers.path_csv import PathTable, read_path_table
from fmnist.data.importing.readers.pixel_csv import PixelTable, read_pixel_table
from fmnist.data.importing.split_names import split_of_file
from fmnist.errors import DataError

NOT_LABELLED = "it has no labels, so it is no test set"
Table = PixelTable | PathTable


def recognise_csv(path: Path) -> Reader | None:
    """Read a CSV of pixels or of paths and labels, or those that lie in a folder.

    Raises:
        DataError: the CSV has other columns, or no labels, or is damaged.
    """
    if path.is_dir():
        return _recognise_folder(path)
    if not path.is_file():
        return None

    is_csv = path.suffix.lower() in SUFFIXES
    table = _read_table(path, required=is_csv)
    if table is None:
        return None
    if isinstance(table, PixelTable) and not table.labelled:
        raise DataError(f"data={str(path)!r}: {NOT_LABELLED}; name the file with labels")
    return _reader([table], [], path.parent)


def _recognise_folder(folder: Path) -> Reader | None:
    files = csv_files(folder)
    if not files:
        return None

    pixels: list[PixelTable] = []
    paths: list[PathTable] = []
    # A table beside folders of pictures may be about anything.
    alone = not _has_subfolders(folder) and len(files) == 1
    for file in files:
        table = _read_table(file, required=alone)
        if isinstance(table, PixelTable):
            pixels.append(table)
        elif isinstance(table, PathTable) and (alone or table.find_base() is not None):
            paths.append(table)

    labelled = [table for table in pixels if table.labelled]
    if labelled:
        left_out = [table.path for table in pixels if not table.labelled]
        return _reader(labelled, left_out, folder)
    if pixels:
        raise DataError(f"data={str(pixels[0].path)!r}: {NOT_LABELLED}; name a file with labels")
    return _reader(paths, [], folder) if paths else None


def _read_table(path: Path, required: bool) -> Table | None:
    file = open_csv(path)
    table = None if file is None else read_path_table(file) or read_pixel_table(file)
    if table is not None or not required:
        return table

    if file is None:
        raise DataError(f"data={str(path)!r} is empty, or no text; a CSV is a table of text")
    raise DataError(
        f"data={str(path)!r} has {describe_columns(file.columns)}. Looked for: a column of paths "
        f"({', '.join(PATH_WORDS[:9])} …) and one of labels ({', '.join(LABEL_WORDS[:8])} …); or "
        "a label and the pixels of a square image (label, pixel1 to pixel784)"
    )


def _reader(tables: Sequence[Table], left_out: list[Path], folder: Path) -> Reader:
    _check_splits(tables, folder)
    of_pixels = isinstance(tables[0], PixelTable)
    what = "Kaggle's CSV of pixels" if of_pixels else "a CSV of paths and labels"
    for path in left_out:
        what += f" ({path.name} is left out: {NOT_LABELLED})"
    return LabelledReader(what, partial(_list, tables, left_out), folder)


def _list(tables: Sequence[Table], left_out: list[Path]) -> Iterator[Entry]:
    for table in tables:
        yield from table.entries()
    for path in left_out:
        yield LeftOut("not read", path.name, "")


def _check_splits(tables: Sequence[Table], folder: Path) -> None:
    """Raise DataError if files stand side by side whose names do not tell them apart."""
    names: list[str] = []
    for table in tables:
        path = table.path if isinstance(table, PixelTable) else table.file.path
        names.append(path.name)
    splits = Counter(split_of_file(Path(name).stem) for name in names)
    if len(tables) > 1 and splits[None]:
        raise DataError(
            f"data={str(folder)!r} holds the tables {', '.join(names)}; name the file that is "
            "meant, or put train, val or test in their names"
        )


def _has_subfolders(folder: Path) -> bool:
    return any(child.is_dir() and not is_hidden(child.name) for child in folder.iterdir())
