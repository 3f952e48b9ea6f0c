"""What every reader of a source yields: pictures that are not yet read, and faults."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

SplitName = Literal["train", "validation", "test"]
FaultKind = Literal[
    "unreadable",
    "cut short",
    "empty",
    "too large",
    "too small",
    "dangling link",
    "names clash",
    "no class",
    "too few of a class",
    "changed while it was read",
]


@dataclass(frozen=True, slots=True)
class Item:
    """One picture of a source."""

    name: str
    """As reports name it: its path below the source, or file and number ("train.parquet#17")."""
    label: str
    """Name of its class."""
    split: SplitName | None
    """Where the source has put it; None leaves it to us."""
    stamp: str
    """Changes when its content may have: size and time of the file that holds it."""
    read: Callable[[], bytes | NDArray[Any]]
    """Reads it: an image file's bytes, or its pixels, (H, W) or (H, W, channels) of any type."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a picture cannot be taken."""

    kind: FaultKind
    name: str
    """The picture's, as in Item; for "too few of a class" the class's."""
    detail: str
    """What is wrong, with the value and what is allowed."""


class Reader(Protocol):
    """Reads one kind of source."""

    @property
    def what(self) -> str:
        """The kind in words: "a folder for each class", "Kaggle's CSV of pixels"."""
        ...

    def entries(self) -> Iterator[Item | Fault]:
        """List the pictures and what is wrong, in an order that is always the same.

        It reads no picture, and holds little in memory: a source may have millions.
        """
        ...
