"""How long a trial trains: ASHA in both its forms, median stopping, or to the end. Pure: fed reports, these rules decide.

ASHA (Li et al., 2018, arXiv:1810.05934) compares trials at rungs, epochs grace · η^k. In its stopping form, as Ray Tune and Optuna
have it, a trial goes on at a rung if it is among the best 1/η of all that came there so far, and else never. In the form of the
paper every trial pauses at a rung, and is promoted as soon as it is among the best 1/η, which it may become later.
"""

import heapq
import math
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from sortedcontainers import SortedList

Decision = Literal["continue", "pause", "stop"]


class Verdict(NamedTuple):
    """What becomes of a trial after a report."""

    decision: Decision
    why: str = ""
    """In words, where the decision is not to go on: "rung 3: 7th of 12"."""


GO_ON = Verdict("continue")


class Rule(Protocol):
    """Decides from the reports alone, in their order: replayed, they give the same decisions."""

    rungs: list[int]
    """Epochs at which trials are compared."""

    def report(self, number: int, epoch: int, value: float) -> Verdict:
        """Take trial `number`'s accuracy after `epoch`; one that is no finite number ranks last, and its trial stops."""
        ...

    def promotion(self, *, last: bool = False) -> int | None:
        """The paused trial that is to go on now, if there is one; it is not given twice.

        Args:
            last: nothing else is left to do, so that the best of those that came furthest may go on.
        """
        ...


def rungs(grace_epochs: int, reduction_factor: int, max_epochs: int) -> list[int]:
    """Epochs at which trials are compared: grace_epochs · η^k, below max_epochs."""
    found: list[int] = []
    epoch = grace_epochs
    while epoch < max_epochs:
        found.append(epoch)
        epoch *= reduction_factor
    return found


@dataclass(slots=True)
class Rung:
    """What the trials had that came to an epoch."""

    values: SortedList = field(default_factory=SortedList)
    waiting: list[tuple[float, int]] = field(default_factory=list)
    """Heap of (-value, trial) of those paused here, the best first."""

    def add(self, value: float) -> int:
        """Take a value; give its place, 0 the best. A tie with the best is the best."""
        self.values.add(value)
        return self.place(value)

    def place(self, value: float) -> int:
        return len(self.values) - self.values.bisect_right(value)


class Asha:
    """Lets the best 1/η of the trials that come to a rung go on.

    Args:
        grace_epochs: the first rung; no trial stops before it, unless it diverges.
        reduction_factor: η.
        max_epochs: epochs of a full run.
        promote: pause the others, and promote one when it is among the best 1/η after all; else stop them. Stopping, the best
            trial so far always goes on, the first of all among them; promoting waits until there are η to choose from.
    """

    def __init__(self, grace_epochs: int, reduction_factor: int, max_epochs: int, *, promote: bool = False) -> None:
        self.reduction_factor, self.promote = reduction_factor, promote
        self.rungs = rungs(grace_epochs, reduction_factor, max_epochs)
        self.levels = {epoch: Rung() for epoch in self.rungs}

    def report(self, number: int, epoch: int, value: float) -> Verdict:
        if not math.isfinite(value):
            self._rank_last(epoch)
            return Verdict("stop", f"epoch {epoch}: its accuracy is {value}")
        if (rung := self.levels.get(epoch)) is None:
            return GO_ON
        place = rung.add(value)
        if place < self._places(rung):
            return GO_ON
        if self.promote:
            heapq.heappush(rung.waiting, (-value, number))
        return Verdict("pause" if self.promote else "stop", f"rung {epoch}: {ordinal(place + 1)} of {len(rung.values)}")

    def promotion(self, *, last: bool = False) -> int | None:
        for rung in reversed(self.levels.values()):
            if rung.waiting and (last or rung.place(-rung.waiting[0][0]) < self._places(rung)):
                return heapq.heappop(rung.waiting)[1]
        return None

    def _places(self, rung: Rung) -> int:
        """How many of those at a rung go on."""
        return max(len(rung.values) // self.reduction_factor, 0 if self.promote else 1)

    def _rank_last(self, epoch: int) -> None:
        """Count a trial that diverged as one that came to its next rung, or others would have to be better for its sake."""
        if (rung := next((rung for at, rung in self.levels.items() if at >= epoch), None)) is not None:
            rung.add(-math.inf)


class MedianStopping:
    """Stops a trial whose best accuracy is below the median of what the others had on average up to the same epoch.

    Google Vizier's rule (Golovin et al., 2017, section 3.2.1), a baseline.

    Args:
        grace_epochs: before this epoch no trial stops.
        others: so many other trials must have come as far.
    """

    def __init__(self, grace_epochs: int, others: int = 3) -> None:
        self.rungs: list[int] = []
        self.grace_epochs, self.others = grace_epochs, others
        self.sums: dict[int, float] = {}
        self.best: dict[int, float] = {}
        self.means: dict[int, SortedList] = {}
        """By epoch, the mean accuracy up to it of each trial that came there."""

    def report(self, number: int, epoch: int, value: float) -> Verdict:
        if not math.isfinite(value):
            return Verdict("stop", f"epoch {epoch}: its accuracy is {value}")
        self.sums[number] = self.sums.get(number, 0.0) + value
        self.best[number] = max(self.best.get(number, value), value)
        means = self.means.setdefault(epoch, SortedList())
        median: Any = means[(len(means) - 1) // 2] if len(means) >= self.others else -math.inf
        means.add(self.sums[number] / epoch)
        if epoch < self.grace_epochs or self.best[number] >= median:
            return GO_ON
        return Verdict("stop", f"epoch {epoch}: below the median {median:.4f} of {len(means) - 1}")

    def promotion(self, *, last: bool = False) -> int | None:
        return None


class FullLength:
    """Stops none but those that diverge."""

    def __init__(self) -> None:
        self.rungs: list[int] = []

    def report(self, number: int, epoch: int, value: float) -> Verdict:
        return GO_ON if math.isfinite(value) else Verdict("stop", f"epoch {epoch}: its accuracy is {value}")

    def promotion(self, *, last: bool = False) -> int | None:
        return None


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, … 11th, … 21st."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
