import math

import pytest

from tests.tune.rules.scripted_curves import CURVES, feed
from tune.rules.asha import Asha, rungs

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("grace", "factor", "epochs", "expected"),
    [
        (1, 3, 9, [1, 3]),
        (1, 3, 10, [1, 3, 9]),
        (2, 2, 16, [2, 4, 8]),
        (4, 3, 4, []),
        (1, 4, 5, [1, 4]),
    ],
)
def test_rungs(grace: int, factor: int, epochs: int, expected: list[int]) -> None:
    assert rungs(grace, factor, epochs) == expected


@pytest.mark.parametrize(
    ("value", "others", "expected"),
    [
        (0.1, [], "continue"),  # The first.
        (0.2, [0.1], "continue"),  # The best so far.
        (0.1, [0.2], "stop"),
        (0.5, [0.9, 0.1, 0.2, 0.3, 0.4], "continue"),  # Second of six: the best two go on.
        (0.3, [0.9, 0.5, 0.2, 0.1, 0.4], "stop"),
        (0.5, [0.5, 0.5], "continue"),  # A tie with the best is the best.
        (0.5, [NAN, NAN, 0.9, NAN, NAN], "continue"),  # Diverged trials rank last, and count.
        (NAN, [], "stop"),  # Even alone.
        (INF, [0.1], "stop"),
        (-INF, [], "stop"),
    ],
)
def test_the_best_third_goes_on(value: float, others: list[float], expected: str) -> None:
    rule = Asha(1, 3, 9)
    for number, other in enumerate(others):
        rule.report(number, 1, other)

    assert rule.report(len(others), 1, value).decision == expected


def test_scripted_search() -> None:
    rule = Asha(1, 3, 4)
    assert feed(rule, CURVES) == [4, 1, 3, 4, 1]
    assert rule.report(5, 3, 0.1) == ("stop", "rung 3: 4th of 4")


def test_nobody_stops_between_rungs() -> None:
    rule = Asha(1, 3, 9)
    rule.report(0, 3, 0.9)

    assert rule.report(1, 2, 0.0).decision == "continue"
    assert rule.report(1, 3, 0.0).decision == "stop"


def test_a_trial_that_diverges_between_rungs_counts_at_the_next() -> None:
    rule = Asha(1, 3, 9)
    for number in (0, 1, 2):
        assert rule.report(number, 2, NAN).decision == "stop"

    rule.report(3, 3, 0.8)
    rule.report(4, 3, 0.7)
    assert rule.report(5, 3, 0.75).decision == "continue", "second of six"


def test_a_trial_that_diverges_counts_at_one_rung_only() -> None:
    rule = Asha(1, 3, 28)
    rule.report(0, 2, NAN)
    assert [len(rung.values) for rung in rule.levels.values()] == [0, 1, 0, 0]

    rule.report(1, 3, NAN)
    assert [len(rung.values) for rung in rule.levels.values()] == [0, 2, 0, 0]


def test_a_trial_that_diverges_after_the_last_rung_counts_nowhere() -> None:
    rule = Asha(1, 2, 4)
    assert rule.report(0, 4, NAN) == ("stop", "epoch 4: its accuracy is nan")
    assert all(not rung.values for rung in rule.levels.values())


def test_promotion_waits_until_there_are_some_to_choose_from() -> None:
    rule = Asha(1, 3, 9, promote=True)
    assert rule.report(0, 1, 0.5) == ("pause", "rung 1: 1st of 1")
    assert rule.promotion() is None

    rule.report(1, 1, 0.4)
    assert rule.promotion() is None

    assert rule.report(2, 1, 0.3).decision == "pause"
    assert rule.promotion() == 0, "the best third of three"
    assert rule.promotion() is None


def test_a_trial_is_promoted_once_it_proves_to_be_among_the_best() -> None:
    rule = Asha(1, 3, 9, promote=True)
    decisions = [rule.report(number, 1, value).decision for number, value in enumerate((0.9, 0.8))]
    assert decisions == ["pause", "pause"]
    assert rule.report(2, 1, 0.95).decision == "continue"
    assert rule.promotion() is None

    for number in (3, 4, 5):
        assert rule.report(number, 1, 0.1).decision == "pause"
    assert rule.promotion() == 0, "the best two of six: 2 went on at once, 0 now"
    assert rule.promotion() is None


def test_the_highest_rung_is_promoted_first() -> None:
    rule = Asha(1, 2, 8, promote=True)
    for number, value in enumerate((0.5, 0.4, 0.3)):
        rule.report(number, 1, value)
    assert rule.promotion() == 0

    # At rung 2 the best of two may go on, at rung 1 the best two of four.
    rule.report(0, 2, 0.6)
    rule.report(9, 2, 0.1)
    rule.report(3, 1, 0.2)
    assert [rule.promotion(), rule.promotion(), rule.promotion()] == [0, 1, None]


def test_at_the_end_the_best_of_those_that_came_furthest_goes_on() -> None:
    rule = Asha(1, 3, 9, promote=True)
    rule.report(0, 1, 0.5)
    rule.report(1, 1, 0.6)
    rule.report(2, 3, 0.3)

    # Nobody is among the best third: that takes three trials.
    assert rule.promotion() is None
    assert [rule.promotion(last=True) for _ in range(4)] == [2, 1, 0, None]


def test_what_diverged_is_never_promoted() -> None:
    rule = Asha(1, 2, 4, promote=True)
    assert all(rule.report(number, 1, NAN).decision == "stop" for number in range(10))

    assert rule.promotion() is None
    assert rule.promotion(last=True) is None
