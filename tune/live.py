"""A search as it runs: the journal of its trials, and a live table of them."""

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import ray.tune
from ray.tune.experiment import Trial
from rich.console import Console
from rich.live import Live
from rich.table import Table

from fmnist.config import TrainConfig
from fmnist.run import write_atomic
from tune.asha import Asha
from tune.trial import METRIC

ROWS = 12
RUNNING = "running"


@dataclass(slots=True)
class TrialRecord:
    """A trial so far."""

    number: int
    config: TrainConfig
    curve: list[float] = field(default_factory=list)
    """Validation accuracy after each epoch."""
    outcome: str = RUNNING
    """running, finished, stopped at rung E, diverged: …, error: …, or out of time."""
    images_per_s: float = 0.0
    seconds: float = 0.0

    @property
    def finished(self) -> bool:
        return self.outcome == "finished"

    def to_dict(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "config": self.config.to_dict(),
            "curve": self.curve,
            "rung": len(self.curve),
            "outcome": self.outcome,
            "images_per_s": round(self.images_per_s, 1),
            "seconds": round(self.seconds, 2),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        config = TrainConfig.from_dict(values["config"])
        return cls(values["number"], config, values["curve"], values["outcome"], values["images_per_s"], values["seconds"])


def read_trials(path: Path) -> list[TrialRecord]:
    """The trials that are done, of a journal; a last line cut short by a crash is left out."""
    records: list[TrialRecord] = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            records.append(TrialRecord.from_dict(json.loads(line)))
        except json.JSONDecodeError:
            break
    return records


def winner(records: list[TrialRecord]) -> TrialRecord | None:
    """The best by validation accuracy among the trials that ran in full, or among all if none did."""
    tried = [record for record in records if record.curve and not record.outcome.startswith(("diverged", "error"))]
    full = [record for record in tried if record.finished]
    return max(full or tried, key=lambda record: record.curve[-1], default=None)


class SearchView(ray.tune.Callback):
    """Journals each trial as it ends, and shows all of them: a live table on a terminal, a line per trial elsewhere.

    Args:
        journal: takes a line per trial that is done, synced to the disk.
        base: what all trials share.
        total: trials that the search will run, those of an earlier session included.
        done: trials of an earlier session.
        scheduler: knows why a trial stopped.
    """

    def __init__(
        self, journal: Path, base: TrainConfig, total: int, done: list[TrialRecord], scheduler: Asha, console: Console
    ) -> None:
        self.journal, self.base, self.total, self.scheduler, self.console = journal, base, total, scheduler, console
        self.records = {record.number: record for record in done}
        self.started = time.perf_counter()
        self.live = Live(console=console, refresh_per_second=2, get_renderable=self.table) if console.is_terminal else None

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks; a terminal is no state, and what a restart needs is in the journal

    def __enter__(self) -> Self:
        # Whole lines only: what is appended to a line that a crash cut short would be lost with it.
        write_atomic(self.journal, "".join(_line(record) for record in self.records.values()))
        if self.live:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.live:
            self.live.stop()
        for record in self.records.values():
            if kind is None and record.outcome == RUNNING:  # Tune tells nobody of trials that the time budget ends
                record.outcome = "out of time"
                self._close(record)

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        number = trial.config["trial"]["number"]
        self.records.setdefault(number, TrialRecord(number, self.base.replace(**trial.config["trial"]["candidate"])))

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any) -> None:
        record = self.records[trial.config["trial"]["number"]]
        if result["diverged"]:
            record.outcome = f"diverged: {result['diverged']}"
            return
        record.curve.append(result[METRIC])
        record.images_per_s = result["images_per_s"]
        record.seconds += result["seconds"]

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        record = self.records[trial.config["trial"]["number"]]
        if record.outcome == RUNNING:
            if len(record.curve) == record.config.epochs:
                record.outcome = "finished"
            elif record.number in self.scheduler.stopped:
                record.outcome = f"stopped at rung {self.scheduler.stopped[record.number]}"
            else:
                return
        self._close(record)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        record = self.records[trial.config["trial"]["number"]]
        # The driver's own file: the copy in storage, which get_error() reads, comes later.
        lines = Path(trial.error_file).read_text().split("\n") if trial.error_file else []
        record.outcome = f"error: {next((line for line in reversed(lines) if line.strip()), 'the process died')}"
        self._close(record)

    def _close(self, record: TrialRecord) -> None:
        with self.journal.open("a") as file:
            file.write(_line(record))
            file.flush()
            os.fsync(file.fileno())
        if not self.live:
            accuracy = f"{record.curve[-1]:.2%}" if record.curve else "–"
            self.console.print(
                f"trial {record.number:>3} ({self._done()}/{self.total})  {accuracy}  {describe(record.config)}  {record.outcome}",
                highlight=False,
                soft_wrap=True,
            )

    def _done(self) -> int:
        return sum(record.outcome != RUNNING for record in self.records.values())

    def table(self) -> Table:
        """The best trials first; those that run stay in sight."""
        ranked = sorted(self.records.values(), key=lambda r: (r.outcome == RUNNING, *(r.curve[-1:] or [0.0])), reverse=True)
        elapsed = time.perf_counter() - self.started
        table = Table(title=f"search: {self._done()} of {self.total} trials done, {elapsed:.0f} s", title_justify="left")
        for name in ("trial", "network", "optimizer", "lr", "batch"):
            table.add_column(name)
        for name in ("epoch", "validation", "images/s"):
            table.add_column(name, justify="right")
        table.add_column("")
        for record in ranked[:ROWS]:
            config = record.config
            style = "bold" if record.outcome == RUNNING else "green" if record.finished else "dim"
            table.add_row(
                str(record.number),
                network(config),
                config.optimizer,
                f"{config.lr:.3g}",
                str(config.global_batch_size),
                f"{len(record.curve)}/{config.epochs}",
                f"{record.curve[-1]:.2%}" if record.curve else "–",
                f"{record.images_per_s:,.0f}",
                record.outcome,
                style=style,
            )
        if len(ranked) > ROWS:
            table.caption = f"and {len(ranked) - ROWS} more"
        return table


def _line(record: TrialRecord) -> str:
    return json.dumps(record.to_dict()) + "\n"


def network(config: TrainConfig) -> str:
    return f"{config.model} {'-'.join(map(str, config.widths))}".strip()


def describe(config: TrainConfig) -> str:
    return f"{network(config)}, {config.optimizer}, lr {config.lr:.3g}, batch {config.global_batch_size}, {config.schedule}"
