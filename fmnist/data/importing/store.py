"""What an import has read so far: fitted pixels, row by row, and where each row came from.

Nothing is lost when the process dies: the next import takes the rows over, and checks each by its
digest. Rows of an earlier import of the same source are copied instead of read.
"""

import dataclasses
import os
import shutil
import struct
from array import array
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fmnist.data.formats import FILES_FILE
from fmnist.data.idx import IdxWriter
from fmnist.data.importing.item import Item
from fmnist.data.importing.records import (
    Failure,
    Picture,
    Pixels,
    encode,
    is_whole,
    parse,
    parse_or_none,
)

PIXELS = "pixels"
"""The file of rows while the import is under way."""
FINAL = "final"
"""The set grows in this folder below the import's; then the folder is renamed."""
COPIED_AT_ONCE = 2**24


class RowFile:
    """Rows of pixels in an IDX file, read and written in place."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            dimensions = file.read(4)[3]
            _, *shape = struct.unpack(f">{dimensions}I", file.read(4 * dimensions))
        self.shape: tuple[int, ...] = tuple(shape)
        """(H, W) or (3, H, W)."""
        self.size = int(np.prod(self.shape))
        self.offset = 4 + 4 * dimensions

    def start_of(self, row: int) -> int:
        return self.offset + row * self.size

    def read(self, file: BinaryIO, row: int) -> Pixels | None:
        """None where the file ends before."""
        content = os.pread(file.fileno(), self.size, self.start_of(row))
        if len(content) < self.size:
            return None
        return np.frombuffer(content, np.uint8).reshape(self.shape)


def has_rows(folder: Path) -> bool:
    """Whether a folder holds the rows of an import, and what speaks of them."""
    pixels = (folder / PIXELS).exists() or any(folder.glob("images-idx*"))
    return pixels and (folder / FILES_FILE).exists()


class EarlierRows:
    """The rows of an import that has ended: whole, or given up."""

    def __init__(self, folder: Path) -> None:
        pixels = next(iter(sorted(folder.glob("images-idx*"))), folder / PIXELS)
        self._rows = RowFile(pixels)
        self._pixels = pixels.open("rb")
        self._records = (folder / FILES_FILE).open("rb")
        self._index()

    def _index(self) -> None:
        """Note where each picture's record is, as hashes: there may be millions."""
        keys, offsets = array("q"), array("q")
        offset = 0
        for line in self._records:
            entry = parse_or_none(line)
            if isinstance(entry, Picture):
                keys.append(hash((entry.file, entry.stamp)))
                offsets.append(offset)
            offset += len(line)

        unsorted = np.array(keys, np.int64)
        self._order = np.argsort(unsorted, kind="stable")
        self._keys = unsorted[self._order]
        self._offsets = np.array(offsets, np.int64)

    def find(self, item: Item) -> tuple[Picture, Pixels] | None:
        """The record and the row of a picture that has not changed since."""
        place = int(np.searchsorted(self._keys, hash((item.name, item.stamp))))
        if place == len(self._keys):
            return None
        row = int(self._order[place])
        self._records.seek(self._offsets[row])
        entry = parse_or_none(self._records.readline())
        if not isinstance(entry, Picture) or (entry.file, entry.stamp) != (item.name, item.stamp):
            return None

        pixels = self._rows.read(self._pixels, row)
        if pixels is None or not is_whole(entry, pixels):
            return None
        if entry.gray and pixels.ndim == 3:
            pixels = pixels[0]
        return dataclasses.replace(entry, label=item.label, split=item.split), pixels

    def close(self) -> None:
        self._pixels.close()
        self._records.close()


class Store:
    """The folder that an import works in.

    It begins with what an interrupted import has left: `take_over` goes through that, entry by
    entry, as long as the listing is the same. Then `append` adds to it.
    """

    def __init__(
        self, folder: Path, height: int, width: int, max_pixels: int | None = None
    ) -> None:
        self.folder = folder
        self.max_pixels = max_pixels
        self.rows = 0
        self.given_up: Path | None = None
        """Where the rest of an interrupted import lies now, if the listing was another."""
        self._pending: list[str] = []
        self._left: BinaryIO | None = None
        self._left_offset = 0
        """Bytes of the records that were taken over."""
        folder.mkdir(parents=True, exist_ok=True)
        _take_back(folder)
        if _is_begun(folder):
            self._open()
            self._left = (folder / FILES_FILE).open("rb")
        else:
            self._create(height, width)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a row: (H, W) as long as all pictures are gray, else (3, H, W)."""
        return self._layout.shape

    @property
    def is_gray(self) -> bool:
        return len(self.shape) == 2

    def earlier(self) -> list[Path]:
        """Folders of imports that were given up since the source had changed."""
        return sorted(self.folder.parent.glob(f"{_escaped(self.folder.name)}.before-*"))

    def take_over(self, item: Item) -> Picture | Failure | None:
        """What an interrupted import has left of this picture; None if it must be read."""
        if self._left is None:
            return None
        line = self._left.readline()
        entry = parse_or_none(line)
        if entry is None:
            self._cut()
            return None
        if not self._is_same(entry, item):
            self._give_up()
            return None

        self._left_offset += len(line)
        if isinstance(entry, Picture):
            self.rows += 1
        return entry

    def end_taking_over(self) -> None:
        """Drop what is left beyond the end of the listing."""
        if self._left is not None:
            self._cut()

    def append(self, entry: Picture | Failure, pixels: Pixels | None) -> None:
        """Add a picture and its row, (H, W) or (3, H, W), or a failure."""
        assert self._left is None, "all that is left is taken over, or dropped"
        if pixels is not None:
            if pixels.ndim == 3 and self.is_gray:
                self._to_colour()
            self._writer.write(np.broadcast_to(pixels, self.shape))
            self.rows += 1
        self._pending.append(encode(entry))

    def flush(self) -> None:
        """Hand everything to the operating system: the pixels first, then what speaks of them."""
        self._pixels.flush()
        self._records.write("".join(self._pending).encode())
        self._pending.clear()
        self._records.flush()

    def entries(self) -> Iterator[Picture | Failure]:
        """What was appended and flushed, in order."""
        with (self.folder / FILES_FILE).open("rb") as file:
            for line in file:
                yield parse(line)

    def read(self, row: int) -> Pixels:
        pixels = self._layout.read(self._pixels, row)
        assert pixels is not None, "it was written and flushed"
        return pixels

    def rewrite(self, row: int, pixels: Pixels) -> None:
        """Replace a row."""
        content = np.ascontiguousarray(np.broadcast_to(pixels, self.shape))
        os.pwrite(self._pixels.fileno(), content.data, self._layout.start_of(row))

    def finish(self) -> Path:
        """Write the number of rows, and close. Returns the file of rows."""
        self._writer.finish()
        self.close()
        return self._layout.path

    def close(self) -> None:
        """Close the files without a word: a full disk fails once more as they are closed."""
        for file in (self._pixels, self._records, self._left):
            if file is not None:
                _close_quietly(file)

    def remove(self) -> None:
        """Remove the folder, and those that were given up."""
        for folder in (self.folder, *self.earlier()):
            shutil.rmtree(folder, ignore_errors=True)

    def _create(self, height: int, width: int) -> None:
        path = self.folder / PIXELS
        with path.open("wb") as file:
            IdxWriter(file, (height, width))
        (self.folder / FILES_FILE).write_bytes(b"")
        self._open()
        self._append_at_end()

    def _open(self) -> None:
        self._layout = RowFile(self.folder / PIXELS)
        self._pixels = self._layout.path.open("r+b", buffering=2**20)
        self._records = (self.folder / FILES_FILE).open("r+b")

    def _append_at_end(self) -> None:
        """Append after the rows and the records that were taken over; the rest is cut off."""
        self._pixels.seek(0)
        self._writer = IdxWriter(self._pixels, self.shape)
        self._writer.count = self.rows
        self._pixels.seek(self._layout.start_of(self.rows))
        self._pixels.truncate()
        self._records.seek(self._left_offset)
        self._records.truncate()

    def _is_same(self, entry: Picture | Failure, item: Item) -> bool:
        known = (entry.file, entry.stamp, entry.label, entry.split)
        if known != (item.name, item.stamp, item.label, item.split):
            return False
        if isinstance(entry, Failure):
            return self._is_there_still(entry)
        pixels = self._layout.read(self._pixels, self.rows)
        return pixels is not None and is_whole(entry, pixels)

    def _is_there_still(self, failure: Failure) -> bool:
        """Whether a fault is there as long as the file is the same."""
        if failure.by_system:
            return False
        match failure.fault:
            case "changed while it was read":
                return False
            case "too large":
                return failure.max_pixels == self.max_pixels
            case _:
                return True

    def _cut(self) -> None:
        assert self._left is not None
        self._left.close()
        self._left = None
        self._append_at_end()

    def _give_up(self) -> None:
        """Move everything aside, and go on with a copy of what was taken over."""
        shape = self.shape
        self.close()
        self._left = None
        aside = self.folder.with_name(f"{self.folder.name}.before-{len(self.earlier())}")
        self.folder.replace(aside)
        self.given_up = aside
        self.folder.mkdir()
        _copy_start(aside / PIXELS, self.folder / PIXELS, self._layout.start_of(self.rows))
        _copy_start(aside / FILES_FILE, self.folder / FILES_FILE, self._left_offset)
        self._open()
        assert self.shape == shape
        self._append_at_end()

    def _to_colour(self) -> None:
        """Rewrite gray rows with three equal channels."""
        self.flush()
        gray, gray_layout = self._pixels, self._layout
        path = self._layout.path
        converted = path.with_name("pixels.colour")
        with converted.open("wb") as file:
            writer = IdxWriter(file, (3, *self.shape))
            for row in range(self.rows):
                pixels = gray_layout.read(gray, row)
                assert pixels is not None, "it was flushed"
                writer.write(np.broadcast_to(pixels, (3, *pixels.shape)))
        gray.close()
        converted.replace(path)
        records_end = self._records.tell()
        self._records.close()

        self._open()
        self._left_offset = records_end
        self._append_at_end()


def _take_back(folder: Path) -> None:
    """Take back the rows of a set that was nearly whole when the process ended."""
    for pixels in (folder / FINAL).glob("images-idx*"):
        if not (folder / PIXELS).exists():
            pixels.replace(folder / PIXELS)


def _is_begun(folder: Path) -> bool:
    """Whether the folder holds the files of an import, and their headers are whole."""
    pixels, records = folder / PIXELS, folder / FILES_FILE
    return pixels.exists() and records.exists() and pixels.stat().st_size >= 16


def _copy_start(source: Path, target: Path, size: int) -> None:
    """Copy the first `size` bytes of a file."""
    with source.open("rb") as file, target.open("wb") as copy:
        left = size
        while left and (block := file.read(min(left, COPIED_AT_ONCE))):
            copy.write(block)
            left -= len(block)


def _close_quietly(file: BinaryIO) -> None:
    # What was not flushed is not recorded either.
    with suppress(OSError):
        file.close()


def _escaped(name: str) -> str:
    return name.replace("[", "[[]")
