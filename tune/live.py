"""A search as it runs: what is kept of its trials, and what the terminal shows of them."""

import json
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import ray.tune
from ray.tune.experiment import Trial
from rich.live import Live

from fmnist.runs.files import write_atomic
from fmnist.training.metrics import EpochReport, TrainingFailed, parse_report
from fmnist.training.tensorboard import FOLDER as BOARD
from fmnist.training.tensorboard import Board
from tune.journal import TRIALS, JsonLines
from tune.live_table import LiveTable, Screen
from tune.planning.plan import Plan
from tune.state import FINISHED, SearchState, TrialRecord
from tune.tracking import Tracker
from tune.words import describe, failure, sparkline


class SearchView(ray.tune.Callback):
    """Writes a line for each trial that is done, and shows all of them: a live table on a
    terminal, a line for each trial elsewhere.

    Args:
        run: its search/trials.jsonl takes the lines, its tensorboard/ a point for each epoch.
        state: of the search, which hears of a report before this does.
        plan: what is expected.
        forget: called with the number of a trial that is done: the state from which it would
            resume is not needed any more.
        tracker: is told the same as TensorBoard.
    """

    def __init__(
        self,
        run: Path,
        state: SearchState,
        plan: Plan,
        screen: Screen,
        *,
        forget: Callable[[int], None] = lambda number: None,
        tracker: Tracker | None = None,
    ) -> None:
        self.run = run
        self.state = state
        self.screen = screen
        self.forget = forget
        self.tracker = tracker
        self.table = LiveTable(state, plan, screen)
        self.boards: dict[int, Board] = {}

        self.epochs_shown: dict[int, int] = {}
        """Epochs of each trial that are in its TensorBoard files."""
        for number, record in state.records.items():
            self.epochs_shown[number] = len(record.curve)

        self.live: Live | None = None
        if screen.live:
            self.live = Live(
                console=screen.console,
                refresh_per_second=2,
                get_renderable=self.table.picture,
            )

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks; a terminal is no state, and what a restart needs is in the
        # journal.
        return {}

    def __enter__(self) -> Self:
        # The journal may know of trials that ended when there was no time left to write their line.
        lines = [json.dumps(record.to_dict()) + "\n" for record in self.state.done]
        write_atomic(self.run / TRIALS, "".join(lines))
        self.trials = JsonLines(self.run / TRIALS)

        if self.tracker:
            self.tracker.catch_up(self.state.records.values(), self.state.ended)
        if self.live:
            self.live.start()

        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.live:
            self.live.stop()
        if kind is None:
            self._close_rest()

    def _close_rest(self) -> None:
        """Close the trials that the end of the search ends: Tune tells nobody of them."""
        known = len(self.state.ended)
        self.state.close()
        # A search that reached a limit can resume with a higher one, and its trials with it.
        may_resume = bool(self.state.over())
        for record in self.state.done[known:]:
            self._close(record, keep=may_resume)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        report = parse_report(result)
        if isinstance(report, TrainingFailed):
            return
        self._on_epoch(_number(trial), report)

    def _on_epoch(self, number: int, report: EpochReport) -> None:
        metrics = report.metrics
        if metrics.epoch <= self.epochs_shown.get(number, 0):
            return
        self.epochs_shown[number] = metrics.epoch

        if number not in self.boards:
            folder = self.run / BOARD / f"trial_{number:04}"
            self.boards[number] = Board(folder, metrics.epoch - 1)

        self.boards[number].on_epoch(metrics)
        if self.tracker:
            self.tracker.on_epoch(number, self.state.records[number].config, metrics)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        number = _number(trial)
        self.state.end(number, FINISHED)
        # A trial that is paused is complete to Tune, and goes on later as another of Tune's.
        if number in self.state.ended:
            self._close(self.state.records[number])

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        number = _number(trial)
        # The driver's own file: the copy in storage, which get_error() reads, comes later.
        text = Path(trial.error_file).read_text() if trial.error_file else ""
        self.state.end(number, failure(text))
        self._close(self.state.records[number])

    def _close(self, record: TrialRecord, *, keep: bool = False) -> None:
        self.trials.append(record.to_dict())
        if not keep:
            self.forget(record.number)

        if board := self.boards.pop(record.number, None):
            result = {"validation_accuracy": record.accuracy} if record.curve else {}
            board.end_trial(record.config.to_dict(), result)

        if self.tracker:
            self.tracker.end_trial(record)
        if not self.live:
            self.screen.console.print(self._line(record))

    def _line(self, record: TrialRecord) -> str:
        accuracy = f"{record.accuracy:.2%}" if record.curve else "–"
        curve = sparkline(record.curve, self.table.scale())
        done = f"{len(self.state.ended)}/{self.table.total}"

        return (
            f"trial {record.number:>3} ({done})  {accuracy:>6}  {curve}  "
            f"{describe(record.config)}  {record.outcome}; "
            f"{self.table.forecast()}; {self.table.usage()}"
        )


def _number(trial: Trial) -> int:
    return trial.config["trial"]["number"]
