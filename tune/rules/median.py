"""The median stopping rule."""

import math
from typing import Any

from sortedcontainers import SortedList

from tune.rules import GO_ON, Verdict, not_finite


class MedianStopping:
    """Stops a trial whose best accuracy is below the median of the other trials' mean accuracies up
    to the same epoch.

    Google Vizier's rule (Golovin et al., 2017, section 3.2.1); it serves as a baseline.

    Args:
        grace_epochs: the grace period: before this epoch no trial stops.
        others: number of other trials that must have come to an epoch before one stops there.
    """

    def __init__(self, grace_epochs: int, others: int = 3) -> None:
        self.rungs: list[int] = []
        self.grace_epochs = grace_epochs
        self.others = others
        self.sums: dict[int, float] = {}
        self.best: dict[int, float] = {}
        self.means: dict[int, SortedList] = {}
        """For each epoch, the mean accuracy up to it of each trial that came there."""

    def report(self, number: int, epoch: int, value: float) -> Verdict:
        if not math.isfinite(value):
            return not_finite(epoch, value)

        self.sums[number] = self.sums.get(number, 0.0) + value
        self.best[number] = max(self.best.get(number, value), value)

        # The median is that of the others, so it is taken before this trial's mean is added.
        means = self.means.setdefault(epoch, SortedList())
        count = len(means)
        median: Any = -math.inf
        if count >= self.others:
            median = means[(count - 1) // 2]
        means.add(self.sums[number] / epoch)

        if epoch < self.grace_epochs or self.best[number] >= median:
            return GO_ON
        return Verdict("stop", f"epoch {epoch}: below the median {median:.4f} of {count}")

    def promotion(self, *, last: bool = False) -> int | None:
        return None
