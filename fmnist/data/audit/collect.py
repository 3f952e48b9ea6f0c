"""Look at every image of a set once, and collect what is wrong."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from fmnist.data.audit.catalogue import TEST, TRAIN, VALIDATION, Catalogue, Numbers
from fmnist.data.audit.copies import Pairs, exact_groups, join, list_groups, near_pairs
from fmnist.data.audit.features import Features, compute_features
from fmnist.data.audit.findings import (
    AuditReport,
    ClassCount,
    Copies,
    Leak,
    Oddity,
    Picture,
    Suspect,
    SuspectedLabel,
)
from fmnist.data.audit.oddities import Odd, find_odd, split_usual
from fmnist.data.formats import SPLITS
from fmnist.data.importing.report import imbalance_note

Pictures = dict[int, Picture]
FindSuspects = Callable[[Numbers], Sequence[Suspect]]
"""Finds labels that out-of-fold predictions contradict, given which images are copies of one
picture: (N,), equal numbers. fmnist.evaluation.label_issues has it."""


def collect(
    catalogue: Catalogue,
    name: str,
    console: Console,
    find_suspects: FindSuspects | None = None,
) -> AuditReport:
    """Audit the images of a catalogue.

    Args:
        name: the set's.
        console: shows the progress, on a terminal.
        find_suspects: trains, to judge labels; None judges none.
    """
    features = _read(catalogue, console)
    exact = exact_groups(features)
    pairs, correlations = near_pairs(catalogue, features, exact)
    groups = join(len(catalogue), exact, pairs)
    found = find_odd(features, catalogue.original_sizes(), catalogue.image_size)
    odd, usual = split_usual(found, len(catalogue))
    suspects = None if find_suspects is None else find_suspects(groups)

    exact_lists, near_lists = list_groups(exact), _near_lists(groups, exact)
    numbers = _all_numbers([*exact_lists, *near_lists], odd)
    places = [_number(suspect, catalogue) for suspect in suspects or ()]
    pictures = catalogue.pictures([*numbers, *places])

    least = _least_correlation(groups, pairs, correlations)
    near = [_copies(group, pictures, float(least[groups[group[0]]])) for group in near_lists]
    counts = _class_counts(catalogue)
    return AuditReport(
        name=name,
        images=len(catalogue),
        counts=counts,
        leaks=_leaks(catalogue, exact, "exact") + _leaks(catalogue, groups, "exact or near"),
        exact=_worst_first([_copies(group, pictures, 1.0) for group in exact_lists]),
        near=_worst_first(near),
        oddities=_oddities(odd, pictures),
        usual=tuple(usual),
        imbalance=_imbalance(counts),
        suspects=None if suspects is None else _suspected(suspects, places, catalogue, pictures),
        groups=groups,
    )


def _read(catalogue: Catalogue, console: Console) -> Features:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task("images", total=len(catalogue))

        def counted() -> Iterator[Tensor]:
            for batch in catalogue.batches():
                yield batch
                progress.advance(task, len(batch))

        return compute_features(counted())


def _near_lists(groups: Numbers, exact: Numbers) -> list[Numbers]:
    """Groups that hold more than the exact copies of one picture."""
    return [numbers for numbers in list_groups(groups) if len(np.unique(exact[numbers])) > 1]


def _all_numbers(groups: Sequence[Numbers], odd: Sequence[Odd]) -> list[int]:
    numbers: list[int] = []
    for each in (*groups, *(one.numbers for one in odd)):
        numbers += each.tolist()
    return numbers


def _least_correlation(
    groups: Numbers, pairs: Pairs, correlations: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The smallest correlation of a pair in each group."""
    least = np.ones(len(groups), np.float32)
    np.minimum.at(least, groups[pairs[:, 0]], correlations)
    return least


def _copies(numbers: Numbers, pictures: Pictures, likeness: float) -> Copies:
    return Copies(tuple(pictures[number] for number in numbers.tolist()), likeness)


def _worst_first(copies: list[Copies]) -> tuple[Copies, ...]:
    """Those under several labels first, then those across splits, then the most alike."""

    def order(one: Copies) -> tuple[bool, bool, float]:
        return (len(one.labels) == 1, len(one.splits) == 1, -one.likeness)

    return tuple(sorted(copies, key=order))


def _leaks(catalogue: Catalogue, groups: Numbers, copies: str) -> tuple[Leak, ...]:
    """Count the held-out images that are copies of training images."""
    in_train = catalogue.splits == TRAIN
    train_groups = groups[in_train]
    # A group and a label as one number, to ask for both at once.
    classes = len(catalogue.classes)
    train_labelled = train_groups * classes + catalogue.labels[in_train]
    labels_of_group = np.bincount(np.unique(train_labelled) // classes, minlength=len(groups))

    leaks: list[Leak] = []
    for split in (VALIDATION, TEST):
        held_out = np.flatnonzero(catalogue.splits == split)
        copied = held_out[np.isin(groups[held_out], train_groups)]
        labelled = groups[copied] * classes + catalogue.labels[copied]
        same = np.isin(labelled, train_labelled)
        # Another label than its own: the group has two, or one that is not the image's.
        differ = (labels_of_group[groups[copied]] > 1) | ~same
        if len(held_out):
            counts = len(copied), int(differ.sum()), len(held_out)
            leaks.append(Leak(SPLITS[split], copies, *counts))
    return tuple(leaks)


def _oddities(found: Sequence[Odd], pictures: Pictures) -> tuple[Oddity, ...]:
    oddities: list[Oddity] = []
    for odd in found:
        for number, detail in zip(odd.numbers.tolist(), odd.details, strict=True):
            oddities.append(Oddity(odd.kind, pictures[number], detail))
    return tuple(oddities)


def _class_counts(catalogue: Catalogue) -> tuple[ClassCount, ...]:
    counts: list[list[int]] = []
    for split in (TRAIN, VALIDATION, TEST):
        labels = catalogue.labels[catalogue.splits == split]
        counts.append(np.bincount(labels, minlength=len(catalogue.classes)).tolist())
    return tuple(map(ClassCount, catalogue.classes, *counts))


def _imbalance(counts: Sequence[ClassCount]) -> tuple[str, ...]:
    """What is uneven about the classes, and what to do about it."""
    words: list[str] = []
    uneven = imbalance_note({count.name: count.train for count in counts})
    if uneven is not None:
        words.append(uneven)

    untested = [count.name for count in counts if not count.test]
    if untested:
        words.append(
            f"{len(untested):,} of {len(counts):,} classes have no test image, "
            f"{untested[0]} for one: nothing can be said of them"
        )
    return tuple(words)


def _number(suspect: Suspect, catalogue: Catalogue) -> int:
    return suspect.place + (catalogue.train_images if suspect.test else 0)


def _suspected(
    suspects: Sequence[Suspect], numbers: Sequence[int], catalogue: Catalogue, pictures: Pictures
) -> tuple[SuspectedLabel, ...]:
    """The suspects with their pictures, those least sure of their label first."""
    labels: list[SuspectedLabel] = []
    for suspect, number in zip(suspects, numbers, strict=True):
        labels.append(
            SuspectedLabel(
                pictures[number],
                catalogue.classes[suspect.predicted],
                suspect.confidence,
                suspect.label_confidence,
            )
        )
    return tuple(sorted(labels, key=lambda label: label.label_confidence))
