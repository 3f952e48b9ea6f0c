"""A DDP training under Ray Train, seen from the driver: place the workers, show their progress, bring the model home."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import ray
import ray.train
import ray.train.torch
import torch
from ray.util.queue import Empty, Queue
from rich.console import Console

from cluster.connect import Resources
from cluster.worker import STATE_FILE, Job, train_worker
from fmnist.board import Board
from fmnist.checkpoint import load_state
from fmnist.config import TrainConfig
from fmnist.data import Split
from fmnist.errors import InputError, check
from fmnist.loop import EpochMetrics, StepReport, start_training
from fmnist.models import Classifier
from fmnist.progress import TrainingBar

MAX_FAILURES = 2
"""Worker failures after which a job gives up; each costs at most the epoch in flight."""


@dataclass(frozen=True, slots=True)
class Placement:
    """How many workers, and what each takes."""

    workers: int
    cpus_per_worker: int
    gpus_per_worker: int

    def __str__(self) -> str:
        each = "a GPU" if self.gpus_per_worker else f"{self.cpus_per_worker} CPU threads"
        return f"{self.workers} worker{'s' if self.workers > 1 else ''} with {each}{' each' if self.workers > 1 else ''}"


def place(resources: Resources, workers: int = 0) -> Placement:
    """One worker per GPU; on a cluster without GPUs one in all, with every CPU thread of a node.

    Args:
        resources: what the cluster offers.
        workers: how many to start; 0 takes what there is.

    Raises:
        InputError: more workers than GPUs, or than CPU threads where there is no GPU.
    """
    if resources.gpus:
        check(workers <= resources.gpus, f"workers={workers}: the cluster has {resources.gpus} GPUs, and each worker takes one")
        return Placement(workers or resources.gpus, 1, 1)
    check(workers <= resources.cpus, f"workers={workers}: the cluster has {resources.cpus} CPU threads, and each worker takes one")
    workers = workers or 1
    return Placement(workers, max(resources.cpus // max(workers, resources.nodes), 1), 0)


@dataclass(frozen=True, slots=True)
class Trained:
    """What a job brings home."""

    model: Classifier
    config: TrainConfig
    """As trained: what was `auto` is resolved."""
    history: list[dict[str, Any]]
    """EpochMetrics of every epoch."""
    kept_epoch: int
    """The epoch whose weights the model has."""


def fit(
    config: TrainConfig,
    train: Split,
    validation: Split | None,
    *,
    classes: int,
    placement: Placement,
    folder: Path,
    board: Path,
    title: str,
    console: Console,
) -> Trained:
    """Train under Ray Train; call it inside `cluster()`. The same folder again resumes after its last whole epoch.

    Args:
        folder: Ray Train's own files.
        board: where the TensorBoard files go.

    Raises:
        InputError: the training diverged, or the config does not fit the data or the workers.
        ray.train.TrainingFailedError: workers died more than MAX_FAILURES times.
    """
    if not config.threads and not placement.gpus_per_worker:
        config = config.replace(threads=placement.cpus_per_worker)
    progress = Queue(actor_options={"num_cpus": 0})
    job = Job(config, classes, ray.put(train), None if validation is None else ray.put(validation), progress)
    resources = {"CPU": placement.cpus_per_worker} | ({"GPU": placement.gpus_per_worker} if placement.gpus_per_worker else {})
    trainer = ray.train.torch.TorchTrainer(
        train_worker,
        train_loop_config={"job": job},
        scaling_config=ray.train.ScalingConfig(
            num_workers=placement.workers, use_gpu=placement.gpus_per_worker > 0, resources_per_worker=resources
        ),
        run_config=ray.train.RunConfig(
            name=folder.name,
            storage_path=str(folder.parent.absolute()),
            failure_config=ray.train.FailureConfig(max_failures=MAX_FAILURES),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=1),
        ),
    )
    with TrainingBar(config.epochs, title, console) as bar, Board(board) as points, _Showing(progress, bar, points) as shown:
        result = _in_a_thread(trainer.fit)
    if shown.failure is not None:
        raise InputError(f"{title}: {shown.failure}")
    assert result.checkpoint is not None, "every epoch reports a checkpoint"
    with result.checkpoint.as_directory() as path:
        saved = load_state(Path(path) / STATE_FILE)
    state = start_training(TrainConfig.from_dict(saved["config"]), train, classes, torch.device("cpu"))
    state.load_state_dict(saved)
    return Trained(state.model.eval(), state.config, saved["history"], state.kept_epoch)


def _in_a_thread(function: Callable[[], Any]) -> Any:
    """Call it beside the main thread, which stays free for Ctrl-C: Ray Train would put a handler of its own in its place."""
    outcome: Future[Any] = Future()

    def call() -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=call, daemon=True).start()
    return outcome.result()


class _Showing:
    """Moves what rank 0 says from the queue to the bar and to TensorBoard's files while the job runs."""

    def __init__(self, progress: Queue, bar: TrainingBar, board: Board) -> None:
        self.progress, self.bar, self.board = progress, bar, board
        self.failure: str | None = None
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._show, daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()
        self.progress.shutdown()

    def _show(self) -> None:
        while True:
            try:
                kind, values = self.progress.get(timeout=0.5)
            except Empty:
                if self.done.is_set():
                    return
                continue
            if kind == "epoch":
                self.bar.on_epoch(EpochMetrics(**values))
                self.board.on_epoch(values)
            elif kind == "step":
                self.bar.on_step(StepReport(**values))
            else:
                self.failure = values
