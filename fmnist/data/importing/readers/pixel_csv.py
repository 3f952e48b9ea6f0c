"""Kaggle's CSV of pixels: a label and the pixels of an image in each row."""

import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.data.importing.folder import stamp_of
from fmnist.data.importing.item import Entry, Fault, Item, ReadError
from fmnist.data.importing.readers.csv_file import CsvFile, read_label, read_split
from fmnist.data.importing.readers.pixel_layout import Layout, find_columns, find_values
from fmnist.data.importing.readers.row_file import RowFile
from fmnist.data.importing.split_names import split_of_file

# NumPy warns where a row has what is no number. Warnings cannot be caught in one thread alone, and
# an import reads in several.
warnings.filterwarnings("ignore", "string or file could not be read to its end")

SAMPLED_ROWS = 200
"""Rows, spread over the file, by which its layout is found out."""


class PixelTable:
    """A CSV whose rows are images."""

    def __init__(self, file: CsvFile, rows: RowFile, layout: Layout) -> None:
        self.file, self.rows, self.layout = file, rows, layout
        self.path = file.path
        self.separator = file.separator.encode()

    @property
    def labelled(self) -> bool:
        return self.layout.label is not None

    def entries(self) -> Iterator[Entry]:
        """List the rows of a table that has labels.

        Raises:
            DataError: a line has no end.
        """
        assert self.layout.label is not None
        stamp = stamp_of(self.path.stat())
        of_file = split_of_file(self.path.stem)
        for number, (place, line) in enumerate(self._rows()):
            name = f"{self.path.name}#{number}"
            found = line.count(self.separator) + 1
            if found != self.layout.columns:
                yield Fault("unreadable", name, f"{found:,} columns, not {self.layout.columns:,}")
                continue
            fields = self._fields(line)
            label = read_label(fields[self.layout.label])
            if label is None:
                yield Fault("no class", name, "its label is empty or negative: unlabelled")
                continue
            split = of_file
            if self.layout.split is not None:
                split = read_split(self.file.path, "split", fields[self.layout.split], name)
            yield Item(name, label, split, stamp, partial(self.read, place, len(line)))

    def read(self, place: int, length: int) -> NDArray[np.uint8]:
        """Read the image of a row, (side, side) or (side, side, 3).

        Raises:
            ReadError: a value is no pixel, there are more or fewer than in other rows, or the file
                has changed.
        """
        values = self.values(self.rows.read(place, length))
        layout = self.layout
        if values is None or len(values) != layout.pixels:
            found = "no numbers" if values is None else f"{len(values):,} numbers"
            raise ReadError("unreadable", f"{found} where {layout.pixels:,} pixels should be")

        highest = 1 if layout.unit else 255
        # Comparisons with NaN are false.
        if not (values.min() >= 0 and values.max() <= highest):
            raise ReadError(
                "unreadable",
                f"pixels from {values.min():g} to {values.max():g}; allowed are 0 to {highest}",
            )
        scaled = np.rint(values * 255.0) if layout.unit else np.rint(values)
        pixels = scaled.astype(np.uint8)
        return _shape(pixels, layout)

    def values(self, line: bytes) -> NDArray[Any] | None:
        """Read the pixels of a row; None if they are no numbers."""
        layout = self.layout
        rest = line.split(self.separator, layout.before)[-1]
        text = rest.rsplit(self.separator, layout.after)[0].replace(b'"', b"")
        separator = " " if layout.one_column else self.separator.decode()
        # Whole numbers are parsed five times as fast.
        kind = np.float64 if b"." in text or b"e" in text.lower() else np.int64
        try:
            # NumPy stops at what is no number; the values are then too few.
            return np.fromstring(text.decode("ascii").strip(), kind, sep=separator)
        except ValueError:
            return None

    def _rows(self) -> Iterator[tuple[int, bytes]]:
        lines = self.rows.lines()
        if self.layout.header:
            next(lines, None)
        for place, line in lines:
            if line.strip():
                yield place, line

    def _fields(self, line: bytes) -> list[str]:
        """What stands before and after the pixels."""
        *before, rest = line.split(self.separator, self.layout.before)
        _, *after = rest.rsplit(self.separator, self.layout.after)
        edges = [field.decode("utf-8", "replace") for field in before + after]
        return [text.strip().strip('"') for text in edges]


def read_pixel_table(file: CsvFile) -> PixelTable | None:
    """Take a CSV whose rows are the pixels of square images.

    Raises:
        DataError: the file is no text.
    """
    if len(file.columns) < 2:
        return None
    rows = RowFile(file)
    separator = file.separator.encode()
    sampled = rows.sample(SAMPLED_ROWS)
    fields: list[list[str]] = []
    for line in sampled:
        if line.count(separator) == len(file.columns) - 1:
            texts = line.decode("utf-8", "replace").split(file.separator)
            fields.append([text.strip().strip('"') for text in texts])

    layout = find_columns(file.columns, fields)
    if layout is None:
        return None
    table = PixelTable(file, rows, layout)
    complete = find_values(layout, _values(table, sampled))
    return None if complete is None else PixelTable(file, rows, complete)


def _values(table: PixelTable, lines: list[bytes]) -> NDArray[Any]:
    """The pixels (S, pixels) of those rows that have as many as most."""
    found: dict[int, list[NDArray[Any]]] = {}
    for line in lines:
        values = table.values(line)
        if values is not None:
            found.setdefault(len(values), []).append(values)
    if not found:
        return np.empty((0, 0))
    return np.stack(max(found.values(), key=len))


def _shape(pixels: NDArray[np.uint8], layout: Layout) -> NDArray[np.uint8]:
    side = layout.side
    if layout.channels == 1:
        return pixels.reshape(side, side)
    if layout.planar:
        return pixels.reshape(3, side, side).transpose(1, 2, 0)
    return pixels.reshape(side, side, 3)
