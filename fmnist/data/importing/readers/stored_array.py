"""Arrays in .npy files and in .npz archives, of which only what is asked for is read."""

import math
import os
import struct
import threading
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fmnist.data.importing.item import ReadError
from fmnist.data.importing.readers.scratch import unpack_to_scratch
from fmnist.errors import DataError, first_line

LOCAL_HEADER = struct.Struct("<4s22xHH")
"""What stands before a file in a zip archive; its last two numbers are the lengths of two fields
that follow it."""
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError)
"""What zipfile raises where an archive is damaged, encrypted or packed in an unknown way."""
SCANNED_AT_ONCE = 2**24
"""Bytes of an array that are held at once while all of it is looked through."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a .npy file says of its array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: Any
    """"C" or "F"."""
    length: int
    """Bytes before the values."""

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class StoredArray:
    """An array in a file, read row by row.

    Args:
        path: the .npy file, or the archive.
        member: the array's file in the archive; None for a .npy file.

    Raises:
        DataError: it is damaged, or holds Python objects, which are never loaded.
    """

    def __init__(self, path: Path, member: zipfile.ZipInfo | None = None) -> None:
        self.path, self.member = path, member
        self.key = path.stem if member is None else Path(member.filename).stem
        self.name = path.name if member is None else f"{path.name}/{self.key}"
        try:
            with self._unpacked() as file:
                self.header = self._read_header(file)
        except DAMAGED as error:
            raise self._damaged(error) from error

        size = path.stat().st_size if member is None else member.file_size
        expected = self.header.length + self.header.nbytes
        if size != expected:
            raise DataError(
                f"{path}: array {self.key!r} has {size:,} bytes where its header promises "
                f"{expected:,}: damaged or cut short"
            )
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None
        self._offset = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.header.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.header.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Read some rows, (stop - start, …), read-only.

        Raises:
            DataError: the archive is damaged, or there is no room to unpack it.
            ReadError: the file has become shorter.
        """
        file = self._open()
        if self.header.order == "F":
            return self._map(file)[start:stop]

        row_shape = self.shape[1:]
        row_bytes = math.prod(row_shape) * self.dtype.itemsize
        offset = self._offset + start * row_bytes
        content = os.pread(file.fileno(), (stop - start) * row_bytes, offset)
        if len(content) < (stop - start) * row_bytes:
            raise ReadError("changed while it was read", f"{self.path} was cut short")
        return np.frombuffer(content, self.dtype).reshape(stop - start, *row_shape)

    def chunks(self) -> Iterator[NDArray[Any]]:
        """Read all rows, a few at a time."""
        row_bytes = max(math.prod(self.shape[1:]) * self.dtype.itemsize, 1)
        step = max(SCANNED_AT_ONCE // row_bytes, 1)
        for start in range(0, len(self), step):
            yield self.rows(start, min(start + step, len(self)))

    def whole(self) -> NDArray[Any]:
        """Read all of it."""
        return self.rows(0, len(self))

    def _open(self) -> IO[bytes]:
        """The file that holds the values at `_offset`; a packed one is unpacked once."""
        with self._lock:
            if self._file is None:
                try:
                    self._file = self._open_values()
                except DAMAGED as error:
                    raise self._damaged(error) from error
            return self._file

    def _open_values(self) -> IO[bytes]:
        member = self.member
        if member is None:
            self._offset = self.header.length
            return self.path.open("rb")

        encrypted = bool(member.flag_bits & 1)
        if member.compress_type != zipfile.ZIP_STORED or encrypted:
            what = f"{self.path}: array {self.key!r}"
            self._offset = self.header.length
            with self._unpacked() as packed:
                return unpack_to_scratch(packed, what, member.file_size)

        file = self.path.open("rb")
        file.seek(member.header_offset)
        start = file.read(LOCAL_HEADER.size)
        if len(start) < LOCAL_HEADER.size:
            raise EOFError("cut short")
        _, name_length, extra_length = LOCAL_HEADER.unpack(start)
        before = LOCAL_HEADER.size + name_length + extra_length
        self._offset = member.header_offset + before + self.header.length
        return file

    def _unpacked(self) -> IO[bytes]:
        if self.member is None:
            return self.path.open("rb")
        with zipfile.ZipFile(self.path) as archive:
            # The archive's file stays open as long as the member's.
            return archive.open(self.member)

    def _map(self, file: IO[bytes]) -> NDArray[Any]:
        # In this order each image is scattered over the file.
        return np.memmap(file, self.dtype, "r", self._offset, self.shape, "F")

    def _read_header(self, file: IO[bytes]) -> Header:
        try:
            version = np.lib.format.read_magic(file)
            if version == (1, 0):
                shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
            elif version == (2, 0):
                shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
            else:
                raise ValueError(f"version {version} of the format is not known")
        except DAMAGED:
            raise
        except Exception as error:  # on a damaged header NumPy's parser raises almost anything
            raise DataError(
                f"{self.path}: {self.key!r} is no NumPy array ({first_line(error)})"
            ) from error

        if dtype.hasobject:
            raise DataError(
                f"{self.path}: array {self.key!r} holds Python objects (a pickle), which can run "
                "any program when they are loaded; save it as numbers"
            )
        if not shape:
            raise DataError(f"{self.path}: {self.key!r} is a single value, not an array")
        return Header(shape, dtype, "F" if fortran else "C", file.tell())

    def _damaged(self, error: BaseException) -> DataError:
        return DataError(
            f"{self.path}: array {self.key!r} cannot be unpacked ({error}): damaged or cut short"
        )


def open_archive(path: Path) -> list[StoredArray]:
    """The arrays of an .npz file.

    Raises:
        DataError: it is no archive, or holds something else, or is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except DAMAGED as error:
        raise DataError(
            f"data={str(path)!r} is no .npz file ({error}): damaged or cut short"
        ) from error

    arrays = [member for member in members if member.filename.endswith(".npy")]
    if not arrays:
        found = ", ".join(repr(member.filename[:40]) for member in members[:5])
        raise DataError(
            f"data={str(path)!r} is a zip archive without NumPy arrays (it holds "
            f"{found or 'nothing'}); unpack it and name its folder"
        )
    return [StoredArray(path, member) for member in arrays]
