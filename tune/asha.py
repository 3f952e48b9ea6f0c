"""Asynchronous successive halving whose rungs survive a restart.

ASHA (Li et al., 2018, arXiv:1810.05934) in its stopping form, as Ray Tune and Optuna run it: a trial that reaches a rung
goes on only if it is among the best 1/η of all that have reached that rung so far. Ray's own scheduler forgets its
rungs when a search is restored (ray#30838); ours is told the curves of the trials already done.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import ray.tune.schedulers
from ray.tune.experiment import Trial

from tune.trial import METRIC

Scheduler = ray.tune.schedulers.FIFOScheduler


def rungs(grace_epochs: int, reduction_factor: int, max_epochs: int) -> list[int]:
    """Epochs at which trials are compared: grace_epochs · η^k, below max_epochs."""
    found: list[int] = []
    epoch = grace_epochs
    while epoch < max_epochs:
        found.append(epoch)
        epoch *= reduction_factor
    return found


def survives(value: float, others: Sequence[float], reduction_factor: int) -> bool:
    """Whether `value` is among the best 1/η of itself and `others`; the best so far always is."""
    better = sum(other > value for other in others)
    return better < max((len(others) + 1) // reduction_factor, 1)


class Asha(Scheduler):
    """Stops at each rung all but the best 1/η of the trials that came there.

    Args:
        grace_epochs: the first rung; no trial stops before it.
        reduction_factor: η.
        max_epochs: epochs of a full run.
        finished: the curves (validation accuracy by epoch, from 1 on) of trials of an earlier session, by trial number.
    """

    def __init__(
        self, grace_epochs: int, reduction_factor: int, max_epochs: int, finished: Mapping[int, list[float]] | None = None
    ) -> None:
        super().__init__()
        self.reduction_factor = reduction_factor
        self.stopped: dict[int, int] = {}
        """The rung at which each trial, by its number, was stopped."""
        self.rungs: dict[int, dict[int, float]] = {epoch: {} for epoch in rungs(grace_epochs, reduction_factor, max_epochs)}
        """What each trial had when it came to a rung. One that is started anew after a crash comes there again, and counts once."""
        for number, curve in (finished or {}).items():
            for epoch, value in enumerate(curve, start=1):
                if epoch in self.rungs:
                    self.rungs[epoch][number] = value

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        number = trial.config["trial"]["number"]
        again = result.get("again", False)  # it had this epoch before a crash, and was let go on
        if not self.stops(number, result["epoch"], result[METRIC]) or again:
            return self.CONTINUE
        self.stopped[number] = result["epoch"]
        return self.STOP

    def stops(self, number: int, epoch: int, value: float) -> bool:
        """Record a trial's report, and decide."""
        if epoch not in self.rungs:
            return False
        rung = self.rungs[epoch]
        survivor = survives(value, [other for trial, other in rung.items() if trial != number], self.reduction_factor)
        rung[number] = value
        return not survivor
