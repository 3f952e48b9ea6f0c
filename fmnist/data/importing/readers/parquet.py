"""Parquet files with the images' bytes, as Hugging Face ships data sets."""

import json
import threading
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from fmnist.data.importing.folder import is_hidden, stamp_of
from fmnist.data.importing.item import Entry, Fault, Item, Reader, ReadError
from fmnist.data.importing.readers.csv_file import (
    LABEL_WORDS,
    SPLIT_WORDS,
    plain_word,
    read_label,
    read_split,
)
from fmnist.data.importing.readers.labelled import LabelledReader, check_distinct
from fmnist.data.importing.split_names import find_split, split_of_file
from fmnist.data.importing.words import first_of, shown
from fmnist.errors import DataError, first_line

MAGIC = b"PAR1"
SUFFIX = ".parquet"
IMAGE_WORDS = ("image", "img", "images", "picture", "imagebytes", "bytes", "jpg", "png", "content")
BATCH_BYTES = 2**24
"""Bytes of images that are read at once."""
BATCH_ROWS = range(16, 1024)
"""Least and most rows of a batch."""
KEPT_BATCHES = 4
"""Batches that threads which run ahead of one another find again."""
READ_AT_ONCE = 2**20
OPEN_FILES = 2
"""Files that are read at a time: threads may still be in one when others begin the next."""
LISTED_ROWS = 2**16
"""Labels that are read at once."""

Column = Any
"""pyarrow has no types."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns hold what, and the names of the classes by their numbers."""

    image: str
    in_struct: bool
    """Whether an image is a struct of `bytes` and `path`, as Hugging Face has it."""
    label: str
    split: str | None
    names: tuple[str, ...] | None

    def label_of(self, value: Any) -> str | None:
        """The class of a value of the label's column; None where there is none."""
        if value is None or isinstance(value, float):
            return None
        if isinstance(value, str):
            return read_label(value)
        if value < 0:
            return None
        if self.names is None:
            return str(int(value))
        return self.names[value] if value < len(self.names) else None


class ImageColumn:
    """Reads the images of a file, by rows; fast where they are asked for mostly in order."""

    def __init__(self, path: Path, stamp: str, columns: Columns) -> None:
        self.path, self.stamp, self.columns = path, stamp, columns
        self._lock = threading.Lock()
        self._batches: deque[tuple[int, Column]] = deque(maxlen=KEPT_BATCHES)
        self._following: Iterator[tuple[int, Column]] = iter(())
        self._next = -1
        """The row that `_following` gives first; -1 before the first."""
        self._file: Any = None

    def read(self, row: int) -> bytes:
        """Read an image's file.

        Raises:
            ReadError: there is none, or the Parquet file is damaged at this place.
        """
        import pyarrow

        try:
            with self._lock:
                value = self._find(row)
        except (pyarrow.ArrowException, OSError) as error:
            raise ReadError("unreadable", f"{self.path.name}: {first_line(error)}") from error
        if self.columns.in_struct and value is not None:
            value = value["bytes"]
        if not value:
            raise ReadError("empty", "the image is null: the file has no bytes for this row")
        return value

    def _find(self, row: int) -> Any:
        for start, batch in self._batches:
            if start <= row < start + len(batch):
                return batch[row - start].as_py()

        if self._file is None:
            if stamp_of(self.path.stat()) != self.stamp:
                raise ReadError("changed while it was read", f"{self.path.name} was written to")
            self._file = _open(self.path)
        # A far jump goes to the row group; so does a row of a batch that is no longer kept.
        group, group_start = self._group_of(row)
        if not group_start <= self._next <= row:
            self._following = self._read_from(group, group_start)
        for start, batch in self._following:
            self._batches.append((start, batch))
            self._next = start + len(batch)
            if row < self._next:
                return batch[row - start].as_py()
        raise ReadError("unreadable", f"{self.path.name} has no row {row}")

    def _group_of(self, row: int) -> tuple[int, int]:
        """The row group that holds a row, and the first row of it."""
        metadata = self._file.metadata
        start = 0
        for group in range(metadata.num_row_groups):
            rows = metadata.row_group(group).num_rows
            if row < start + rows:
                return group, start
            start += rows
        raise ReadError("unreadable", f"{self.path.name} has no row {row}")

    def _read_from(self, group: int, start: int) -> Iterator[tuple[int, Column]]:
        metadata = self._file.metadata
        for number in range(group, metadata.num_row_groups):
            row_group = metadata.row_group(number)
            mean_bytes = row_group.total_byte_size // max(row_group.num_rows, 1)
            rows = BATCH_BYTES // max(mean_bytes, 1)
            rows = min(max(rows, BATCH_ROWS.start), BATCH_ROWS.stop)
            batches = self._file.iter_batches(
                rows, row_groups=[number], columns=[self.columns.image], use_threads=False
            )
            for batch in batches:
                yield start, batch.column(0)
                start += batch.num_rows


class ImageFiles:
    """Reads the images of several files, which come one after another."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self._lock = threading.Lock()
        self._open: OrderedDict[tuple[Path, str], ImageColumn] = OrderedDict()

    def read(self, path: Path, stamp: str, row: int) -> bytes:
        """Read an image's file. Raises ReadError as ImageColumn does."""
        with self._lock:
            column = self._open.pop((path, stamp), None)
            if column is None:
                column = ImageColumn(path, stamp, self.columns)
            self._open[path, stamp] = column
            if len(self._open) > OPEN_FILES:
                self._open.popitem(last=False)
        return column.read(row)


def recognise_parquet(path: Path) -> Reader | None:
    """Read a Parquet file with images' bytes and labels, or a folder of such files.

    Raises:
        DataError: no file can be read, or it has other columns.
    """
    files = _find_files(path)
    if not files:
        return None

    root = path if path.is_dir() else path.parent
    try:
        columns = _find_columns(path, _first_schema(path, files))
    except DataError:
        # Beside folders of pictures a table may be about anything.
        if _has_other_folders(path, files):
            return None
        raise
    what = "Parquet with the images' bytes"
    return LabelledReader(
        what, partial(_list, root, files, ImageFiles(columns)), root, columns.names
    )


def _find_files(path: Path) -> list[Path]:
    """The Parquet files at a path: it, or those in it, in its `data`, or in a folder in it."""
    if path.is_file():
        with path.open("rb") as file:
            is_parquet = file.read(len(MAGIC)) == MAGIC
        return [path] if is_parquet or path.suffix.lower() == SUFFIX else []

    if not path.is_dir():
        return []
    if _parquet_in(path):
        return _parquet_in(path)

    # A folder for each split, or for each configuration of the data set.
    folders = [child for child in sorted(path.iterdir()) if not is_hidden(child.name)]
    found: dict[Path, list[Path]] = {}
    for folder in folders:
        files = _parquet_in(folder) if folder.is_dir() else []
        if files:
            found[folder] = files
    configurations = [folder.name for folder in found if find_split(folder.name) is None]
    if len(found) > 1 and configurations:
        raise DataError(
            f"data={str(path)!r} holds Parquet files in {first_of(configurations, 10)}; "
            f"name one of them: {str(path / configurations[0])!r}"
        )
    return [file for files in found.values() for file in files]


def _has_other_folders(path: Path, files: Sequence[Path]) -> bool:
    """Whether folders lie at a path that these files are not in."""
    if path.is_file():
        return False
    known = {file.parent for file in files}
    others = [child for child in path.iterdir() if child not in known and child.is_dir()]
    return any(not is_hidden(child.name) for child in others)


def _parquet_in(folder: Path) -> list[Path]:
    files = [child for child in folder.iterdir() if child.suffix.lower() == SUFFIX]
    return sorted(file for file in files if not is_hidden(file.name) and file.is_file())


def _open(path: Path) -> Any:
    # Here: pyarrow takes a second to import, and other kinds of sources need none of it.
    import pyarrow.parquet

    # With a buffer, since a row group may have gigabytes; not mapped, since a file that is cut
    # short while it is mapped ends the process.
    return pyarrow.parquet.ParquetFile(path, buffer_size=READ_AT_ONCE, pre_buffer=False)


def _first_schema(path: Path, files: Sequence[Path]) -> Any:
    """The columns as the first file that can be read has them."""
    import pyarrow

    reason = ""
    for file in files:
        try:
            with _open(file) as opened:
                return opened.schema_arrow
        except (pyarrow.ArrowException, OSError) as error:
            reason = reason or f"{file.name}: {first_line(error)}"
    raise DataError(
        f"data={str(path)!r}: no Parquet file in it can be read ({reason}): damaged or cut short"
    )


def _find_columns(path: Path, schema: Any) -> Columns:
    """Find the columns of images, labels and splits by their types and names.

    Raises:
        DataError: there are none, or several that may be meant.
    """
    features = _features(schema)
    images = [field.name for field in schema if _holds_bytes(field.type)]
    labels = [field.name for field in schema if _holds_labels(field.type)]
    image = _choose(images, IMAGE_WORDS)
    named = [name for name in labels if "names" in features.get(name, {})]
    label = _choose(labels, LABEL_WORDS, named)
    if image is None or label is None:
        kinds = [f"{field.name}: {str(field.type)[:60]}" for field in schema]
        raise DataError(
            f"data={str(path)!r} has the columns {first_of(kinds, 10)}. Looked for: one of bytes "
            f"({', '.join(IMAGE_WORDS)}), be it binary or a struct of bytes and path, and one of "
            f"numbers or words ({', '.join(LABEL_WORDS[:8])} …)"
        )

    names = cast(list[str] | None, features.get(label, {}).get("names"))
    if names is not None:
        check_distinct(f"data={str(path)!r}: its metadata", names)
    split = _choose([name for name in labels if name != label], SPLIT_WORDS, only_words=True)
    in_struct = not _is_binary(schema.field(image).type)
    return Columns(image, in_struct, label, split, tuple(names) if names else None)


def _choose(
    names: Sequence[str], words: Sequence[str], named: Sequence[str] = (), only_words: bool = False
) -> str | None:
    """The column that a word names, or else the only one there is."""
    plain = [plain_word(name) for name in names]
    for word in words:
        if word in plain:
            return names[plain.index(word)]
    if only_words:
        return None
    if len(named) == 1:
        return named[0]
    return names[0] if len(names) == 1 else None


def _features(schema: Any) -> dict[str, Any]:
    """What Hugging Face's library says of each column; nothing where it says nothing usable."""
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {str(name): value for name, value in found.items() if isinstance(value, dict)}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def _is_binary(kind: Any) -> bool:
    import pyarrow.types as types

    return types.is_binary(kind) or types.is_large_binary(kind)


def _holds_bytes(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _is_binary(kind.field(index).type)
    return _is_binary(kind)


def _holds_labels(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_dictionary(kind):
        kind = kind.value_type
    is_text = types.is_string(kind) or types.is_large_string(kind)
    return is_text or types.is_integer(kind) or types.is_boolean(kind)


def _list(root: Path, files: Sequence[Path], images: ImageFiles) -> Iterator[Entry]:
    import pyarrow

    for path in files:
        try:
            yield from _list_file(root, path, images)
        except (pyarrow.ArrowException, OSError, KeyError) as error:
            name = str(path.relative_to(root))
            yield Fault("unreadable", name, f"the rest of the file is lost: {first_line(error)}")


def _list_file(root: Path, path: Path, images: ImageFiles) -> Iterator[Entry]:
    name = str(path.relative_to(root))
    of_file = split_of_file(path.stem, path.parent.name if path.parent != root else "")
    stamp = stamp_of(path.stat())
    columns = images.columns
    with _open(path) as file:
        for row, (value, word) in enumerate(_labels(file, columns)):
            label = columns.label_of(value)
            if label is None:
                yield Fault("no class", f"{name}#{row}", _why_unlabelled(value))
                continue
            split = of_file
            # An empty field leaves the file's name to say it.
            if columns.split is not None and word is not None:
                where = f"row {row:,}"
                split = read_split(path, columns.split, str(word), where) or of_file
            read = partial(images.read, path, stamp, row)
            yield Item(f"{name}#{row}", label, split, stamp, read)


def _why_unlabelled(value: Any) -> str:
    return "its label is null" if value is None else f"its label is {shown(str(value))}"


def _labels(file: Any, columns: Columns) -> Iterator[tuple[Any, Any]]:
    """The values of the columns of labels and of splits, row by row."""
    wanted = [columns.label] + ([columns.split] if columns.split else [])
    for batch in file.iter_batches(LISTED_ROWS, columns=wanted, use_threads=False):
        labels = batch.column(columns.label).to_pylist()
        splits = batch.column(columns.split).to_pylist() if columns.split else labels
        yield from zip(labels, splits, strict=True)
