"""Timing of several callables in turns, so that a machine whose speed drifts slows them alike; and of a server under load."""

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
"""A backend's turn: at least so many calls and so long; the first call after the other's turn does not count."""
WARMUP_CALLS = 10
NOISY = 0.25
"""Spread of the turns' medians, between their quarters and as a share of their median, from which a measurement is noisy."""
REPEATS = 3
"""Times that a noisy measurement is made; the quietest counts."""
SERVER_CALLS, SERVER_S = 1000, 1.0
"""A load is tried with at least so many requests, and for so long."""
SERVER_STEPS = 7

Predict = Callable[[NDArray[np.uint8]], Any]


class Timed(NamedTuple):
    """What was measured of one callable; seconds."""

    first: float
    """The first call."""
    times: list[float]
    """Every call that counts."""
    spread: float
    """Of the turns' medians: see NOISY."""


def measure(backends: Mapping[str, Predict], pixels: NDArray[np.uint8], min_seconds: float) -> dict[str, Timed]:
    """Let the backends take turns until each has P99_CALLS calls, or min_seconds and MIN_CALLS; again while one is noisy."""
    first = {name: _timed(predict, pixels) for name, predict in backends.items()}
    for predict in backends.values():
        for _ in range(WARMUP_CALLS):
            predict(pixels)
    best: dict[str, Timed] = {}
    for _ in range(REPEATS):
        for name, turns in _take_turns(backends, pixels, min_seconds).items():
            found = Timed(first[name], [seconds for turn in turns for seconds in turn], _spread(turns))
            if name not in best or found.spread < best[name].spread:
                best[name] = found
        if all(found.spread < NOISY for found in best.values()):
            break
    return best


def _take_turns(backends: Mapping[str, Predict], pixels: NDArray[np.uint8], min_seconds: float) -> dict[str, list[list[float]]]:
    turns: dict[str, list[list[float]]] = {name: [] for name in backends}
    done: dict[str, tuple[int, float]] = dict.fromkeys(backends, (0, 0.0))  # calls, seconds
    while not all(calls >= P99_CALLS or (calls >= MIN_CALLS and seconds >= min_seconds) for calls, seconds in done.values()):
        for name, predict in backends.items():
            predict(pixels)
            turn: list[float] = []
            ends = time.perf_counter() + BLOCK_S
            while len(turn) < BLOCK_CALLS or time.perf_counter() < ends:
                turn.append(_timed(predict, pixels))
            turns[name].append(turn)
            calls, seconds = done[name]
            done[name] = calls + len(turn), seconds + sum(turn)
    return turns


def _spread(turns: list[list[float]]) -> float:
    low, middle, high = np.quantile([float(np.median(turn)) for turn in turns], (0.25, 0.5, 0.75))
    return float((high - low) / middle)


def _timed(predict: Predict, pixels: NDArray[np.uint8]) -> float:
    started = time.perf_counter()
    predict(pixels)
    return time.perf_counter() - started


def own_cost() -> float:
    """Seconds that timing itself adds to a call: the median of timing a call that does nothing."""
    pixels = np.zeros(0, np.uint8)
    return float(np.median([_timed(lambda _: None, pixels) for _ in range(P99_CALLS)]))


def percentile(times: list[float], rank: float) -> float:
    """By nearest rank: one of the times."""
    return float(np.percentile(times, rank, method="inverted_cdf"))


def latencies_under_load(predict: Predict, pixels: NDArray[np.uint8], rate: float, seed: int = 0) -> list[float]:
    """Seconds from each request's arrival to its answer, one worker, requests arriving at random (Poisson).

    Args:
        rate: requests a second, on average.
    """
    source = random.Random(seed)
    found: list[float] = []
    began = time.perf_counter()
    arrival = 0.0
    while len(found) < SERVER_CALLS or arrival < SERVER_S:
        arrival += source.expovariate(rate)
        while time.perf_counter() - began < arrival:
            pass
        predict(pixels)
        found.append(time.perf_counter() - began - arrival)
        if found[-1] > 1.0:  # the queue only grows
            break
    return found


def highest_rate(predict: Predict, pixels: NDArray[np.uint8], bound_s: float) -> float:
    """The highest rate of requests, a second, at which 99 % are answered within `bound_s`; 0 if not even a lone one is."""
    alone = float(np.median([_timed(predict, pixels) for _ in range(50)]))
    if alone > bound_s:
        return 0.0
    low, high = 0.0, 1 / alone
    for _ in range(SERVER_STEPS):
        rate = (low + high) / 2
        low, high = (rate, high) if percentile(latencies_under_load(predict, pixels, rate), 99) <= bound_s else (low, rate)
    return low
