"""CSV files as they are found: their encoding, their separator, and the words of their columns."""

import csv
import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fmnist.data.importing.folder import is_hidden
from fmnist.data.importing.item import SplitName
from fmnist.data.importing.split_names import WORDS, find_split
from fmnist.data.importing.words import first_of, shown
from fmnist.errors import DataError

SUFFIXES = (".csv", ".tsv", ".tab")
SEPARATORS = (",", ";", "\t", "|")
LONGEST_LINE = 2**26
"""Bytes of a line; a longer one is no row of a table."""
LOOKED_AT = 2**16
"""Bytes by which text is told from other files."""
PATH_WORDS = (
    *("path", "paths", "filepath", "filepaths", "imagepath", "imgpath", "relativepath", "relpath"),
    *("file", "files", "filename", "filenames", "imagefile", "imagefilename", "imagename"),
    *("image", "images", "img", "imageid", "picture"),
)
LABEL_WORDS = (
    *("label", "labels", "class", "classes", "classname", "labelname", "category", "target"),
    *("classid", "classlabel", "labelid", "categoryid", "emotion", "y"),
)
SPLIT_WORDS = ("split", "set", "subset", "partition", "fold", "dataset", "usage", "phase")
"""Names of columns in small letters, without what is no letter or number; the first that a table
has counts."""
NEGATIVE = re.compile(r"-\d+(\.\d*)?|nan", re.IGNORECASE)
WHOLE = re.compile(r"(\d+)\.0*")


@dataclass(frozen=True, slots=True)
class CsvFile:
    """A table in a text file."""

    path: Path
    encoding: str
    separator: str
    columns: tuple[str, ...]
    """The fields of the first line, which may have no names in it."""

    def column(self, words: Sequence[str]) -> int | None:
        """The place of the first of the words that a column is called by."""
        plain = [plain_word(column) for column in self.columns]
        for word in words:
            if word in plain:
                return plain.index(word)
        return None

    def rows(self) -> Iterator[list[str]]:
        """The rows after the first line; empty lines are left out.

        Raises:
            DataError: it is no text, or no table.
        """
        with self.path.open(encoding=self.encoding, errors=_errors(self), newline="") as text:
            rows = csv.reader(text, delimiter=self.separator)
            with _told(self.path):
                next(rows)
                for row in rows:
                    if row:
                        yield row


@contextmanager
def _told(path: Path) -> Generator[None]:
    try:
        yield
    except (csv.Error, UnicodeError) as error:
        raise DataError(f"data={str(path)!r} is no table that can be read: {error}") from error


def _errors(file: CsvFile) -> str:
    # Names of files may be in any encoding: their bytes are kept.
    return "surrogateescape" if file.encoding == "utf-8-sig" else "strict"


def open_csv(path: Path) -> CsvFile | None:
    """Look at the first line of a file; None if it is no text.

    Raises:
        DataError: it cannot be decoded, or its first line has no end.
    """
    with path.open("rb") as file:
        start = file.read(LOOKED_AT)
    utf16 = start.startswith((b"\xff\xfe", b"\xfe\xff"))
    if not start or (b"\0" in start and not utf16):
        return None

    encoding = "utf-16" if utf16 else "utf-8-sig"
    errors = "strict" if utf16 else "surrogateescape"
    with path.open(encoding=encoding, errors=errors, newline="") as text, _told(path):
        line = text.readline(LONGEST_LINE)
    if len(line) == LONGEST_LINE:
        raise DataError(f"data={str(path)!r}: its first line has over {LONGEST_LINE:,} characters")

    separator = max(SEPARATORS, key=line.count)
    with _told(path):
        columns = next(csv.reader([line], delimiter=separator), [])
    return CsvFile(path, encoding, separator, tuple(columns))


def csv_files(folder: Path) -> list[Path]:
    """The CSV files that lie in a folder."""
    found: list[Path] = []
    for child in sorted(folder.iterdir()):
        is_csv = child.suffix.lower() in SUFFIXES
        if is_csv and not is_hidden(child.name) and child.is_file():
            found.append(child)
    return found


def plain_word(name: str) -> str:
    """A column's name for comparing: "Image Path" is "imagepath"."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def read_label(text: str) -> str | None:
    """A class as a table gives it, "3" for "3.0"; None where there is none: empty, or negative."""
    text = text.strip()
    if NEGATIVE.fullmatch(text) or not text:
        return None
    whole = WHOLE.fullmatch(text)
    return whole[1] if whole else text


def read_split(path: Path, column: str, word: str, where: str) -> SplitName | None:
    """The split that a table gives a picture; None where the field is empty.

    Raises:
        DataError: the word is not known.
    """
    split = find_split(word)
    if split is None and word.strip():
        raise DataError(
            f"data={str(path)!r}: column {column!r} has {shown(word)} in {where}; it must be "
            f"empty or one of {', '.join(WORDS)}; rename the column if it is no split"
        )
    return split


def describe_columns(columns: Sequence[str]) -> str:
    """The first columns, and how many there are."""
    return f"{len(columns):,} columns ({first_of(columns, 10)})"
