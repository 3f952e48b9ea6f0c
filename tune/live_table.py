"""The live picture of a search: how far it is, what it uses, and its best trials."""

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table

from fmnist.runs.summary import memory_mb
from tune.columns import GAP, Column, fitting_table, total_width
from tune.planning.plan import Plan
from tune.state import RUNNING, SearchState, TrialRecord
from tune.words import duration, sparkline

ROWS = 12
BAR_WIDTH = 24
LOOK_EVERY_S = 3.0
"""Memory and GPUs are looked at so often: to ask takes longer than to draw."""
SHORTEST_CURVE, LONGEST_CURVE = 8, 16
MIB_PER_GIB = 1024


@dataclass(frozen=True, slots=True)
class Screen:
    """Where a search is shown, and what of it."""

    console: Console
    live: bool
    """A table that stays in sight, in place of lines."""
    gpus: bool = False
    """Show what the GPUs of this machine do."""


class LiveTable:
    """Draws a search.

    Args:
        plan: what is expected of the trials that are not done yet.
    """

    def __init__(self, state: SearchState, plan: Plan, screen: Screen) -> None:
        self.state = state
        self.plan = plan
        self.screen = screen
        self.total = len(state.ended) + plan.trials
        """Trials of the whole search."""
        self.started = time.perf_counter()
        self.ended_before = len(state.ended)
        """Trials that earlier sessions ended."""
        self.looked = 0.0
        self.last_usage = ""

    def time_left(self) -> float:
        """Seconds: as planned until a trial is done, then by the trials that this session
        ended."""
        elapsed = time.perf_counter() - self.started
        left = self.plan.search_s - elapsed
        done = len(self.state.ended) - self.ended_before
        if done:
            # One that runs counts half, as it is half done on average.
            done_in_effect = done + len(self.state.running) / 2
            left = elapsed / done_in_effect * (self.plan.trials - done_in_effect)
        limit = self.state.limits.seconds
        if limit:
            left = min(left, limit - self.state.elapsed)

        return max(left, 0.0)

    def forecast(self) -> str:
        elapsed = duration(time.perf_counter() - self.started)
        left = duration(self.time_left())
        winner = duration(self.plan.retrain_s)
        return f"{elapsed}, about {left} left, then training the winner {winner}"

    def usage(self) -> str:
        """Memory of the search on this machine, and what its GPUs do."""
        now = time.perf_counter()
        if now - self.looked > LOOK_EVERY_S:
            self.looked = now
            self.last_usage = f"{memory_mb() / 1000:.1f} GB"
            if self.screen.gpus:
                self.last_usage += gpu_usage()

        return self.last_usage

    def scale(self) -> tuple[float, float]:
        """Lowest and highest accuracy of all curves.

        The worst tenth is left out: the first epochs would flatten the rest.
        """
        values: list[float] = []
        for record in self.state.records.values():
            values += record.curve
        if not values:
            return 0.0, 1.0

        values.sort()
        return values[len(values) // 10], values[-1]

    def picture(self) -> RenderableType:
        """The best trials first; those that run stay in sight."""
        ranked = sorted(self.state.records.values(), key=_rank, reverse=True)
        table = self._table(ranked[:ROWS], self.screen.console.width)
        if len(ranked) > ROWS:
            table.caption = f"and {len(ranked) - ROWS} more"

        epochs = self.state.epochs
        done = len(self.state.ended)
        # The plan's number is an estimate, which a lucky search goes beyond.
        expected = max(self.plan.expected_epochs, epochs)
        progress = f"{done}/{self.total} trials, {epochs} epochs of about {expected:.0f}"
        head = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=self.total, completed=done, width=BAR_WIDTH)
        head.add_row("[bold]search[/]", bar, progress)

        return Group(head, self.forecast(), self.usage(), "", table)

    def _table(self, records: Sequence[TrialRecord], width: int) -> Table:
        """A line for each trial; on a narrow terminal with shorter curves and fewer columns."""
        columns = _empty_columns()
        for record in records:
            for column, cell in zip(columns, self._cells(record), strict=True):
                column.cells.append(cell)

        # Curves take the room that the columns of rank 0 leave.
        always = [column for column in columns if column.rank == 0]
        room = width - total_width(always) - GAP
        curve_width = min(max(room, SHORTEST_CURVE), LONGEST_CURVE)
        scale = self.scale()
        curves = Column("curve")
        in_full = Column("state")
        for record in records:
            curves.cells.append(sparkline(record.curve, scale, curve_width))
            in_full.cells.append(record.outcome.partition(":")[0])

        *others, shortened = columns
        columns = [*others, curves, shortened]
        if total_width([*others, curves, in_full]) <= width:
            columns = [*others, curves, in_full]
        styles = [_style(record) for record in records]

        return fitting_table(columns, width, wrapped="network", styles=styles)

    def _cells(self, record: TrialRecord) -> list[str]:
        """The cells of a trial, but for its curve."""
        config = record.config
        epochs = len(record.curve)
        rung = "–"
        for rung_epochs in self.state.rule.rungs:
            if rung_epochs <= epochs:
                rung = str(rung_epochs)

        accuracy = "–"
        if record.curve:
            accuracy = f"{100 * record.accuracy:.2f}"
        # Shortened, "stopped at rung 3" is "stopped"; the column of epochs says where.
        state = record.outcome.partition(":")[0].partition(" at ")[0]

        return [
            str(record.number),
            config.network_name,
            config.optimizer,
            f"{config.lr:.3g}",
            str(config.global_batch_size),
            f"{epochs}/{config.epochs}",
            rung,
            accuracy,
            f"{record.images_per_s:,.0f}",
            state,
        ]


def _empty_columns() -> list[Column]:
    return [
        Column("trial"),
        Column("network"),
        Column("optimizer", rank=1),
        Column("lr", right=True),
        Column("batch", right=True),
        Column("epoch", right=True),
        Column("rung", right=True, rank=3),
        Column("val. %", right=True),
        Column("images/s", right=True, rank=2),
        Column("state"),
    ]


def _rank(record: TrialRecord) -> tuple[bool, float]:
    # By the newest accuracy, not the best: a trial that gets worse sinks.
    newest = record.curve[-1] if record.curve else 0.0
    return record.outcome == RUNNING, newest


def _style(record: TrialRecord) -> str:
    if record.outcome == RUNNING:
        return "bold"
    if record.finished:
        return "green"
    return "dim"


def gpu_usage() -> str:
    """What each GPU of this machine does: share of the time at work, memory; empty where
    nvidia-smi does not answer."""
    query = [
        "nvidia-smi",
        "--query-gpu=utilization.gpu,memory.used,memory.total",
        "--format=csv,noheader,nounits",
    ]
    try:
        answer = subprocess.run(
            query, capture_output=True, text=True, timeout=LOOK_EVERY_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        # No nvidia-smi, or one that hangs: the search goes on without these numbers.
        return ""

    return gpu_lines(answer.stdout)


def gpu_lines(answer: str) -> str:
    """nvidia-smi's "utilisation, used, total" of each GPU (per cent, MiB) in words.

    A field that it does not know is left out: of a GPU split by MIG it says "[N/A]".
    """
    words: list[str] = []
    lines = [line for line in answer.splitlines() if line.strip()]
    for number, line in enumerate(lines):
        busy, used, total = map(str.strip, line.split(","))
        facts: list[str] = []
        if busy.isdigit():
            facts.append(f"{busy} %")
        if used.isdigit() and total.isdigit():
            used_gib = int(used) / MIB_PER_GIB
            total_gib = int(total) / MIB_PER_GIB
            facts.append(f"{used_gib:.0f} of {total_gib:.0f} GiB")
        if facts:
            words.append(f"; GPU {number} {', '.join(facts)}")

    return "".join(words)
