"""Asynchronous successive halving whose rungs survive a restart.

ASHA (Li et al., 2018, arXiv:1810.05934) in its stopping form, as Ray Tune and Optuna run it: a trial that reaches a rung
goes on only if it is among the best 1/η of all that have reached that rung so far. Ray's own scheduler forgets its
rungs when a search is restored (ray#30838); ours is told the curves of the trials already done.
"""

from collections.abc import Iterable, Sequence
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
        finished: the curves (validation accuracy by epoch, from 1 on) of trials of an earlier session.
    """

    def __init__(self, grace_epochs: int, reduction_factor: int, max_epochs: int, finished: Iterable[list[float]] = ()) -> None:
        super().__init__()
        self.reduction_factor = reduction_factor
        self.stopped: dict[int, int] = {}
        """The rung at which each trial, by its number, was stopped."""
        self.rungs: dict[int, list[float]] = {epoch: [] for epoch in rungs(grace_epochs, reduction_factor, max_epochs)}
        for curve in finished:
            for epoch, value in enumerate(curve, start=1):
                if epoch in self.rungs:
                    self.rungs[epoch].append(value)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        if not self.stops(result["epoch"], result[METRIC]):
            return self.CONTINUE
        self.stopped[trial.config["trial"]["number"]] = result["epoch"]
        return self.STOP

    def stops(self, epoch: int, value: float) -> bool:
        """Record a report, and decide."""
        if epoch not in self.rungs:
            return False
        survivor = survives(value, self.rungs[epoch], self.reduction_factor)
        self.rungs[epoch].append(value)
        return not survivor
