"""The split of what was read: copies together, every class in training and test."""

import numpy as np
from numpy.typing import NDArray

from fmnist.data.importing.splitting import (
    TEST,
    TRAIN,
    UNDECIDED,
    VALIDATION,
    Assignment,
    assign,
    conflicting,
    draw_number,
    group_copies,
)


def split(
    labels: list[int], given: list[int] | None = None, groups: list[int] | None = None
) -> Assignment:
    count = len(labels)
    return assign(
        np.array(labels),
        np.array(given or [UNDECIDED] * count, np.uint8),
        np.array(groups or range(count)),
        np.array([draw_number(str(number)) for number in range(count)], np.uint64),
    )


def counts(assignment: Assignment, labels: NDArray[np.int64], part: int) -> list[int]:
    chosen = assignment.kept & (assignment.splits == part)
    return np.bincount(labels[chosen], minlength=3).tolist()


def test_one_picture_in_six_of_each_class() -> None:
    labels = np.repeat([0, 1, 2], [60, 7, 3])
    found = split(labels.tolist())
    assert found.made_here
    assert counts(found, labels, TEST) == [10, 2, 1]
    assert counts(found, labels, TRAIN) == [50, 5, 2]
    assert not found.too_small


def test_classes_too_small_to_be_split_are_all_named() -> None:
    found = split([0] * 6 + [1] * 2 + [2])
    assert set(found.too_small) == {1, 2}
    assert found.kept.tolist() == [True] * 6 + [False] * 3


def test_copies_of_one_picture_are_one() -> None:
    # Six images of the first class, and two different pictures.
    found = split([0] * 6 + [1] * 6, groups=[0, 0, 0, 0, 0, 5, 6, 7, 8, 9, 10, 11])
    assert set(found.too_small) == {0}
    assert "2 of them different" in found.too_small[0]


def test_copies_are_in_one_split_under_any_label() -> None:
    labels = [0] * 30 + [1] * 30
    groups = [*range(30), *range(30)]
    found = split(labels, groups=groups)
    assert found.splits[:30].tolist() == found.splits[30:].tolist()
    assert (found.splits == TEST).sum() == 10


def test_given_splits_are_kept() -> None:
    given = [TRAIN] * 4 + [VALIDATION] * 2 + [TEST] * 2 + [TRAIN] * 4 + [VALIDATION, TEST]
    labels = [0] * 8 + [1] * 6
    found = split(labels, given)
    assert found.splits.tolist() == given
    assert not found.made_here
    assert not found.validation_is_test


def test_validation_alone_is_the_test() -> None:
    given = ([TRAIN] * 4 + [VALIDATION]) * 2
    found = split([0] * 5 + [1] * 5, given)
    assert found.validation_is_test
    assert (found.splits == TEST).sum() == 2


def test_training_alone_is_split() -> None:
    found = split([0] * 6 + [1] * 6, [TRAIN] * 12)
    assert found.made_here
    assert (found.splits == TEST).sum() == 2


def test_a_class_that_is_not_trained_is_left_out() -> None:
    given = [TRAIN] * 3 + [TEST] * 2 + [TRAIN] * 3 + [TEST] + [TEST] * 4
    found = split([0] * 5 + [1] * 4 + [2] * 4, given)
    assert set(found.too_small) == {2}


def test_groups_are_the_first_rows_of_copies() -> None:
    digests = np.array([b"b", b"a", b"b", b"c", b"a"])
    assert group_copies(digests).tolist() == [0, 1, 0, 3, 1]


def test_conflicting_labels() -> None:
    labels = np.array([0, 1, 1, 0, 1])
    assert conflicting(labels, np.array([0, 1, 0, 3, 1])).tolist() == [0, 2]
    assert conflicting(labels, np.arange(5)).tolist() == []
