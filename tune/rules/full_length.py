"""No early stopping: every trial trains to its end."""

import math

from tune.rules import GO_ON, Verdict, not_finite


class FullLength:
    """Stops only the trials that diverge."""

    def __init__(self) -> None:
        self.rungs: list[int] = []

    def report(self, number: int, epoch: int, value: float) -> Verdict:
        if not math.isfinite(value):
            return not_finite(epoch, value)
        return GO_ON

    def promotion(self, *, last: bool = False) -> int | None:
        return None
