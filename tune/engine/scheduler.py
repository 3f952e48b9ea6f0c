"""Ray Tune's three questions, answered by the state of the search.

It asks what runs next, how long, and whether it is enough. A trial that pauses ends for Ray Tune,
and one that is promoted is a new trial of Ray's that goes on from the saved state: Ray frees the
place at once, and starts in our order.
"""

from typing import Any

import ray.tune
import ray.tune.schedulers
import ray.tune.search
from ray.tune.experiment import Trial

from fmnist.training.metrics import TrainingFailed, parse_report
from tune.state import SearchState


class Decider(ray.tune.schedulers.FIFOScheduler):
    """Ends a trial where the state says so; the report is in the journal by then."""

    def __init__(self, state: SearchState) -> None:
        super().__init__()
        self.state = state

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        number = trial.config["trial"]["number"]
        report = parse_report(result)
        if isinstance(report, TrainingFailed):
            self.state.fail(number, report)
            return self.STOP
        decision = self.state.report(number, report)
        return self.CONTINUE if decision == "continue" else self.STOP


class Dealer(ray.tune.search.Searcher):
    """Gives Ray Tune the trials that the state deals out."""

    def __init__(self, state: SearchState) -> None:
        super().__init__()
        self.state = state

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        number = self.state.next()
        if number is None and self.state.running:
            return None  # a report of a running trial may promote another
        if number is None:
            return self.FINISHED  # pyright: ignore[reportReturnType]

        epochs = len(self.state.records[number].curve)
        candidate = self.state.candidates[number]
        return {"trial": {"number": number, "candidate": candidate, "after": epochs}}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        pass

    def save(self, checkpoint_path: str) -> None:
        pass  # the journal has it

    def restore(self, checkpoint_path: str) -> None:
        pass


class Limit(ray.tune.Stopper):
    """Ends the search when the state says that it is over."""

    def __init__(self, state: SearchState) -> None:
        self.state = state

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return bool(self.state.over())
