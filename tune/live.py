"""A search as it runs: a line for each trial that is done, and a live table of all."""

import json
import subprocess
import time
from collections.abc import Callable
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
from tune.journal import TRIALS, Journal
from tune.plan import Plan
from tune.state import FINISHED, RUNNING, SearchState, TrialRecord
from tune.tracking import Tracker

ROWS = 12
LOOK_EVERY_S = 3.0


class SearchView(ray.tune.Callback):
    """Writes a line per trial that is done, and shows all of them: a live table on a terminal, a line per trial elsewhere.

    Args:
        run: its search/trials.jsonl takes the lines; its tensorboard/ a point per epoch.
        state: of the search, which hears of a report before this does.
        plan: what is expected.
        forget: called with the number of a trial that is done: what it would have gone on from is not needed any more.
        live: a table that stays in sight, in place of lines.
        gpus: show what they do.
        tracker: is told of the same as TensorBoard.
    """

    def __init__(
        self,
        run: Path,
        state: SearchState,
        plan: Plan,
        console: Console,
        *,
        live: bool,
        forget: Callable[[int], None] = lambda number: None,
        gpus: bool = False,
        tracker: Tracker | None = None,
    ) -> None:
        self.run, self.state, self.plan, self.console = run, state, plan, console
        self.forget, self.gpus, self.tracker = forget, gpus, tracker
        self.total = len(state.ended) + plan.trials
        self.shown = {number: len(record.curve) for number, record in state.records.items()}
        """Epochs of each trial that are in its TensorBoard files."""
        self.boards: dict[int, Board] = {}
        self.started, self.before = time.perf_counter(), len(state.ended)
        self.looked, self.usage = 0.0, ""
        self.live = Live(console=console, refresh_per_second=2, get_renderable=self.picture) if live else None

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks; a terminal is no state, and what a restart needs is in the journal

    def __enter__(self) -> Self:
        # The journal may know of trials that ended when there was no time left to write their line.
        write_atomic(self.run / TRIALS, "".join(json.dumps(record.to_dict()) + "\n" for record in self.state.done))
        self.trials = Journal(self.run / TRIALS)
        if self.tracker:
            self.tracker.catch_up(self.state.records.values(), self.state.ended)
        if self.live:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.live:
            self.live.stop()
        if kind is None:  # Tune tells nobody of trials that the end of the search ends
            known = len(self.state.ended)
            self.state.close()
            may_go_on = bool(self.state.over())  # when there is more time: what they would go on from is kept
            for record in self.state.done[known:]:
                self._close(record, keep=may_go_on)

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any) -> None:
        number = trial.config["trial"]["number"]
        if result["ended"] or result["epoch"] <= self.shown.get(number, 0):
            return
        self.shown[number] = result["epoch"]
        if number not in self.boards:
            self.boards[number] = Board(self.run / BOARD / f"trial_{number:04}", result["epoch"] - 1)
        self.boards[number].on_epoch(result)
        if self.tracker:
            self.tracker.on_epoch(number, self.state.records[number].config, result)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        number = trial.config["trial"]["number"]
        self.state.end(number, FINISHED)
        if number in self.state.ended:
            self._close(self.state.records[number])

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        number = trial.config["trial"]["number"]
        # The driver's own file: the copy in storage, which get_error() reads, comes later.
        self.state.end(number, failure(Path(trial.error_file).read_text() if trial.error_file else ""))
        self._close(self.state.records[number])

    def _close(self, record: TrialRecord, *, keep: bool = False) -> None:
        self.trials.append(record.to_dict())
        if not keep:
            self.forget(record.number)
        found = {"validation_accuracy": record.accuracy} if record.curve else {}
        if board := self.boards.pop(record.number, None):
            board.end_trial(record.config.to_dict(), found)
        if self.tracker:
            self.tracker.end_trial(record)
        if not self.live:
            accuracy = f"{record.accuracy:.2%}" if record.curve else "–"
            self.console.print(
                f"trial {record.number:>3} ({len(self.state.ended)}/{self.total})  {accuracy:>6}  "
                f"{sparkline(record.curve, self.scale())}  {describe(record.config)}  {record.outcome}; {self.forecast()}"
            )

    def time_left(self) -> float:
        """Seconds: as planned until a trial is done, then by the trials of this session that are."""
        elapsed = time.perf_counter() - self.started
        done, running = len(self.state.ended) - self.before, len(self.state.running)
        left = self.plan.search_s - elapsed
        if done:
            left = elapsed / (done + running / 2) * (self.plan.trials - done - running / 2)
        if limit := self.state.limits.seconds:
            left = min(left, limit - self.state.elapsed)
        return max(left, 0.0)

    def forecast(self) -> str:
        now = time.perf_counter()
        if now - self.looked > LOOK_EVERY_S:
            self.looked, self.usage = now, f"{memory_mb() / 1000:.1f} GB" + (gpu_usage() if self.gpus else "")
        elapsed, left = duration(now - self.started), duration(self.time_left())
        winner_s = duration(self.plan.retrain_s)
        return f"{elapsed}, about {left} left, then training the winner {winner_s}; {self.usage}"

    def scale(self) -> tuple[float, float]:
        """Lowest and highest accuracy of all curves, the first epochs of which would flatten the rest."""
        values = sorted(value for record in self.state.records.values() for value in record.curve)
        return (values[len(values) // 10], values[-1]) if values else (0.0, 1.0)

    def picture(self) -> RenderableType:
        """The best trials first; those that run stay in sight."""
        ranked = sorted(self.state.records.values(), key=lambda r: (r.outcome == RUNNING, *(r.curve[-1:] or [0.0])), reverse=True)
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
            reached = [rung for rung in self.state.rule.rungs if rung <= len(record.curve)]
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
        epochs, done = self.state.epochs, len(self.state.ended)
        head = Table.grid(padding=(0, 1))
        head.add_row(
            "[bold]search[/]",
            ProgressBar(total=self.total, completed=done, width=24),
            f"{done}/{self.total} trials, {epochs} epochs of about {max(self.plan.expected_epochs, epochs):.0f}",
        )
        return Group(head, self.forecast(), table)


def gpu_usage() -> str:
    """What each GPU of this machine does: share of the time at work, memory; empty where nvidia-smi does not answer."""
    query = ["nvidia-smi", "--query-gpu=utilization.gpu,memory.used,memory.total", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, timeout=LOOK_EVERY_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    return gpu_lines(said)


def gpu_lines(said: str) -> str:
    """nvidia-smi's "utilisation, used, total" per line (per cent, MiB) in words."""
    gpus = [[int(number) for number in line.split(",")] for line in said.splitlines() if line.strip()]
    return "".join(f"; GPU {n} {busy} %, {used / 1024:.0f} of {total / 1024:.0f} GiB" for n, (busy, used, total) in enumerate(gpus))


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


def network(config: TrainConfig) -> str:
    return f"{config.model} {'-'.join(map(str, config.widths))}".strip()


def describe(config: TrainConfig) -> str:
    return f"{network(config)}, {config.optimizer}, lr {config.lr:.3g}, batch {config.global_batch_size}, {config.schedule}"
