"""Tars in WebDataset's form: key.png and key.cls side by side, in one file or in many shards."""

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import tarfile
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

from fmnist.data.image_file import suffixes
from fmnist.data.importing.folder import is_hidden, stamp_of
from fmnist.data.importing.item import Entry, Fault, Item, Reader, ReadError, SplitName
from fmnist.data.importing.readers.csv_file import read_label
from fmnist.data.importing.readers.labelled import LabelledReader
from fmnist.data.importing.readers.scratch import scratch_folder, unpack_to_scratch
from fmnist.data.importing.split_names import split_of_file
from fmnist.errors import DataError, first_line

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
PACKED: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
"""How packed files begin, and what opens them."""
ZSTANDARD = b"\x28\xb5\x2f\xfd"
DAMAGED = (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError)
TAR_MAGIC = 257
"""Where "ustar" stands in a tar."""
LABEL_SUFFIXES = ("cls", "json", "txt")
"""What holds a class, the surest first."""
JSON_KEYS = ("label", "cls", "class", "class_name", "category", "target")
MAX_LABEL_BYTES = 2**20
LOOKED_AT = 1000
"""Members by which is seen whether a tar has labels."""
REMEMBERED_AT_ONCE = 4096
MOST_PACKED = 64
"""Packed shards that are unpacked side by side."""


@dataclass(frozen=True, slots=True)
class Part:
    """A file in a tar."""

    name: str
    offset: int
    size: int


@dataclass
class Sample:
    """The files in a tar that have one key."""

    key: str
    image: Part | None = None
    labels: dict[str, Part] = field(default_factory=dict[str, Part])
    """By their suffix."""


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

    def samples(self) -> Iterator[Sample | Fault]:
        """List the samples by the headers in the tar.

        Raises:
            DAMAGED: the tar is damaged from here on.
        """
        sample: Sample | None = None
        try:
            for entry in self._parts():
                if isinstance(entry, Fault):
                    yield entry
                    continue
                key, suffix = split_key(entry.name)
                if sample is None or sample.key != key:
                    if sample is not None:
                        yield sample
                    sample = Sample(key)
                if suffix in LABEL_SUFFIXES:
                    sample.labels[suffix] = entry
                elif f".{suffix}" in suffixes():
                    sample.image = sample.image or entry
        except DAMAGED:
            # What came before the damage is whole.
            if sample is not None:
                yield sample
            raise
        if sample is not None:
            yield sample

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

    def _parts(self) -> Iterator[Part | Fault]:
        """List the files in the tar, in their order."""
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


def recognise_shards(path: Path) -> Reader | None:
    """Read a tar in WebDataset's form, or a folder of such shards.

    Raises:
        DataError: a tar holds no pictures with labels, or cannot be read.
    """
    files = _find_tars(path)
    if not files:
        return None

    root = path if path.is_dir() else path.parent
    shards = [Shard(root, file) for file in files]
    packed = sum(shard.packed for shard in shards)
    if packed > MOST_PACKED:
        raise DataError(
            f"data={str(path)!r}: {packed} of its tars are packed; unpack them (gunzip, xz -d), "
            "since a packed tar can only be read from its beginning"
        )
    _check_content(path, shards)
    what = f"{len(shards)} tars" if len(shards) > 1 else "a tar"
    return LabelledReader(f"{what} in WebDataset's form", partial(_list, shards, Listings()), root)


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


def split_key(name: str) -> tuple[str, str]:
    """A member's key and suffix: WebDataset cuts at the first dot of the file's name."""
    folder, slash, file = name.rpartition("/")
    stem, _, suffix = file.partition(".")
    return f"{folder}{slash}{stem}", suffix.lower()


def _find_tars(path: Path) -> list[Path]:
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


def _check_content(path: Path, shards: Sequence[Shard]) -> None:
    """Raise DataError unless the first samples have pictures, and labels beside them."""
    reason = ""
    for shard in shards:
        pictures = labels = 0
        try:
            for sample in islice(shard.samples(), LOOKED_AT):
                if isinstance(sample, Sample):
                    pictures += sample.image is not None
                    labels += bool(sample.image and sample.labels)
        except DAMAGED as error:
            reason = reason or f"{shard.name}: {first_line(error)}"
        if labels:
            return
        if pictures:
            raise DataError(
                f"data={str(path)!r}: {shard.name} holds pictures without labels; looked for "
                "WebDataset's form, in which key.cls, key.json or key.txt stands beside key.jpg. "
                "If its folders are the classes, unpack it and name the folder"
            )
    raise DataError(
        f"data={str(path)!r}: {reason or 'there are no pictures in it'}; a tar in WebDataset's "
        "form holds key.jpg and key.cls for each picture"
    )


Listed = tuple[str, Part] | Fault
"""A class and the picture that is in it, or what is wrong."""


class Listings:
    """Remembers what shards hold: an import lists a source twice, and headers are slow to parse.

    The memory is a file without a name, since a source may have millions of pictures.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(dir=scratch_folder())  # noqa: SIM115 (kept open)
        self._places: dict[str, list[tuple[int, int]]] = {}
        """Place and length in the file of what each shard holds."""

    def entries(self, shard: Shard) -> Iterator[Entry]:
        """List a shard, from memory where it was listed to its end before."""
        known = self._places.get(shard.name)
        if known is not None:
            for place, length in known:
                content = os.pread(self._file.fileno(), length, place)
                for listed in pickle.loads(content):
                    yield _entry_of(shard, listed)
            return

        places: list[tuple[int, int]] = []
        several: list[Listed] = []
        for listed in _list_shard(shard):
            several.append(listed)
            if len(several) == REMEMBERED_AT_ONCE:
                places.append(self._write(several))
                several = []
            yield _entry_of(shard, listed)
        places.append(self._write(several))
        self._places[shard.name] = places

    def _write(self, several: list[Listed]) -> tuple[int, int]:
        content = pickle.dumps(several)
        place = self._file.seek(0, os.SEEK_END)
        self._file.write(content)
        self._file.flush()
        return place, len(content)


def _list(shards: Sequence[Shard], listings: Listings) -> Iterator[Entry]:
    for shard in shards:
        yield from listings.entries(shard)


def _list_shard(shard: Shard) -> Iterator[Listed]:
    try:
        for sample in shard.samples():
            yield sample if isinstance(sample, Fault) else _list_sample(shard, sample)
    except DAMAGED as error:
        yield Fault("cut short", shard.name, f"the rest of it is lost: {first_line(error)}")


def _entry_of(shard: Shard, listed: Listed) -> Entry:
    if isinstance(listed, Fault):
        return listed
    label, image = listed
    name = f"{shard.name}/{image.name}"
    return Item(name, label, shard.split, shard.stamp, partial(shard.read, image))


def _list_sample(shard: Shard, sample: Sample) -> Listed:
    image = sample.image
    if image is None:
        return Fault("unreadable", f"{shard.name}/{sample.key}", "it has no picture beside it")
    name = f"{shard.name}/{image.name}"
    if not image.size:
        return Fault("empty", name, "the file has 0 bytes")
    label = _read_class(shard, sample)
    if label is None:
        return Fault(
            "no class",
            name,
            "no class in a .cls, .json or .txt of its key; the files of a key stand together",
        )
    return label, image


def _read_class(shard: Shard, sample: Sample) -> str | None:
    """The class that the files beside a picture give it; None if they give none."""
    for suffix in LABEL_SUFFIXES:
        part = sample.labels.get(suffix)
        if part is None or part.size > MAX_LABEL_BYTES:
            continue
        text = shard.read(part).decode("utf-8-sig", "replace")
        label = _class_of_json(text) if suffix == "json" else read_label(text)
        if label is not None:
            return label
    return None


def _class_of_json(text: str) -> str | None:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict):
        return None
    for key in JSON_KEYS:
        value = cast(dict[str, Any], values).get(key)
        if isinstance(value, str | int):
            return read_label(str(value))
    return None
