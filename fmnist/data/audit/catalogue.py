"""All images of a data set under one numbering, with their splits, labels and files."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fmnist.data.audit.findings import Picture
from fmnist.data.dataset import Split, load_test, load_train
from fmnist.data.formats import FILES_FILE, SPLITS, is_imported
from fmnist.data.images import batch_within
from fmnist.data.info import DataInfo
from fmnist.data.origins import file_names

READ_IMAGES = 2048
READ_BYTES = 2**24
"""Images that are read at once, and their bytes: what is computed of them takes a few times as
much."""
TRAIN, VALIDATION, TEST = range(len(SPLITS))

Numbers = NDArray[np.int64]


class Catalogue:
    """The training images, then the test images, numbered from 0; pixels are read as needed.

    Args:
        folder: the set's folder, where an imported set's list of files lies.
        info: describes the set.

    Raises:
        DataError: a file is not the one that `info` describes.
    """

    def __init__(self, folder: Path, info: DataInfo) -> None:
        train, test = load_train(folder, info), load_test(folder, info)
        self.classes = info.classes
        self.image_size = info.image_size
        self.train_images = len(train)
        self._parts = (train, test)
        self._folder = folder
        self._imported = is_imported(folder)

        self.labels: Numbers = torch.cat((train.labels, test.labels)).numpy()
        """(N,)"""
        self.splits = np.concatenate((_train_splits(train), np.full(len(test), TEST)))
        """(N,), each an index into SPLITS."""
        self.rows = np.concatenate([self._rows(part) for part in self._parts])
        """(N,): the line in the list of files, or where there is none the place in the split."""

    def _rows(self, part: Split) -> Numbers:
        if not self._imported:
            return np.arange(len(part))
        return part.images.rows.numpy()

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self) -> Iterator[Tensor]:
        """Read all images in order: (B, H, W) or (B, 3, H, W) uint8."""
        for part in self._parts:
            images = part.images
            yield from images.batches(batch_within(READ_IMAGES, READ_BYTES, images.image_bytes))

    def read(self, numbers: Numbers) -> Tensor:
        """Read the images with these numbers, in their order."""
        train, test = self._parts
        in_train = numbers < self.train_images
        images = torch.empty((len(numbers), *train.images.shape[1:]), dtype=torch.uint8)
        images[torch.from_numpy(in_train)] = train.images[torch.from_numpy(numbers[in_train])]
        from_test = torch.from_numpy(numbers[~in_train] - self.train_images)
        images[torch.from_numpy(~in_train)] = test.images[from_test]
        return images

    def pictures(self, numbers: Iterable[int]) -> dict[int, Picture]:
        """Tell what the images with these numbers are."""
        wanted = sorted(set(numbers))
        rows = [int(self.rows[number]) for number in wanted]
        names = file_names(self._folder, rows) or [None] * len(rows)
        pictures: dict[int, Picture] = {}
        for number, row, name in zip(wanted, rows, names, strict=True):
            pictures[number] = Picture(
                number=number,
                split=SPLITS[self.splits[number]],
                row=row,
                label=self.classes[self.labels[number]],
                file=name,
            )
        return pictures

    def original_sizes(self) -> Numbers | None:
        """Width and height of each original, (N, 2); None for a set that was not imported."""
        files = self._folder / FILES_FILE
        if not self._imported or not files.exists():
            return None
        # Not from a list: a large set has millions of entries.
        sides = (entry[side] for entry in _entries(files) for side in ("width", "height"))
        return np.fromiter(sides, np.int64).reshape(-1, 2)[self.rows]


def _train_splits(train: Split) -> Numbers:
    """Tell the maker's own validation images from those to train on."""
    splits = np.full(len(train), TRAIN)
    if train.own_validation is not None:
        splits[train.own_validation.numpy()] = VALIDATION
    return splits


def _entries(files: Path) -> Iterator[dict[str, Any]]:
    with files.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
