"""The journal of a search: its events, each a JSON line that outlives a crash."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from fmnist.errors import InputError
from tune.space import Candidate

JOURNAL = "search/journal.jsonl"
TRIALS = "search/trials.jsonl"
"""One line for each trial that is done, derived from the journal."""

Parsed = TypeVar("Parsed")

# In every event, `trial` is the trial's number and `s` the seconds since the search began. Keys and
# values of `to_dict` must stay as they are: journals of earlier versions are resumed.


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialStarted:
    """A new trial starts, or one that an earlier session left running starts again."""

    trial: int
    candidate: Candidate | None = None
    """Values of a new trial; None for one that starts again."""
    s: float

    def to_dict(self) -> dict[str, Any]:
        values: dict[str, Any] = {"event": "start", "trial": self.trial}
        if self.candidate is not None:
            values["candidate"] = self.candidate

        return values | {"s": self.s}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        return cls(trial=values["trial"], candidate=values.get("candidate"), s=values["s"])


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialPromoted:
    """A paused trial goes on to its next rung."""

    trial: int
    last: bool
    """Promoted only because the candidates were used up and no trial had run in full."""
    s: float

    def to_dict(self) -> dict[str, Any]:
        return {"event": "promote", "trial": self.trial, "last": self.last, "s": self.s}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        return cls(trial=values["trial"], last=values["last"], s=values["s"])


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecorded:
    """A trial reported an epoch for the first time."""

    trial: int
    epoch: int
    validation_accuracy: float | None
    """None if it was missing or not finite, which JSON cannot hold."""
    images_per_s: float
    seconds: float
    """Duration of the epoch: training and validation."""
    kept_epoch: int
    replayed: bool = False
    """An earlier session trained it, and died before the report arrived."""
    s: float

    def to_dict(self) -> dict[str, Any]:
        values: dict[str, Any] = {
            "event": "report",
            "trial": self.trial,
            "epoch": self.epoch,
            "validation_accuracy": self.validation_accuracy,
            "images_per_s": self.images_per_s,
            "seconds": self.seconds,
            "kept_epoch": self.kept_epoch,
        }
        if self.replayed:
            values["again"] = True

        return values | {"s": self.s}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        # "again" is there only if it is true.
        return cls(
            trial=values["trial"],
            epoch=values["epoch"],
            validation_accuracy=values["validation_accuracy"],
            images_per_s=values["images_per_s"],
            seconds=values["seconds"],
            kept_epoch=values["kept_epoch"],
            replayed=values.get("again", False),
            s=values["s"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochReplayed:
    """A trial that was restarted has repeated its last recorded epoch, and goes on from there."""

    trial: int
    s: float

    def to_dict(self) -> dict[str, Any]:
        return {"event": "again", "trial": self.trial, "s": self.s}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        return cls(trial=values["trial"], s=values["s"])


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialFailed:
    """A trial reported that it cannot go on."""

    trial: int
    epoch: int
    """The epoch that it did not complete."""
    outcome: str
    """diverged: …, or error: …"""
    s: float

    def to_dict(self) -> dict[str, Any]:
        return {
            "event": "failed",
            "trial": self.trial,
            "epoch": self.epoch,
            "outcome": self.outcome,
            "s": self.s,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        return cls(
            trial=values["trial"],
            epoch=values["epoch"],
            outcome=values["outcome"],
            s=values["s"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialEnded:
    """A trial trained to its end, or its process died."""

    trial: int
    outcome: str
    """finished, or error: …"""
    s: float

    def to_dict(self) -> dict[str, Any]:
        return {"event": "end", "trial": self.trial, "outcome": self.outcome, "s": self.s}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        return cls(trial=values["trial"], outcome=values["outcome"], s=values["s"])


Event = TrialStarted | TrialPromoted | EpochRecorded | EpochReplayed | TrialFailed | TrialEnded


def parse_event(values: dict[str, Any]) -> Event:
    """Return the event of a journal line. Raises KeyError or ValueError if it is none."""
    match values["event"]:
        case "start":
            return TrialStarted.from_dict(values)
        case "promote":
            return TrialPromoted.from_dict(values)
        case "report":
            return EpochRecorded.from_dict(values)
        case "again":
            return EpochReplayed.from_dict(values)
        case "failed":
            return TrialFailed.from_dict(values)
        case "end":
            return TrialEnded.from_dict(values)
        case unknown:
            raise ValueError(f"unknown event {unknown!r}")


class JsonLines:
    """Appends lines to a file; each is on the disk before `append` returns, so that it outlives
    kill -9 and a power cut."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = path.open("ab")

        # A crash may have cut the last line short; a line appended to it would be lost with it.
        whole_lines = path.read_bytes().rfind(b"\n") + 1
        self.file.truncate(whole_lines)

    def append(self, values: dict[str, Any]) -> None:
        self.file.write(json.dumps(values).encode() + b"\n")

        # Flushed, it outlives this process; synced, it outlives the machine.
        self.file.flush()
        os.fsync(self.file.fileno())


class Journal:
    """Appends events to a journal; each is on the disk before `append` returns."""

    def __init__(self, path: Path) -> None:
        self.lines = JsonLines(path)

    def append(self, event: Event) -> None:
        self.lines.append(event.to_dict())


def read_events(path: Path) -> list[Event]:
    """Read a journal; the same as `read_lines`, each line as an event."""
    return parse_lines(path, parse_event)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file of JSON lines; [] if there is none.

    A last line that a crash cut short is left out.

    Raises:
        InputError: another line is damaged.
    """
    return parse_lines(path, dict)


def parse_lines(path: Path, parse: Callable[[dict[str, Any]], Parsed]) -> list[Parsed]:
    """Read a file of JSON lines, each turned into something by `parse`.

    Args:
        parse: may raise KeyError, TypeError or ValueError on a line that it cannot take.

    Raises:
        InputError: a line is damaged, or `parse` refuses it; the message names file and line.
    """
    if not path.exists():
        return []

    # What follows the last newline was cut short by a crash; it never counted.
    whole_lines, _, _ = path.read_bytes().rpartition(b"\n")
    parsed: list[Parsed] = []
    for number, line in enumerate(whole_lines.splitlines(), start=1):
        try:
            values = json.loads(line)
            if not isinstance(values, dict):
                raise TypeError(f"{str(values)[:60]!r} is no JSON object")

            parsed.append(parse(values))
        except (KeyError, TypeError, ValueError) as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            raise InputError(
                f"{path}, line {number}: {reason}; repair or remove that line, or start another run"
            ) from error

    return parsed
