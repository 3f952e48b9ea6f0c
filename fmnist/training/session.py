"""One training from its start, or from where it was interrupted, to its end.

`run_session` loads, resumes, trains, keeps the history, saves and reports. A plain process, a Ray
Train worker and a search trial differ only in where the state is kept and in who gets the reports.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from fmnist.config import TrainConfig
from fmnist.data.dataset import TrainingData
from fmnist.data.info import DataInfo
from fmnist.errors import InputError
from fmnist.models import Classifier
from fmnist.runs.files import write_json
from fmnist.runs.run_folder import CONFIG
from fmnist.training.checkpoint import describe, load_state, save_checkpoint, save_state
from fmnist.training.device import Rank, default_device, resolve
from fmnist.training.loop import OnStep, start_training, train_epochs
from fmnist.training.metrics import DivergedError, EpochMetrics, EpochReport
from fmnist.training.progress import TrainingBar
from fmnist.training.state import TrainState, check_same_config, damaged_state
from fmnist.training.tensorboard import FOLDER as BOARD
from fmnist.training.tensorboard import Board

STATE_FILE = "last.pt"


class StateStore(Protocol):
    """Where the state of a training is kept."""

    def load(self) -> dict[str, Any] | None:
        """The state that was saved last, on the CPU; None if there is none."""
        ...

    def save(self, state: dict[str, Any]) -> None:
        """Replace the saved state, whole or not at all."""
        ...


@dataclass(frozen=True, slots=True)
class FileStore:
    """A state in a file of this machine."""

    path: Path

    def load(self) -> dict[str, Any] | None:
        """Raises InputError if the file is damaged."""
        return load_state(self.path) if self.path.exists() else None

    def save(self, state: dict[str, Any]) -> None:
        save_state(self.path, state)


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """A training that has ended."""

    model: Classifier
    """With the weights of the kept epoch."""
    config: TrainConfig
    """As trained: what was `auto` is resolved."""
    history: tuple[EpochReport, ...]
    """Every epoch, those of earlier sessions included."""

    @property
    def kept_epoch(self) -> int:
        return self.history[-1].kept_epoch

    @property
    def kept(self) -> EpochMetrics:
        """Metrics of the epoch whose weights the model has."""
        return self.history[self.kept_epoch - 1].metrics

    def to_dict(self) -> dict[str, Any]:
        """What metrics.json says of the training: the kept epoch, and the metrics of all."""
        return {
            "validation_accuracy": self.kept.validation_accuracy,
            "epoch": self.kept_epoch,
            "epochs": [report.metrics.to_dict() for report in self.history],
        }


def run_session(
    config: TrainConfig,
    data: TrainingData,
    rank: Rank,
    store: StateStore,
    *,
    on_start: Callable[[int], None] | None = None,
    on_step: OnStep | None = None,
    deadline: float = math.inf,
) -> Iterator[EpochReport | TrainingResult]:
    """Train to the end, from the last saved epoch on.

    Args:
        store: the state is read from it once, and saved after each epoch before that is reported.
        on_start: called with the number of epochs that earlier sessions trained, once they are seen
            to be of the same config.
        on_step: called about once a second.
        deadline: of time.monotonic(); the session ends after the first epoch that ends later.

    Yields:
        an EpochReport for each epoch, first those of earlier sessions (replayed); then the
        TrainingResult, unless the deadline came first.

    Raises:
        InputError: the batch does not fit the images or the workers, or the saved state is damaged
            or of another config.
        DivergedError: the loss is not finite.
    """
    saved = store.load()
    history: list[EpochReport] = []
    if saved is not None:
        # Before anything else happens: a run of another config is left as it is.
        check_same_config(resolve(config, rank.device), saved)
        history = _read_history(saved)
    if on_start is not None:
        on_start(len(history))
    for report in history:
        yield dataclasses.replace(report, replayed=True)

    state: TrainState | None = None
    for metrics, state in train_epochs(config, data, rank, on_step=on_step, resume=saved):
        report = EpochReport(metrics, state.kept_epoch)
        history.append(report)
        # Saved before it is reported: who has heard of an epoch may rely on it.
        rows = [each.to_dict() for each in history]
        store.save(state.state_dict() | {"history": rows})
        yield report
        if time.monotonic() > deadline and not state.finished:
            return

    # Earlier sessions trained every epoch: the model is still to be built.
    if state is None:
        assert saved is not None, "a config has at least one epoch"
        state = start_training(config, data, rank.device)
        state.load_state_dict(saved)
    # A state file of an older version does not say which epoch it kept.
    history[-1] = dataclasses.replace(history[-1], kept_epoch=state.kept_epoch)
    yield TrainingResult(state.model, state.config, tuple(history))


def _read_history(saved: dict[str, Any]) -> list[EpochReport]:
    """The epochs in a saved state. Raises InputError if it is damaged."""
    try:
        return [EpochReport.from_dict(values) for values in saved["history"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise damaged_state(error) from error


def train_in(
    run: Path,
    config: TrainConfig,
    data: TrainingData,
    info: DataInfo,
    console: Console,
    deadline: float = math.inf,
) -> TrainingResult | None:
    """Train in a run folder of this machine, and leave the checkpoint in its best/.

    Args:
        config: the config, with its number of validation images decided.
        info: describes the data, in config.json and in the checkpoint.
        deadline: of time.monotonic(); the training pauses after the first epoch that ends later.

    Returns:
        the result; None if the deadline came first.

    Raises:
        InputError: the folder holds a training of another config, or the loss is no longer finite.
    """
    try:
        result = _train_in(run, config, data, info, console, deadline)
    except DivergedError as error:
        raise InputError(str(error)) from error
    if result is None:
        return None

    if result.kept_epoch < len(result.history):
        console.print(
            f"stopped early: nothing better since epoch {result.kept_epoch}, whose weights are kept"
        )
    save_checkpoint(run / "best", result.model, config, info, result.to_dict())
    return result


def _train_in(
    run: Path,
    config: TrainConfig,
    data: TrainingData,
    info: DataInfo,
    console: Console,
    deadline: float,
) -> TrainingResult | None:
    """Train, and show each epoch in the console and in TensorBoard's files."""
    store = FileStore(run / STATE_FILE)
    rank = Rank(default_device())
    with TrainingBar(config.epochs, config.model, console) as bar, Board(run / BOARD) as board:

        def start(epochs_done: int) -> None:
            write_json(run / CONFIG, describe(config, info))
            board.epochs_done = epochs_done

        session = run_session(
            config, data, rank, store, on_start=start, on_step=bar.on_step, deadline=deadline
        )
        for event in session:
            if isinstance(event, TrainingResult):
                return event
            # An earlier session has shown the epochs that are replayed.
            if not event.replayed:
                bar.on_epoch(event.metrics)
                board.on_epoch(event.metrics)
    return None
