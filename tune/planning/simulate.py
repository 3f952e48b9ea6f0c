"""A search played in simulated time: the state and rule of a real one, with scripted trials."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass

from fmnist.training.metrics import EpochMetrics, EpochReport
from tune.state import FINISHED, SearchState


@dataclass(slots=True)
class Clock:
    """Seconds; moved by hand."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True, slots=True)
class Script:
    """What the trials of a simulated search take, and what accuracy they reach."""

    epochs: int
    """Epochs of a full trial."""
    epoch_s: Callable[[int, int], float]
    """Seconds, by trial and epoch."""
    accuracy: Callable[[int, int], float]
    """Validation accuracy, by trial and epoch; NaN where the trial diverges."""
    start_s: float = 0.0
    """Seconds to hand a trial to a worker."""

    def report(self, number: int, epoch: int) -> EpochReport:
        metrics = EpochMetrics(
            epoch=epoch,
            train_loss=0.0,
            train_accuracy=0.0,
            validation_loss=None,
            validation_accuracy=self.accuracy(number, epoch),
            lr=0.0,
            images_per_s=0.0,
            seconds=self.epoch_s(number, epoch),
        )
        return EpochReport(metrics, kept_epoch=epoch)


@dataclass(frozen=True, slots=True)
class Played:
    """How a simulated search went."""

    seconds: float
    epochs: int
    idle: float
    """Share of the workers' time in which they had nothing to do."""


def play(state: SearchState, clock: Clock, workers: int, script: Script) -> Played:
    """Run `state` to its end on `workers` that each train one trial at a time.

    Args:
        clock: the clock of `state`, which is moved on.
    """
    in_flight: list[tuple[float, int, int]] = []  # Heap of each running epoch: end, trial, epoch.
    free_workers = workers
    busy_s = 0.0

    def begin(number: int, epoch: int, delay_s: float) -> None:
        nonlocal busy_s
        seconds = delay_s + script.epoch_s(number, epoch)
        heapq.heappush(in_flight, (clock.now + seconds, number, epoch))
        busy_s += seconds

    def deal_out() -> None:
        nonlocal free_workers
        while free_workers:
            number = state.next()
            if number is None:
                return

            free_workers -= 1
            begin(number, len(state.records[number].curve) + 1, script.start_s)

    deal_out()
    while in_flight and not state.over():
        clock.now, number, epoch = heapq.heappop(in_flight)
        decision = state.report(number, script.report(number, epoch))
        if decision == "continue" and epoch < script.epochs:
            begin(number, epoch + 1, 0.0)
            continue

        # A trial that may go on after its last epoch is finished.
        if decision == "continue":
            state.end(number, FINISHED)

        free_workers += 1
        deal_out()

    # The end of the search cuts short the epochs that are in flight.
    busy_s -= sum(end - clock.now for end, _, _ in in_flight)

    idle = 0.0
    if clock.now:
        idle = 1 - busy_s / (workers * clock.now)
    return Played(clock.now, state.epochs, idle)
