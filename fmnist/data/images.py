"""Images of a data set: rows of one array of pixels, which lies in memory or in a file.

A split never copies pixels: it holds the numbers of its rows. A set larger than memory is read
batch by batch.
"""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fmnist.data.idx import map_idx

LARGEST_MAPPED = 2**30
"""Bytes of a file up to which images are read through the memory map. A larger one is read with a
call for each image: on a cold disk that is 2.2 times as fast as a page at a time, and the process's
memory does not grow with the pages it has seen (docs/results/data_scale.md)."""

SUMS_OF_PIXELS = "sums.npy"
"""Beside an imported set's images: by them the statistics of a split need no pixel."""

Asked = TypeVar("Asked")
Read = TypeVar("Read")
Rows = Tensor | NDArray[Any] | slice


class PixelFile:
    """An IDX file of images.

    Processes that open the same file share its pages. It is pickled by its path.

    Raises:
        DataError: it is no whole IDX file.
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        values, self.offset = map_idx(path)
        self.pixels = read_only_tensor(values)
        """(M, H, W) or (M, 3, H, W) uint8, mapped."""
        self._descriptor = os.open(path, os.O_RDONLY)
        sums = path.with_name(SUMS_OF_PIXELS)
        self.sums: Tensor | None = None
        """(M, channels, 2) int64: each image's sum of pixels, and of their squares."""
        if sums.exists():
            self.sums = read_only_tensor(np.load(sums, mmap_mode="r"))

    def read(self, rows: Tensor) -> Tensor:
        """Copy the images with these row numbers (B,) int64."""
        if self.pixels.nbytes <= LARGEST_MAPPED:
            return self.pixels.index_select(0, rows)

        images = torch.empty((len(rows), *self.pixels.shape[1:]), dtype=torch.uint8)
        buffers = images.flatten(1).numpy()
        size = buffers.shape[1]
        for buffer, row in zip(buffers, rows.tolist(), strict=True):
            self._fill(buffer, self.offset + row * size)
        return images

    def _fill(self, buffer: NDArray[np.uint8], offset: int) -> None:
        done = 0
        while done < len(buffer):
            count = os.preadv(self._descriptor, [buffer[done:].data], offset + done)
            if not count:
                raise OSError(f"{self.path} was cut short while it was in use")
            done += count

    def __reduce__(self) -> Any:
        return PixelFile, (self.path,)

    def __del__(self) -> None:
        descriptor = getattr(self, "_descriptor", None)
        if descriptor is not None:
            os.close(descriptor)


def read_only_tensor(values: NDArray[Any]) -> Tensor:
    """A tensor over an array that cannot be written to: nothing writes to images."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(values)


class Images:
    """Images, of which only those that are asked for are read.

    Args:
        source: all pixels, (M, H, W) or (M, 3, H, W) uint8, or the file that holds them.
        rows: (N,) int64, the row of each image; None takes them all in order.
    """

    def __init__(self, source: Tensor | PixelFile, rows: Tensor | None = None) -> None:
        self.source = source
        self.whole = rows is None
        """All rows of the source, in their order."""
        count = len(source.pixels if isinstance(source, PixelFile) else source)
        self.rows = torch.arange(count) if rows is None else rows
        """(N,) int64, the row of each image."""

    @property
    def pixels(self) -> Tensor:
        """The whole array that the images are rows of; mapped where it lies in a file."""
        return self.source.pixels if isinstance(self.source, PixelFile) else self.source

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> torch.Size:
        """(N, H, W) or (N, 3, H, W)."""
        return torch.Size((len(self), *self.pixels.shape[1:]))

    @property
    def ndim(self) -> int:
        return self.pixels.ndim

    @property
    def nbytes(self) -> int:
        return len(self) * self.image_bytes

    @property
    def image_bytes(self) -> int:
        """Bytes of one image."""
        return self.pixels.shape[1:].numel()

    @property
    def sums(self) -> Tensor | None:
        """(N, channels, 2) int64: each image's sum of pixels, and of their squares, if known."""
        if not isinstance(self.source, PixelFile) or self.source.sums is None:
            return None
        return self.source.sums[self.rows]

    @property
    def in_file(self) -> bool:
        return isinstance(self.source, PixelFile)

    def __getitem__(self, chosen: Rows) -> Tensor:
        """Read the images at these places, in their order, on the CPU."""
        # A run of consecutive images in memory needs no copy.
        if isinstance(chosen, slice) and self.whole and not self.in_file:
            return self.pixels[chosen]
        return self.take(chosen).tensor()

    def take(self, chosen: Rows) -> "Images":
        """The images at these places, in their order; none is read."""
        if isinstance(chosen, np.ndarray):
            chosen = torch.from_numpy(chosen)
        if isinstance(chosen, Tensor):
            chosen = chosen.cpu()
        return Images(self.source, self.rows[chosen])

    def tensor(self) -> Tensor:
        """Read all images, on the CPU: (N, H, W) or (N, 3, H, W) uint8."""
        if self.whole:
            return self.pixels
        if isinstance(self.source, PixelFile):
            return self.source.read(self.rows)
        return self.source.index_select(0, self.rows)

    def batches(self, size: int) -> Iterator[Tensor]:
        """Read the images in batches of `size`, in their order; from a file, one batch ahead."""
        parts = [slice(start, start + size) for start in range(0, len(self), size)]
        if self.in_file:
            return read_ahead(self.__getitem__, parts)
        return (self[part] for part in parts)


def read_ahead(read: Callable[[Asked], Read], parts: Iterable[Asked]) -> Iterator[Read]:
    """Yield what `read` makes of each part; a thread reads the next one meanwhile."""
    with ThreadPoolExecutor(1) as reader:
        reading: Future[Read] | None = None
        for part in parts:
            following = reader.submit(read, part)
            if reading is not None:
                yield reading.result()
            reading = following
        if reading is not None:
            yield reading.result()


def batch_within(most: int, limit_bytes: int, image_bytes: int) -> int:
    """Number of images, at most `most`, that fit in so many bytes; at least one."""
    return max(min(most, limit_bytes // image_bytes), 1)
