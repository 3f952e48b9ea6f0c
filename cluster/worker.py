"""What each rank of a DDP job runs: the one training session, with its rank and world size."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil
import ray
import ray.train
import ray.train.torch
import ray.util
import torch
import torch.distributed as dist
from ray.train.torch.config import TorchConfig
from ray.util.queue import Queue

from cluster.messages import JobFailed, Message, Notice, WorkersStarted, encode
from cluster.nodes import Requirements
from cluster.ray_compat import BaseWorkerGroup, TorchBackend
from cluster.shared_data import SharedData
from cluster.storage import StateFile
from fmnist.cli import NO_ACCESS, NO_ROOM
from fmnist.config import TrainConfig
from fmnist.errors import FailedError, InputError
from fmnist.training.device import Rank, set_threads
from fmnist.training.metrics import DivergedError, TrainingFailed
from fmnist.training.session import TrainingResult, run_session

INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


@dataclass(frozen=True, slots=True)
class Job:
    """All that a rank needs."""

    config: TrainConfig
    data: SharedData
    state: StateFile
    requirements: Requirements
    """What the worker's node must have."""
    progress: Queue | None
    """Takes messages as plain dicts; None for a trial, whose reports go to Ray Tune."""

    def send(self, message: Message) -> None:
        if self.progress is not None:
            self.progress.put_nowait(encode(message))


def own_interface() -> str | None:
    """The network interface that has this node's address in Ray.

    The host's name may resolve to another one.
    """
    address = ray.util.get_node_ip_address()
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address == address for one in addresses):
            return name
    return None


def name_interface() -> None:
    """Tell gloo and NCCL which interface to use, unless the user has."""
    interface = own_interface()
    if interface is None:
        return
    for variable in INTERFACES:
        os.environ.setdefault(variable, interface)


class Backend(TorchBackend):
    """Ray Train's backend for PyTorch, with the network interface named before it connects."""

    def on_start(self, worker_group: BaseWorkerGroup, backend_config: TorchConfig) -> None:
        worker_group.execute(name_interface)
        super().on_start(worker_group, backend_config)


class Distributed(TorchConfig):
    """Ray Train's set-up of torch.distributed, over the right network interface."""

    @property
    def backend_cls(self) -> type[Backend]:
        return Backend


@dataclass(frozen=True, slots=True)
class SharedState:
    """The job's state file, which rank 0 alone reads and writes.

    Each rank reading it by itself might, over a network, meet different ones.
    """

    file: StateFile
    rank: Rank
    tell: Callable[[str], None]
    """Takes a line when the storage does not answer."""

    def load(self) -> dict[str, Any] | None:
        state = self.file.load(self.tell) if self.rank.rank == 0 else None
        if self.rank.world_size == 1:
            return state

        box = [state]
        device = torch.device("cpu") if dist.get_backend() == "gloo" else None
        dist.broadcast_object_list(box, src=0, device=device)
        return box[0]

    def save(self, state: dict[str, Any]) -> None:
        if self.rank.rank == 0:
            self.file.save(state, self.tell)


def train_worker(loop_config: dict[str, Any]) -> None:
    """Train under Ray Train; after each epoch rank 0 saves the state to resume from.

    A failure that a new attempt would meet again (a config that does not fit, a diverged training,
    a full disk) is told to the driver: Ray Train would only try again.
    """
    job: Job = loop_config["job"]
    try:
        _train(job)
    except DivergedError as error:  # every rank meets it alike
        if ray.train.get_context().get_world_rank() == 0:
            job.send(JobFailed(str(error), bad_input=True))
        ray.train.report(TrainingFailed(job.config.epochs, str(error), diverged=True).to_dict())
    except InputError as error:
        job.send(JobFailed(str(error), bad_input=True))
        raise
    except FailedError as error:
        job.send(JobFailed(str(error), bad_input=False))
        raise
    except OSError as error:
        reason = (NO_ROOM | NO_ACCESS).get(error.errno or 0)
        if reason is not None:
            node = ray.util.get_node_ip_address()
            line = f"{job.state.place} cannot be written from node {node}: {reason}; make room"
            job.send(JobFailed(line, bad_input=False))
        raise


def _train(job: Job) -> None:
    job.requirements.check_here()
    set_threads(job.config)
    context = ray.train.get_context()
    rank = Rank(
        ray.train.torch.get_device(),
        rank=context.get_world_rank(),
        world_size=context.get_world_size(),
    )

    def send(message: Message) -> None:
        if rank.rank == 0:
            job.send(message)

    session = run_session(
        job.config,
        job.data.open(),
        rank,
        SharedState(job.state, rank, tell=lambda line: send(Notice(line))),
        on_start=lambda epochs_done: send(WorkersStarted(epochs_done, rank.world_size)),
        on_step=send if rank.rank == 0 else None,
    )
    for event in session:
        # The driver has heard of epochs of earlier sessions, and reads the result from the state.
        if isinstance(event, TrainingResult) or event.replayed:
            continue
        send(event)
        ray.train.report(event.to_dict())
