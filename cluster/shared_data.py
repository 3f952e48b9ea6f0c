"""The images of a training, once on each node, for all its processes.

A small set goes through Ray's object store. A large one stays in its file: processes of a node map
the same pages, and a node that does not see the file copies it once, by its SHA-256, from the
driver's node.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.util
import torch
from filelock import FileLock
from numpy.typing import NDArray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.filesize import decimal
from torch import Tensor

from fmnist.data.dataset import Split, TrainingData
from fmnist.data.formats import hash_file, known_hash
from fmnist.data.images import LARGEST_MAPPED, Images, PixelFile, read_only_tensor
from fmnist.data.sources import cache_folder
from fmnist.errors import DataError

COPIED_AT_ONCE = 2**26
"""Bytes that a node asks for at once."""


class FileServer:
    """Reads a file on the driver's node for nodes that do not see it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, offset: int, size: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read(size)


@dataclass(frozen=True, slots=True)
class SharedFile:
    """A file of images that every node can open."""

    path: Path
    size: int
    sha256: str
    server: Any
    """Handle of a FileServer."""

    def open(self) -> PixelFile:
        """Open the file, or this node's copy, made first if there is none.

        Raises:
            DataError: the copy is not the driver's file.
        """
        if self.path.exists() and self.path.stat().st_size == self.size:
            return PixelFile(self.path)
        return PixelFile(self._copied(cache_folder() / "nodes"))

    def _copied(self, folder: Path) -> Path:
        copy = folder / f"{self.sha256[:16]}-{self.path.name}"
        folder.mkdir(parents=True, exist_ok=True)
        # All processes of the node want it at once; one of them copies.
        with FileLock(f"{copy}.lock"):
            if not copy.exists():
                self._copy_to(copy)
        return copy

    def _copy_to(self, copy: Path) -> None:
        part = copy.with_suffix(".part")
        with part.open("wb") as file:
            for offset in range(0, self.size, COPIED_AT_ONCE):
                file.write(ray.get(self.server.read.remote(offset, COPIED_AT_ONCE)))
            file.flush()
            os.fsync(file.fileno())

        digest = hash_file(part)
        if digest != self.sha256:
            part.unlink()
            raise DataError(
                f"{self.path}: node {ray.util.get_node_ip_address()} received SHA-256 "
                f"{digest[:12]}… instead of {self.sha256[:12]}…: it changed while it was copied"
            )
        part.rename(copy)


Pixels = Any
"""SharedFile, or a reference to an array (M, H, W) or (M, 3, H, W) in Ray's object store."""


@dataclass(frozen=True, slots=True)
class SharedSplit:
    """A split of shared pixels."""

    pixels: Pixels
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]

    def open(self) -> Split:
        source = self.pixels.open() if isinstance(self.pixels, SharedFile) else _get(self.pixels)
        return Split(
            Images(source, read_only_tensor(self.rows)),
            read_only_tensor(self.labels),
        )


def _get(reference: Any) -> Tensor:
    return read_only_tensor(ray.get(reference))


@dataclass(frozen=True, slots=True)
class SharedData:
    """TrainingData, as each process of a job opens it."""

    splits: Any
    """Reference to the training and the validation split (or None) as SharedSplit."""
    classes: int
    statistics: tuple[NDArray[np.float32], NDArray[np.float32]]
    pixels: list[Pixels]
    """Kept here, so that Ray keeps them as long as the driver has this."""

    def open(self) -> TrainingData:
        """Map the images on this node.

        Raises:
            DataError: a large file could not be copied to this node whole.
        """
        train, validation = ray.get(self.splits)
        mean, deviation = (torch.tensor(values) for values in self.statistics)
        return TrainingData(
            train.open(),
            None if validation is None else validation.open(),
            self.classes,
            (mean, deviation),
        )


def share_data(data: TrainingData) -> SharedData:
    """Give all processes of the cluster one copy a node of the images."""
    pixels: dict[int, Pixels] = {}
    train = _share(data.train, pixels)
    validation = None
    if data.validation is not None:
        validation = _share(data.validation, pixels)

    mean, deviation = data.statistics
    return SharedData(
        splits=ray.put((train, validation)),
        classes=data.classes,
        statistics=(mean.numpy(), deviation.numpy()),
        pixels=list(pixels.values()),
    )


def where_shared(data: TrainingData) -> str:
    """Say how many bytes the images take, and where they lie on each node."""
    source = data.train.images.source
    pixels = source.pixels if isinstance(source, PixelFile) else source
    size = f"{decimal(pixels.nbytes)} of pixels"
    if isinstance(source, PixelFile) and pixels.nbytes > LARGEST_MAPPED:
        return (
            f"{size} read as needed from {source.path.parent}; "
            "a node without it keeps a copy in its cache"
        )
    return f"{size} in the memory of each node"


def _share(split: Split, shared: dict[int, Pixels]) -> SharedSplit:
    """Share a split; pixels that several splits have are shared once."""
    source = split.images.source
    if id(source) not in shared:
        shared[id(source)] = _share_pixels(source)
    return SharedSplit(shared[id(source)], split.images.rows.numpy(), split.labels.numpy())


def _share_pixels(source: Tensor | PixelFile) -> Pixels:
    if isinstance(source, Tensor):
        return ray.put(source.numpy())
    if source.pixels.nbytes <= LARGEST_MAPPED:
        return ray.put(source.pixels.numpy())

    # On this node, so that no other node's death ends it.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    server = ray.remote(FileServer).options(num_cpus=0, scheduling_strategy=here)
    return SharedFile(
        path=source.path.absolute(),
        size=source.path.stat().st_size,
        sha256=known_hash(source.path),
        server=server.remote(source.path.absolute()),
    )
