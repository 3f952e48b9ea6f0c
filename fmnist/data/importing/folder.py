"""Read a folder of pictures: a subfolder for each class, at any depth, with a split or without."""

# Not pathlib, which takes ten times as long: a folder may have millions of files.
# ruff: noqa: PTH114, PTH115, PTH116, PTH208

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from fmnist.data.image_file import suffixes
from fmnist.data.importing.item import Entry, Fault, Item, LeftOut, ReadError, SplitName
from fmnist.data.importing.split_names import find_split
from fmnist.data.importing.words import is_text

WHAT = "a folder for each class"
TOOL_FOLDERS = ("__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information")
"""Folders that operating systems and storage boxes leave beside pictures, in small letters."""
TOOL_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r")
GONE = (errno.ENOENT, errno.ESTALE, errno.ENOTDIR)


@dataclass(frozen=True, slots=True)
class _Place:
    """A folder on the way down from the source."""

    path: str
    """As it is reached."""
    name: str
    """Below the source; "" for the source itself."""
    label: str
    split: SplitName | None
    real: str
    """Without links."""
    linked: bool
    """Whether a link leads to it, or to a folder above it."""
    above: frozenset[tuple[int, int]]
    """Device and number of each folder above it: a link to one of them is a loop."""


class FolderReader:
    """Reads a folder of pictures.

    The class is the first level below the split, or below the source where there is no split.
    Hidden files and folders are left out, and those that tools leave behind.
    """

    what = WHAT

    def __init__(self, folder: Path) -> None:
        self.root = str(folder)
        self.real_root = os.path.realpath(folder)
        self.has_splits = _has_splits(_visible_folders(self.root))

    def class_order(self) -> list[str] | None:
        return None

    def entries(self) -> Iterator[Entry]:
        """List the pictures in the order of their names, folder by folder."""
        # Pictures outside of the source that a link has led to, as hashes: each counts once.
        outside: set[int] = set()
        start = _Place(self.root, "", "", None, self.real_root, False, frozenset())
        yield from self._walk(start, outside)

    def _walk(self, place: _Place, outside: set[int]) -> Iterator[Entry]:
        try:
            names = sorted(os.listdir(place.path))
            status = os.stat(place.path)
        except OSError as error:
            yield Fault("unreadable", place.name or ".", _reason(error), place.label)
            return

        inside = replace(place, above=place.above | {(status.st_dev, status.st_ino)})
        for name in names:
            if not is_hidden(name):
                yield from self._entry(inside, name, outside)

    def _entry(self, place: _Place, name: str, outside: set[int]) -> Iterator[Entry]:
        path = f"{place.path}/{name}"
        full_name = f"{place.name}/{name}" if place.name else name
        try:
            status = os.lstat(path)
            is_link = stat.S_ISLNK(status.st_mode)
            if is_link:
                status = os.stat(path)
        except OSError as error:
            yield _unreachable(full_name, place.label, path, error)
            return

        if stat.S_ISDIR(status.st_mode):
            below = self._below(place, name, full_name, is_link)
            if (status.st_dev, status.st_ino) in place.above:
                yield Fault(
                    "dangling link", full_name, "it leads to a folder above it", below.label
                )
                return
            yield from self._walk_below(place, below, outside)
            return

        linked = is_link or place.linked
        real = os.path.realpath(path) if is_link else f"{place.real}/{name}"
        yield self._file(place, full_name, status, real if linked else None, outside)

    def _walk_below(self, place: _Place, below: _Place, outside: set[int]) -> Iterator[Entry]:
        entries = self._walk(below, outside)
        if below.label and not place.label:
            # A class must not vanish because there is nothing in its folder.
            first = next(entries, None)
            yield first or LeftOut("empty folder", below.name, below.label)
        yield from entries

    def _file(
        self,
        place: _Place,
        name: str,
        status: os.stat_result,
        linked_to: str | None,
        outside: set[int],
    ) -> Entry:
        label = place.label
        if not stat.S_ISREG(status.st_mode) or not is_picture(name):
            return LeftOut("not read", name, label)
        if not label:
            return Fault("no class", name, "it lies in no class's folder")
        if not status.st_size:
            return Fault("empty", name, "the file has 0 bytes", label)
        if linked_to is not None and self._is_counted(place, linked_to, outside):
            return LeftOut("link", name, label)

        stamp = stamp_of(status)
        read = partial(read_file, f"{self.root}/{name}", stamp)
        return Item(name, label, place.split, stamp, read)

    def _below(self, place: _Place, name: str, full_name: str, is_link: bool) -> _Place:
        label, split = self._class_of(place.label, place.split, name)
        path = f"{place.path}/{name}"
        real = os.path.realpath(path) if is_link else f"{place.real}/{name}"
        linked = is_link or place.linked
        return _Place(path, full_name, label, split, real, linked, place.above)

    def _class_of(
        self, label: str, split: SplitName | None, name: str
    ) -> tuple[str, SplitName | None]:
        """Class and split of a subfolder of a folder that is in these."""
        if label:
            return label, split
        found = find_split(name) if self.has_splits and split is None else None
        if found is not None:
            return "", found
        # Beside the splits lies nothing that belongs to a class.
        return ("" if self.has_splits and split is None else name), split

    def _is_counted(self, place: _Place, real: str, outside: set[int]) -> bool:
        """Whether a picture that a link leads to is in the same class and split already."""
        below = real.removeprefix(f"{self.real_root}/")
        if below == real:
            key = hash((place.split, place.label, real))
            known = key in outside
            outside.add(key)
            return known

        *folders, name = below.split("/")
        label, split = "", None
        for folder in folders:
            if is_hidden(folder):
                return False
            label, split = self._class_of(label, split, folder)
        return (
            not is_hidden(name)
            and is_picture(name)
            and (label, split)
            == (
                place.label,
                place.split,
            )
        )


def recognise_folder(path: Path) -> FolderReader | None:
    """Take a folder that has subfolders, one of them with a picture in it or below it."""
    if not path.is_dir():
        return None
    reader = FolderReader(path)
    for entry in reader.entries():
        if isinstance(entry, LeftOut) and entry.kind == "empty folder":
            continue
        if isinstance(entry, Item) or (entry.kind != "not read" and "/" in entry.name):
            return reader
        if isinstance(entry, LeftOut) and entry.label and not is_text(entry.name):
            return reader
    return None


def read_file(path: str, stamp: str) -> bytes:
    """Read an image file.

    Raises:
        ReadError: it is another than the one that was listed, or gone.
        OSError: it cannot be read.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            content = file.read()
            status = os.fstat(file.fileno())
    except OSError as error:
        if error.errno in GONE:
            raise ReadError("changed while it was read", "it is gone") from error
        raise
    if stamp_of(status) != stamp:
        raise ReadError("changed while it was read", "it was written to after it was listed")
    return content


def stamp_of(status: os.stat_result) -> str:
    """Size and time of a file: they change when it is written."""
    return f"{status.st_size}-{status.st_mtime_ns}"


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or left behind by a tool."""
    lower = name.lower()
    return name.startswith(".") or lower in TOOL_FOLDERS or lower in TOOL_FILES


def is_picture(name: str) -> bool:
    """Whether a file is read, by its suffix."""
    return name.lower().endswith(suffixes())


def _has_splits(folders: list[str]) -> bool:
    """Whether the subfolders are splits: a training set and another, or a training set alone.

    A class may be called "train" as well: then others than splits stand beside it.
    """
    splits = {find_split(name) for name in folders}
    if "train" not in splits:
        return False
    return bool(splits & {"validation", "test"}) or splits == {"train"}


def _visible_folders(root: str) -> list[str]:
    with os.scandir(root) as entries:
        return [entry.name for entry in entries if not is_hidden(entry.name) and entry.is_dir()]


def _unreachable(name: str, label: str, path: str, error: OSError) -> Entry:
    if is_text(name):
        return LeftOut("not read", name, label)
    if not os.path.islink(path):
        return Fault("unreadable", name, _reason(error), label)
    if error.errno == errno.ELOOP:
        return Fault("dangling link", name, "it leads back to itself", label)
    target = os.readlink(path)
    return Fault("dangling link", name, f"{target!r} is not there", label)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
