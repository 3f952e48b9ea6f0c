"""The rules are fed scripted reports and train nothing."""

import math
import statistics

import pytest

from tune.asha import Asha, FullLength, MedianStopping, Rule, ordinal, rungs

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("grace", "factor", "epochs", "expected"),
    [(1, 3, 9, [1, 3]), (1, 3, 10, [1, 3, 9]), (2, 2, 16, [2, 4, 8]), (4, 3, 4, []), (1, 4, 5, [1, 4])],
)
def test_rungs(grace: int, factor: int, epochs: int, expected: list[int]) -> None:
    assert rungs(grace, factor, epochs) == expected


@pytest.mark.parametrize(
    ("value", "others", "expected"),
    [
        (0.1, [], "continue"),  # the first
        (0.2, [0.1], "continue"),  # the best so far
        (0.1, [0.2], "stop"),
        (0.5, [0.9, 0.1, 0.2, 0.3, 0.4], "continue"),  # second of six, and the best two go on
        (0.3, [0.9, 0.5, 0.2, 0.1, 0.4], "stop"),
        (0.5, [0.5, 0.5], "continue"),  # a tie with the best is the best
        (0.5, [NAN, NAN, 0.9, NAN, NAN], "continue"),  # what diverged ranks last, and counts
        (NAN, [], "stop"),  # even alone
        (INF, [0.1], "stop"),
        (-INF, [], "stop"),
    ],
)
def test_the_best_third_goes_on(value: float, others: list[float], expected: str) -> None:
    rule = Asha(1, 3, 9)
    for number, other in enumerate(others):
        rule.report(number, 1, other)
    assert rule.report(len(others), 1, value).decision == expected


def feed(rule: Rule, curves: list[list[float]], first: int = 0) -> list[int]:
    """Epochs that each trial gets, one trial after the other."""
    return [
        next(
            (epoch for epoch, value in enumerate(curve, start=1) if rule.report(number, epoch, value).decision != "continue"),
            len(curve),
        )
        for number, curve in enumerate(curves, start=first)
    ]


CURVES = [[0.5, 0.6, 0.7, 0.8], [0.4, 0.9, 0.9, 0.9], [0.6, 0.6, 0.6, 0.6], [0.7, 0.7, 0.9, 0.9], [0.1, 0.1, 0.1, 0.1]]


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
    assert rule.report(5, 3, 0.75).decision == "continue"  # second of six


def test_promotion_waits_until_there_are_some_to_choose_from() -> None:
    rule = Asha(1, 3, 9, promote=True)
    assert rule.report(0, 1, 0.5) == ("pause", "rung 1: 1st of 1")
    assert rule.promotion() is None
    rule.report(1, 1, 0.4)
    assert rule.promotion() is None
    assert rule.report(2, 1, 0.3).decision == "pause"
    assert rule.promotion() == 0  # the best third of three
    assert rule.promotion() is None


def test_a_trial_is_promoted_once_it_proves_to_be_among_the_best() -> None:
    rule = Asha(1, 3, 9, promote=True)
    assert [rule.report(n, 1, value).decision for n, value in enumerate((0.9, 0.8, 0.95))] == ["pause", "pause", "continue"]
    assert rule.promotion() is None
    for number in (3, 4, 5):
        assert rule.report(number, 1, 0.1).decision == "pause"
    assert rule.promotion() == 0  # of six the best two: 2 went on at once, 0 now
    assert rule.promotion() is None


def test_the_highest_rung_is_promoted_first() -> None:
    rule = Asha(1, 2, 8, promote=True)
    for number, value in enumerate((0.5, 0.4, 0.3)):
        rule.report(number, 1, value)
    assert rule.promotion() == 0
    rule.report(0, 2, 0.6)
    rule.report(9, 2, 0.1)
    rule.report(3, 1, 0.2)
    assert [rule.promotion(), rule.promotion(), rule.promotion()] == [0, 1, None]


def test_what_diverged_is_never_promoted() -> None:
    rule = Asha(1, 2, 4, promote=True)
    assert all(rule.report(number, 1, NAN).decision == "stop" for number in range(10))
    assert rule.promotion() is None


def test_median_stopping_by_the_definition() -> None:
    rule = MedianStopping(2, others=3)
    curves = [[0.2, 0.4, 0.6], [0.3, 0.5, 0.9], [0.1, 0.1, 0.1]]
    assert feed(rule, curves) == [3, 3, 3]  # too few others
    means = [statistics.mean(curve[:2]) for curve in curves]
    assert statistics.median_low(means) == pytest.approx(0.3)
    assert rule.report(3, 1, 0.0).decision == "continue"  # before the grace period's end
    assert rule.report(3, 2, 0.29) == ("stop", "epoch 2: below the median 0.3000 of 3")
    rule.report(4, 1, 0.31)
    assert rule.report(4, 2, 0.0).decision == "continue"  # its best so far counts
    assert rule.report(5, 1, NAN).decision == "stop"


def test_median_stopping_lets_a_trial_at_the_median_go_on_and_compares_at_no_rung() -> None:
    rule = MedianStopping(1, others=1)
    assert rule.rungs == []
    assert rule.report(0, 1, 0.5) == ("continue", "")
    assert rule.report(1, 1, 0.5) == ("continue", "")  # at the median
    assert rule.report(2, 1, 0.4999) == ("stop", "epoch 1: below the median 0.5000 of 2")
    assert rule.report(3, 1, NAN) == ("stop", "epoch 1: its accuracy is nan")
    assert rule.promotion() is None
    assert rule.promotion(last=True) is None


def test_full_length_compares_and_promotes_nobody() -> None:
    rule = FullLength()
    assert rule.rungs == []
    assert rule.report(0, 3, math.inf) == ("stop", "epoch 3: its accuracy is inf")
    assert rule.promotion(last=True) is None


def test_a_trial_that_diverges_after_the_last_rung_counts_nowhere() -> None:
    rule = Asha(1, 2, 4)
    assert rule.report(0, 4, NAN) == ("stop", "epoch 4: its accuracy is nan")
    assert all(not rung.values for rung in rule.levels.values())


def test_full_length_stops_what_diverges_alone() -> None:
    rule = FullLength()
    assert feed(rule, CURVES) == [4] * 5
    assert rule.report(9, 1, NAN).decision == "stop"


def test_ordinals() -> None:
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 102, 111)] == [
        *("1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "102nd", "111th")
    ]
