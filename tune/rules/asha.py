"""ASHA, the asynchronous successive halving algorithm, in both its forms.

ASHA (Li et al., 2018, arXiv:1810.05934) compares trials at rungs, the epochs grace · η^k. In the
stopping form, that of Ray Tune and Optuna, a trial goes on at a rung if it is among the best 1/η of
all that came there so far, and otherwise stops for good. In the paper's form every trial pauses at
a rung, and is promoted as soon as it is among the best 1/η, which it may become later.
"""

import heapq
import math
from dataclasses import dataclass, field

from sortedcontainers import SortedList

from tune.rules import GO_ON, Verdict, not_finite, ordinal


def rungs(grace_epochs: int, reduction_factor: int, max_epochs: int) -> list[int]:
    """Return the epochs at which trials are compared: grace_epochs · η^k, below max_epochs."""
    epochs: list[int] = []
    epoch = grace_epochs
    while epoch < max_epochs:
        epochs.append(epoch)
        epoch *= reduction_factor

    return epochs


@dataclass(slots=True)
class Rung:
    """The accuracies of the trials that came to a rung."""

    values: SortedList = field(default_factory=SortedList)
    waiting: list[tuple[float, int]] = field(default_factory=list)
    """Heap of (-value, trial) of the trials that are paused here: the best is first."""

    def add(self, value: float) -> int:
        """Add a value; return its place, where 0 is the best and ties share the better place."""
        self.values.add(value)
        return self.place(value)

    def place(self, value: float) -> int:
        return len(self.values) - self.values.bisect_right(value)


class Asha:
    """Lets the best 1/η of the trials that come to a rung go on.

    In the stopping form the best trial so far always goes on, so the first one at a rung does. In
    the promoting form trials wait until there are η to choose from.

    Args:
        grace_epochs: the grace period, which is the first rung; no trial stops before it unless it
            diverges.
        reduction_factor: η.
        max_epochs: epochs of a full run.
        promote: pause the others, and promote one when it turns out to be among the best 1/η;
            otherwise stop them.
    """

    def __init__(
        self, grace_epochs: int, reduction_factor: int, max_epochs: int, *, promote: bool = False
    ) -> None:
        self.reduction_factor = reduction_factor
        self.promote = promote
        self.rungs = rungs(grace_epochs, reduction_factor, max_epochs)
        self.levels = {epoch: Rung() for epoch in self.rungs}

    def report(self, number: int, epoch: int, value: float) -> Verdict:
        if not math.isfinite(value):
            self._rank_last(epoch)
            return not_finite(epoch, value)

        rung = self.levels.get(epoch)
        if rung is None:
            return GO_ON

        place = rung.add(value)
        if place < self._places(rung):
            return GO_ON

        why = f"rung {epoch}: {ordinal(place + 1)} of {len(rung.values)}"
        if not self.promote:
            return Verdict("stop", why)
        heapq.heappush(rung.waiting, (-value, number))
        return Verdict("pause", why)

    def promotion(self, *, last: bool = False) -> int | None:
        # A trial that has come far is closest to a full run, so the highest rung is asked first.
        for rung in reversed(self.levels.values()):
            if not rung.waiting:
                continue

            best = -rung.waiting[0][0]
            if last or rung.place(best) < self._places(rung):
                _, number = heapq.heappop(rung.waiting)
                return number

        return None

    def _places(self, rung: Rung) -> int:
        """Return how many of the trials that came to a rung may go on."""
        fewest = 0 if self.promote else 1
        return max(len(rung.values) // self.reduction_factor, fewest)

    def _rank_last(self, epoch: int) -> None:
        """Record a diverged trial as -inf at its next rung; omitting it would raise the bar for
        others."""
        for rung_epoch, rung in self.levels.items():
            if rung_epoch >= epoch:
                rung.add(-math.inf)
                return
