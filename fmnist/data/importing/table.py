"""The records of an import as arrays: a hundred bytes a picture, where the records have more."""

from array import array
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.data.formats import SPLITS
from fmnist.data.importing.records import Picture
from fmnist.data.importing.splitting import UNDECIDED, Numbers, draw_number
from fmnist.data.importing.store import Store

DIGEST_BYTES = 16


@dataclass
class Deep:
    """A picture of more than 8 bits."""

    file: str
    stamp: str
    low: float
    high: float
    fitted: tuple[float, float] | None
    """What its pixels were scaled from; None where they are not fitted yet."""


@dataclass
class Table:
    """What is known of each row, (M,) arrays."""

    names: list[str]
    """The classes, in the order in which they were met."""
    labels: Numbers
    """Places in `names`."""
    given: NDArray[np.uint8]
    """The source's splits: places in SPLITS, or UNDECIDED."""
    digests: NDArray[Any]
    """16 bytes each."""
    sums: Numbers
    """(M, 3, 2)."""
    gray: NDArray[np.bool_]
    draws: NDArray[np.uint64]
    deep: dict[int, Deep]
    """By row."""
    lost_bits: int
    """Pictures whose colours have 16 bits, of which the upper 8 were read."""

    def __len__(self) -> int:
        return len(self.labels)

    def set_fitted(self, row: int, picture: Picture) -> None:
        """Take over what is new of a picture of more than 8 bits that was fitted now."""
        self.digests[row] = bytes.fromhex(picture.digest)
        self.sums[row] = picture.sums

    def deep_range(self) -> tuple[float, float] | None:
        """The range of all pictures of more than 8 bits."""
        if not self.deep:
            return None
        lows = [one.low for one in self.deep.values()]
        highs = [one.high for one in self.deep.values()]
        return min(lows), max(highs)


def read_table(store: Store) -> Table:
    """Read what was recorded of each row."""
    numbers: dict[str, int] = {}
    labels, given = array("q"), array("B")
    digests, sums = bytearray(), array("q")
    gray, draws = array("B"), array("Q")
    deep: dict[int, Deep] = {}
    lost_bits = 0
    for entry in store.entries():
        if not isinstance(entry, Picture):
            continue
        if entry.deep is not None:
            deep[len(labels)] = _deep(entry)
        lost_bits += entry.lost_bits
        labels.append(numbers.setdefault(entry.label, len(numbers)))
        given.append(UNDECIDED if entry.split is None else SPLITS.index(entry.split))
        digests += bytes.fromhex(entry.digest).ljust(DIGEST_BYTES, b"\0")
        for channel in _three(entry.sums):
            sums.extend(channel)
        gray.append(entry.gray)
        draws.append(draw_number(entry.file))

    return Table(
        names=list(numbers),
        labels=np.array(labels, np.int64),
        given=np.array(given, np.uint8),
        digests=np.frombuffer(bytes(digests), f"S{DIGEST_BYTES}").copy(),
        sums=np.array(sums, np.int64).reshape(-1, 3, 2),
        gray=np.array(gray, np.bool_),
        draws=np.array(draws, np.uint64),
        deep=deep,
        lost_bits=lost_bits,
    )


def _deep(picture: Picture) -> Deep:
    assert picture.deep is not None, "the caller has looked"
    low, high = picture.deep
    fitted = None
    if picture.fitted is not None:
        fitted = (picture.fitted[0], picture.fitted[1])
    return Deep(picture.file, picture.stamp, low, high, fitted)


def _three(sums: list[list[int]]) -> list[list[int]]:
    """The sums of three channels; those of a gray picture are alike."""
    if not sums:
        return [[0, 0]] * 3
    return sums if len(sums) == 3 else sums * 3
