"""A folder that has what lies in a bucket: only what is missing or has changed is fetched."""

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from fmnist.errors import DataError
from fmnist.runs.files import read_json, write_json

FETCHED_FILE = ".fetched.json"
"""Beside what was fetched: the tag of each object, by its key below the prefix."""
PARTS = ".parts"
"""Folder beside it for objects that have not come whole."""
RECORDED_EVERY_S = 2.0
"""Seconds of work that are lost at most when the process is killed."""
AT_ONCE = 8
"""Objects that are fetched at the same time."""
BLOCK_BYTES = 2**20
TRIES = 5
"""Times that a broken connection is begun anew for an object."""
SPARE_BYTES = 2**26
"""Bytes that must be free beyond what is fetched."""


Client = Any
"""boto3's client; boto3 has no types."""


@dataclass(frozen=True, slots=True)
class Remote:
    """An object on S3."""

    key: str
    name: str
    """Its key below the prefix; the last part of it where the prefix is the object itself."""
    size: int
    tag: str


class Mirror:
    """A folder that has the objects of a bucket.

    Args:
        address: as the command line has it, for errors.
    """

    def __init__(self, client: Client, bucket: str, address: str, folder: Path) -> None:
        self.client, self.bucket = client, bucket
        self.address, self.folder = address, folder
        self.record = folder / FETCHED_FILE
        self.tags: dict[str, str] = self._read_record()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._recorded = time.monotonic()

    def update(self, found: list[Remote]) -> None:
        """Fetch what is missing or has changed, and delete what is gone.

        Raises:
            DataError: the disk has no room, or an object changes meanwhile.
            botocore's errors: the server does not answer.
        """
        wanted = [remote for remote in found if not self._has(remote)]
        gone = set(self.tags) - {remote.name for remote in found}
        for name in gone:
            (self.folder / name).unlink(missing_ok=True)
            del self.tags[name]
        if not wanted:
            if gone:
                write_json(self.record, self.tags)
            return

        self._check_room(wanted)
        try:
            self._fetch_all(wanted)
        finally:
            write_json(self.record, self.tags)
        shutil.rmtree(self.folder / PARTS, ignore_errors=True)

    def _read_record(self) -> dict[str, str]:
        return dict(read_json(self.record)) if self.record.exists() else {}

    def _has(self, remote: Remote) -> bool:
        path = self.folder / remote.name
        if self.tags.get(remote.name) != remote.tag or not path.is_file():
            return False
        return path.stat().st_size == remote.size

    def _check_room(self, wanted: list[Remote]) -> None:
        needed = sum(remote.size for remote in wanted) + SPARE_BYTES
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise DataError(
                f"data={self.address!r}: {needed:,} bytes are to be fetched, and "
                f"{self.folder} has {free:,} free; set XDG_CACHE_HOME to a folder with more"
            )

    def _fetch_all(self, wanted: list[Remote]) -> None:
        size = sum(remote.size for remote in wanted)
        with _bar() as bar, ThreadPoolExecutor(AT_ONCE) as pool:
            task = bar.add_task(f"fetching {self.address}", total=size)
            running = [pool.submit(self._fetch, remote, bar, task) for remote in wanted]
            try:
                for done in as_completed(running):
                    done.result()
            except BaseException:
                self._stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _fetch(self, remote: Remote, bar: Progress, task: Any) -> None:
        """Fetch an object, from where an earlier call was interrupted."""
        # By the tag too: a part of another version is not gone on with.
        version = hashlib.sha256(f"{remote.name}\0{remote.tag}".encode()).hexdigest()
        part = self.folder / PARTS / version
        part.parent.mkdir(exist_ok=True)
        with part.open("ab") as file:
            bar.advance(task, file.tell())
            for tries_left in reversed(range(TRIES)):
                if self._append(remote, file, bar, task, tries_left):
                    break
            file.flush()
            os.fsync(file.fileno())
        if self._stop.is_set():
            return

        if part.stat().st_size != remote.size:
            part.unlink()
            raise DataError(f"data={self.address!r}: {remote.key} changed; run it again")
        target = self.folder / remote.name
        target.parent.mkdir(parents=True, exist_ok=True)
        part.replace(target)
        self._note(remote)

    def _append(
        self, remote: Remote, file: IO[bytes], bar: Progress, task: Any, tries_left: int
    ) -> bool:
        """Fetch what is missing at the end of a part; False if the connection broke."""
        from botocore.exceptions import BotoCoreError

        try:
            for block in self._blocks(remote, file.tell()):
                if self._stop.is_set():
                    break
                file.write(block)
                bar.advance(task, len(block))
        except BotoCoreError:
            if not tries_left:
                raise
            return False
        return True

    def _blocks(self, remote: Remote, start: int) -> Iterator[bytes]:
        """The bytes of an object from `start` on."""
        if start >= remote.size:
            return
        answer = self.client.get_object(
            Bucket=self.bucket,
            Key=remote.key,
            IfMatch=remote.tag,
            Range=f"bytes={start}-",
        )
        yield from answer["Body"].iter_chunks(BLOCK_BYTES)

    def _note(self, remote: Remote) -> None:
        """Remember that an object is here."""
        with self._lock:
            self.tags[remote.name] = remote.tag
            if time.monotonic() - self._recorded > RECORDED_EVERY_S:
                write_json(self.record, self.tags)
                self._recorded = time.monotonic()


def _bar() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        expand=True,
        transient=True,
        disable=not console.is_terminal,
    )
