"""Which image is in which split: copies stay together, and every class can be trained and tested.

Pure functions of arrays with an element for each row of the import.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.data.formats import SPLITS

TEST_SHARE = 6
"""One picture in so many is kept for the test where the source has no split: MNIST's own 10,000 of
70,000, rounded."""
TRAIN, VALIDATION, TEST = range(len(SPLITS))
UNDECIDED = len(SPLITS)
"""In place of a split, where the source has none."""
LEAST_TRAINED = 2
"""Different training pictures of a class: one is held out for validation."""
LEAST_WITHOUT_SPLIT = 3
"""Different pictures of a class that is split here: one is kept for the test."""

Numbers = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Assignment:
    """The images that are taken, and how they are split."""

    kept: Mask
    """(M,): False for the images of classes that are left out."""
    splits: NDArray[np.uint8]
    """(M,): places in SPLITS."""
    too_small: dict[int, str]
    """Classes that are left out since they cannot be split, and why."""
    made_here: bool
    """Whether the test images were chosen here."""
    validation_is_test: bool
    """Whether the source's validation images serve as the test."""


def group_copies(digests: NDArray[Any]) -> Numbers:
    """Number images so that copies share a number: the row of the first of them.

    Args:
        digests: (M,), equal where the fitted pixels are.
    """
    _, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64)


def draw_number(name: str) -> int:
    """A fixed random number of a picture, by its name.

    By it the test pictures are chosen: they stay the same when others come or go.
    """
    content = name.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")


def assign(
    labels: Numbers, given: NDArray[np.uint8], groups: Numbers, draws: NDArray[np.uint64]
) -> Assignment:
    """Split the images, and leave out classes that are too small for it.

    Args:
        labels: (M,) class numbers; negative for images that are left out before.
        given: (M,) the source's own splits, as places in SPLITS, or UNDECIDED.
        groups: (M,) of `group_copies`.
        draws: (M,) of `draw_number`.
    """
    kept = labels >= 0
    present = set(np.unique(given[kept]).tolist())
    made_here = TEST not in present and VALIDATION not in present
    validation_is_test = TEST not in present and not made_here
    too_small: dict[int, str] = {}
    splits = given.copy()

    # Without a class that is left out, copies of its pictures may be split anew.
    while True:
        splits = given.copy()
        splits[splits == UNDECIDED] = TRAIN
        if made_here:
            splits[kept] = TRAIN
            splits[_choose_test(labels, groups, draws, kept)] = TEST
        if validation_is_test:
            splits[splits == VALIDATION] = TEST

        small = _too_small(labels, splits, groups, kept, made_here)
        if not small:
            break
        too_small |= small
        kept &= ~np.isin(labels, list(small))
    return Assignment(kept, splits, too_small, made_here, validation_is_test)


def _choose_test(
    labels: Numbers, groups: Numbers, draws: NDArray[np.uint64], kept: Mask
) -> Numbers:
    """Rows of the test: one picture in six of each class, with all its copies."""
    rows = np.flatnonzero(kept)
    if not len(rows):
        return rows
    _, first = np.unique(groups[rows], return_index=True)
    pictures = rows[first]

    # By class, and within a class by their random numbers.
    order = np.lexsort((draws[pictures], labels[pictures]))
    ordered = labels[pictures][order]
    starts = np.searchsorted(ordered, ordered, side="left")
    place = np.arange(len(ordered)) - starts
    sizes = np.searchsorted(ordered, ordered, side="right") - starts
    chosen = place < -(-sizes // TEST_SHARE)
    test_groups = groups[pictures[order[chosen]]]
    return rows[np.isin(groups[rows], test_groups)]


def _too_small(
    labels: Numbers, splits: NDArray[np.uint8], groups: Numbers, kept: Mask, made_here: bool
) -> dict[int, str]:
    """Classes that cannot be trained, or not be tested where the test is chosen here."""
    classes = np.unique(labels[kept])
    trained = _count_different(labels, groups, kept & (splits == TRAIN), classes)
    own_validation = bool((kept & (splits == VALIDATION)).any())
    least = 1 if own_validation else LEAST_TRAINED
    tested = _count_different(labels, groups, kept & (splits == TEST), classes)

    small: dict[int, str] = {}
    for number, train_count, test_count in zip(classes, trained, tested, strict=True):
        enough = train_count >= least and (test_count > 0 or not made_here)
        if enough:
            continue
        if made_here:
            different = train_count + test_count
            small[int(number)] = (
                f"{different:,} of them different; it takes {LEAST_WITHOUT_SPLIT} to split a class"
            )
        else:
            small[int(number)] = (
                f"{train_count:,} different ones to train on; it takes {least} of a class"
            )
    return small


def _count_different(labels: Numbers, groups: Numbers, chosen: Mask, classes: Numbers) -> Numbers:
    """Different pictures of each class among those chosen, (classes,)."""
    pairs = np.unique(np.stack((labels[chosen], groups[chosen]), 1), axis=0)
    places = np.searchsorted(classes, pairs[:, 0])
    return np.bincount(places, minlength=len(classes))


def conflicting(labels: Numbers, groups: Numbers) -> Numbers:
    """Rows of copies that bear different labels, in order of their groups, (N,)."""
    pairs = np.unique(np.stack((groups, labels), 1), axis=0)
    numbers, count = np.unique(pairs[:, 0], return_counts=True)
    rows = np.flatnonzero(np.isin(groups, numbers[count > 1]))
    return rows[np.argsort(groups[rows], kind="stable")]
