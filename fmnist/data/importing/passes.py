"""The passes over a source: list its pictures, read them all, and fit those of more than 8 bits."""

import hashlib
import random
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

from fmnist.data.importing.bar import Bar
from fmnist.data.importing.item import Entry, Fault, Item, LeftOut, Reader
from fmnist.data.importing.reading import PictureReader, Range
from fmnist.data.importing.records import Failure, Picture, Pixels
from fmnist.data.importing.report import Report
from fmnist.data.importing.store import EarlierRows, Store
from fmnist.data.importing.words import is_text
from fmnist.runs.threads import cpu_threads

AT_ONCE = 8
"""Pictures that a thread takes at a time: handing over each alone would cost small ones dearly."""
WAITING_BYTES = 2**26
"""Fitted pixels that may wait for a slow picture before them, at most."""
WAITING_JOBS = 32
"""Jobs of each thread that may wait, at most: they are lost when the process is killed."""
FLUSH_S = 2.0
"""Seconds of work that are lost at most when the process is killed."""
SAMPLED = 16

Result = tuple[Picture | Failure, Pixels | None]
Job = Future[list[Result]]
"""Pictures that are being read."""


@dataclass
class Listing:
    """What a source lists."""

    pictures: int = 0
    classes: Counter[str] = field(default_factory=Counter[str])
    """Pictures of each class."""
    class_files: Counter[str] = field(default_factory=Counter[str])
    """Files of each class that are pictures, or may be some of a kind that is not read; 0 where its
    folder is empty."""
    sample: list[Item] = field(default_factory=list[Item])
    """A few pictures from all over, always the same ones."""

    def __post_init__(self) -> None:
        self._digest = hashlib.blake2b(digest_size=8)
        self._random = random.Random(0)

    @property
    def digest(self) -> str:
        """It changes when a picture comes, goes or is written to."""
        return self._digest.hexdigest()

    def add(self, entry: Entry) -> None:
        if entry.label and not (isinstance(entry, LeftOut) and is_text(entry.name)):
            is_file = not (isinstance(entry, LeftOut) and entry.kind == "empty folder")
            self.class_files[entry.label] += is_file
        match entry:
            case Item(name, label, split, stamp):
                self.classes[label] += 1
                self._take_sample(entry)
                self.pictures += 1
                words = f"{name}\0{label}\0{split}\0{stamp}\n"
            case Fault(kind, name):
                words = f"{name}\0{kind}\n"
            case LeftOut(kind, name):
                words = f"{name}\0{kind}\n"
        self._digest.update(words.encode("utf-8", "surrogatepass"))

    def _take_sample(self, item: Item) -> None:
        if len(self.sample) < SAMPLED:
            self.sample.append(item)
            return
        place = self._random.randrange(self.pictures + 1)
        if place < SAMPLED:
            self.sample[place] = item


def survey(reader: Reader) -> Listing:
    """List a source without reading a picture."""
    listing = Listing()
    for entry in reader.entries():
        listing.add(entry)
    return listing


class ReadingPass:
    """Reads every picture of a source once, and writes the rows in the order of the listing.

    Args:
        earlier: imports whose rows are copied where a picture has not changed since.
        left_out: classes that are not read.
    """

    def __init__(
        self,
        pictures: PictureReader,
        store: Store,
        earlier: list[EarlierRows],
        report: Report,
        left_out: set[str],
    ) -> None:
        self.pictures = pictures
        self.store = store
        self.earlier = earlier
        self.report = report
        self.left_out = left_out
        self.listing = Listing()
        self.read = 0
        self.unchanged = 0
        """Pictures that were taken from an earlier import, or from one that was interrupted."""
        self._flushed = time.monotonic()

    def run(self, reader: Reader, bar: Bar) -> None:
        """Read all. What was read is kept when this is interrupted.

        Raises:
            OSError: the disk is full.
            DataError: nothing of a file that holds pictures can be read.
        """
        options = self.pictures.options
        job_bytes = AT_ONCE * 3 * options.height * options.width
        threads = cpu_threads()
        limit = min(max(WAITING_BYTES // job_bytes, 2 * threads), WAITING_JOBS * threads)

        pool = ThreadPoolExecutor(threads)
        try:
            for entry, pixels in in_order(self._jobs(reader, pool, bar), limit):
                self._append(entry, pixels)
                bar.advance()
            self.store.end_taking_over()
        finally:
            pool.shutdown(cancel_futures=True)
            # A full disk is told once, by what met it first.
            with suppress(OSError):
                self.store.flush()
        self.store.flush()

    def _jobs(self, reader: Reader, pool: ThreadPoolExecutor, bar: Bar) -> Iterator[Job]:
        """Go through the listing, and have pictures read that are not known yet."""
        items: list[Item] = []
        for entry in reader.entries():
            self.listing.add(entry)
            if entry.label in self.left_out:
                continue
            match entry:
                case Fault():
                    self.report.add(entry)
                    continue
                case LeftOut():
                    self.report.leave_out(entry)
                    continue
                case Item():
                    pass

            if self._take_over(entry):
                bar.advance()
                continue
            known = self._find_earlier(entry)
            if known is None:
                items.append(entry)
                self.read += 1
            if items and (known is not None or len(items) == AT_ONCE):
                yield pool.submit(self._read_several, items)
                items = []
            if known is not None:
                yield _done([known])
        if items:
            yield pool.submit(self._read_several, items)

    def _take_over(self, item: Item) -> bool:
        """Whether an interrupted import has left this picture in its place."""
        left = self.store.take_over(item)
        if self.store.given_up is not None:
            self.earlier.insert(0, EarlierRows(self.store.given_up))
            self.store.given_up = None
        if left is None:
            return False
        if isinstance(left, Failure):
            self.report.add(fault_of(left))
        else:
            self.unchanged += 1
        return True

    def _find_earlier(self, item: Item) -> Result | None:
        for rows in self.earlier:
            found = rows.find(item)
            if found is not None:
                self.unchanged += 1
                return found
        return None

    def _read_several(self, items: list[Item]) -> list[Result]:
        return [self.pictures.read(item, self.pictures.options.pixel_range) for item in items]

    def _append(self, entry: Picture | Failure, pixels: Pixels | None) -> None:
        if isinstance(entry, Failure):
            self.report.add(fault_of(entry))
        self.store.append(entry, pixels)
        now = time.monotonic()
        if now - self._flushed > FLUSH_S:
            self.store.flush()
            self._flushed = now


def fault_of(failure: Failure) -> Fault:
    return Fault(failure.fault, failure.file, failure.detail, failure.label)


def _done(results: list[Result]) -> Job:
    """A job that nobody has to wait for."""
    job: Job = Future()
    job.set_result(results)
    return job


def in_order(jobs: Iterator[Job], limit: int) -> Iterator[Result]:
    """Yield what the jobs give, in their order, as soon as it is there.

    Args:
        limit: jobs that may be begun.
    """
    begun: deque[Job] = deque()
    for job in jobs:
        begun.append(job)
        while begun and (begun[0].done() or len(begun) >= limit):
            yield from begun.popleft().result()
    while begun:
        yield from begun.popleft().result()


def read_deep(
    reader: Reader,
    pictures: PictureReader,
    wanted: dict[tuple[str, str], int],
    pixel_range: Range,
    bar: Bar,
) -> Iterator[tuple[int, Picture | Failure, Pixels | None]]:
    """Fit the pictures of more than 8 bits, now that the set's range is known.

    Args:
        wanted: the row of each such picture, by its name and stamp.

    Yields:
        row, record and pixels of each; those that are wanted and do not come are gone.
    """
    threads = cpu_threads()

    def read_several(items: list[Item]) -> list[Result]:
        return [pictures.read(item, pixel_range) for item in items]

    def jobs(pool: ThreadPoolExecutor) -> Iterator[Job]:
        items: list[Item] = []
        for entry in reader.entries():
            if isinstance(entry, Item) and (entry.name, entry.stamp) in wanted:
                items.append(entry)
            if len(items) == AT_ONCE:
                yield pool.submit(read_several, items)
                items = []
        yield pool.submit(read_several, items)

    pool = ThreadPoolExecutor(threads)
    try:
        for entry, pixels in in_order(jobs(pool), 4 * threads):
            yield wanted[entry.file, entry.stamp], entry, pixels
            bar.advance()
    finally:
        pool.shutdown(cancel_futures=True)
