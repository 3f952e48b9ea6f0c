"""Tars whose files are read by their place, packed or not; nothing is extracted."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from fmnist.data.importing.folder import is_hidden, stamp_of
from fmnist.data.importing.item import Fault, ReadError, SplitName
from fmnist.data.importing.readers.scratch import unpack_to_scratch
from fmnist.data.importing.split_names import split_of_file
from fmnist.errors import DataError

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
PACKED: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
"""How packed files begin, and what opens them."""
ZSTANDARD = b"\x28\xb5\x2f\xfd"
DAMAGED = (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError)
TAR_MAGIC = 257
"""Where "ustar" stands in a tar."""


@dataclass(frozen=True, slots=True)
class Part:
    """A file in a tar."""

    name: str
    offset: int
    size: int


class Shard:
    """A tar, whose members are read by their place in it; nothing is extracted.

    A packed one is unpacked when it is first used, to a file that is gone with this process.
    """

    def __init__(self, root: Path, path: Path) -> None:
        self.path = path
        self.name = str(path.relative_to(root))
        above = path.parent.name if path.parent != root else ""
        self.split: SplitName | None = split_of_file(path.name, above)
        self.stamp = stamp_of(path.stat())
        self._opener = find_opener(path)
        self._unpacked: IO[bytes] | None = None
        self._lock = threading.Lock()

    @property
    def packed(self) -> bool:
        return self._opener is not None

    def parts(self) -> Iterator[Part | Fault]:
        """List the files in the tar, in their order.

        Raises:
            DAMAGED: the tar is damaged from here on.
        """
        with self._open() as file, tarfile.open(fileobj=file, mode="r:") as archive:
            size = os.fstat(file.fileno()).st_size
            for member in archive:
                # It would keep all of them.
                cast(Any, archive).members = []
                name = f"{self.name}/{member.name}"
                if member.isdir() or is_hidden(member.name.rpartition("/")[2]):
                    continue
                if not member.isreg() or member.issparse():
                    yield Fault("unreadable", name, "a link, a device or a sparse file in a tar")
                elif member.offset_data + member.size > size:
                    yield Fault("cut short", name, f"{self.name} ends within it")
                    return
                else:
                    yield Part(member.name, member.offset_data, member.size)
            # tarfile takes a damaged header for the end; at the true end are zeros, or nothing.
            after = os.pread(file.fileno(), tarfile.BLOCKSIZE, cast(Any, archive).offset)
            if after.strip(b"\0"):
                raise tarfile.ReadError("a header is damaged")

    def read(self, part: Part) -> bytes:
        """Read a member.

        Raises:
            ReadError: the tar was written to since it was listed.
            DAMAGED: it cannot be read.
        """
        with self._open() as file:
            if not self.packed and stamp_of(os.fstat(file.fileno())) != self.stamp:
                raise ReadError("changed while it was read", f"{self.name} was written to")
            return os.pread(file.fileno(), part.size, part.offset)

    def _open(self) -> IO[bytes]:
        """Open the tar; a packed one is unpacked first."""
        if self._opener is None:
            return self.path.open("rb")
        with self._lock:
            if self._unpacked is None:
                with self._opener(self.path) as packed:
                    self._unpacked = unpack_to_scratch(packed, str(self.path))
        return cast(IO[bytes], io.BufferedReader(_View(self._unpacked)))


class _View(io.RawIOBase):
    """Reads a file at a place of its own, which a copy of its descriptor would not have."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._place = 0

    def fileno(self) -> int:
        return self._file.fileno()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        starts = {os.SEEK_SET: 0, os.SEEK_CUR: self._place}
        start = starts.get(whence, os.fstat(self.fileno()).st_size)
        self._place = max(start + offset, 0)
        return self._place

    def readinto(self, buffer: Any) -> int:
        count = os.preadv(self.fileno(), [buffer], self._place)
        self._place += count
        return count


def find_opener(path: Path) -> Callable[[Path], Any] | None:
    """What unpacks a file, by its first bytes; None if it is not packed.

    Raises:
        DataError: it is packed in a way that is not read here.
    """
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(ZSTANDARD):
        raise DataError(f"data={str(path)!r} is packed by Zstandard; unpack it first: zstd -d")
    for magic, opener in PACKED.items():
        if start.startswith(magic):
            return opener
    return None


def find_tars(path: Path) -> list[Path]:
    """The tar at a path, or those in it, or in the folders in it where nothing else lies."""
    if path.is_file():
        named = path.name.lower().endswith(SUFFIXES)
        return [path] if named or _is_tar(path) else []
    if not path.is_dir():
        return []

    tars = _tars_in(path)
    for child in sorted(path.iterdir()):
        if is_hidden(child.name) or not child.is_dir():
            continue
        inside = _tars_in(child)
        # A folder of pictures, beside which the tar that it came from may lie.
        if not inside:
            return []
        tars += inside
    return tars


def _tars_in(folder: Path) -> list[Path]:
    files = [child for child in folder.iterdir() if child.name.lower().endswith(SUFFIXES)]
    return sorted(file for file in files if not is_hidden(file.name) and file.is_file())


def _is_tar(path: Path) -> bool:
    """Whether a file is a tar by its content, be it packed or not."""
    with path.open("rb") as file:
        start = file.read(TAR_MAGIC + 5)
    for magic, opener in PACKED.items():
        if start.startswith(magic):
            try:
                with opener(path) as packed:
                    start = packed.read(TAR_MAGIC + 5)
            except DAMAGED:
                return False
    return start[TAR_MAGIC:] == b"ustar"
