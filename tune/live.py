"""A search as it runs: the journal of its trials, and a live table of them."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import ray.tune
from ray.tune.experiment import Trial
from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from fmnist.board import FOLDER as BOARD
from fmnist.board import Board
from fmnist.config import TrainConfig
from fmnist.run import write_atomic
from fmnist.summary import memory_mb
from tune.asha import Asha
from tune.plan import Plan
from tune.trial import METRIC

JOURNAL = "search/trials.jsonl"
ROWS = 12
MEMORY_EVERY_S = 3.0
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
            "resumed_after": self.resumed_after,
            "kept_epoch": self.kept_epoch,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        known = {key: value for key, value in values.items() if key not in ("config", "rung")}
        return cls(config=TrainConfig.from_dict(values["config"]), **known)


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
    return max(full or tried, key=lambda record: record.accuracy, default=None)


class SearchView(ray.tune.Callback):
    """Journals each trial as it ends, and shows all of them: a live table on a terminal, a line per trial elsewhere.

    Args:
        run: its search/trials.jsonl takes a line per trial that is done, synced to the disk; its tensorboard/ a point per epoch.
        base: what all trials share.
        done: trials of an earlier session.
        scheduler: knows why a trial stopped.
        plan: what is expected.
        forget: called with the number of a trial that is in the journal: what it would have gone on from is not needed any more.
        time_budget_s: when the search ends at the latest; 0 means never.
        live: a table that stays in sight, in place of lines.
    """

    def __init__(
        self,
        run: Path,
        base: TrainConfig,
        done: list[TrialRecord],
        scheduler: Asha,
        plan: Plan,
        time_budget_s: float,
        console: Console,
        *,
        live: bool,
        forget: Callable[[int], None] = lambda number: None,
    ) -> None:
        self.run, self.base, self.scheduler, self.plan, self.console = run, base, scheduler, plan, console
        self.journal, self.forget = run / JOURNAL, forget
        self.time_budget_s = time_budget_s
        self.records = {record.number: record for record in done}
        self.total = len(done) + plan.trials
        self.boards: dict[int, Board] = {}
        self.started = time.perf_counter()
        self.memory = (0.0, 0.0)  # when it was looked at, MB
        self.live = Live(console=console, refresh_per_second=2, get_renderable=self.picture) if live else None

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
        if result["ended"]:
            record.outcome = result["ended"]
            return
        if result["epoch"] == 1:  # the first, or told again by a trial that goes on after a crash
            record.curve, record.seconds = [], 0.0
        record.resumed_after = result["epoch"] if result.get("again") else record.resumed_after
        record.curve.append(result[METRIC])
        record.images_per_s = result["images_per_s"]
        record.seconds += result["seconds"]
        record.kept_epoch = result["kept_epoch"]
        if record.number not in self.boards:
            self.boards[record.number] = Board(self.run / BOARD / f"trial_{record.number:04}")
        self.boards[record.number].on_epoch(result)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        record = self.records[trial.config["trial"]["number"]]
        if record.outcome == RUNNING:
            if record.number in self.scheduler.stopped:
                record.outcome = f"stopped at rung {self.scheduler.stopped[record.number]}"
            else:
                record.outcome = "finished"
        self._close(record)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        record = self.records[trial.config["trial"]["number"]]
        # The driver's own file: the copy in storage, which get_error() reads, comes later.
        record.outcome = failure(Path(trial.error_file).read_text() if trial.error_file else "")
        self._close(record)

    def _close(self, record: TrialRecord) -> None:
        with self.journal.open("a") as file:
            file.write(_line(record))
            file.flush()
            os.fsync(file.fileno())
        self.forget(record.number)
        if board := self.boards.pop(record.number, None):
            board.end_trial(record.config.to_dict(), {"validation_accuracy": record.accuracy})
        if not self.live:
            accuracy = f"{record.accuracy:.2%}" if record.curve else "–"
            self.console.print(
                f"trial {record.number:>3} ({self._done()}/{self.total})  {accuracy:>6}  {sparkline(record.curve, self.scale())}  "
                f"{describe(record.config)}  {record.outcome}; {self.forecast()}"
            )

    def _done(self) -> int:
        return sum(record.outcome != RUNNING for record in self.records.values())

    def time_left(self) -> float:
        """Seconds: as planned until a trial is done, then by the trials of this session that are."""
        elapsed = time.perf_counter() - self.started
        done = self._done() - (self.total - self.plan.trials)
        running = len(self.records) - self._done()
        left = self.plan.search_s - elapsed
        if done:
            left = elapsed / (done + running / 2) * (self.plan.trials - done - running / 2)
        if self.time_budget_s:
            left = min(left, self.time_budget_s - elapsed)
        return max(left, 0.0)

    def forecast(self) -> str:
        now = time.perf_counter()
        if now - self.memory[0] > MEMORY_EVERY_S:
            self.memory = (now, memory_mb())
        elapsed, left = duration(now - self.started), duration(self.time_left())
        winner_s = duration(self.plan.retrain_s)
        return f"{elapsed}, about {left} left, then training the winner {winner_s}; {self.memory[1] / 1000:.1f} GB"

    def scale(self) -> tuple[float, float]:
        """Lowest and highest accuracy of all curves, the first epochs of which would flatten the rest."""
        values = sorted(value for record in self.records.values() for value in record.curve)
        return (values[len(values) // 10], values[-1]) if values else (0.0, 1.0)

    def picture(self) -> RenderableType:
        """The best trials first; those that run stay in sight."""
        ranked = sorted(self.records.values(), key=lambda r: (r.outcome == RUNNING, *(r.curve[-1:] or [0.0])), reverse=True)
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("trial", "network", "optimizer"):
            table.add_column(name, no_wrap=True)
        for name in ("lr", "batch", "epoch", "rung", "val. %", "images/s"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("curve", no_wrap=True)
        table.add_column("", no_wrap=True)
        scale = self.scale()
        for record in ranked[:ROWS]:
            config = record.config
            style = "bold" if record.outcome == RUNNING else "green" if record.finished else "dim"
            reached = [rung for rung in self.scheduler.rungs if rung <= len(record.curve)]
            table.add_row(
                str(record.number),
                network(config),
                config.optimizer,
                f"{config.lr:.3g}",
                str(config.global_batch_size),
                f"{len(record.curve)}/{config.epochs}",
                str(reached[-1]) if reached else "–",
                f"{100 * record.accuracy:.2f}" if record.curve else "–",
                f"{record.images_per_s:,.0f}",
                sparkline(record.curve, scale),
                record.outcome.split(":")[0],
                style=style,
            )
        if len(ranked) > ROWS:
            table.caption = f"and {len(ranked) - ROWS} more"
        epochs = sum(len(record.curve) for record in self.records.values())
        head = Table.grid(padding=(0, 1))
        head.add_row(
            "[bold]search[/]",
            ProgressBar(total=self.total, completed=self._done(), width=24),
            f"{self._done()}/{self.total} trials, {epochs} epochs of about {max(self.plan.expected_epochs, epochs):.0f}",
        )
        return Group(head, self.forecast(), table)


BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: list[float], scale: tuple[float, float]) -> str:
    """A bar per value, from the lowest to the highest of the scale; long curves are thinned to 16."""
    low, high = scale
    shown = values if len(values) <= 16 else [values[round(i * (len(values) - 1) / 15)] for i in range(16)]
    span = max(high - low, 1e-9)
    return "".join(BARS[min(max(int((value - low) / span * len(BARS)), 0), len(BARS) - 1)] for value in shown)


def duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


def failure(text: str) -> str:
    """Why a trial failed, in a line, from what Ray wrote of it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else "the process died"
    if any(sign in text for sign in ("OutOfMemoryError", "out of memory", "MemoryError", "OOM killer", "low on memory")):
        reason = next((line for line in lines if "memory" in line.lower()), last)
        return f"error: killed for memory: {reason}"
    if "ActorDiedError" in text or "ActorUnavailableError" in text:
        return "error: its process died: " + next((line for line in lines if "exit" in line.lower()), last)
    return f"error: {last}"


def _line(record: TrialRecord) -> str:
    return json.dumps(record.to_dict()) + "\n"


def network(config: TrainConfig) -> str:
    return f"{config.model} {'-'.join(map(str, config.widths))}".strip()


def describe(config: TrainConfig) -> str:
    return f"{network(config)}, {config.optimizer}, lr {config.lr:.3g}, batch {config.global_batch_size}, {config.schedule}"
