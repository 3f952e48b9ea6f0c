"""A CSV of paths and labels, with a column for the split or without."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from stat import S_ISREG

from fmnist.data.importing.folder import is_hidden, read_file, stamp_of
from fmnist.data.importing.item import Entry, Fault, Item, SplitName
from fmnist.data.importing.readers.csv_file import (
    LABEL_WORDS,
    PATH_WORDS,
    SPLIT_WORDS,
    CsvFile,
    read_label,
    read_split,
)
from fmnist.data.importing.split_names import split_of_file

TRIED = 20
"""Rows by which is found what their paths begin at."""


@dataclass(frozen=True, slots=True)
class PathTable:
    """A CSV whose rows name picture files."""

    file: CsvFile
    path: int
    """Places of the columns."""
    label: int
    split: int | None

    @property
    def folder(self) -> Path:
        return self.file.path.parent

    def entries(self) -> Iterator[Entry]:
        """List the pictures that the rows name.

        Raises:
            DataError: a split is unknown, or the file is no table.
        """
        base = self.find_base() or self.folder
        of_file = split_of_file(self.file.path.stem)
        for number, row in enumerate(self.file.rows()):
            where = f"{self.file.path.name}#{number}"
            if len(row) != len(self.file.columns):
                detail = f"{len(row)} fields; the first line has {len(self.file.columns)}"
                yield Fault("unreadable", where, detail)
                continue
            split = of_file
            if self.split is not None:
                column = self.file.columns[self.split]
                split = read_split(self.file.path, column, row[self.split], where)
            yield self._entry(base, row, split, where)

    def find_base(self) -> Path | None:
        """The folder below which the first pictures are: the table's own, or one in it.

        None where none of them is found.
        """
        names: list[str] = []
        for row in self.file.rows():
            if len(row) > self.path:
                names.append(row[self.path])
            if len(names) == TRIED:
                break

        for base in (self.folder, *_subfolders(self.folder)):
            for name in names:
                inside = _inside(base, name)
                if inside is not None and (base / inside).is_file():
                    return base
        return None

    def _entry(self, base: Path, row: list[str], split: SplitName | None, where: str) -> Entry:
        name = row[self.path]
        label = read_label(row[self.label])
        if not name:
            return Fault("unreadable", where, "its path is empty", label or "")
        if label is None:
            return Fault("no class", name, f"its label in {where} is empty or negative")
        inside = _inside(base, name)
        if inside is None:
            return Fault("unreadable", name, f"it lies outside of {base}", label)

        path = base / inside
        try:
            status = path.stat()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            return Fault("dangling link", name, f"{where} names it: {reason}", label)
        if not S_ISREG(status.st_mode):
            return Fault("unreadable", name, "it is no file", label)
        if not status.st_size:
            return Fault("empty", name, "the file has 0 bytes", label)

        stamp = stamp_of(status)
        return Item(name, label, split, stamp, partial(read_file, str(path), stamp))


def read_path_table(file: CsvFile) -> PathTable | None:
    """Take a CSV with a column of paths and one of labels."""
    path, label = file.column(PATH_WORDS), file.column(LABEL_WORDS)
    if path is None or label is None:
        return None
    return PathTable(file, path, label, file.column(SPLIT_WORDS))


def _inside(base: Path, name: str) -> str | None:
    """A path below `base`; None if it leads out of it."""
    # Windows has written it where it has no slash of ours.
    if "\\" in name and "/" not in name:
        name = name.replace("\\", "/")
    if Path(name).is_absolute():
        below = os.path.relpath(name, base.absolute())
    else:
        below = os.path.normpath(name)
    return None if below == ".." or below.startswith("../") else below


def _subfolders(folder: Path) -> list[Path]:
    visible = [child for child in folder.iterdir() if not is_hidden(child.name)]
    return sorted(child for child in visible if child.is_dir())
