"""What is kept of each image: a few numbers, so that sets larger than memory can be audited."""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

REDUCED = 32
"""Side to which an image is reduced for its perceptual hash, as in the imagehash library."""
FREQUENCIES = 8
"""Lowest frequencies in each direction that its hash and its outline are made of."""
VISIBLE = 16
"""Gray levels by which a pixel differs visibly from the ground."""


@dataclass(frozen=True, slots=True)
class Features:
    """Of each image, in the catalogue's numbering."""

    digests: NDArray[np.uint64]
    """(N,): equal for equal pixels."""
    hashes: NDArray[np.uint64]
    """(N,): perceptual hash, which of the lowest frequencies are above their median (pHash)."""
    outlines: NDArray[np.float16]
    """(N, 63): the lowest frequencies but the mean, to length 1."""
    value_range: NDArray[np.uint8]
    """(N,): largest less smallest value of a channel, the largest of the channels."""
    visible: NDArray[np.float32]
    """(N,): share of pixels that differ visibly from the median gray."""
    dark_end: NDArray[np.uint8]
    """(N,): gray that one pixel in a hundred is at or below."""
    light_end: NDArray[np.uint8]
    """(N,): gray that one pixel in a hundred is above."""
    sharpness: NDArray[np.float32]
    """(N,): variance of the Laplacian in that of the pixels, which takes out the contrast."""


def compute_features(batches: Iterable[Tensor]) -> Features:
    """Compute the features of images (B, H, W) or (B, 3, H, W) uint8."""
    parts = [_features_of(batch) for batch in batches]

    def join(field: str) -> NDArray[Any]:
        return np.concatenate([getattr(part, field) for part in parts])

    return Features(*[join(field.name) for field in fields(Features)])


def _features_of(images: Tensor) -> Features:
    gray = to_gray(images)
    planes = images.flatten(-2)  # (B, H·W) or (B, 3, H·W)
    spread = planes.amax(-1) - planes.amin(-1)
    if images.ndim == 4:
        spread = spread.amax(1)

    visible, dark_end, light_end = _tones(gray)
    hashes, outlines = _outlines(gray.float())
    return Features(
        digests=_digests(images),
        hashes=hashes,
        outlines=outlines,
        value_range=spread.numpy(),
        visible=visible,
        dark_end=dark_end,
        light_end=light_end,
        sharpness=_sharpness(gray.float()),
    )


def to_gray(images: Tensor) -> Tensor:
    """Luma (B, H, W) uint8, as Pillow's mode L."""
    if images.ndim == 3:
        return images
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    return (images.float() * weights).sum(1).round().to(torch.uint8)


def _digests(images: Tensor) -> NDArray[np.uint64]:
    digests = [hashlib.blake2b(image.data, digest_size=8).digest() for image in images.numpy()]
    return np.frombuffer(b"".join(digests), np.uint64)


def _tones(
    gray: Tensor,
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.uint8]]:
    """Share of visible pixels, and the dark and the light end, from counts of the 256 grays."""
    images, pixels = len(gray), gray[0].numel()
    place = torch.arange(images).view(-1, 1) * 256
    values = (gray.flatten(1).long() + place).flatten()
    counts = torch.bincount(values, minlength=images * 256).view(images, 256)
    below = counts.cumsum(1)  # Pixels of this gray or a darker one.

    median = (below < pixels / 2).sum(1, keepdim=True)
    ground = (torch.arange(256) - median).abs() <= VISIBLE
    visible = 1 - (counts * ground).sum(1) / pixels
    dark_end = (below < pixels / 100).sum(1)
    light_end = (below < pixels * 99 / 100).sum(1)
    return (
        visible.float().numpy(),
        dark_end.to(torch.uint8).numpy(),
        light_end.to(torch.uint8).numpy(),
    )


def _outlines(gray: Tensor) -> tuple[NDArray[np.uint64], NDArray[np.float16]]:
    """Perceptual hash and outline by a cosine transform of the reduced image.

    Own code beside imagehash, which hashes Pillow images one at a time: 70,000 take it 9 s, and
    this .3 s.
    """
    size = (REDUCED, REDUCED)
    reduced = F.interpolate(gray[:, None], size, mode="bilinear", antialias=True)[:, 0]
    place = 2 * torch.arange(REDUCED) + 1
    frequency = torch.arange(FREQUENCIES).view(-1, 1)
    cosines = torch.cos(math.pi * frequency * place / (2 * REDUCED))
    waves = (cosines @ reduced @ cosines.T).flatten(1)  # (B, 64)

    bits = waves > waves[:, 1:].median(1, keepdim=True).values
    hashes = np.packbits(bits.numpy(), axis=1).view(np.uint64)[:, 0]
    outlines = F.normalize(waves[:, 1:])
    return hashes, outlines.half().numpy()


def _sharpness(gray: Tensor) -> NDArray[np.float32]:
    if min(gray.shape[1:]) < 3:
        return np.ones(len(gray), np.float32)
    inner = gray[:, 1:-1, 1:-1]
    beside = gray[:, 1:-1, :-2] + gray[:, 1:-1, 2:]
    above_and_below = gray[:, :-2, 1:-1] + gray[:, 2:, 1:-1]
    laplacian = 4 * inner - beside - above_and_below
    # One is added so that an image of one gray has sharpness 0.
    return (laplacian.flatten(1).var(1) / (gray.flatten(1).var(1) + 1)).numpy()
