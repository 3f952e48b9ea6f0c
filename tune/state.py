"""The state of a search, without Ray: which trial runs next, and for how long.

Every fact is written to the journal before anything follows from it.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from fmnist.config import TrainConfig
from fmnist.training.metrics import EpochReport, TrainingFailed
from tune.journal import (
    EpochRecorded,
    EpochReplayed,
    Event,
    Journal,
    TrialEnded,
    TrialFailed,
    TrialPromoted,
    TrialStarted,
    parse_lines,
)
from tune.rules import Decision, Rule
from tune.space import Candidate

RUNNING = "running"
FINISHED = "finished"
OUT_OF_TIME = "out of time"


@dataclass(slots=True)
class TrialRecord:
    """A trial so far."""

    number: int
    config: TrainConfig
    curve: list[float] = field(default_factory=list)
    """Validation accuracy after each epoch."""
    times: list[float] = field(default_factory=list)
    """Seconds from the start of the search to the end of each epoch."""
    outcome: str = RUNNING
    """running, finished, paused at rung E: …, stopped at rung E: …, diverged: …, error: …, or
    out of time."""
    images_per_s: float = 0.0
    seconds: float = 0.0
    """Time spent in training and validation."""
    resumed_after: int = 0
    """Epochs that were already done when the trial last started: they were not trained again."""
    kept_epoch: int = 0
    """The epoch whose weights count: the last, unless early stopping went back to a better one."""

    @property
    def accuracy(self) -> float:
        """Validation accuracy of the epoch that counts."""
        epoch = self.kept_epoch or len(self.curve)
        return self.curve[epoch - 1]

    @property
    def finished(self) -> bool:
        return self.outcome == FINISHED

    @property
    def paused(self) -> bool:
        return self.outcome.startswith("paused")

    @property
    def failed(self) -> bool:
        return self.outcome.startswith(("diverged", "error"))

    def to_dict(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "config": self.config.to_dict(),
            "curve": self.curve,
            "times": [round(seconds, 2) for seconds in self.times],
            "rung": len(self.curve),
            "outcome": self.outcome,
            "images_per_s": round(self.images_per_s, 1),
            "seconds": round(self.seconds, 2),
            "resumed_after": self.resumed_after,
            "kept_epoch": self.kept_epoch,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        fields = dict(values)
        fields.pop("rung", None)  # It follows from the curve.
        config = TrainConfig.from_dict(fields.pop("config"))
        return cls(config=config, **fields)


def read_trials(path: Path) -> list[TrialRecord]:
    """Read the trials that are done; a last line that a crash cut short is left out.

    Raises:
        InputError: another line is damaged.
    """
    return parse_lines(path, TrialRecord.from_dict)


def winner(records: Sequence[TrialRecord]) -> TrialRecord | None:
    """Return the trial of the highest validation accuracy among those that ran in full, or among
    all if none did."""
    with_result = [record for record in records if record.curve and not record.failed]
    in_full = [record for record in with_result if record.finished]

    # A trial that stopped early is no match for one whose learning rate has come to its end, even
    # if its accuracy is higher so far.
    return max(in_full or with_result, key=lambda record: record.accuracy, default=None)


Propose = Callable[[int, Mapping[int, TrialRecord]], Candidate | None]
"""Gives a trial's candidate by its number and the records of all trials so far; None if there are
no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a search ends although candidates are left; 0 means never."""

    seconds: float = 0.0
    epochs: int = 0
    """Over all trials together."""
    accuracy: float = 0.0
    """A fraction: the first trial that reaches it ends the search."""


class SearchState:
    """Deals out trials, takes their reports, and decides how long each trains.

    All of it follows from the journal's events in their order. Given the same reports, a search
    that is resumed therefore decides as one that was never interrupted.

    Args:
        rule: decides how long a trial trains.
        propose: makes the candidates.
        base: the config that all trials share.
        journal: None keeps nothing, for simulations.
        events: the journal of earlier sessions.
        clock: gives seconds.
    """

    def __init__(
        self,
        rule: Rule,
        propose: Propose,
        base: TrainConfig,
        *,
        limits: Limits = Limits(),
        journal: Journal | None = None,
        events: Sequence[Event] = (),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.rule = rule
        self.propose = propose
        self.base = base
        self.limits = limits
        self.journal = journal
        self.clock = clock

        self.records: dict[int, TrialRecord] = {}
        self.candidates: dict[int, Candidate] = {}
        self.running: set[int] = set()
        self.ended: dict[int, None] = {}
        """Trials that will not go on, in the order in which they ended."""
        self.exhausted = False
        """There are no more candidates."""

        self.epochs = 0
        """Trained by all trials together."""
        self.best = 0.0
        """The highest accuracy reported."""
        self.began: float | None = None
        """The clock's time at which this session dealt out its first trial."""
        self.spent = events[-1].s if events else 0.0
        """Seconds of earlier sessions."""

        for event in events:
            self._apply(event)
        self.interrupted = deque(sorted(self.running))
        """Trials that ran when an earlier session ended: they go on first."""
        self.running.clear()

    def __getstate__(self) -> dict[str, Any]:
        # Ray Tune pickles whatever holds this object, and never reads the pickle: what outlives a
        # search is its journal.
        return {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # Ray Tune copies its searcher and its scheduler; all must share one state.
        return self

    @property
    def elapsed(self) -> float:
        """Seconds since the first trial was dealt out, earlier sessions included."""
        if self.began is None:
            return self.spent
        return self.spent + (self.clock() - self.began)

    @property
    def done(self) -> list[TrialRecord]:
        return [self.records[number] for number in self.ended]

    def over(self) -> str:
        """Return why the search must end now; empty if it may go on."""
        limits = self.limits

        if limits.seconds and self.elapsed >= limits.seconds:
            return "the time budget is used up"
        if limits.epochs and self.epochs >= limits.epochs:
            return f"{self.epochs} epochs are trained"
        if limits.accuracy and self.best >= limits.accuracy:
            return f"{self.best:.2%} is reached"

        return ""

    def next(self) -> int | None:
        """Deal out the next trial: an interrupted one, else one to promote, else a new one.

        Returns:
            its number; None if nothing can start now.
        """
        if self.began is None:
            self.began = self.clock()
        if self.over():
            return None

        # Its state is saved, so going on with it costs least.
        if self.interrupted:
            number = self.interrupted.popleft()
            self._record(TrialStarted(trial=number, s=self._now()))
            return number

        promoted = self.rule.promotion()
        if promoted is not None:
            return self._promote(promoted)

        number = len(self.candidates)
        candidate = None if self.exhausted else self.propose(number, self.records)
        if candidate is None:
            self.exhausted = True
            return self._promote_last()

        self._record(TrialStarted(trial=number, candidate=candidate, s=self._now()))
        return number

    def report(self, number: int, report: EpochReport) -> Decision:
        """Take an epoch of a trial, and decide whether the trial goes on."""
        record = self.records[number]
        metrics = report.metrics
        known_epochs = len(record.curve)

        if metrics.epoch <= known_epochs:
            # A trial that is restarted repeats its epochs, and Ray may restart one on its own. The
            # last of them says from where it goes on.
            is_last = metrics.epoch == known_epochs
            if report.replayed and is_last and record.resumed_after != known_epochs:
                self._record(EpochReplayed(trial=number, s=self._now()))
            return "continue"

        accuracy = metrics.validation_accuracy
        if accuracy is not None and not math.isfinite(accuracy):
            accuracy = None  # JSON has no NaN.

        event = EpochRecorded(
            trial=number,
            epoch=metrics.epoch,
            validation_accuracy=accuracy,
            images_per_s=metrics.images_per_s,
            seconds=metrics.seconds,
            kept_epoch=report.kept_epoch,
            replayed=report.replayed,
            s=self._now(),
        )
        return self._record(event)

    def fail(self, number: int, failure: TrainingFailed) -> None:
        """Take the report of a trial that it cannot go on."""
        epoch = len(self.records[number].curve) + 1
        self._record(TrialFailed(trial=number, epoch=epoch, outcome=failure.outcome, s=self._now()))

    def end(self, number: int, outcome: str) -> None:
        """Take note that a trial came to its end, or that its process died; a trial that does not
        run any more keeps its outcome."""
        if number in self.running:
            self._record(TrialEnded(trial=number, outcome=outcome, s=self._now()))

    def close(self) -> None:
        """End the search: what was paused stopped there, what still ran is out of time.

        The journal does not say so: given more time, the search can go on.
        """
        for number in sorted(set(self.records) - set(self.ended)):
            record = self.records[number]
            outcome = OUT_OF_TIME
            if record.paused:
                outcome = record.outcome.replace("paused", "stopped", 1)

            self._close(number, outcome)

    def _promote(self, number: int, *, last: bool = False) -> int:
        """Start a trial that the rule has promoted.

        `_apply` would ask the rule, which promotes a trial only once.
        """
        self._write(TrialPromoted(trial=number, last=last, s=self._now()))
        self._start(number)
        return number

    def _promote_last(self) -> int | None:
        """Let the best trial go on once the candidates are used up and nothing runs, until one has
        run in full: without such a trial there would be none to choose."""
        any_finished = any(record.finished for record in self.records.values())
        if self.running or any_finished:
            return None

        number = self.rule.promotion(last=True)
        if number is None:
            return None
        return self._promote(number, last=True)

    def _now(self) -> float:
        """The time of an event: seconds of the search, to the millisecond."""
        return round(self.elapsed, 3)

    def _record(self, event: Event) -> Decision:
        # Written first: after a crash in between, the next session still learns of the event.
        self._write(event)
        return self._apply(event)

    def _write(self, event: Event) -> None:
        if self.journal is not None:
            self.journal.append(event)

    def _apply(self, event: Event) -> Decision:
        """Do what follows from an event of this session or of an earlier one."""
        match event:
            case TrialStarted(trial=number, candidate=candidate):
                if candidate is not None:
                    self._add(number, candidate)
                self._start(number)
            case TrialPromoted(trial=number, last=last):
                promoted = self.rule.promotion(last=last)
                assert promoted == number, f"the journal promotes {number}, the rule {promoted}"
                self._start(number)
            case EpochRecorded():
                return self._add_epoch(event)
            case EpochReplayed(trial=number):
                record = self.records[number]
                record.resumed_after = len(record.curve)
            case TrialFailed(trial=number, outcome=outcome):
                if outcome.startswith("diverged"):
                    self.rule.report(number, event.epoch, math.nan)
                self._close(number, outcome)
            case TrialEnded(trial=number, outcome=outcome):
                self._close(number, outcome)
        return "continue"

    def _add(self, number: int, candidate: Candidate) -> None:
        # Simulated trials have empty candidates, and a config for each of 100,000 takes time.
        config = self.base.replace(**candidate) if candidate else self.base
        self.candidates[number] = candidate
        self.records[number] = TrialRecord(number, config)

    def _start(self, number: int) -> None:
        record = self.records[number]
        record.outcome = RUNNING
        record.resumed_after = len(record.curve)
        self.running.add(number)

    def _add_epoch(self, event: EpochRecorded) -> Decision:
        record = self.records[event.trial]
        record.seconds += event.seconds
        if event.replayed:
            # It was trained and saved in an earlier session, only its report was lost.
            record.resumed_after = event.epoch

        accuracy = event.validation_accuracy
        if accuracy is not None:
            record.curve.append(accuracy)
            record.times.append(event.s)
            record.images_per_s = event.images_per_s
            record.kept_epoch = event.kept_epoch
            self.epochs += 1
            self.best = max(self.best, accuracy)

        value = math.nan if accuracy is None else accuracy
        decision, why = self.rule.report(event.trial, event.epoch, value)

        match decision:
            case "continue":
                return decision
            case "pause":
                outcome = f"paused at {why}"
            case "stop" if accuracy is None:
                outcome = f"diverged: {why}"
            case "stop":
                outcome = f"stopped at {why}"

        self._close(event.trial, outcome)
        return decision

    def _close(self, number: int, outcome: str) -> None:
        record = self.records[number]
        record.outcome = outcome
        self.running.discard(number)

        # A paused trial may still be promoted.
        if not record.paused:
            self.ended[number] = None
