"""Where a run lives for good: a folder that every node sees, or S3.

A training's state is one file, `last.pt`, as in a plain run: rank 0 or a trial writes it after each epoch, whole or not at all, and
whoever goes on reads it. Ray Train's own checkpoints are left alone: its list of them is rewritten in place, so that a crash at the
wrong moment makes a run that cannot be resumed, and one failed write of it ends the job.
"""

import contextlib
import io
import os
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pyarrow.fs
import torch

from fmnist.checkpoint import load_state, save_state
from fmnist.errors import FailedError, InputError, check, first_line
from fmnist.run import RUNS, run_to_resume

STATE_FILE = "last.pt"
PATIENCE_S = float(os.environ.get("FMNIST_STORAGE_PATIENCE_S", "300"))
"""How long to try again when the storage does not answer."""
MIRROR_EVERY_S = 2.0

T = TypeVar("T")
FileSystem = Any
"""A pyarrow.fs.FileSystem; pyarrow has no types."""


@cache
def open_filesystem(uri: str) -> tuple[FileSystem, str]:
    """The S3 file system of s3://BUCKET/PREFIX[?region=…&endpoint_override=…&scheme=…], and BUCKET/PREFIX."""
    return pyarrow.fs.FileSystem.from_uri(uri)


def patiently(what: str, act: Callable[[], T], tell: Callable[[str], None] | None = None) -> T:
    """Try until it works, for PATIENCE_S; tell once when it does not work at first.

    Raises:
        FailedError: it never worked.
    """
    deadline, wait_s, told = time.monotonic() + PATIENCE_S, 0.5, False
    while True:
        try:
            return act()
        except OSError as error:
            reason = first_line(error)
            if time.monotonic() + wait_s > deadline:
                raise FailedError(f"{what}: the storage failed for {PATIENCE_S:.0f} s ({reason})") from error
            if tell is not None and not told:
                tell(f"{what}: the storage does not answer ({reason}); trying again for {PATIENCE_S:.0f} s")
            told = True
        time.sleep(wait_s)
        wait_s = min(2 * wait_s, 10.0)


@dataclass(frozen=True, slots=True)
class StateFile:
    """The file that a training resumes from."""

    place: str
    """Its path, or its s3:// address."""

    def load(self, tell: Callable[[str], None] | None = None) -> dict[str, Any] | None:
        """The state, on the CPU; None if there is none. Raises FailedError if the storage does not answer."""
        if not _is_remote(self.place):
            return load_state(Path(self.place)) if Path(self.place).exists() else None
        filesystem, path = _split(self.place)

        def read() -> bytes | None:
            if filesystem.get_file_info(path).type is not pyarrow.fs.FileType.File:
                return None
            with filesystem.open_input_stream(path) as stream:
                return stream.read()

        content = patiently("reading the state to resume from", read, tell)
        return None if content is None else torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)

    def save(self, state: dict[str, Any], tell: Callable[[str], None] | None = None) -> None:
        """Replace the file. Raises OSError if the disk is full, FailedError if the storage does not answer."""
        if not _is_remote(self.place):
            save_state(Path(self.place), state)
            return
        filesystem, path = _split(self.place)
        buffer = io.BytesIO()
        torch.save(state, buffer)
        patiently("saving the state", lambda: _put(filesystem, path, buffer.getbuffer()), tell)

    def remove(self) -> None:
        if not _is_remote(self.place):
            Path(self.place).unlink(missing_ok=True)
            return
        filesystem, path = _split(self.place)
        with contextlib.suppress(FileNotFoundError):
            filesystem.delete_file(path)


def _put(filesystem: FileSystem, path: str, content: Any) -> None:
    stream = filesystem.open_output_stream(path)
    stream.write(content)
    stream.close()  # no `with`: after a failed write it would close the stream, and make an object of the part that came through


def _is_remote(place: str) -> bool:
    return "://" in place


def _split(address: str) -> tuple[FileSystem, str]:
    """The file system of an address, and the path in it."""
    address, _, query = address.partition("?")
    scheme, _, rest = address.partition("://")
    bucket, _, path = rest.partition("/")
    filesystem, _ = open_filesystem(f"{scheme}://{bucket}" + (f"?{query}" if query else ""))
    return filesystem, f"{bucket}/{path}".rstrip("/")


@dataclass(frozen=True, slots=True)
class Storage:
    """The folder that holds the run folders, and, if it is on S3, the folder here in which they are made."""

    place: str
    """An absolute path, or s3://BUCKET/PREFIX."""

    @property
    def remote(self) -> bool:
        return _is_remote(self.place)

    @property
    def runs(self) -> Path:
        """Where the run folder is on the driver's machine."""
        return RUNS if self.remote or Path(self.place) == RUNS.absolute() else Path(self.place)

    def address(self, *parts: str) -> str:
        """Of something below, as every node can open it."""
        place, question, query = self.place.partition("?")
        return "/".join((place.rstrip("/"), *parts)) + question + query

    def state(self, run: Path, *parts: str) -> StateFile:
        return StateFile(self.address(run.name, *parts, STATE_FILE))

    def marker(self, run: Path) -> str | None:
        """A file of the run that every node must see; nodes that see S3 all see the same."""
        return None if self.remote else str((run / "config.json").absolute())

    def run_to_resume(self, name: str | None) -> Path | None:
        """As fmnist.run.run_to_resume; what is on S3 alone is fetched.

        Raises:
            InputError: there is no such run, or S3 does not let us read it.
        """
        if self.remote:
            check(name is not None, f"--resume from {self.place}: name the run with --name")
            assert name is not None
            if not (self.runs / name).is_dir():
                self._fetch(name)
        return run_to_resume(name, self.runs)

    def _fetch(self, name: str) -> None:
        filesystem, path = _split(self.address(name))
        try:
            found = filesystem.get_file_info(pyarrow.fs.FileSelector(path, allow_not_found=True, recursive=True))
            for info in found:
                inside = info.path.removeprefix(path + "/")
                if info.type is pyarrow.fs.FileType.File and Path(inside).name != STATE_FILE:
                    target = self.runs / name / inside
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(filesystem.open_input_stream(info.path).read())
        except OSError as error:
            raise InputError(f"storage={self.place!r} cannot be read: {first_line(error)}") from error

    @contextlib.contextmanager
    def mirrored(self, run: Path, tell: Callable[[str], None]) -> Generator[Callable[[], None]]:
        """While inside, and once more at the end, copy to S3 what changes in the run folder; nothing to do elsewhere.

        Yields:
            what copies at once. Raises OSError if the storage does not answer.

        Raises:
            FailedError: the last copy failed for PATIENCE_S.
        """
        if not self.remote:
            yield lambda: None
            return
        mirror = _Mirror(run, self.address(run.name))
        done = threading.Event()

        def copy() -> None:
            told = False
            while not done.wait(MIRROR_EVERY_S):
                try:
                    mirror.push()
                except OSError as error:
                    if not told:
                        tell(f"copying {run} to {self.place} failed ({first_line(error)}); it goes on trying")
                    told = True

        thread = threading.Thread(target=copy, daemon=True)
        thread.start()
        try:
            yield mirror.push
        except BaseException:
            done.set()
            with contextlib.suppress(OSError):  # what happened is more worth telling
                mirror.push()
            raise
        done.set()
        thread.join()
        patiently(f"copying {run} to {self.place}", mirror.push, tell)


class _Mirror:
    """Copies files of a folder to an address when they are new or have changed."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        self.filesystem, self.path = _split(address)
        self.copied: dict[Path, tuple[int, int]] = {}
        self.lock = threading.Lock()

    def push(self) -> None:
        with self.lock:
            for file in sorted(self.folder.rglob("*")):
                if file.is_file() and not file.is_symlink() and not file.name.startswith("."):
                    with contextlib.suppress(FileNotFoundError):  # it was renamed while we looked
                        self._copy(file)

    def _copy(self, file: Path) -> None:
        stat = file.stat()
        if self.copied.get(file) != (stat.st_mtime_ns, stat.st_size):
            _put(self.filesystem, f"{self.path}/{file.relative_to(self.folder)}", file.read_bytes())
            self.copied[file] = (stat.st_mtime_ns, stat.st_size)


def open_storage(place: str | None) -> Storage:
    """The storage that --storage names; runs/ without it.

    Raises:
        InputError: it is neither a folder nor on S3, or cannot be written to from here.
    """
    if place is None:
        return Storage(str(RUNS.absolute()))
    if not _is_remote(place):
        folder = Path(place).expanduser().absolute()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / ".probe").write_text("")
            (folder / ".probe").unlink()
        except OSError as error:
            raise InputError(
                f"storage={place!r}: it cannot be written to ({error.strerror}); give a folder that every node can write to"
            ) from error
        return Storage(str(folder))
    scheme, bucket = place.partition("://")[0], place.partition("://")[2].partition("?")[0].strip("/")
    check(scheme == "s3", f"storage={place!r}: {scheme}:// is not known; give a folder, or s3://BUCKET/PREFIX")
    check(bool(bucket), f"storage={place!r}: it names no bucket; give s3://BUCKET/PREFIX")
    storage = Storage(place.rstrip("/"))
    try:
        filesystem, path = _split(storage.address(".probe"))
        _put(filesystem, path, b"")
        filesystem.delete_file(path)
    except (OSError, ValueError) as error:
        reason = first_line(error)
        raise InputError(
            f"storage={place!r}: it cannot be written to ({reason}); the bucket must exist, and this machine be allowed to use it"
        ) from error
    return storage
