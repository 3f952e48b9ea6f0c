"""Kaggle's CSV of pixels: a label and the pixels of an image in each row."""

import codecs
import math
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from fmnist.data.importing.csv_file import (
    LABEL_WORDS,
    LONGEST_LINE,
    SPLIT_WORDS,
    CsvFile,
    describe_columns,
    plain_word,
    read_label,
)
from fmnist.data.importing.folder import stamp_of
from fmnist.data.importing.item import Entry, Fault, Item, ReadError
from fmnist.data.importing.scratch import unpack_to_scratch
from fmnist.data.importing.split_names import find_split, split_of_file
from fmnist.data.importing.words import shown
from fmnist.errors import DataError

MIN_SIDE = 8
"""Pixels on a side below which a table is taken for something else."""
SAMPLED_ROWS = 200
"""Rows, spread over the file, by which its layout is found out."""
NUMBER = re.compile(r'"?\s*-?\d+(\.\d*)?(e[-+]?\d+)?\s*"?', re.IGNORECASE)
NUMBERS_OF_ROWS = ("", "unnamed0", "id", "index", "imageid")
"""Columns that number the rows, as pandas and Kaggle call them; they are left out."""
PIXELS_COLUMN = ("pixels", "pixel")
"""One column for all pixels, with spaces between them, as in FER2013."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Which columns hold what."""

    before: int
    """Columns before the pixels."""
    after: int
    """Columns after them."""
    label: int | None
    """Place among the columns before and after; None if there are no labels."""
    split: int | None
    side: int
    """Height and width of the images."""
    channels: int
    header: bool
    """Whether the first line names the columns."""
    separator: str
    """What stands between two pixels."""
    planar: bool = False
    """Whether a colour image's red values stand before all green ones."""
    unit: bool = False
    """Whether pixels lie between 0 and 1."""

    @property
    def pixels(self) -> int:
        return self.side * self.side * self.channels


class PixelTable:
    """A CSV whose rows are images.

    Raises:
        DataError: the file is damaged.
    """

    def __init__(self, file: CsvFile, layout: Layout) -> None:
        self.file, self.layout = file, layout
        self.path = file.path
        self.separator = file.separator.encode()
        self.bytes = _open_utf8(file)

    @property
    def labelled(self) -> bool:
        return self.layout.label is not None

    def entries(self) -> Iterator[Entry]:
        """List the rows.

        Raises:
            DataError: a line has no end.
        """
        stamp = stamp_of(self.path.stat())
        of_file = split_of_file(self.path.stem)
        for number, (offset, line) in enumerate(self._lines()):
            name = f"{self.path.name}#{number}"
            fields = self._fields(line)
            if fields is None:
                yield Fault("unreadable", name, self._wrong_columns(line))
                continue
            label = read_label(fields[self.layout.label or 0])
            if label is None:
                yield Fault("no class", name, "its label is empty or negative: unlabelled")
                continue
            split = of_file
            if self.layout.split is not None:
                split = find_split(fields[self.layout.split])
            yield Item(name, label, split, stamp, partial(self.read, offset, len(line)))

    def read(self, offset: int, length: int) -> NDArray[np.uint8]:
        """Read the image of a row, (side, side) or (side, side, 3).

        Raises:
            ReadError: a value is no pixel, there are more or less than in other rows, or the file
                has changed.
        """
        line = os.pread(self.bytes.fileno(), length, offset)
        values = self._values(line)
        if values is None or len(values) != self.layout.pixels:
            found = "no numbers" if values is None else f"{len(values):,} numbers"
            raise ReadError("unreadable", f"{found} where {self.layout.pixels:,} pixels should be")

        highest = 1 if self.layout.unit else 255
        # Comparisons with NaN are false.
        if not (values.min() >= 0 and values.max() <= highest):
            raise ReadError(
                "unreadable",
                f"pixels from {values.min():g} to {values.max():g}; allowed are 0 to {highest}",
            )
        pixels = np.rint(values * (255 if self.layout.unit else 1)).astype(np.uint8)
        return _shape(pixels, self.layout)

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """Each row's place in the file and its text."""
        offset = len(codecs.BOM_UTF8) if self._has_mark() else 0
        skip = self.layout.header
        # Another descriptor: others read rows meanwhile.
        with open(f"/dev/fd/{self.bytes.fileno()}", "rb") as file:
            file.seek(offset)
            while line := file.readline(LONGEST_LINE):
                if len(line) == LONGEST_LINE:
                    raise DataError(f"data={str(self.path)!r}: a line has no end")
                if not skip and line.strip():
                    yield offset, line
                skip = False
                offset += len(line)

    def _has_mark(self) -> bool:
        return os.pread(self.bytes.fileno(), 3, 0) == codecs.BOM_UTF8

    def _fields(self, line: bytes) -> list[str] | None:
        """What stands before and after the pixels; None if the number of columns is wrong."""
        if line.count(self.separator) != len(self.file.columns) - 1:
            return None
        *before, rest = line.split(self.separator, self.layout.before)
        _, *after = rest.rsplit(self.separator, self.layout.after)
        texts: list[str] = []
        for field in before + after:
            texts.append(field.decode("utf-8", "replace").strip().strip('"'))
        return texts

    def _values(self, line: bytes) -> NDArray[np.float64] | None:
        """The pixels of a row; None if they are no numbers."""
        rest = line.split(self.separator, self.layout.before)[-1]
        text = rest.rsplit(self.separator, self.layout.after)[0]
        plain = text.replace(b'"', b"").decode("ascii", "replace").strip()
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)
            try:
                return np.fromstring(plain, np.float64, sep=self.layout.separator)
            except (ValueError, DeprecationWarning):
                return None

    def _wrong_columns(self, line: bytes) -> str:
        return f"{line.count(self.separator) + 1:,} columns; {len(self.file.columns):,} expected"


def read_pixel_table(file: CsvFile) -> PixelTable | None:
    """Take a CSV whose rows are the pixels of square images."""
    layout = _find_layout(file)
    if layout is None:
        return None
    table = PixelTable(file, layout)
    rows = _sample(file, layout)
    if layout.separator == " ":
        return _measure_one_column(table)
    return table
