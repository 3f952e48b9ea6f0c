"""Where a run lives for good: a folder that every node sees, or S3.

A training's state is one file, `last.pt`, as in a plain run: rank 0 or a trial writes it after each
epoch, whole or not at all, and whoever goes on reads it. Ray Train's own checkpoints are not used:
its list of them is rewritten in place, so that a crash at the wrong moment leaves a run that cannot
be resumed, and one failed write of it ends the job.
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

from fmnist.errors import FailedError, InputError, check, first_line
from fmnist.runs.run_folder import CONFIG, RUNS, RunKind, run_to_resume
from fmnist.training.checkpoint import load_state, save_state
from fmnist.training.session import STATE_FILE

PATIENCE_S = float(os.environ.get("FMNIST_STORAGE_PATIENCE_S", "300"))
"""How long to try again when the storage does not answer."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 10.0
MIRROR_EVERY_S = 2.0
PROBE = ".probe"

T = TypeVar("T")
Tell = Callable[[str], None]
"""Takes a line for the user."""
FileSystem = Any
"""A pyarrow.fs.FileSystem; pyarrow has no types."""


@cache
def open_filesystem(uri: str) -> tuple[FileSystem, str]:
    """The S3 file system of an address, and BUCKET/PREFIX in it.

    Args:
        uri: s3://BUCKET/PREFIX[?region=…&endpoint_override=…&scheme=…].
    """
    return pyarrow.fs.FileSystem.from_uri(uri)


def retry(what: str, act: Callable[[], T], tell: Tell | None = None) -> T:
    """Try until it works, for PATIENCE_S; tell once when it does not work at first.

    Raises:
        FailedError: it never worked.
    """
    deadline = time.monotonic() + PATIENCE_S
    wait_s = FIRST_WAIT_S
    told = False
    while True:
        try:
            return act()
        except OSError as error:
            reason = first_line(error)
            if time.monotonic() + wait_s > deadline:
                raise FailedError(
                    f"{what}: the storage failed for {PATIENCE_S:.0f} s ({reason})"
                ) from error
            if tell is not None and not told:
                tell(
                    f"{what}: the storage does not answer ({reason}); "
                    f"trying again for {PATIENCE_S:.0f} s"
                )
            told = True
        time.sleep(wait_s)
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)


@dataclass(frozen=True, slots=True)
class StateFile:
    """The file that a training resumes from."""

    place: str
    """Its path, or its s3:// address."""

    def load(self, tell: Tell | None = None) -> dict[str, Any] | None:
        """The state, on the CPU; None if there is none.

        Raises:
            FailedError: the storage does not answer.
        """
        if not _is_remote(self.place):
            path = Path(self.place)
            return load_state(path) if path.exists() else None

        filesystem, key = _split(self.place)

        def read() -> bytes | None:
            if filesystem.get_file_info(key).type is not pyarrow.fs.FileType.File:
                return None
            with filesystem.open_input_stream(key) as stream:
                return stream.read()

        content = retry("reading the state to resume from", read, tell)
        if content is None:
            return None
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)

    def save(self, state: dict[str, Any], tell: Tell | None = None) -> None:
        """Replace the file.

        Raises:
            OSError: the disk is full.
            FailedError: the storage does not answer.
        """
        if not _is_remote(self.place):
            save_state(Path(self.place), state)
            return

        filesystem, key = _split(self.place)
        buffer = io.BytesIO()
        torch.save(state, buffer)
        retry("saving the state", lambda: _put(filesystem, key, buffer.getbuffer()), tell)

    def remove(self) -> None:
        """Remove the file, if it is there."""
        if not _is_remote(self.place):
            Path(self.place).unlink(missing_ok=True)
            return
        filesystem, key = _split(self.place)
        with contextlib.suppress(FileNotFoundError):
            filesystem.delete_file(key)


def _put(filesystem: FileSystem, key: str, content: Any) -> None:
    stream = filesystem.open_output_stream(key)
    stream.write(content)
    # No `with`: after a failed write it would close the stream, and so make an object of the part
    # that came through.
    stream.close()


def _is_remote(place: str) -> bool:
    return "://" in place


def _split(address: str) -> tuple[FileSystem, str]:
    """The file system of an address, and the path in it."""
    address, _, query = address.partition("?")
    scheme, _, rest = address.partition("://")
    bucket, _, path = rest.partition("/")
    options = f"?{query}" if query else ""
    filesystem, _ = open_filesystem(f"{scheme}://{bucket}{options}")
    return filesystem, f"{bucket}/{path}".rstrip("/")


@dataclass(frozen=True, slots=True)
class Storage:
    """The folder that holds the run folders; for S3 also the folder here that they are made in."""

    place: str
    """An absolute path, or s3://BUCKET/PREFIX."""

    @property
    def remote(self) -> bool:
        return _is_remote(self.place)

    @property
    def runs(self) -> Path:
        """Where the run folders are on the driver's machine."""
        if self.remote or Path(self.place) == RUNS.absolute():
            return RUNS
        return Path(self.place)

    def address(self, *parts: str) -> str:
        """Address of a file or folder in the storage, as every node can open it."""
        place, question, query = self.place.partition("?")
        return "/".join((place.rstrip("/"), *parts)) + question + query

    def state(self, run: Path, *parts: str) -> StateFile:
        """The state file of a training in a run."""
        return StateFile(self.address(run.name, *parts, STATE_FILE))

    def marker(self, run: Path) -> str | None:
        """A file of the run that every node must see; nodes that see S3 all see the same."""
        if self.remote:
            return None
        return str((run / CONFIG).absolute())

    def run_to_resume(self, name: str | None, kind: RunKind = "training") -> Path | None:
        """The run folder that --resume means; one that is on S3 alone is fetched.

        See fmnist.runs.run_folder.run_to_resume.

        Raises:
            InputError: there is no such run, or S3 does not let us read it.
        """
        if self.remote:
            check(name is not None, f"--resume from {self.place}: name the run with --name")
            assert name is not None
            if not (self.runs / name).is_dir():
                self._fetch(name)
        return run_to_resume(name, self.runs, kind)

    def _fetch(self, name: str) -> None:
        """Copy a run folder from S3, without the states of its trainings."""
        filesystem, root = _split(self.address(name))
        everything = pyarrow.fs.FileSelector(root, allow_not_found=True, recursive=True)
        try:
            for info in filesystem.get_file_info(everything):
                inside = Path(info.path.removeprefix(root + "/"))
                is_file = info.type is pyarrow.fs.FileType.File
                if not is_file or inside.name == STATE_FILE:
                    continue
                target = self.runs / name / inside
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(filesystem.open_input_stream(info.path).read())
        except OSError as error:
            reason = first_line(error)
            raise InputError(f"storage={self.place!r} cannot be read: {reason}") from error

    @contextlib.contextmanager
    def mirrored(self, run: Path, tell: Tell) -> Generator[Callable[[], None]]:
        """Copy to S3 what changes in the run folder, while inside and once more at the end.

        Elsewhere there is nothing to do.

        Yields:
            a function that copies at once; it raises OSError if the storage does not answer.

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
                        tell(
                            f"copying {run} to {self.place} failed ({first_line(error)}); "
                            "it goes on trying"
                        )
                    told = True

        thread = threading.Thread(target=copy, daemon=True)
        thread.start()
        try:
            yield mirror.push
        except BaseException:
            done.set()
            with contextlib.suppress(OSError):  # the error that ended the run is worth more
                mirror.push()
            raise
        done.set()
        thread.join()
        retry(f"copying {run} to {self.place}", mirror.push, tell)


class _Mirror:
    """Copies files of a folder to an address when they are new or have changed."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        self.filesystem, self.root = _split(address)
        self.copied: dict[Path, tuple[int, int]] = {}
        """Time of change and size of each file when it was copied."""
        self.lock = threading.Lock()

    def push(self) -> None:
        with self.lock:
            for file in sorted(self.folder.rglob("*")):
                hidden = file.name.startswith(".")
                if hidden or file.is_symlink() or not file.is_file():
                    continue
                with contextlib.suppress(FileNotFoundError):  # it was renamed while we looked
                    self._copy(file)

    def _copy(self, file: Path) -> None:
        stat = file.stat()
        version = (stat.st_mtime_ns, stat.st_size)
        if self.copied.get(file) == version:
            return
        key = f"{self.root}/{file.relative_to(self.folder)}"
        _put(self.filesystem, key, file.read_bytes())
        self.copied[file] = version


def open_storage(place: str | None) -> Storage:
    """The storage that --storage names; runs/ without it.

    Raises:
        InputError: it is neither a folder nor on S3, or cannot be written to from here.
    """
    if place is None:
        return Storage(str(RUNS.absolute()))
    if _is_remote(place):
        return _open_s3(place)

    folder = Path(place).expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / PROBE).write_text("")
        (folder / PROBE).unlink()
    except OSError as error:
        raise InputError(
            f"storage={place!r}: it cannot be written to ({error.strerror}); "
            "give a folder that every node can write to"
        ) from error
    return Storage(str(folder))


def _open_s3(place: str) -> Storage:
    scheme, _, rest = place.partition("://")
    bucket = rest.partition("?")[0].strip("/")
    check(
        scheme == "s3",
        f"storage={place!r}: {scheme}:// is not known; give a folder, or s3://BUCKET/PREFIX",
    )
    check(bool(bucket), f"storage={place!r}: it names no bucket; give s3://BUCKET/PREFIX")

    storage = Storage(place.rstrip("/"))
    try:
        filesystem, key = _split(storage.address(PROBE))
        _put(filesystem, key, b"")
        filesystem.delete_file(key)
    except (OSError, ValueError) as error:
        reason = first_line(error)
        raise InputError(
            f"storage={place!r}: it cannot be written to ({reason}); "
            "the bucket must exist, and this machine be allowed to use it"
        ) from error
    return storage
