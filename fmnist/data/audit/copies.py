"""Exact and near copies.

A perceptual hash proposes pairs, and the pixels decide. Calibrated on Fashion-MNIST and on
Debian's openclipart-png by looking at the pairs (docs/results/audit.md).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fmnist.data.audit.catalogue import READ_BYTES, Catalogue, Numbers
from fmnist.data.audit.features import Features
from fmnist.data.images import batch_within

MOST_DIFFERENT_BITS = 6
"""Of the 64 in a hash. Half of them are ones, so that hashes mostly differ in an even number."""
BAND_EDGES = (0, 9, 18, 27, 36, 45, 54, 64)
"""Bits of the hash in seven bands. Hashes that differ in six bits have at least one band in
common, so that only images that share a band need be compared."""
COMPARED_AT_ONCE = 2**22
MOST_CLOSE = 512
"""Images with close hashes whose outlines are compared with an image's, the closest first."""
LEAST_ALIKE_OUTLINES = 0.985
"""Cosine of two outlines. Pairs below it do not correlate enough either, and are not read."""
MOST_NEIGHBOURS = 16
"""Images whose pixels are compared with an image's, in one band, the most alike first. The frames
of a film are all alike: they are joined by a chain, and not each with each."""
COMPARED_SIDE = 28
"""Larger images are reduced to this before their pixels are compared: what saving a photo again
changes is fine detail, and the limits below were found at this size."""
LEAST_CORRELATION = 0.99
LARGEST_DIFFERENCE = 0.08
"""Of the means of 4×4 pixels, in deviations of the image. JPEG's quality 75 makes up to .07;
another print on the same shirt .1 and more."""
BLOCK = 4
SPECKS = 0.004
"""Share of pixels that may be anything: three of 28×28."""

Pairs = NDArray[np.int64]
"""(P, 2): numbers of two images, the smaller first."""


@dataclass(frozen=True, slots=True)
class Group:
    """Numbers of images that show one picture, and the smallest correlation of two of them."""

    numbers: Numbers
    likeness: float


def exact_groups(features: Features) -> Numbers:
    """Number the pictures: (N,), the number of the first image with the same pixels."""
    _, first, same = np.unique(features.digests, return_index=True, return_inverse=True)
    return first[same]


def near_pairs(
    catalogue: Catalogue, features: Features, exact: Numbers
) -> tuple[Pairs, NDArray[np.float32]]:
    """Find pairs of different pictures that are nearly the same.

    Args:
        exact: as `exact_groups` gives it; of exact copies the first stands for all.

    Returns:
        the pairs, and the correlation of each.
    """
    different = np.flatnonzero(exact == np.arange(len(exact)))
    # Images of one colour have no outline; they are named as such.
    pictures = different[features.value_range[different] > 0]
    pairs = pictures[_candidates(features.hashes[pictures], features.outlines[pictures])]

    kept: list[Pairs] = []
    correlations: list[NDArray[np.float32]] = []
    image_bytes = catalogue.read(np.arange(1)).nbytes
    size = batch_within(2048, READ_BYTES // 8, image_bytes)
    for start in range(0, len(pairs), size):
        some = pairs[start : start + size]
        correlation, difference = likeness(catalogue.read(some[:, 0]), catalogue.read(some[:, 1]))
        alike = are_near(correlation, difference)
        kept.append(some[alike])
        correlations.append(correlation[alike])

    if not kept:
        return np.empty((0, 2), np.int64), np.empty(0, np.float32)
    return np.concatenate(kept), np.concatenate(correlations)


def are_near(
    correlation: NDArray[np.float32], difference: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Whether pairs, by what `likeness` says of them, show the same picture."""
    return (correlation >= LEAST_CORRELATION) & (difference <= LARGEST_DIFFERENCE)


def likeness(first: Tensor, second: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Compare images pairwise, whatever their brightness and contrast.

    Args:
        first, second: (P, H, W) or (P, 3, H, W) uint8.

    Returns:
        the correlation of their pixels (P,), and the largest difference of the means of 4×4
        pixels, in deviations (P,), a few single pixels not counted; both after large images were
        reduced.
    """
    scaled = _scale(_reduce(first)), _scale(_reduce(second))
    correlation = (scaled[0] * scaled[1]).flatten(1).mean(1)
    difference = _without_specks(scaled[0] - scaled[1])
    block = min(BLOCK, *difference.shape[-2:])
    largest = F.avg_pool2d(difference, block).abs().flatten(1).amax(1)
    return correlation.numpy(), largest.numpy()


def _without_specks(difference: Tensor) -> Tensor:
    """Set the largest differences of each image to 0, up to SPECKS of its pixels."""
    largest = difference.abs().amax(1).flatten(1)  # (P, H·W), of all channels.
    pixels = largest.shape[1]
    spared = int(pixels * SPECKS)
    if not spared:
        return difference
    limit = largest.kthvalue(pixels - spared, dim=1).values
    return difference.where(difference.abs() <= limit.view(-1, 1, 1, 1), 0)


def _reduce(images: Tensor) -> Tensor:
    """To (P, channels, height, width) float32, no side above COMPARED_SIDE."""
    planes = images[:, None] if images.ndim == 3 else images
    height, width = planes.shape[-2:]
    if max(height, width) <= COMPARED_SIDE:
        return planes.float()
    size = (min(height, COMPARED_SIDE), min(width, COMPARED_SIDE))
    return F.adaptive_avg_pool2d(planes.float(), size)


def _scale(images: Tensor) -> Tensor:
    """To mean 0 and deviation 1 over all pixels of an image."""
    pixels = images.flatten(1)
    pixels = pixels - pixels.mean(1, keepdim=True)
    deviation = pixels.square().mean(1, keepdim=True).sqrt().clamp(min=1e-3)
    return (pixels / deviation).view(images.shape)


def join(images: int, exact: Numbers, pairs: Pairs) -> Numbers:
    """Number the pictures, near copies being one: (N,)."""
    # Here: SciPy's graphs take a second to import, which --help does without.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = np.concatenate((np.stack((np.arange(images), exact), 1), pairs))
    graph = coo_array((np.ones(len(edges), np.int8), edges.T), shape=(images, images))
    _, groups = connected_components(graph, directed=False)
    return groups.astype(np.int64)


def list_groups(groups: Numbers) -> list[Numbers]:
    """The numbers of the images of each group that has several, in order."""
    several = np.flatnonzero(np.bincount(groups)[groups] > 1)
    if not len(several):
        return []
    order = several[np.argsort(groups[several], kind="stable")]
    starts = np.flatnonzero(np.diff(groups[order])) + 1
    return sorted(np.split(order, starts), key=lambda numbers: int(numbers[0]))


def _candidates(hashes: NDArray[np.uint64], outlines: NDArray[np.float16]) -> Pairs:
    """Pairs whose hashes differ in few bits and whose outlines agree."""
    found: list[Pairs] = [np.empty((0, 2), np.int64)]
    earlier: list[np.uint64] = []
    for low, high in pairwise(BAND_EDGES):
        mask = np.uint64(((1 << (high - low)) - 1) << low)
        band = hashes & mask
        order = np.argsort(band, kind="stable")
        starts = np.flatnonzero(np.diff(band[order])) + 1
        for bucket in np.split(order, starts):
            for pairs in _close_in(bucket, hashes):
                new = _share_none(earlier, hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]])
                found.append(_nearest(pairs[new], outlines))
        earlier.append(mask)
    return np.concatenate(found)


def _close_in(bucket: Numbers, hashes: NDArray[np.uint64]) -> Iterator[Pairs]:
    """Pairs of images that share a band and whose hashes are close, block by block.

    Args:
        bucket: their numbers, in order.
    """
    rows = max(COMPARED_AT_ONCE // len(bucket), 1)
    for start in range(0, len(bucket) - 1, rows):
        block = bucket[start : start + rows]
        others = bucket[start:]
        bits = np.bitwise_count(hashes[block, None] ^ hashes[others])
        # Each pair once, and no image with itself.
        bits[np.arange(len(others)) <= np.arange(len(block))[:, None]] = 64
        if len(others) > MOST_CLOSE:
            columns = np.argpartition(bits, MOST_CLOSE, axis=1)[:, :MOST_CLOSE]
            bits = np.take_along_axis(bits, columns, 1)
            others = others[columns]
        first, second = np.nonzero(bits <= MOST_DIFFERENT_BITS)
        partners = others[second] if others.ndim == 1 else others[first, second]
        yield np.stack((block[first], partners), 1)


def _share_none(masks: Sequence[np.uint64], differing: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Whether the bits under each mask differ: no pair is looked at again in a later band."""
    new = np.full(len(differing), True)
    for mask in masks:
        new &= (differing & mask) != 0
    return new


def _nearest(pairs: Pairs, outlines: NDArray[np.float16]) -> Pairs:
    """Of pairs ordered by their first image, those whose outlines agree, the best of each image."""
    alike: list[NDArray[np.float32]] = [np.empty(0, np.float32)]
    for start in range(0, len(pairs), COMPARED_AT_ONCE // 64):
        first, second = pairs[start : start + COMPARED_AT_ONCE // 64].T
        product = outlines[first].astype(np.float32) * outlines[second]
        alike.append(product.sum(1))
    cosine = np.concatenate(alike)
    agree = cosine >= LEAST_ALIKE_OUTLINES
    pairs, cosine = pairs[agree], cosine[agree]

    order = np.lexsort((-cosine, pairs[:, 0]))
    pairs = pairs[order]
    # A pair's place among those of its first image, the most alike being 0.
    place = np.arange(len(pairs)) - np.searchsorted(pairs[:, 0], pairs[:, 0])
    return pairs[place < MOST_NEIGHBOURS]
