"""A DDP training under Ray Train, seen from the driver: start workers, watch, fetch the model."""

import contextlib
import logging
import os
import queue
import re
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import ray
import ray.exceptions
import ray.train
from ray.train.torch import TorchTrainer
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.console import Console

from cluster.connect import look
from cluster.messages import JobFailed, Notice, WorkersDied, WorkersStarted, decode, encode
from cluster.nodes import Requirements, versions
from cluster.placement import Placement
from cluster.ray_compat import WorkerHealthCheckFailedError, WorkerHealthCheckTimeoutError
from cluster.shared_data import share_data
from cluster.storage import StateFile
from cluster.trainer import Trainer
from cluster.worker import Distributed, Job, train_worker
from fmnist.cli import plural
from fmnist.config import TrainConfig
from fmnist.data.dataset import TrainingData
from fmnist.errors import FailedError, InputError
from fmnist.models import build_model
from fmnist.training.loop import check_batches
from fmnist.training.metrics import EpochReport, StepReport
from fmnist.training.progress import TrainingBar
from fmnist.training.session import TrainingResult
from fmnist.training.state import final_weights
from fmnist.training.tensorboard import Board

MAX_FAILURES = 3
"""Deaths of workers within one epoch before a job gives up. A long job on spot machines survives
any number."""
LOST_PEER = ("Connection closed", "Connection reset", "Broken pipe", "Gloo", "NCCL")
"""Signs in an error that its worker failed because another one died."""
RESIZE_EVERY_S = 15.0
"""How often an elastic job looks for new machines: each new size costs the epoch in flight."""
STOP_S = 5.0
"""How long a job that is given up may take to leave Ray."""
WAIT_TOLD_S = 20.0
"""A job that waits this long for its workers says so."""
WAIT_S = 1800.0
"""It gives up after this long: enough for machines that the autoscaler has to rent and set up."""

AnyTrainer = TypeVar("AnyTrainer", bound=TorchTrainer)


@dataclass(frozen=True, slots=True)
class Request:
    """A training to be run as a job."""

    config: TrainConfig
    data: TrainingData
    placement: Placement
    state: StateFile
    """Written after each epoch; with the same file again the job resumes."""
    seen: str | None
    """A file in the storage that every node must see."""


def make_trainer(
    job: Job,
    placement: Placement,
    folder: str,
    callbacks: list[Any],
    kind: type[AnyTrainer],
    max_failures: int,
) -> AnyTrainer:
    """Ray Train's trainer of a job.

    Args:
        folder: on the driver, for the little that Ray Train itself writes.
        max_failures: in all; -1 for any number.
    """
    workers: int | tuple[int, int] = placement.workers
    if placement.min_workers:
        workers = (placement.min_workers, placement.workers)

    scaling = ray.train.ScalingConfig(
        num_workers=workers,  # pyright: ignore[reportArgumentType]
        use_gpu=placement.gpus_per_worker > 0,
        resources_per_worker=placement.share,
        elastic_resize_monitor_interval_s=RESIZE_EVERY_S,
    )
    run = ray.train.RunConfig(
        name="job",
        storage_path=folder,
        failure_config=ray.train.FailureConfig(max_failures=max_failures),
        callbacks=callbacks,
    )
    return kind(
        train_worker,
        train_loop_config={"job": job},
        torch_config=Distributed(),
        scaling_config=scaling,
        run_config=run,
    )


def fit(request: Request, *, board: Path, title: str, console: Console) -> TrainingResult:
    """Train under Ray Train; call it inside `cluster()`.

    With the same state file again it resumes after the last whole epoch.

    Args:
        board: where the TensorBoard files go.
        title: of the progress bar.

    Raises:
        InputError: the training diverged, or the config does not fit the data or the workers.
        FailedError: workers died more than MAX_FAILURES times within an epoch, none came in time,
            or the storage failed.
    """
    config, placement = request.config, request.placement
    for count in placement.sizes:
        check_batches(config, request.data.train, count)
    if not config.threads and not placement.gpus_per_worker:
        config = config.replace(threads=placement.cpus_per_worker)

    # The queue lives on the driver's node, so that no other node's death ends it.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    progress = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
    job = _put(request, config, progress)
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        TrainingBar(config.epochs, title, console) as bar,
        Board(board) as points,
        Watch(progress, bar, points, placement) as watch,
    ):
        callbacks = [_Deaths(progress)]
        trainer = make_trainer(job, placement, folder, callbacks, Trainer, max_failures=-1)
        watch.wait_for(trainer.fit, trainer.stop)
    return _read_result(request)


def _put(request: Request, config: TrainConfig, progress: Queue) -> Job:
    """The request as a job, its data shared with every node."""
    return Job(
        config=config,
        data=share_data(request.data),
        state=request.state,
        requirements=Requirements(versions(), request.seen),
        progress=progress,
    )


def _read_result(request: Request) -> TrainingResult:
    saved = request.state.load()
    assert saved is not None, "every epoch saves the state"
    config = TrainConfig.from_dict(saved["config"])
    model = build_model(config, request.data.problem)
    model.load_state_dict(final_weights(saved))
    history = [EpochReport.from_dict(values) for values in saved["history"]]
    return TrainingResult(model.eval(), config, tuple(history))


class _Deaths(ray.train.UserCallback):
    """Tells, from Ray Train's controller, why workers are started anew."""

    def __init__(self, progress: Queue) -> None:
        self.progress = progress

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        reason = root_cause(worker_exceptions)
        self.progress.put_nowait(encode(WorkersDied(reason)))


def root_cause(errors: dict[int, Exception]) -> str:
    """Root cause in one line; peers of a dead worker fail too.

    Args:
        errors: by rank.
    """

    def order(item: tuple[int, Exception]) -> tuple[bool, int]:
        rank, error = item
        unhealthy = isinstance(error, (WorkerHealthCheckTimeoutError, WorkerHealthCheckFailedError))
        return not unhealthy, rank

    rank, error = min(errors.items(), key=order)
    if isinstance(error, WorkerHealthCheckTimeoutError):
        variable = "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"
        return f"worker {rank} has not answered for {os.environ[variable]} s ({variable})"
    if isinstance(error, WorkerHealthCheckFailedError):
        return f"worker {rank} died: {_in_a_line(str(error.health_check_failure))}"

    reason = _in_a_line(str(error))
    if any(sign in reason for sign in LOST_PEER):
        return f"worker {rank} lost another one"
    return f"worker {rank}: {reason}"


def _in_a_line(text: str) -> str:
    """What Ray or PyTorch says of a death, without its guesses at the cause."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no reason given"]
    reason = lines[-1]
    for line in lines:
        if "exit" in line or "node" in line.lower():
            reason = line
            break
    reason = re.sub(r"^.*Worker exit detail: ", "", reason)
    return reason.partition(" Some common causes")[0][:300]


class Watch:
    """Waits for a job on the main thread, and shows what its workers report.

    Epochs and steps go to a bar, to the console and to TensorBoard's files. Ray Train's own wait
    would replace the handler of Ctrl-C, and does not say why workers do not come.
    """

    def __init__(
        self, progress: Queue, bar: TrainingBar, board: Board, placement: Placement
    ) -> None:
        self.progress, self.bar, self.board, self.placement = progress, bar, board, placement
        self.failure: Exception | None = None
        self.deaths = 0
        """Deaths since the last whole epoch."""
        self.waiting_since: float | None = time.monotonic()
        """When workers were last asked for; None while they run."""
        self.told_of_waiting = False
        self.starts = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.progress.shutdown()

    def wait_for(self, run: Callable[[], Any], stop: Callable[[], None]) -> None:
        """Run the job in a thread, and listen until it ends.

        Args:
            stop: makes `run` end soon.

        Raises:
            InputError, FailedError: the job failed; the reason in one line.
        """
        outcome: Future[Any] = Future()

        def call() -> None:
            try:
                outcome.set_result(run())
            except BaseException as error:
                outcome.set_exception(error)

        threading.Thread(target=call, daemon=True).start()
        try:
            while not outcome.done() and self.failure is None:
                self._hear(0.5)
            while self._hear(0.0):
                pass
        finally:
            if not outcome.done():
                self._give_up(outcome, stop)

        if self.failure is not None:
            raise self.failure
        error = outcome.exception()
        if error is not None:
            raise self._explained(error) from error

    def _give_up(self, outcome: "Future[Any]", stop: Callable[[], None]) -> None:
        """After an interrupt or a failure: Ray Train's controller, in a thread here, is about to
        lose its Ray."""
        logging.getLogger("ray.train").setLevel(logging.CRITICAL)
        stop()
        with contextlib.suppress(TimeoutError):
            outcome.exception(STOP_S)

    def _hear(self, timeout_s: float) -> bool:
        """Take the next message; False if there is none."""
        try:
            if timeout_s:
                values = self.progress.get(timeout=timeout_s)
            else:
                values = self.progress.get_nowait()
        except queue.Empty:
            self._mind_the_wait()
            return False

        match decode(values):
            case EpochReport(metrics=metrics):
                self.deaths = 0
                self.bar.on_epoch(metrics)
                self.board.on_epoch(metrics)
            case StepReport() as report:
                self.bar.on_step(report)
            case WorkersStarted() as started:
                self._on_start(started)
            case WorkersDied(reason=reason):
                self._on_death(reason)
            case Notice(line=line):
                self._say(line)
            case JobFailed(reason=reason, bad_input=True):
                self.failure = InputError(f"{self.bar.title}: {reason}")
            case JobFailed(reason=reason):
                self.failure = FailedError(reason)
        return True

    def _say(self, line: str) -> None:
        # Without markup: the reason of a failure may hold [anything].
        self.bar.console.print(line, highlight=False, soft_wrap=True, markup=False)

    def _on_start(self, started: WorkersStarted) -> None:
        if self.starts:
            workers = plural(started.workers, "worker")
            self._say(f"going on after epoch {started.epochs_done} with {workers}")
        self.starts += 1
        self.waiting_since = None
        self.told_of_waiting = False

    def _on_death(self, reason: str) -> None:
        self.deaths += 1
        if self.deaths > MAX_FAILURES:
            self.failure = FailedError(
                f"workers died {self.deaths} times within one epoch; last: {reason}"
            )
            return
        if self.waiting_since is not None and self.starts:
            return  # of the same death
        self._say(f"{reason}; starting workers anew")
        self.waiting_since = time.monotonic()

    def _mind_the_wait(self) -> None:
        """Say so once when workers do not come; give up in the end."""
        if self.waiting_since is None:
            return
        waited_s = time.monotonic() - self.waiting_since
        if waited_s > WAIT_S:
            self.failure = FailedError(
                f"no room for {self.placement} within {WAIT_S / 60:.0f} minutes: "
                f"the cluster has {look()}"
            )
        elif waited_s > WAIT_TOLD_S and not self.told_of_waiting and not self._room():
            self.told_of_waiting = True
            self._say(f"waiting for room for {self.placement}: the cluster has {look()} now")

    def _room(self) -> bool:
        """Whether the workers would fit if nothing else ran."""
        now = look()
        if self.placement.gpus_per_worker:
            fitting = now.gpus
        else:
            share = self.placement.cpus_per_worker
            fitting = sum(threads // share for threads in now.node_cpus)
        return fitting >= min(self.placement.sizes)

    def _explained(self, error: BaseException) -> BaseException:
        """The error as a FailedError of one line, where it is one of Ray's."""
        if not isinstance(error, (ray.train.TrainingFailedError, ray.exceptions.RayError)):
            return error
        lines = [line for line in str(error).splitlines() if line.strip()]
        reason = lines[-1] if lines else repr(error)
        return FailedError(f"Ray Train failed: {reason}")
