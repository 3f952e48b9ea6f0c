"""Packed files, unpacked to a place on the disk where any part of them can be read."""

import errno
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO

from fmnist.errors import DataError

COPIED_AT_ONCE = 2**20
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def scratch_folder() -> Path:
    """$TMPDIR, or else /var/tmp: /tmp lies in memory on many machines."""
    folder = Path("/var/tmp")
    if os.environ.get("TMPDIR") or not os.access(folder, os.W_OK):
        return Path(tempfile.gettempdir())
    return folder


def unpack_to_scratch(packed: IO[bytes], what: str, size: int | None = None) -> IO[bytes]:
    """Copy a stream to a file without a name: it is gone when it is closed, or the process dies.

    Args:
        what: names the source in errors.
        size: bytes that it will have, where that is known.

    Raises:
        DataError: there is no room for it.
        OSError, EOFError, zlib.error, …: as reading the stream raises them.
    """
    folder = scratch_folder()
    free = shutil.disk_usage(folder).free
    if size is not None and size > free:
        raise DataError(
            f"{what} unpacks to {size:,} bytes, and {folder} has {free:,} free; "
            "set TMPDIR to a folder with more"
        )

    file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (the caller closes it)
    try:
        while block := packed.read(COPIED_AT_ONCE):
            _write(file, block, what, folder)
    except BaseException:
        file.close()
        raise
    return file


def _write(file: IO[bytes], block: bytes, what: str, folder: Path) -> None:
    try:
        file.write(block)
        file.flush()
    except OSError as error:
        if error.errno in NO_ROOM:
            raise DataError(
                f"{what}: {folder} is full before it is unpacked; "
                "set TMPDIR to a folder with more room"
            ) from error
        raise
