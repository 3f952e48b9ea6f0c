"""What a reader lists, taken apart."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fmnist.data.importing.item import Fault, Item, Reader


def take_apart(reader: Reader | Path | None) -> tuple[list[Item], list[Fault]]:
    """The pictures and the faults that a reader lists, which must be the same each time."""
    assert reader is not None and not isinstance(reader, Path)
    items: list[Item] = []
    faults: list[Fault] = []
    for entry in reader.entries():
        if isinstance(entry, Item):
            items.append(entry)
        elif isinstance(entry, Fault):
            faults.append(entry)

    again = [entry.name for entry in reader.entries() if isinstance(entry, Item)]
    assert again == [item.name for item in items]
    return items, faults


def pixels_of(items: Sequence[Item]) -> NDArray[Any]:
    """Read the pictures, which have one size: (N, H, W) or (N, H, W, 3)."""
    pictures: list[NDArray[Any]] = []
    for item in items:
        content = item.read()
        if isinstance(content, bytes):
            content = np.asarray(Image.open(io.BytesIO(content)))
        pictures.append(content)
    return np.stack(pictures)


def of_split(items: Sequence[Item], split: str | None) -> list[Item]:
    return [item for item in items if item.split == split]


def numbers(items: Sequence[Item]) -> list[int]:
    """The labels, which are numbers."""
    return [int(item.label) for item in items]


def as_png(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
