"""What the columns of a CSV of pixels hold, found out from their names and from some rows."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.data.importing.readers.csv_file import LABEL_WORDS, SPLIT_WORDS, plain_word

MIN_SIDE = 8
"""Pixels on a side below which a table is taken for something else."""
NUMBER = re.compile(r"\s*-?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?\s*", re.IGNORECASE)
NUMBERS_OF_ROWS = ("", "unnamed0", "id", "index", "imageid")
"""Columns that number the rows, as pandas and Kaggle call them; they are left out."""
PIXELS_WORDS = ("pixels", "pixel")
"""One column for all pixels, with spaces between them, as in FER2013."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Which columns hold what."""

    columns: int
    before: int
    """Columns before the pixels."""
    after: int
    """Columns after them."""
    label: int | None
    """Place among the columns before and after; None if there are no labels."""
    split: int | None
    header: bool
    """Whether the first line names the columns."""
    one_column: bool = False
    """Whether one column holds all pixels, with spaces between them."""
    side: int = 0
    """Height and width of the images."""
    channels: int = 1
    planar: bool = False
    """Whether a colour image's red values stand before all green ones."""
    unit: bool = False
    """Whether pixels lie between 0 and 1."""

    @property
    def pixels(self) -> int:
        return self.side * self.side * self.channels


def find_columns(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Layout | None:
    """Find out which columns hold pixels; None if none do.

    Args:
        columns: the fields of the first line, be they names or values.
        rows: fields of some rows; they tell the label where no name does.
    """
    if not _is_header(columns):
        return _without_names(columns, rows, header=False)

    words = [plain_word(column) for column in columns]
    for word in PIXELS_WORDS:
        if word in words and len(words) > 1:
            place = words.index(word)
            return _named(words, place, len(words) - place - 1, one_column=True)

    edge = (*LABEL_WORDS, *SPLIT_WORDS, *NUMBERS_OF_ROWS)
    before = _leading(words, edge)
    after = _leading(words[before:][::-1], edge)
    named = _named(words, before, after, one_column=False)
    if shape_of(len(words) - before - after) is not None:
        return named
    return _without_names(columns, rows, header=True) if not before + after else None


def find_values(layout: Layout, sample: NDArray[Any]) -> Layout | None:
    """Complete a layout by the pixels (S, pixels) of some rows; None if these are no images."""
    shape = shape_of(sample.shape[1])
    if shape is None:
        return None
    side, channels = shape
    unit = bool(sample.max() <= 1) if sample.size else False
    planar = channels == 3 and _is_planar(sample, side)
    return replace(layout, side=side, channels=channels, unit=unit, planar=planar)


def shape_of(pixels: int) -> tuple[int, int] | None:
    """Side and channels of a square image, gray or colour; None if there is none of that size."""
    for channels in (1, 3):
        side = math.isqrt(pixels // channels)
        if side >= MIN_SIDE and side * side * channels == pixels:
            return side, channels
    return None


def _is_header(columns: Sequence[str]) -> bool:
    if not all(NUMBER.fullmatch(column) for column in columns):
        return True
    # pandas names columns by their numbers.
    numbers = [str(number) for number in range(len(columns) + 1)]
    return len(columns) > 1 and list(columns) in (numbers[:-1], numbers[1:])


def _named(words: list[str], before: int, after: int, one_column: bool) -> Layout:
    edges = words[:before] + words[len(words) - after :]
    label, split = _first(edges, LABEL_WORDS), _first(edges, SPLIT_WORDS)
    return Layout(len(words), before, after, label, split, True, one_column)


def _without_names(
    columns: Sequence[str], rows: Sequence[Sequence[str]], header: bool
) -> Layout | None:
    """Take the first column or the last for the label, if the rest are the pixels of an image."""
    count = len(columns)
    if shape_of(count - 1) is not None:
        first = _label_is_first(rows)
        return Layout(count, int(first), int(not first), 0, None, header)
    if shape_of(count) is not None:
        return Layout(count, 0, 0, None, None, header)
    return None


def _label_is_first(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first column is the label: a pixel is like the one beside it, a label is not."""
    first = _mean_distance([(row[0], row[1]) for row in rows])
    last = _mean_distance([(row[-1], row[-2]) for row in rows])
    return first >= last


def _mean_distance(pairs: Sequence[tuple[str, str]]) -> float:
    """Mean difference of numbers; infinite where one is a word."""
    try:
        distances = [abs(float(one) - float(other)) for one, other in pairs]
    except ValueError:
        return math.inf
    return float(np.mean(distances)) if distances else 0.0


def _is_planar(sample: NDArray[Any], side: int) -> bool:
    """Whether pixels resemble their neighbours more if the colours stand one after another."""
    interleaved = sample.reshape(-1, side, side, 3)
    planar = sample.reshape(-1, 3, side, side)
    across = np.abs(np.diff(interleaved, axis=2)).mean()
    return bool(np.abs(np.diff(planar, axis=3)).mean() < across)


def _leading(words: Sequence[str], known: Sequence[str]) -> int:
    """Number of words at the beginning that are known."""
    count = 0
    while count < len(words) and words[count] in known:
        count += 1
    return count


def _first(words: Sequence[str], known: Sequence[str]) -> int | None:
    for word in known:
        if word in words:
            return words.index(word)
    return None
