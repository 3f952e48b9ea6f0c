"""Time several callables in turns, so that a machine whose speed drifts slows them alike; and a
server under load."""

import random
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

P99_CALLS = 1000
"""A 99th percentile of fewer calls is not printed."""
MIN_CALLS = 20
BLOCK_CALLS, BLOCK_S = 5, 0.03
"""Least calls and least time of a backend's turn; the first call after another's turn does not
count."""
WARMUP_CALLS = 10
NOISY = 0.25
"""Spread of the turns' medians, between their quarters and as a share of their median, from
which a measurement is noisy."""
REPEATS = 3
"""Times that a noisy measurement is made; the quietest counts."""
SERVER_CALLS, SERVER_S = 1000, 1.0
"""A load is tried with at least so many requests, and for so long."""
SERVER_STEPS = 7
ALONE_CALLS = 50
OVERLOADED_S = 1.0
"""A request that waits longer shows that the queue only grows."""

Predict = Callable[[NDArray[np.uint8]], Any]
Turns = list[list[float]]
"""Seconds of each call, turn by turn."""


class Timed(NamedTuple):
    """What was measured of one callable, in seconds."""

    first: float
    """The first call."""
    times: list[float]
    """Every call that counts."""
    spread: float
    """Spread of the turns' medians: see NOISY."""


def measure(
    backends: Mapping[str, Predict], pixels: NDArray[np.uint8], min_seconds: float
) -> dict[str, Timed]:
    """Let the backends take turns until each has P99_CALLS calls, or min_seconds and MIN_CALLS;
    again while one is noisy."""
    # The first call plans and allocates: it is reported by itself.
    first = {name: _time_call(predict, pixels) for name, predict in backends.items()}
    for predict in backends.values():
        for _ in range(WARMUP_CALLS):
            predict(pixels)

    best: dict[str, Timed] = {}
    for _ in range(REPEATS):
        for name, turns in _take_turns(backends, pixels, min_seconds).items():
            times = [seconds for turn in turns for seconds in turn]
            timed = Timed(first[name], times, _spread(turns))
            if name not in best or timed.spread < best[name].spread:
                best[name] = timed
        if all(timed.spread < NOISY for timed in best.values()):
            break
    return best


def _take_turns(
    backends: Mapping[str, Predict], pixels: NDArray[np.uint8], min_seconds: float
) -> dict[str, Turns]:
    turns: dict[str, Turns] = {name: [] for name in backends}
    calls = dict.fromkeys(backends, 0)
    seconds = dict.fromkeys(backends, 0.0)

    def is_done(name: str) -> bool:
        return calls[name] >= P99_CALLS or (
            calls[name] >= MIN_CALLS and seconds[name] >= min_seconds
        )

    while not all(is_done(name) for name in backends):
        for name, predict in backends.items():
            # This call does not count: the caches hold the other backend's data.
            predict(pixels)
            turn: list[float] = []
            ends = time.perf_counter() + BLOCK_S
            while len(turn) < BLOCK_CALLS or time.perf_counter() < ends:
                turn.append(_time_call(predict, pixels))
            turns[name].append(turn)
            calls[name] += len(turn)
            seconds[name] += sum(turn)
    return turns


def _spread(turns: Turns) -> float:
    medians = [float(np.median(turn)) for turn in turns]
    low, middle, high = np.quantile(medians, (0.25, 0.5, 0.75))
    return float((high - low) / middle)


def _time_call(predict: Predict, pixels: NDArray[np.uint8]) -> float:
    started = time.perf_counter()
    predict(pixels)
    return time.perf_counter() - started


def own_cost() -> float:
    """Seconds that timing itself adds to a call: the median of timing a call that does nothing."""
    pixels = np.zeros(0, np.uint8)
    times = [_time_call(lambda _: None, pixels) for _ in range(P99_CALLS)]
    return float(np.median(times))


def percentile(times: list[float], percent: float) -> float:
    """The percentile by nearest rank: one of the times."""
    return float(np.percentile(times, percent, method="inverted_cdf"))


def latencies_under_load(
    predict: Predict, pixels: NDArray[np.uint8], rate: float, seed: int = 0
) -> list[float]:
    """Seconds from each request's arrival to its answer, with one worker.

    Args:
        rate: requests a second, on average; they arrive at random (Poisson).
    """
    source = random.Random(seed)
    latencies: list[float] = []
    began = time.perf_counter()
    arrival = 0.0
    while len(latencies) < SERVER_CALLS or arrival < SERVER_S:
        arrival += source.expovariate(rate)
        # Busy, since a sleep would wake too late by more than a call takes.
        while time.perf_counter() - began < arrival:
            pass
        predict(pixels)
        latencies.append(time.perf_counter() - began - arrival)
        if latencies[-1] > OVERLOADED_S:
            break
    return latencies


def highest_rate(predict: Predict, pixels: NDArray[np.uint8], bound_s: float) -> float:
    """The highest rate of requests, a second, at which 99 % are answered within `bound_s`; 0 if
    not even a lone one is."""
    times = [_time_call(predict, pixels) for _ in range(ALONE_CALLS)]
    alone = float(np.median(times))
    if alone > bound_s:
        return 0.0

    # Bisection, below the rate at which the worker is always busy.
    low, high = 0.0, 1 / alone
    for _ in range(SERVER_STEPS):
        rate = (low + high) / 2
        latencies = latencies_under_load(predict, pixels, rate)
        if percentile(latencies, 99) <= bound_s:
            low = rate
        else:
            high = rate
    return low
