"""The scheduler is fed scripted reports and trains nothing."""

import pytest
from ray.tune.experiment import Trial

from tune.asha import Asha, rungs, survives
from tune.trial import METRIC


@pytest.mark.parametrize(
    ("grace", "factor", "epochs", "expected"),
    [(1, 3, 9, [1, 3]), (1, 3, 10, [1, 3, 9]), (2, 2, 16, [2, 4, 8]), (4, 3, 4, []), (1, 4, 5, [1, 4])],
)
def test_rungs(grace: int, factor: int, epochs: int, expected: list[int]) -> None:
    assert rungs(grace, factor, epochs) == expected


@pytest.mark.parametrize(
    ("value", "others", "expected"),
    [
        (0.1, [], True),  # the first
        (0.2, [0.1], True),  # the best so far
        (0.1, [0.2], False),
        (0.5, [0.9, 0.1, 0.2, 0.3, 0.4], True),  # second of six, and the best two go on
        (0.3, [0.9, 0.5, 0.2, 0.1, 0.4], False),
        (0.5, [0.5, 0.5], True),  # a tie with the best is the best
    ],
)
def test_the_best_third_goes_on(value: float, others: list[float], expected: bool) -> None:
    assert survives(value, others, 3) is expected


def feed(scheduler: Asha, curves: list[list[float]], first: int = 0) -> list[int]:
    """Epochs that each trial gets, one trial after the other."""
    return [
        next((epoch for epoch, value in enumerate(curve, start=1) if scheduler.stops(number, epoch, value)), len(curve))
        for number, curve in enumerate(curves, start=first)
    ]


CURVES = [[0.5, 0.6, 0.7, 0.8], [0.4, 0.9, 0.9, 0.9], [0.6, 0.6, 0.6, 0.6], [0.7, 0.7, 0.9, 0.9], [0.1, 0.1, 0.1, 0.1]]


def test_scripted_search() -> None:
    scheduler = Asha(1, 3, 4)
    assert feed(scheduler, CURVES) == [4, 1, 3, 4, 1]
    assert scheduler.rungs == {1: {0: 0.5, 1: 0.4, 2: 0.6, 3: 0.7, 4: 0.1}, 3: {0: 0.7, 2: 0.6, 3: 0.9}}


@pytest.mark.parametrize("done", range(len(CURVES) + 1))
def test_a_restart_forgets_nothing(done: int) -> None:
    before = Asha(1, 3, 4)
    lengths = feed(before, CURVES[:done])
    finished = [curve[:length] for curve, length in zip(CURVES[:done], lengths, strict=True)]
    after = Asha(1, 3, 4, dict(enumerate(finished)))
    assert after.rungs == before.rungs
    assert lengths + feed(after, CURVES[done:], done) == [4, 1, 3, 4, 1]


def test_nobody_stops_between_rungs() -> None:
    scheduler = Asha(1, 3, 9, {0: [0.9, 0.9, 0.9]})
    assert not scheduler.stops(1, 2, 0.0)
    assert scheduler.stops(1, 3, 0.0)


def test_a_trial_that_comes_to_a_rung_again_counts_once_and_is_not_stopped_there() -> None:
    scheduler = Asha(1, 3, 9)
    trial = Trial("trainable", config={"trial": {"number": 0}}, stub=True)
    first = {"epoch": 1, METRIC: 0.5}
    assert scheduler.on_trial_result(None, trial, first) == scheduler.CONTINUE
    assert not scheduler.stops(1, 1, 0.9)
    assert scheduler.on_trial_result(None, trial, first | {"again": True}) == scheduler.CONTINUE
    assert scheduler.rungs[1] == {0: 0.5, 1: 0.9}
    assert scheduler.on_trial_result(None, trial, first) == scheduler.STOP
    assert scheduler.stopped == {0: 1}
