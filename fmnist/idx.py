"""MNIST's file format (IDX): arrays of unsigned bytes with a header of big-endian sizes (LeCun et al., 1998)."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmnist.errors import InputError
from fmnist.run import write_atomic

UNSIGNED_BYTE = 0x08
MOST_DIMENSIONS = 4
"""Of an array: images in colour have four."""


class DataError(InputError):
    """The data cannot be had, or is not what it should be."""


def write_idx(path: Path, values: NDArray[np.uint8]) -> None:
    """Write an array of unsigned bytes of any number of dimensions."""
    header = struct.pack(f">{1 + values.ndim}I", UNSIGNED_BYTE << 8 | values.ndim, *values.shape)
    write_atomic(path, header + values.tobytes())


def unpack(path: Path) -> bytes:
    """A file's content, unpacked if its name ends in .gz. Raises DataError if it is damaged."""
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path} cannot be unpacked ({error}): damaged or cut short; put a whole one in its place") from error


def parse_idx(path: Path, content: bytes) -> NDArray[np.uint8]:
    """The array in `content`, writable, of one to four dimensions. Raises DataError, naming `path`, if it is no whole IDX file of
    unsigned bytes."""
    magic = int.from_bytes(content[:4], "big")
    dimensions = magic & 0xFF
    header = 4 + 4 * dimensions
    if len(content) < max(header, 8) or magic >> 8 != UNSIGNED_BYTE or not 1 <= dimensions <= MOST_DIMENSIONS:
        raise DataError(f"{path} is not an IDX file of unsigned bytes")
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    expected = header + math.prod(shape)
    if len(content) != expected:
        raise DataError(f"{path} has {len(content):,} bytes where its header promises {expected:,}: damaged or cut short")
    return np.frombuffer(bytearray(content), np.uint8, offset=header).reshape(shape)
