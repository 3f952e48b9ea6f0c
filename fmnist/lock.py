"""One process at a time works on a run folder."""

from pathlib import Path

from filelock import FileLock, Timeout

from fmnist.errors import InputError

HELD: dict[Path, FileLock] = {}
"""The run folders that this process works on, locked until it lets go of them or ends, however it ends."""


def hold(run: Path) -> None:
    """Lock a run folder for this process. Raises InputError if another process works on it."""
    run = run.absolute()
    lock = HELD.setdefault(run, FileLock(run / ".lock"))
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise InputError(f"{run} is in use by another process: wait for it to end, or choose another --name") from error


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


def let_go(run: Path) -> None:
    """Unlock a run folder that this process has done with."""
    if lock := HELD.pop(run.absolute(), None):
        lock.release()
