"""What each rank of a DDP job runs: the one training loop, with Ray Train's rank and world size."""

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
from ray.util.queue import Queue

from fmnist.checkpoint import load_state, save_state
from fmnist.config import TrainConfig
from fmnist.data import Split
from fmnist.device import set_threads
from fmnist.errors import InputError
from fmnist.loop import DivergedError, StepReport, train_epochs

STATE_FILE = "state.pt"


@dataclass(frozen=True, slots=True)
class Job:
    """All that a rank needs; the splits are references into Ray's object store."""

    config: TrainConfig
    classes: int
    train: "ray.ObjectRef[Split]"
    validation: "ray.ObjectRef[Split] | None"
    progress: Queue
    """Takes what rank 0 says: ("step", StepReport as a dict), ("epoch", EpochMetrics as a dict) or ("failed", reason).

    Plain values, or else the queue's own process would have to import torch to hold them.
    """


def train_worker(loop_config: dict[str, Any]) -> None:
    """Train under Ray Train; each epoch is reported with the state to resume from.

    What no new attempt would mend (a config that does not fit, a diverged training) is told to the driver instead of raised:
    Ray Train would only try again.
    """
    job: Job = loop_config["job"]
    try:
        _train(job)
    except (InputError, DivergedError) as error:  # every rank meets it alike
        if ray.train.get_context().get_world_rank() == 0:
            job.progress.put_nowait(("failed", str(error)))


def _train(job: Job) -> None:
    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    set_threads(job.config)
    checkpoint = ray.train.get_checkpoint()
    resume = None
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            resume = load_state(Path(folder) / STATE_FILE)
    history: list[dict[str, Any]] = resume["history"] if resume else []

    def show_step(report: StepReport) -> None:
        job.progress.put_nowait(("step", asdict(report)))

    for metrics, state in train_epochs(
        job.config,
        ray.get(job.train),
        None if job.validation is None else ray.get(job.validation),
        classes=job.classes,
        device=ray.train.torch.get_device(),
        rank=rank,
        world_size=world_size,
        on_step=show_step if rank == 0 else None,
        resume=resume,
    ):
        history.append(metrics.to_dict())
        if rank:
            ray.train.report(metrics.to_dict())
            continue
        job.progress.put_nowait(("epoch", metrics.to_dict()))
        with tempfile.TemporaryDirectory() as folder:
            save_state(Path(folder) / STATE_FILE, state.state_dict() | {"history": history})
            ray.train.report(metrics.to_dict(), checkpoint=ray.train.Checkpoint.from_directory(folder))
