"""MNIST's file format (IDX): bytes after a header of big-endian sizes (LeCun et al., 1998).

An array of any number of dimensions; `formats` has what a data set's four files are called.
"""

import math
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmnist.errors import DataError
from fmnist.runs.files import write_atomic

UNSIGNED_BYTE = 0x08
MAX_DIMENSIONS = 4
"""Colour images have four."""


def write_idx(path: Path, values: NDArray[np.uint8]) -> None:
    """Write an array of unsigned bytes of any number of dimensions."""
    magic = UNSIGNED_BYTE << 8 | values.ndim
    header = struct.pack(f">{1 + values.ndim}I", magic, *values.shape)
    write_atomic(path, header + values.tobytes())


def parse_idx(path: Path, content: bytes) -> NDArray[np.uint8]:
    """The array in `content`, writable, of one to four dimensions.

    Raises:
        DataError: `content` is no whole IDX file of unsigned bytes; the message names `path`.
    """
    # Two zero bytes, the type of the values, and the number of dimensions.
    magic = int.from_bytes(content[:4], "big")
    dimensions = magic & 0xFF
    header = 4 + 4 * dimensions
    of_bytes = magic >> 8 == UNSIGNED_BYTE and 1 <= dimensions <= MAX_DIMENSIONS
    if not of_bytes or len(content) < header:
        raise DataError(f"{path} is not an IDX file of unsigned bytes")

    shape = struct.unpack(f">{dimensions}I", content[4:header])
    expected = header + math.prod(shape)
    if len(content) != expected:
        raise DataError(
            f"{path} has {len(content):,} bytes where its header promises {expected:,}: "
            "damaged or cut short"
        )
    # A copy, since an array over `bytes` could not be written to.
    return np.frombuffer(bytearray(content), np.uint8, offset=header).reshape(shape)
