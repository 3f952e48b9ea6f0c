"""What is written down of each picture: where it came from, and what its pixels are."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.data.importing.item import FaultKind, SplitName

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that was read: a row of pixels."""

    file: str
    label: str
    split: SplitName | None
    stamp: str
    width: int
    height: int
    """Of the original."""
    gray: bool
    digest: str
    """Of the fitted pixels; "" where they are not fitted yet."""
    sums: list[list[int]]
    """(channels, 2): the sum of the fitted pixels, and of their squares."""
    deep: list[float] | None = None
    """Smallest and largest value of a picture of more than 8 bits."""
    fitted: list[float] | None = None
    """What such a picture was scaled from."""
    lost_bits: bool = False
    """Whether its colours have 16 bits, of which the upper 8 were read."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A picture that could not be read."""

    file: str
    label: str
    split: SplitName | None
    stamp: str
    fault: FaultKind
    detail: str
    max_pixels: int | None = None
    """What was allowed."""
    by_system: bool = False
    """Whether the operating system refused it, which it may not do the next time."""


def digest_of(pixels: Pixels) -> str:
    """A digest of fitted pixels; the same for a gray picture and for its copy in colour."""
    if pixels.ndim == 3 and is_gray_row(pixels):
        pixels = pixels[0]
    # Half of SHA-256, which processors compute in hardware.
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()[:32]


def is_gray_row(pixels: Pixels) -> bool:
    """Whether all channels of (3, H, W) pixels are equal."""
    # Most colour pictures differ in their first row of pixels already.
    first = pixels[:, 0]
    if not ((first[0] == first[1]).all() and (first[0] == first[2]).all()):
        return False
    return bool((pixels[0] == pixels[1]).all() and (pixels[0] == pixels[2]).all())


def sums_of(pixels: Pixels) -> list[list[int]]:
    """Sum of the pixels of each channel, and of their squares; exact."""
    planes = pixels.reshape(1 if pixels.ndim == 2 else 3, -1).astype(np.float64)
    squares = np.einsum("cp,cp->c", planes, planes)
    return [[int(one), int(other)] for one, other in zip(planes.sum(1), squares, strict=True)]


def parse(line: str | bytes) -> Picture | Failure:
    """Read a line that `encode` wrote. Raises ValueError or TypeError if it was cut short."""
    values: dict[str, Any] = json.loads(line)
    if "fault" in values:
        return Failure(**values)
    return Picture(**values)


def encode(entry: Picture | Failure) -> str:
    # Not dataclasses.asdict, which copies deeply and takes ten times as long.
    values = {name: getattr(entry, name) for name in entry.__slots__}
    return json.dumps(values) + "\n"


def is_whole(picture: Picture, pixels: Pixels) -> bool:
    """Whether the pixels are those that the record speaks of: a power cut may lose some."""
    return not picture.digest or digest_of(pixels) == picture.digest


def parse_or_none(line: bytes) -> Picture | Failure | None:
    try:
        return parse(line)
    except (ValueError, TypeError):
        return None
