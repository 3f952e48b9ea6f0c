"""A DDP training under Ray Train, seen from the driver: place the workers, show their progress, bring the model home."""

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

from cluster.connect import Resources, look
from cluster.nodes import versions
from cluster.ray_compat import WorkerHealthCheckFailedError, WorkerHealthCheckTimeoutError
from cluster.storage import StateFile
from cluster.trainer import Trainer
from cluster.worker import Distributed, Job, train_worker
from fmnist.board import Board
from fmnist.config import TrainConfig
from fmnist.data import Split
from fmnist.errors import FailedError, InputError, check
from fmnist.loop import EpochMetrics, StepReport, check_batches, final_weights
from fmnist.models import Classifier, build_model
from fmnist.progress import TrainingBar

MAX_FAILURES = 3
"""Times that workers may die within one epoch before a job gives up: a long one on spot machines survives any number."""
LOST_PEER = ("Connection closed", "Connection reset", "Broken pipe", "Gloo", "NCCL")
RESIZE_EVERY_S = 15.0
"""How often an elastic job looks whether machines came: each new size costs the epoch in flight."""
STOP_S = 5.0
"""How long a job that is given up may take to let go of Ray."""
WAIT_TOLD_S = 20.0
"""A job that waits so long for its workers says so."""
WAIT_S = 1800.0
"""It gives up after so long: enough for machines that the autoscaler has to rent and set up."""


AnyTrainer = TypeVar("AnyTrainer", bound=TorchTrainer)


@dataclass(frozen=True, slots=True)
class Placement:
    """How many workers, and what each takes."""

    workers: int
    cpus_per_worker: int = 1
    gpus_per_worker: float = 0
    min_workers: int = 0
    """An elastic job goes on with as few; 0 means not elastic."""

    @property
    def share(self) -> dict[str, float]:
        """What a worker takes, as Ray names it."""
        return {"CPU": self.cpus_per_worker} | ({"GPU": self.gpus_per_worker} if self.gpus_per_worker else {})

    @property
    def sizes(self) -> range:
        """The numbers of workers that there may be."""
        return range(self.min_workers or self.workers, self.workers + 1)

    def __str__(self) -> str:
        cpus = f"{self.cpus_per_worker} CPU thread{'s' if self.cpus_per_worker > 1 else ''}"
        gpus = "a GPU" if self.gpus_per_worker == 1 else f"{self.gpus_per_worker:g} of a GPU"
        fewest = f"{self.min_workers} to " if self.min_workers else ""
        several = self.workers > 1
        share = gpus if self.gpus_per_worker else cpus
        return f"{fewest}{self.workers} worker{'s' if several else ''} with {share}{' each' if several else ''}"


def parse_workers(text: str) -> tuple[int, int]:
    """Fewest and most workers, of N or MIN:MAX; (0, 0) of nothing. Raises InputError."""
    low, colon, high = text.partition(":")
    numbers = (low, high if colon else low) if text else ("0", "0")
    fine = all(number.isdecimal() for number in numbers) and int(numbers[0]) <= int(numbers[1])
    fine = fine and (int(numbers[0]) >= 1 or not colon)
    check(fine, f"workers={text!r}: give a number, or MIN:MAX with 1 <= MIN <= MAX")
    return int(numbers[0]), int(numbers[1])


def place(resources: Resources, workers: str = "", gpus_per_worker: float | None = None, global_batch_size: int = 0) -> Placement:
    """One worker per GPU; on a cluster without GPUs one per node, with all the node's CPU threads.

    Args:
        resources: what the cluster offers.
        workers: N, MIN:MAX or nothing, which takes what there is and shares the batch evenly.
        gpus_per_worker: 1 where there are GPUs, unless it is given; 0 trains on CPUs.
        global_batch_size: it must be a multiple of every number of workers that there may be.

    Raises:
        InputError: more workers than the cluster will ever have room for, or a batch that cannot be shared.
    """
    low, high = parse_workers(workers)
    ever = resources.gpus_ever
    gpus = (1 if ever else 0) if gpus_per_worker is None else gpus_per_worker
    check(0 <= gpus <= 1, f"gpus_per_worker={gpus:g}: a worker computes on one GPU at most; give 0 to 1, and more workers")
    whole = gpus in (0, 1) or high <= 1
    check(whole, f"gpus_per_worker={gpus:g}: NCCL refuses two workers on one GPU; take 1, or one worker")
    check(not gpus or ever > 0, f"gpus_per_worker={gpus:g}: the cluster has {resources}; give 0 to train on CPUs")
    if gpus:
        check(low <= ever, f"workers={workers}: the cluster has {resources}, and each worker takes one GPU")
        placement = Placement(high or max(resources.gpus, 1), 1, gpus, low if low < high else 0)
    else:
        check(low <= resources.cpus, f"workers={workers}: the cluster has {resources}, and each worker takes one CPU thread")
        most = high or sum(cpus > 0 for cpus in resources.node_cpus)
        wanted = min(most, resources.cpus)
        shares = range(max(resources.node_cpus), 0, -1)
        cpus = next(share for share in shares if sum(cpus // share for cpus in resources.node_cpus) >= wanted)
        placement = Placement(most, cpus, 0, low if low < high else 0)
    if not high and global_batch_size:
        even = next(count for count in range(placement.workers, 0, -1) if global_batch_size % count == 0)
        return Placement(even, placement.cpus_per_worker, gpus)
    for count in placement.sizes if global_batch_size else ():
        check(
            global_batch_size % count == 0, f"global_batch_size={global_batch_size}: it must be a multiple of the {count} workers"
        )
    return placement


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


def make_trainer(
    job: Job, placement: Placement, folder: str, callbacks: list[Any], kind: type[AnyTrainer], max_failures: int
) -> AnyTrainer:
    """Args: folder: on the driver, for the little that Ray Train itself writes. max_failures: in all; -1 for any number."""
    elastic = (placement.min_workers, placement.workers) if placement.min_workers else placement.workers
    return kind(
        train_worker,
        train_loop_config={"job": job},
        torch_config=Distributed(),
        scaling_config=ray.train.ScalingConfig(
            num_workers=elastic,  # pyright: ignore[reportArgumentType]
            use_gpu=placement.gpus_per_worker > 0,
            resources_per_worker=placement.share,
            elastic_resize_monitor_interval_s=RESIZE_EVERY_S,
        ),
        run_config=ray.train.RunConfig(
            name="job",
            storage_path=folder,
            failure_config=ray.train.FailureConfig(max_failures=max_failures),
            callbacks=callbacks,
        ),
    )


def fit(
    config: TrainConfig,
    train: Split,
    validation: Split | None,
    *,
    classes: int,
    placement: Placement,
    state: StateFile,
    seen: str | None,
    board: Path,
    title: str,
    console: Console,
) -> Trained:
    """Train under Ray Train; call it inside `cluster()`. With the same state file again it resumes after the last whole epoch.

    Args:
        state: written after each epoch.
        seen: a file in the storage that every node must see.
        board: where the TensorBoard files go.

    Raises:
        InputError: the training diverged, or the config does not fit the data or the workers.
        FailedError: workers died more than MAX_FAILURES times within an epoch, none came in time, or the storage failed.
    """
    for count in placement.sizes:
        check_batches(config, train, count)
    if not config.threads and not placement.gpus_per_worker:
        config = config.replace(threads=placement.cpus_per_worker)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)  # no other node's death ends it
    progress = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
    held_out = None if validation is None else ray.put(validation)
    job = Job(config, classes, ray.put(train), held_out, state, versions(), seen, progress)
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        TrainingBar(config.epochs, title, console) as bar,
        Board(board) as points,
        Watch(progress, bar, points, placement) as watch,
    ):
        trainer = make_trainer(job, placement, folder, [_Deaths(progress)], Trainer, max_failures=-1)
        watch.wait_for(trainer.fit, trainer.stop)
    saved = state.load()
    assert saved is not None, "every epoch saves the state"
    config = TrainConfig.from_dict(saved["config"])
    model = build_model(config, train.problem(classes))
    model.load_state_dict(final_weights(saved))
    return Trained(model.eval(), config, saved["history"], saved["history"][-1]["kept_epoch"])


class _Deaths(ray.train.UserCallback):
    """Tells, from Ray Train's controller, why workers are started anew."""

    def __init__(self, progress: Queue) -> None:
        self.progress = progress

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        self.progress.put_nowait(("died", reason_of(worker_exceptions)))


def reason_of(errors: dict[int, Exception]) -> str:
    """The one of the workers' errors that is the cause, in a line: when a worker dies, the others fail for want of it."""

    def rank_of(error: tuple[int, Exception]) -> tuple[bool, int]:
        return not isinstance(error[1], (WorkerHealthCheckTimeoutError, WorkerHealthCheckFailedError)), error[0]

    rank, error = min(errors.items(), key=rank_of)
    if isinstance(error, WorkerHealthCheckTimeoutError):
        seconds = os.environ["RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"]
        return f"worker {rank} has not answered for {seconds} s (RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S)"
    if isinstance(error, WorkerHealthCheckFailedError):
        return f"worker {rank} died: {_in_a_line(str(error.health_check_failure))}"
    said = _in_a_line(str(error))
    return f"worker {rank} lost another one" if any(sign in said for sign in LOST_PEER) else f"worker {rank}: {said}"


def _in_a_line(text: str) -> str:
    """What Ray or PyTorch says of a death, without its guesses at the cause."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no reason given"]
    why = next((line for line in lines if "exit" in line or "node" in line.lower()), lines[-1])
    why = re.sub(r"^.*Worker exit detail: ", "", why)
    return why.partition(" Some common causes")[0][:300]


class Watch:
    """Waits for a job on the main thread; shows what rank 0 says on a bar, on the console and in TensorBoard's files.

    Ray Train's own wait would replace the handler of Ctrl-C, and says nothing of why workers do not come.
    """

    def __init__(self, progress: Queue, bar: TrainingBar, board: Board, placement: Placement) -> None:
        self.progress, self.bar, self.board, self.placement = progress, bar, board, placement
        self.failure: Exception | None = None
        self.deaths = 0
        """Since the last whole epoch."""
        self.waiting_since: float | None = time.monotonic()
        """When workers were last asked for; None while they run."""
        self.told_of_waiting = False
        self.starts = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.progress.shutdown()

    def wait_for(self, run: Callable[[], Any], stop: Callable[[], None]) -> None:
        """Args: stop: what makes `run` end soon. Raises InputError or FailedError, in a line, if the job fails."""
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
            if not outcome.done():  # an interrupt or a failure: Ray Train's controller, in a thread here, is about to lose its Ray
                logging.getLogger("ray.train").setLevel(logging.CRITICAL)
                stop()
                with contextlib.suppress(TimeoutError):
                    outcome.exception(STOP_S)
        if self.failure is not None:
            raise self.failure
        if (error := outcome.exception()) is not None:
            raise self._failed(error) from error

    def _hear(self, timeout_s: float) -> bool:
        """Take what was said next; False if nothing was."""
        try:
            kind, what = self.progress.get(timeout=timeout_s) if timeout_s else self.progress.get_nowait()
        except queue.Empty:
            self._mind_the_wait()
            return False
        if kind == "epoch":
            self.deaths = 0
            self.bar.on_epoch(EpochMetrics(**what))
            self.board.on_epoch(what)
        elif kind == "step":
            self.bar.on_step(StepReport(**what))
        elif kind == "start":
            self._on_start(**what)
        elif kind == "died":
            self._on_death(what)
        elif kind == "tell":
            self._say(what)
        else:
            self.failure = InputError(f"{self.bar.title}: {what}") if kind == "failed" else FailedError(what)
        return True

    def _say(self, line: str) -> None:
        self.bar.console.print(line, highlight=False, soft_wrap=True, markup=False)  # what broke may say [anything]

    def _on_start(self, epochs_done: int, workers: int) -> None:
        if self.starts:
            self._say(f"going on after epoch {epochs_done} with {workers} worker{'s' if workers > 1 else ''}")
        self.bar.workers = workers
        self.starts += 1
        self.waiting_since, self.told_of_waiting = None, False

    def _on_death(self, reason: str) -> None:
        self.deaths += 1
        if self.deaths > MAX_FAILURES:
            self.failure = FailedError(f"workers died {self.deaths} times within one epoch; last: {reason}")
            return
        if self.waiting_since is not None and self.starts:
            return  # of the same death
        self._say(f"{reason}; starting workers anew")
        self.waiting_since = time.monotonic()

    def _mind_the_wait(self) -> None:
        if self.waiting_since is None:
            return
        waited_s = time.monotonic() - self.waiting_since
        if waited_s > WAIT_S:
            self.failure = FailedError(f"no room for {self.placement} within {WAIT_S / 60:.0f} minutes: the cluster has {look()}")
        elif waited_s > WAIT_TOLD_S and not self.told_of_waiting and not self._room():
            self.told_of_waiting = True
            self._say(f"waiting for room for {self.placement}: the cluster has {look()} now")

    def _room(self) -> bool:
        """Whether the workers would fit if nothing else ran."""
        now, wanted = look(), self.placement.min_workers or self.placement.workers
        fitting = (
            now.gpus if self.placement.gpus_per_worker else sum(cpus // self.placement.cpus_per_worker for cpus in now.node_cpus)
        )
        return fitting >= wanted

    def _failed(self, error: BaseException) -> BaseException:
        if isinstance(error, (ray.train.TrainingFailedError, ray.exceptions.RayError)):
            lines = [line for line in str(error).splitlines() if line.strip()]
            return FailedError(f"Ray Train failed: {lines[-1] if lines else error!r}")
        return error
