"""One process at a time works on a run folder."""

from pathlib import Path

from filelock import FileLock, Timeout

from fmnist.errors import InputError

HELD: dict[Path, FileLock] = {}
"""Run folders that this process works on. They stay locked until they are released or the process
ends, however it ends."""


def hold(run: Path) -> None:
    """Lock a run folder for this process. Raises InputError if another process works on it."""
    run = run.absolute()
    lock = HELD.setdefault(run, FileLock(run / ".lock"))
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        del HELD[run]
        raise InputError(
            f"{run} is in use by another process: wait for it to end, or choose another --name"
        ) from error


def in_use(run: Path) -> bool:
    """Whether another process works on a run folder."""
    path = run.absolute() / ".lock"
    if not path.exists():
        return False

    try:
        with FileLock(path, blocking=False):
            return False
    except Timeout:
        return True


def release(run: Path) -> None:
    """Unlock a run folder that this process has done with; nothing happens if it is not held."""
    lock = HELD.pop(run.absolute(), None)
    if lock is not None:
        lock.release(force=True)
