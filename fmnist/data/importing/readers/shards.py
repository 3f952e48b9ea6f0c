"""Tars in WebDataset's form: key.png and key.cls side by side, in one file or in many shards."""

import json
import os
import pickle
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

from fmnist.data.image_file import suffixes
from fmnist.data.importing.item import Entry, Fault, Item, Reader
from fmnist.data.importing.readers.csv_file import read_label
from fmnist.data.importing.readers.labelled import LabelledReader
from fmnist.data.importing.readers.scratch import scratch_folder
from fmnist.data.importing.readers.tar_file import DAMAGED, Part, Shard, find_tars
from fmnist.errors import DataError, first_line

LABEL_SUFFIXES = ("cls", "json", "txt")
"""What holds a class, the surest first."""
JSON_KEYS = ("label", "cls", "class", "class_name", "category", "target")
MAX_LABEL_BYTES = 2**20
LOOKED_AT = 1000
"""Members by which is seen whether a tar has labels."""
REMEMBERED_AT_ONCE = 4096
MOST_PACKED = 64
"""Packed shards that are unpacked side by side."""


@dataclass
class Sample:
    """The files in a tar that have one key."""

    key: str
    image: Part | None = None
    labels: dict[str, Part] = field(default_factory=dict[str, Part])
    """By their suffix."""


def recognise_shards(path: Path) -> Reader | None:
    """Read a tar in WebDataset's form, or a folder of such shards.

    Raises:
        DataError: a tar holds no pictures with labels, or cannot be read.
    """
    files = find_tars(path)
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


def list_samples(shard: Shard) -> Iterator[Sample | Fault]:
    """List the samples in a tar by its headers.

    Raises:
        DAMAGED: the tar is damaged from here on.
    """
    sample: Sample | None = None
    try:
        for entry in shard.parts():
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


def split_key(name: str) -> tuple[str, str]:
    """A member's key and suffix: WebDataset cuts at the first dot of the file's name."""
    folder, slash, file = name.rpartition("/")
    stem, _, suffix = file.partition(".")
    return f"{folder}{slash}{stem}", suffix.lower()


def _check_content(path: Path, shards: Sequence[Shard]) -> None:
    """Raise DataError unless the first samples have pictures, and labels beside them."""
    reason = ""
    for shard in shards:
        pictures = labels = 0
        try:
            for sample in islice(list_samples(shard), LOOKED_AT):
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
        for sample in list_samples(shard):
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
