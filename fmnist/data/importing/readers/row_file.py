"""The lines of a text file of any size, and any of them by its place."""

import codecs
import os
from collections.abc import Iterator
from typing import IO, cast

from fmnist.data.importing.item import ReadError
from fmnist.data.importing.readers.csv_file import LONGEST_LINE, CsvFile
from fmnist.data.importing.readers.scratch import unpack_to_scratch
from fmnist.errors import DataError

READ_AT_ONCE = 2**22
SAMPLE_BYTES = 2**16


class RowFile:
    """Reads the lines of a table as bytes of UTF-8, whatever its encoding.

    Raises:
        DataError: the file is no text.
    """

    def __init__(self, table: CsvFile) -> None:
        self.path = table.path
        try:
            self._file = _open_utf8(table)
        except UnicodeError as error:
            raise DataError(f"data={str(self.path)!r} is no text: {error}") from error
        self._descriptor = self._file.fileno()
        self.size = os.fstat(self._descriptor).st_size
        has_mark = self._bytes(0, len(codecs.BOM_UTF8)) == codecs.BOM_UTF8
        self.start = len(codecs.BOM_UTF8) if has_mark else 0
        """Where the first line begins."""

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """List the place of each line, in bytes, and the line with its end.

        Raises:
            DataError: a line has no end.
        """
        place, rest = self.start, b""
        position = place
        while block := self._bytes(position, READ_AT_ONCE):
            position += len(block)
            *whole, rest = (rest + block).split(b"\n")
            for line in whole:
                yield place, line + b"\n"
                place += len(line) + 1
            if len(rest) > LONGEST_LINE:
                raise DataError(f"data={str(self.path)!r}: a line has over {LONGEST_LINE:,} bytes")
        if rest:
            yield place, rest

    def read(self, place: int, length: int) -> bytes:
        """Read a line that `lines` has listed.

        Raises:
            ReadError: the file has become shorter.
        """
        line = self._bytes(place, length)
        if len(line) < length:
            raise ReadError("changed while it was read", f"{self.path.name} was cut short")
        return line

    def sample(self, count: int) -> list[bytes]:
        """Up to `count` lines, spread over the file; the first is left out."""
        first = next(self.lines(), (0, b""))[1]
        window = 2 * len(first) + SAMPLE_BYTES
        found: dict[bytes, None] = {}
        for number in range(count):
            position = self.start + (self.size - self.start) * number // count
            # The window begins in the middle of a line; the next one is whole.
            _, _, after = self._bytes(position, window).partition(b"\n")
            line, end, _ = after.partition(b"\n")
            is_whole = bool(end) or position + window >= self.size
            if line.strip() and is_whole:
                found[line] = None
        return list(found)

    def _bytes(self, place: int, length: int) -> bytes:
        return os.pread(self._descriptor, length, place)


def _open_utf8(table: CsvFile) -> IO[bytes]:
    file = table.path.open("rb")
    if table.encoding != "utf-16":
        return file
    with file:
        recoded = cast(IO[bytes], codecs.EncodedFile(file, "utf-8", "utf-16"))
        return unpack_to_scratch(recoded, str(table.path))
