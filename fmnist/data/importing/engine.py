"""Import a set of pictures into the cache: one pass, one report.

Pictures are read by several threads and fitted; their pixels are written in the order of the
listing into a folder of the import. Interrupted, it goes on from there. When all is read, the set
is split, and everything that is wrong is told at once.
"""

import errno
import hashlib
import json
import re
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape

from fmnist.cli import plural
from fmnist.data.formats import SUMMARY_FILE, is_imported
from fmnist.data.importing.bar import Bar
from fmnist.data.importing.item import Fault, Reader
from fmnist.data.importing.options import ImportOptions
from fmnist.data.importing.passes import Listing, ReadingPass, fault_of, read_deep, survey
from fmnist.data.importing.reading import PictureReader, Range, looks_gray
from fmnist.data.importing.records import Failure, Picture
from fmnist.data.importing.report import (
    REPORT_FILE,
    Report,
    first_of_each,
    not_read_note,
    print_faults,
)
from fmnist.data.importing.selection import (
    Selection,
    conflict_lists,
    conflicts,
    describe,
    select,
)
from fmnist.data.importing.store import EarlierRows, Store, has_rows
from fmnist.data.importing.table import Table, read_table
from fmnist.data.importing.writing import write_set
from fmnist.errors import DataError
from fmnist.runs.files import read_json

RECORD_BYTES = 500
"""Bytes that are written of a picture besides its pixels, about."""
SPARE_BYTES = 2**24
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Origin:
    """What is imported."""

    reader: Reader
    name: str
    """Name of the set."""
    where: str
    """As errors name it: "data='photos'"."""
    identity: str
    """The same for the same source: its path without links, or its address."""


class Import:
    """One import: see `import_pictures`."""

    def __init__(self, origin: Origin, options: ImportOptions, cache: Path) -> None:
        self.origin = origin
        self.options = options
        self.cache = cache
        self.reader = origin.reader
        self.console = Console(stderr=True, soft_wrap=True, highlight=False)
        self.base = _base_name(origin, options)
        self.work = cache / f"{self.base}.importing"
        self.lock = FileLock(cache / f"{self.base}.lock")

    def run(self) -> Path:
        listing = survey(self.reader)
        finished = self._finished(listing)
        if finished is not None:
            return finished

        self.cache.mkdir(parents=True, exist_ok=True)
        self._wait_for_lock()
        try:
            # Another process may have done it meanwhile.
            finished = self._finished(listing)
            if finished is not None:
                return finished
            return self._read_and_write(listing)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            raise DataError(
                f"{self.origin.where}: the disk of {self.cache} is full; make room, or set "
                "XDG_CACHE_HOME to a folder with more. What is read is kept: the same command "
                "goes on"
            ) from error
        finally:
            self.lock.release()

    def _finished(self, listing: Listing) -> Path | None:
        """The set, if it was imported before and nothing has changed.

        Raises:
            DataError: it was imported without pictures that have faults, and now they matter.
        """
        targets = [self._target(listing, replace(self.options, pixel_range=None))]
        if self.options.pixel_range is not None:
            targets.append(self._target(listing, self.options))
        for target in targets:
            if is_imported(target) and self._has_range(target):
                self._check_faults_of(target)
                return target
        return None

    def _has_range(self, target: Path) -> bool:
        wanted = self.options.pixel_range
        saved = read_json(target / SUMMARY_FILE)["pixel_range"]
        return wanted is None or saved == list(wanted)

    def _check_faults_of(self, target: Path) -> None:
        if self.options.skip_bad:
            return
        report = target / REPORT_FILE
        saved = read_json(report)
        counts: dict[str, int] = saved["fault_counts"]
        if counts:
            print_faults(counts, first_of_each(saved["faults"]), self.console)
            raise self._refusal(counts, report)

    def _target(self, listing: Listing, options: ImportOptions) -> Path:
        content = f"{listing.digest} {json.dumps(options.chosen)}"
        return self.cache / f"{self.base}-{_short_hash(content)}"

    def _wait_for_lock(self) -> None:
        try:
            self.lock.acquire(blocking=False)
        except Timeout:
            self._say(f"another process imports {escape(self.origin.where)}: waiting for it")
            self.lock.acquire()

    def _read_and_write(self, listing: Listing) -> Path:
        left_out = self._small_classes(listing)
        count = listing.pictures - sum(listing.classes[name] for name in left_out)
        self._announce(listing, count)

        options = self.options
        store = Store(self.work, options.height, options.width, options.max_pixels)
        report = Report(self.cache)
        earlier = self._earlier(store)
        try:
            reading = self._read(store, earlier, report, set(left_out), count)
            report.facts |= self._facts(reading, left_out)
            table = read_table(store)
            pixel_range = self._fit_deep(store, table, report)
            return self._settle(reading, store, table, report, pixel_range)
        finally:
            report.close()
            store.close()
            for rows in earlier:
                rows.close()

    def _small_classes(self, listing: Listing) -> dict[str, int]:
        """Classes that have too few images even if all can be read."""
        least = self.options.min_images or 0
        return {name: count for name, count in listing.classes.items() if count < least}

    def _announce(self, listing: Listing, count: int) -> None:
        """Say what will be read, and how much room it takes.

        Raises:
            DataError: there is no room for it.
        """
        channels = 1 if all(looks_gray(item) for item in listing.sample) else 3
        image_bytes = channels * self.options.height * self.options.width
        needed = count * (image_bytes + RECORD_BYTES) + SPARE_BYTES
        begun = _size_of(self.work)
        free = shutil.disk_usage(self.cache).free
        self._say(
            f"importing {escape(self.origin.where)} ({self.reader.what}): {count:,} pictures to "
            f"{self.options.height}×{self.options.width}, about {decimal(needed)} in "
            f"{escape(str(self.cache))} ({decimal(free)} free)"
        )
        if needed > free + begun:
            raise DataError(
                f"{self.origin.where}: importing {count:,} pictures takes about {decimal(needed)}, "
                f"and {self.cache} has {decimal(free)} free; make room, set XDG_CACHE_HOME to a "
                "folder with more, or take a smaller --image-size"
            )

    def _earlier(self, store: Store) -> list[EarlierRows]:
        """Imports of the same source, the newest first: rows of theirs are copied."""
        folders = list(reversed(store.earlier()))
        finished = [path for path in self.cache.glob(f"{self.base}-*") if is_imported(path)]
        newest = max(finished, key=lambda path: path.stat().st_mtime, default=None)
        if newest is not None:
            folders.append(newest)

        return [EarlierRows(folder) for folder in folders if has_rows(folder)]

    def _read(
        self,
        store: Store,
        earlier: list[EarlierRows],
        report: Report,
        left_out: set[str],
        count: int,
    ) -> ReadingPass:
        reading = ReadingPass(PictureReader(self.options), store, earlier, report, left_out)
        started = time.monotonic()
        with Bar("reading", count, self.console) as bar:
            reading.run(self.reader, bar)
        seconds = time.monotonic() - started
        rate = reading.read / max(seconds, 1e-6)
        self._say(
            f"{_pictures(reading.read)} read, {reading.unchanged:,} unchanged; "
            f"{seconds:,.1f} s, {rate:,.0f} images/s"
        )
        return reading

    def _facts(self, reading: ReadingPass, left_out: dict[str, int]) -> dict[str, Any]:
        """What import.json says of the source and of what was asked for."""
        return {
            "source": self.origin.identity,
            "format": self.reader.what,
            **self.options.rows,
            **self.options.chosen,
            "skip_bad": self.options.skip_bad,
            "pictures_listed": reading.listing.pictures,
            "classes_left_out": left_out,
        }

    def _fit_deep(self, store: Store, table: Table, report: Report) -> Range | None:
        """Fit pictures of more than 8 bits, by the range of all of them. Returns that range."""
        pixel_range = self.options.pixel_range or table.deep_range()
        if pixel_range is None:
            return None
        wanted: dict[tuple[str, str], int] = {}
        for row, deep in table.deep.items():
            if deep.fitted != pixel_range:
                wanted[deep.file, deep.stamp] = row

        pictures = PictureReader(self.options)
        with Bar("scaling", len(wanted), self.console) as bar:
            for row, entry, pixels in read_deep(self.reader, pictures, wanted, pixel_range, bar):
                _put_deep(row, entry, pixels, store, table, report)
                table.deep[row].fitted = pixel_range
                del wanted[entry.file, entry.stamp]
        for (file, _), row in wanted.items():
            report.add(Fault("changed while it was read", file, "it is gone"))
            table.labels[row] = -1
        return pixel_range

    def _settle(
        self,
        reading: ReadingPass,
        store: Store,
        table: Table,
        report: Report,
        pixel_range: Range | None,
    ) -> Path:
        """Split what was read, report, and write the set.

        Raises:
            DataError: something is wrong, and it is not to be skipped.
        """
        listed = reading.listing.class_files
        order = self.reader.class_order()
        selection = select(table, order, listed, self.options.min_images, report)
        if len(selection.classes) >= 2:
            describe(selection, report)
        elif (note := not_read_note(report)) is not None:
            # The classes may stand in a file that was not understood.
            report.notes.append(note)
        if table.deep and pixel_range is not None:
            report.notes.append(_scale_note(len(table.deep), pixel_range))
        if table.lost_bits:
            report.notes.append(
                f"{plural(table.lost_bits, 'picture')} with colours of 16 bits: the upper 8 are "
                "read; colours of 10 or 12 bits come out dark, so scale those before"
            )
        report.facts["conflicts"] = _conflicts(selection, store)
        self._tell(report)
        self._check_classes(selection, report)
        target = self._target(reading.listing, self.options)
        summary = {
            "name": self.origin.name,
            "classes": selection.classes,
            "fit": self.options.how,
            "pad_colour": self.options.pad_colour,
            "pixel_range": None if pixel_range is None else list(pixel_range),
        }
        write_set(target, store, table, selection, report, summary)
        return target

    def _tell(self, report: Report) -> None:
        """Print what was found.

        Raises:
            DataError: there are faults, and they are not to be skipped.
        """
        faults = dict(report.faults.counts)
        print_faults(faults, report.faults.first, self.console)
        for note in report.notes:
            self._say(escape(note))
        if faults and not self.options.skip_bad:
            raise self._refusal(faults, report.write(self.work))

    def _check_classes(self, selection: Selection, report: Report) -> None:
        classes = len(selection.classes)
        if classes >= 2:
            return
        path = report.write(self.work)
        found = "one class" if classes else "no class"
        raise DataError(
            f"{self.origin.where}: {found} with enough pictures ({self.reader.what}); a set has "
            f"two or more. What was found is in {path}; if the classes lie deeper, name the folder "
            "that holds them"
        )

    def _refusal(self, counts: dict[str, int], report: Path) -> DataError:
        total = sum(counts.values())
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
        found = f"{plural(total, 'fault')} ({kinds})"
        return DataError(
            f"{self.origin.where}: {found}, all of them in {report}: mend them, "
            "or go on without them: --skip-bad"
        )

    def _say(self, line: str) -> None:
        self.console.print(line)


def import_pictures(origin: Origin, options: ImportOptions, cache: Path) -> Path:
    """Import a set of pictures, unless it was imported before and has not changed.

    Args:
        cache: the folder of imported sets; this one gets a folder in it.

    Returns:
        the set's folder.

    Raises:
        DataError: something is wrong with the pictures, after all of it is printed; or there is no
            room.
    """
    return Import(origin, options, cache).run()


def _scale_note(count: int, pixel_range: Range) -> str:
    low, high = pixel_range
    return (
        f"{count:,} pictures have more than 8 bits: {low:g} to {high:g}, the range of the set, is "
        "scaled to 0 to 255"
    )


def _put_deep(
    row: int,
    entry: Picture | Failure,
    pixels: Any,
    store: Store,
    table: Table,
    report: Report,
) -> None:
    """Put the row of a picture of more than 8 bits in its place."""
    if isinstance(entry, Failure):
        report.add(fault_of(entry))
        table.labels[row] = -1
        return
    store.rewrite(row, pixels)
    table.set_fitted(row, entry)


def _conflicts(selection: Selection, store: Store) -> list[Any]:
    """The images that have copies under other labels, for the report."""
    found = conflicts(selection)
    wanted = {row for _, row, _ in found}
    files: dict[int, str] = {}
    row = -1
    for entry in store.entries():
        if isinstance(entry, Picture):
            row += 1
            if row in wanted:
                files[row] = entry.file
    return conflict_lists(found, files)


def _base_name(origin: Origin, options: ImportOptions) -> str:
    """The common part of the names of all folders of a source's imports at this size."""
    # File names may have 255 bytes, and some characters are not allowed everywhere.
    readable = re.sub(r"[^A-Za-z0-9._-]+", "_", origin.name)[:40].strip("._") or "set"
    key = _short_hash(f"{origin.identity} {json.dumps(options.rows)}")
    return f"{readable}-{options.height}x{options.width}-{key}"


def _short_hash(text: str) -> str:
    content = text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(content, digest_size=5).hexdigest()


def _size_of(folder: Path) -> int:
    """Bytes of what lies in a folder."""
    return sum(path.stat().st_size for path in folder.glob("*") if path.is_file())


def _pictures(count: int) -> str:
    return f"{count:,} picture{'' if count == 1 else 's'}"
