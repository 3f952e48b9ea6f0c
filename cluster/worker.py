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
from fmnist.loop import StepReport, train_epochs

STATE_FILE = "state.pt"


@dataclass(frozen=True, slots=True)
class Job:
    """All that a rank needs; the splits are references into Ray's object store."""

    config: TrainConfig
    classes: int
    train: "ray.ObjectRef[Split]"
    validation: "ray.ObjectRef[Split] | None"
    progress: Queue
    """Takes rank 0's StepReport and EpochMetrics as ("step", dict) and ("epoch", dict): plain values, or else the queue's
    own process would have to import torch to hold them."""


def train_worker(loop_config: dict[str, Any]) -> None:
    """Train under Ray Train; each epoch is reported with the state to resume from."""
    job: Job = loop_config["job"]
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
