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
    """Reads it: an image file's bytes, or its pixels, (H, W) or (H, W, channels) of any type.

    Any thread may call it, best in the order listed: a packed source is read on from where it was.
    It raises OSError, ReadError or fmnist.data.picture.ImageError where this picture cannot be read
    (a Fault), and DataError where nothing of the file that holds it can be (the import ends)."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a picture cannot be taken."""

    kind: FaultKind
    name: str
    """The picture's, as in Item; for "too few of a class" the class's."""
    detail: str
    """What is wrong, with the value and what is allowed."""
    label: str = ""
    """Its class, where that is known."""


class ReadError(ValueError):
    """A picture that `Item.read` cannot give, and why."""

    def __init__(self, kind: FaultKind, detail: str) -> None:
        super().__init__(detail)
        self.kind: FaultKind = kind
        self.detail = detail


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file that is counted and not taken, which is no fault.

    A class of which nothing but such files is there is a fault nevertheless.
    """

    kind: Literal["link", "not read", "empty folder"]
    """"link": it leads to a picture of the same class that is counted already; "not read": it is of
    a kind that is not read; "empty folder": of a class, with nothing in it."""
    name: str
    label: str
    """Its class; "" in none."""


Entry = Item | Fault | LeftOut


class Reader(Protocol):
    """Reads one kind of source."""

    @property
    def what(self) -> str:
        """The kind in words: "a folder for each class", "Kaggle's CSV of pixels"."""
        ...

    def entries(self) -> Iterator[Entry]:
        """List the pictures and what is wrong, in an order that is always the same.

        It reads no picture, and holds little in memory: a source may have millions.
        """
        ...

    def class_order(self) -> list[str] | None:
        """The classes in the order that numbers them, once `entries` has ended.

        It may name classes that no picture has. None leaves the order to the engine.
        """
        ...
