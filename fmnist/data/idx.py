"""MNIST's file format (IDX): values after a header of big-endian sizes (LeCun et al., 1998).

An array of any number of dimensions; `formats` has what a data set's files are called.
"""

import math
import mmap
import os
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fmnist.errors import DataError
from fmnist.runs.files import write_atomic

TYPES: dict[int, tuple[str, str]] = {
    0x08: ("u1", "ubyte"),
    0x0B: (">i2", "short"),
    0x0C: (">i4", "int"),
}
"""Type codes: NumPy's name, and the word in a file's name."""
MAX_DIMENSIONS = 4
"""Colour images have four."""

Values = NDArray[Any]
"""Unsigned bytes, or signed integers of 16 or 32 bits."""


def label_type(classes: int) -> tuple[type[np.uint8] | type[np.int32], str]:
    """Return the type of labels that number so many classes, and the word in their file's name."""
    return (np.uint8, "ubyte") if classes <= 256 else (np.int32, "int")


def header(dtype: Any, shape: tuple[int, ...]) -> bytes:
    """Return what stands before the values of an array."""
    name = np.dtype(dtype).newbyteorder(">").str.lstrip(">|")
    codes = {numpy_name.lstrip(">"): code for code, (numpy_name, _) in TYPES.items()}
    return struct.pack(f">{1 + len(shape)}I", codes[name] << 8 | len(shape), *shape)


def write_idx(path: Path, values: Values) -> None:
    """Write an array of unsigned bytes, or of integers of 16 or 32 bits, whole or not at all."""
    big_endian = values.astype(values.dtype.newbyteorder(">"), copy=False)
    write_atomic(path, header(values.dtype, values.shape) + big_endian.tobytes())


def parse_idx(path: Path, content: bytes) -> Values:
    """The array in `content`, writable, of one to four dimensions.

    Raises:
        DataError: `content` is no whole IDX file of a known type; the message names `path`.
    """
    dtype, shape, offset = _parse_header(path, content[: 4 + 4 * MAX_DIMENSIONS], len(content))
    # A copy, since an array over `bytes` could not be written to.
    values = np.frombuffer(bytearray(content), dtype, offset=offset).reshape(shape)
    return values.astype(dtype.newbyteorder("="), copy=False)


def map_idx(path: Path) -> tuple[Values, int]:
    """Map the array in a file: nothing is read before it is asked for.

    Returns:
        the array, read-only, and the byte at which it begins.

    Raises:
        DataError: it is no whole IDX file of a known type.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        dtype, shape, offset = _parse_header(path, file.read(4 + 4 * MAX_DIMENSIONS), size)
        if size == offset:
            return np.empty(shape, dtype.newbyteorder("=")), offset
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return np.frombuffer(memory, dtype, offset=offset).reshape(shape), offset


def _parse_header(
    path: Path, start: bytes, size: int
) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Type, shape and offset of the values in a file of `size` bytes.

    Raises:
        DataError: the file is no IDX file, or has another size than its header says.
    """
    # Two zero bytes, the type of the values, and the number of dimensions.
    magic = int.from_bytes(start[:4], "big")
    dimensions = magic & 0xFF
    offset = 4 + 4 * dimensions
    known = magic >> 8 in TYPES and 1 <= dimensions <= MAX_DIMENSIONS
    if not known or len(start) < offset:
        raise DataError(
            f"{path} is not an IDX file of unsigned bytes or of integers of 16 or 32 bits"
        )

    shape: tuple[int, ...] = struct.unpack(f">{dimensions}I", start[4:offset])
    dtype = np.dtype(TYPES[magic >> 8][0])
    expected = offset + math.prod(shape) * dtype.itemsize
    if size != expected:
        raise DataError(
            f"{path} has {size:,} bytes where its header promises {expected:,}: "
            "damaged or cut short"
        )
    return dtype, shape, offset


class IdxWriter:
    """Writes images of one shape, one after another, to a file whose number is known at the end.

    The header says 0 images until `finish`; the images begin after it.
    """

    def __init__(self, file: BinaryIO, shape: tuple[int, ...]) -> None:
        self.file, self.shape, self.count = file, shape, 0
        file.write(header(np.uint8, (0, *shape)))

    def write(self, pixels: NDArray[np.uint8]) -> None:
        """Append one image, of the writer's shape."""
        self.file.write(np.ascontiguousarray(pixels).data)
        self.count += 1

    def finish(self) -> None:
        """Write the number of images, and everything to the disk."""
        self.file.seek(0)
        self.file.write(header(np.uint8, (self.count, *self.shape)))
        self.file.flush()
        os.fsync(self.file.fileno())
