"""A search played through in simulated time: the same state and rule as a real one, trials that take the time they are told."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass

from tune.state import FINISHED, SearchState


@dataclass(slots=True)
class Clock:
    """Seconds; moved by hand."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True, slots=True)
class Played:
    """How a simulated search went."""

    seconds: float
    epochs: int
    idle: float
    """Share of the workers' time in which they had nothing to do."""


def play(
    state: SearchState,
    clock: Clock,
    workers: int,
    epoch_s: Callable[[int, int], float],
    value: Callable[[int, int], float],
    epochs: int,
    start_s: float = 0.0,
) -> Played:
    """Run `state` to its end on `workers` that each train one trial at a time.

    Args:
        clock: the state's own.
        epoch_s: seconds of an epoch of a trial.
        value: validation accuracy of a trial after an epoch.
        epochs: of a full trial.
        start_s: seconds to hand a trial to a worker.
    """
    ends: list[tuple[float, int, int]] = []  # of the epochs in flight: time, trial, epoch
    free, busy = workers, 0.0

    def deal() -> None:
        nonlocal free, busy
        while free and (number := state.next()) is not None:
            epoch = len(state.records[number].curve) + 1
            seconds = start_s + epoch_s(number, epoch)
            heapq.heappush(ends, (clock.now + seconds, number, epoch))
            free, busy = free - 1, busy + seconds

    deal()
    while ends and not state.over():
        clock.now, number, epoch = heapq.heappop(ends)
        decision = state.report(number, _report(epoch, value(number, epoch), epoch_s(number, epoch)))
        if decision == "continue" and epoch < epochs:
            seconds = epoch_s(number, epoch + 1)
            heapq.heappush(ends, (clock.now + seconds, number, epoch + 1))
            busy += seconds
            continue
        if decision == "continue":
            state.end(number, FINISHED)
        free += 1
        deal()
    busy -= sum(end - clock.now for end, _, _ in ends)  # what the end of the search cut short
    return Played(clock.now, state.epochs, 1 - busy / (workers * clock.now) if clock.now else 0.0)


def _report(epoch: int, value: float, seconds: float) -> dict[str, object]:
    return {
        "epoch": epoch,
        "validation_accuracy": value,
        "seconds": seconds,
        "images_per_s": 0.0,
        "kept_epoch": epoch,
        "ended": "",
    }
