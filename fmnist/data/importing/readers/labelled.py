"""A reader made of a function that lists pictures; it puts the classes in order and names them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fmnist.data.formats import LABELS_FILE
from fmnist.data.importing.item import Entry, Item
from fmnist.errors import DataError

Listing = Callable[[], Iterator[Entry]]


@dataclass
class LabelledReader:
    """Reads what `listing` lists.

    Classes that are numbers stand in the order of the numbers. A labels.txt beside the source names
    them, a line for each number that occurs, from the smallest on.
    """

    what: str
    """The kind in words."""
    listing: Listing
    folder: Path
    """Where labels.txt may lie."""
    names: Sequence[str] | None = None
    """The classes in order, where the source itself says; `listing` gives these names."""

    def __post_init__(self) -> None:
        self._seen: set[str] = set()
        self._order: list[str] | None = None

    def entries(self) -> Iterator[Entry]:
        """List the pictures, and what is wrong or left out.

        Raises:
            DataError: labels.txt does not fit the labels.
        """
        names = self._names_of_numbers()
        self._seen.clear()
        for entry in self.listing():
            if not isinstance(entry, Item):
                yield entry
                continue
            # A listing need not keep one string for all pictures of a class.
            label = names.get(entry.label, entry.label)
            self._seen.add(label)
            yield entry if label == entry.label else replace(entry, label=label)

        self._order = list(names.values()) or numeric_order(self._seen)

    def class_order(self) -> list[str] | None:
        """The classes in order, once `entries` has ended; None leaves it to the engine."""
        if self.names is not None:
            return list(self.names)
        return self._order

    def _names_of_numbers(self) -> dict[str, str]:
        """The name of each number, in order; empty where the numbers are the names."""
        path = self.folder / LABELS_FILE
        if self.names is not None or not path.exists():
            return {}

        labels: set[str] = set()
        for entry in self.listing():
            if isinstance(entry, Item):
                labels.add(entry.label)
        numbers = numeric_order(labels)
        if numbers is None:
            return {}

        names = read_class_names(path)
        if len(names) != len(numbers):
            raise DataError(
                f"{path} has {len(names)} lines, but the labels have {len(numbers)} values, "
                f"{numbers[0]} to {numbers[-1]}: one line a class"
            )
        return dict(zip(numbers, names, strict=True))


def numeric_order(labels: set[str]) -> list[str] | None:
    """The labels by number, 2 before 10; None unless all are whole numbers."""
    if not labels or not all(label.isascii() and label.isdigit() for label in labels):
        return None
    return sorted(labels, key=int)


def read_class_names(path: Path) -> list[str]:
    """The lines of a labels.txt that are not empty.

    Raises:
        DataError: it is no text, or names a class twice.
    """
    content = path.read_bytes()
    utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error}); save it as UTF-8") from error

    lines = [line.strip() for line in text.split("\n")]
    names = [line for line in lines if line]
    check_distinct(str(path), names)
    return names


def check_distinct(where: str, names: Sequence[str]) -> None:
    """Raise DataError if a class is named twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"{where} names the class {name!r} twice; give each a name of its own")
        seen.add(name)
