"""The state of a search, without Ray: which trial runs next and how long, every fact journalled before anything follows from it."""

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from fmnist.config import TrainConfig
from tune.asha import Decision, Rule
from tune.journal import Event, Journal, read_events

RUNNING = "running"
FINISHED = "finished"
OUT_OF_TIME = "out of time"

Candidate = dict[str, Any]
"""Values of TrainConfig's fields."""


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
    """running, finished, paused at rung E: …, stopped at rung E: …, diverged: …, error: …, or out of time."""
    images_per_s: float = 0.0
    seconds: float = 0.0
    """Of training and validation."""
    resumed_after: int = 0
    """Epochs it had when it was last started anew: they were not trained again."""
    kept_epoch: int = 0
    """The epoch whose weights count: the last, unless early stopping went back to a better one."""

    @property
    def accuracy(self) -> float:
        """Validation accuracy of the epoch that counts."""
        return self.curve[(self.kept_epoch or len(self.curve)) - 1]

    @property
    def finished(self) -> bool:
        return self.outcome == FINISHED

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
        known = {key: value for key, value in values.items() if key not in ("config", "rung")}
        return cls(config=TrainConfig.from_dict(values["config"]), **known)


def read_trials(path: Path) -> list[TrialRecord]:
    """The trials that are done; a last line cut short by a crash is left out. Raises InputError if another is damaged."""
    return [TrialRecord.from_dict(values) for values in read_events(path)]


def winner(records: Sequence[TrialRecord]) -> TrialRecord | None:
    """The best by validation accuracy among the trials that ran in full, or among all if none did."""
    tried = [record for record in records if record.curve and not record.failed]
    full = [record for record in tried if record.finished]
    return max(full or tried, key=lambda record: record.accuracy, default=None)


Propose = Callable[[int, Mapping[int, TrialRecord]], Candidate | None]
"""The candidate of a trial, by its number and what is known of the others; None if there are no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a search ends before its trials do; 0 means never."""

    seconds: float = 0.0
    epochs: int = 0
    """Of all trials together."""
    accuracy: float = 0.0
    """A fraction: the first trial that reaches it ends the search."""


class SearchState:
    """Deals out trials, takes their reports, and decides.

    All of it follows from the events of the journal in their order, so a search that is resumed decides as one that was never
    disturbed does on the same reports.

    Args:
        rule: how long a trial trains.
        propose: makes the candidates.
        base: what all trials share.
        journal: None keeps nothing, for simulations.
        events: of earlier sessions.
        clock: seconds.
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
        self.rule, self.propose, self.base, self.limits, self.journal = rule, propose, base, limits, journal
        self.records: dict[int, TrialRecord] = {}
        self.candidates: dict[int, Candidate] = {}
        self.running: set[int] = set()
        self.ended: dict[int, None] = {}
        """Trials that will not go on, in the order in which they ended."""
        self.epochs = 0
        """Trained by all trials."""
        self.best = 0.0
        """The highest accuracy reported."""
        self.exhausted = False
        """No more candidates."""
        self.clock = clock
        self.began: float | None = None
        """When this session dealt out its first trial, by the clock."""
        self.spent: float = events[-1]["s"] if events else 0.0
        """Seconds of earlier sessions."""
        for event in events:
            self._apply(event)
        self.interrupted = deque(sorted(self.running))
        """Were running when an earlier session ended: they go on first."""
        self.running.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles whatever holds it, and never reads that again: the journal is what outlives a search

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    @property
    def elapsed(self) -> float:
        """Seconds since the first trial was dealt out, earlier sessions included."""
        return self.spent + (0.0 if self.began is None else self.clock() - self.began)

    @property
    def done(self) -> list[TrialRecord]:
        return [self.records[number] for number in self.ended]

    def over(self) -> str:
        """Why the search must end now, or nothing."""
        limits = self.limits
        if limits.seconds and self.elapsed >= limits.seconds:
            return "the time budget is used up"
        if limits.epochs and self.epochs >= limits.epochs:
            return f"{self.epochs} epochs are trained"
        return f"{self.best:.2%} is reached" if limits.accuracy and self.best >= limits.accuracy else ""

    def next(self) -> int | None:
        """The trial that is to run now: one that was interrupted, else one to promote, else a new one; None if there is none."""
        if self.began is None:
            self.began = self.clock()
        if self.over():
            return None
        if self.interrupted:
            number = self.interrupted.popleft()
            self._record({"event": "start", "trial": number})
            return number
        if (number := self.rule.promotion()) is not None:
            return self._promote(number)
        number = len(self.candidates)
        candidate = None if self.exhausted else self.propose(number, self.records)
        if candidate is None:
            self.exhausted = True
            return self._last()
        self._record({"event": "start", "trial": number, "candidate": candidate})
        return number

    def _last(self) -> int | None:
        """Candidates are used up: let the best go on until one trial has run in full, or there would be no full run to choose."""
        if self.running or any(record.finished for record in self.records.values()):
            return None
        number = self.rule.promotion(last=True)
        return None if number is None else self._promote(number, last=True)

    def report(self, number: int, result: dict[str, Any]) -> Decision:
        """Take an epoch of a trial: EpochMetrics as a dict, with `kept_epoch`, and "ended" of one that can't go on."""
        record = self.records[number]
        if result["ended"]:
            self._record({"event": "failed", "trial": number, "epoch": len(record.curve) + 1, "outcome": result["ended"]})
            return "stop"
        if result["epoch"] <= len(record.curve):  # told again by a trial that was started anew, perhaps by Ray without our asking
            if result.get("again") and result["epoch"] == len(record.curve) != record.resumed_after:
                self._record({"event": "again", "trial": number})
            return "continue"
        kept = ("epoch", "validation_accuracy", "images_per_s", "seconds", "kept_epoch")
        event: Event = {"event": "report", "trial": number, **{key: result.get(key) for key in kept}}
        if not (isinstance(value := event["validation_accuracy"], float) and math.isfinite(value)):
            event["validation_accuracy"] = None  # JSON has no NaN
        return self._record(event | ({"again": True} if result.get("again") else {}))

    def end(self, number: int, outcome: str) -> None:
        """A trial ended by itself, or died."""
        if number in self.running:
            self._record({"event": "end", "trial": number, "outcome": outcome})

    def _write(self, event: Event) -> None:
        event["s"] = round(self.elapsed, 3)
        if self.journal:
            self.journal.append(event)

    def _record(self, event: Event) -> Decision:
        self._write(event)
        return self._apply(event)

    def _promote(self, number: int, *, last: bool = False) -> int:
        """Start a trial that the rule, when it was asked, has taken for promoted."""
        event: Event = {"event": "promote", "trial": number, "last": last}
        self._write(event)
        self._start(event)
        return number

    def _apply(self, event: Event) -> Decision:
        match event["event"]:
            case "start":
                self._start(event)
            case "promote":
                promoted = self.rule.promotion(last=event["last"])
                assert promoted == event["trial"], f"the journal promotes {event['trial']}, the rule {promoted}"
                self._start(event)
            case "report":
                return self._report(event)
            case "again":
                record = self.records[event["trial"]]
                record.resumed_after = len(record.curve)
            case "failed":
                if event["outcome"].startswith("diverged"):
                    self.rule.report(event["trial"], event["epoch"], math.nan)
                self._close(event["trial"], event["outcome"])
            case _:
                self._close(event["trial"], event["outcome"])
        return "continue"

    def _start(self, event: Event) -> None:
        number = event["trial"]
        if "candidate" in event:
            self.candidates[number] = event["candidate"]
            config = self.base.replace(**event["candidate"]) if event["candidate"] else self.base
            self.records[number] = TrialRecord(number, config)
        record = self.records[number]
        record.outcome, record.resumed_after = RUNNING, len(record.curve)
        self.running.add(number)

    def _report(self, event: Event) -> Decision:
        number, record = event["trial"], self.records[event["trial"]]
        value = math.nan if event["validation_accuracy"] is None else event["validation_accuracy"]
        if event.get("again"):  # it was saved, but nobody had heard of it
            record.resumed_after = event["epoch"]
        if math.isfinite(value):
            record.curve.append(value)
            record.times.append(event["s"])
            self.epochs += 1
            self.best = max(self.best, value)
            record.images_per_s, record.kept_epoch = event["images_per_s"], event["kept_epoch"]
        record.seconds += event["seconds"]
        decision, why = self.rule.report(number, event["epoch"], value)
        if decision != "continue":
            failed = not math.isfinite(value)
            said = "diverged: " if failed else "paused at " if decision == "pause" else "stopped at "
            self._close(number, said + why)
        return decision

    def _close(self, number: int, outcome: str) -> None:
        self.records[number].outcome = outcome
        self.running.discard(number)
        if not outcome.startswith("paused"):
            self.ended[number] = None

    def close(self) -> None:
        """The search is over: what was paused stopped there, what still ran is out of time. The journal does not say so: with
        more time it can go on."""
        for number in sorted(set(self.records) - set(self.ended)):
            record = self.records[number]
            paused = record.outcome.startswith("paused")
            self._close(number, record.outcome.replace("paused", "stopped", 1) if paused else OUT_OF_TIME)
