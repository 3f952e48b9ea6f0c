"""Bring training images to the device: all of them once, or batch by batch from memory or a file.

Both ways give the same bytes in the same order.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from rich.filesize import decimal
from torch import Tensor

from fmnist.data.images import Images, PixelFile, read_ahead
from fmnist.training.augment import ImageTable

SHARE_OF_DEVICE = 0.5
"""A set that takes at most this much of a GPU's free memory is kept there."""
SMALL_SET = 2**26
"""Bytes of a set that each process on a CPU keeps for itself, padded: for a network as small as
LeNet, which trains at 40,000 images/s, that is 2 to 5 % faster. Fashion-MNIST is 47 MB."""


class Drawn(Protocol):
    """One epoch's augmentation: see fmnist.training.augment.Augmentation."""

    def needed(self, index: Tensor) -> Tensor: ...

    def take(self, table: ImageTable, index: Tensor) -> Tensor: ...


class Feed(Protocol):
    """Gives augmented training images, on their device."""

    def augmented(self, drawn: Drawn, parts: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the augmented images of each part.

        Args:
            parts: numbers of images in the training set, (B,) int64 each, on the device.
        """
        ...


class Resident:
    """The whole training set on the device."""

    def __init__(self, images: Images, margin: int, device: torch.device) -> None:
        self.table = ImageTable(images.tensor(), margin, device)

    def augmented(self, drawn: Drawn, parts: Sequence[Tensor]) -> Iterator[Tensor]:
        for index in parts:
            yield drawn.take(self.table, index)


class Streamed:
    """Images that are read as they are needed: from a file, a thread reads ahead of the loop.

    No process holds a copy, and those of a node share the pages of the file.
    """

    def __init__(self, images: Images, margin: int, device: torch.device) -> None:
        self.images, self.margin, self.device = images, margin, device

    def augmented(self, drawn: Drawn, parts: Sequence[Tensor]) -> Iterator[Tensor]:
        needed = (drawn.needed(index) for index in parts)
        read = map(self._read, needed)
        if self.images.in_file:
            read = read_ahead(self._read, needed)

        for index, (numbers, images) in zip(parts, read, strict=True):
            table = ImageTable(images.to(self.device), self.margin, self.device, numbers)
            yield drawn.take(table, index)

    def _read(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        return numbers, self.images[numbers]


def make_feed(images: Images, margin: int, device: torch.device) -> Feed:
    """Keep a small set, or one that a GPU has room for; else read images as they are needed."""
    if fits(images.nbytes, device):
        return Resident(images, margin, device)
    return Streamed(images, margin, device)


def where_held(images: Images, device: torch.device) -> str:
    """Say how many bytes the training images take, and where they lie during the training."""
    size = f"{decimal(images.nbytes)} of pixels"
    if fits(images.nbytes, device):
        return f"{size} {'on the GPU' if device.type == 'cuda' else 'in memory'}"
    if isinstance(images.source, PixelFile):
        return f"{size} read as needed from {images.source.path.parent}"
    return f"{size} in memory"


def fits(size_bytes: int, device: torch.device) -> bool:
    """Whether images of so many bytes are kept on the device."""
    if device.type != "cuda":
        return size_bytes <= SMALL_SET
    free, _ = torch.cuda.mem_get_info(device)
    return size_bytes <= SHARE_OF_DEVICE * free
