"""Turns, percentiles, load, noise."""

import numpy as np
import pytest

from export import timing
from export.timing import highest_rate, latencies_under_load, measure, own_cost, percentile

PIXELS = np.zeros((1, 28, 28), np.uint8)


def test_backends_take_turns() -> None:
    calls: list[str] = []
    backends = {name: lambda _, name=name: calls.append(name) for name in ("a", "b")}
    results = measure(backends, PIXELS, min_seconds=0.0)
    assert calls[:2] == ["a", "b"]
    assert all(len(timed.times) >= 20 for timed in results.values())


def test_percentiles_are_times_that_were_measured() -> None:
    times = [float(number) for number in range(1, 11)]
    assert [percentile(times, rank) for rank in (50, 90, 99)] == [5.0, 9.0, 10.0]


def test_a_noisy_measurement_is_made_again_and_the_quietest_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns = iter([[[1.0], [9.0], [1.0], [9.0]], [[2.0], [2.0], [2.1]], [[5.0]]])
    monkeypatch.setattr(timing, "_take_turns", lambda *_: {"x": next(turns)})
    timed = measure({"x": lambda _: None}, PIXELS, 0.0)["x"]
    assert timed.times == [2.0, 2.0, 2.1]
    # It was quiet the second time, so there was no third.
    assert next(turns) == [[5.0]]


class Clock:
    """A scripted clock: looking at it takes a microsecond, and work as long as it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        self.now += 1e-6
        return self.now

    def millisecond(self, pixels: np.ndarray) -> None:
        self.now += 0.001


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A load is tried for a tenth of the time."""
    monkeypatch.setattr(timing, "SERVER_CALLS", 100)
    monkeypatch.setattr(timing, "SERVER_S", 0.1)


@pytest.mark.usefixtures("hasty")
def test_load_queues_up_and_the_highest_rate_is_below_capacity(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    slow = clock.millisecond
    light = percentile(latencies_under_load(slow, PIXELS, 50.0), 90)
    heavy = percentile(latencies_under_load(slow, PIXELS, 900.0), 90)
    assert 0.001 <= light < 0.0015 < 0.002 < heavy

    # It falls behind.
    overloaded = latencies_under_load(slow, PIXELS, 5000.0)
    assert overloaded[-1] > 10 * overloaded[0]
    assert overloaded[0] == pytest.approx(0.001, abs=1e-5)

    assert 500 < highest_rate(slow, PIXELS, 0.01) < 1000
    assert highest_rate(slow, PIXELS, 0.0005) == 0.0


def test_the_cost_of_timing_is_one_look_at_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "time", Clock())
    assert own_cost() == pytest.approx(1e-6)
