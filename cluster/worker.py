"""What each rank of a DDP job runs: the one training loop, with Ray Train's rank and world size."""

import os
from dataclasses import asdict, dataclass
from functools import partial
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

from cluster.nodes import check_here
from cluster.ray_compat import BaseWorkerGroup, TorchBackend
from cluster.storage import StateFile
from fmnist.cli import NO_ACCESS, NO_ROOM
from fmnist.config import TrainConfig
from fmnist.data import Split
from fmnist.device import set_threads
from fmnist.errors import FailedError, InputError
from fmnist.loop import WORST, DivergedError, train_epochs

INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


@dataclass(frozen=True, slots=True)
class Job:
    """All that a rank needs; the splits are references into Ray's object store."""

    config: TrainConfig
    classes: int
    train: "ray.ObjectRef[Split]"
    validation: "ray.ObjectRef[Split] | None"
    state: StateFile
    versions: dict[str, str]
    """The driver's, which the node's must be."""
    seen: str | None
    """A file in the storage that every node must see."""
    progress: Queue | None
    """Takes a kind and what there is to say, as plain values: the queue's own process need not import torch to hold them.

    "start": epochs done and workers; "step": a StepReport's fields; "epoch": an EpochMetrics' fields; "tell": a line; "died": why
    workers are started anew; "failed": what the user can mend; "broken": what no new attempt would mend.
    None for a trial, whose reports go to Ray Tune.
    """

    def say(self, kind: str, what: Any) -> None:
        if self.progress is not None:
            self.progress.put_nowait((kind, what))


def own_interface() -> str | None:
    """The network interface that has this node's address in Ray: what the host's name resolves to need not be it."""
    address = ray.util.get_node_ip_address()
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address == address for one in addresses):
            return name
    return None


def name_interface() -> None:
    """Tell gloo and NCCL which interface to use, unless the user has."""
    interface = own_interface()
    for variable in INTERFACES:
        if interface is not None:
            os.environ.setdefault(variable, interface)


class Backend(TorchBackend):
    def on_start(self, worker_group: BaseWorkerGroup, backend_config: TorchConfig) -> None:
        worker_group.execute(name_interface)
        super().on_start(worker_group, backend_config)


class Distributed(TorchConfig):
    """Ray Train's set-up of torch.distributed, over the right network interface."""

    @property
    def backend_cls(self) -> type[Backend]:
        return Backend


def train_worker(loop_config: dict[str, Any]) -> None:
    """Train under Ray Train; after each epoch rank 0 saves the state to resume from.

    What no new attempt would mend (a config that does not fit, a diverged training, a full disk) is told to the driver: Ray Train
    would only try again.
    """
    job: Job = loop_config["job"]
    try:
        _train(job)
    except DivergedError as error:  # every rank meets it alike
        if ray.train.get_context().get_world_rank() == 0:
            job.say("failed", str(error))
        ray.train.report({"epoch": job.config.epochs, "validation_accuracy": WORST, "ended": f"diverged: {error}"})
    except InputError as error:
        job.say("failed", str(error))
        raise
    except FailedError as error:
        job.say("broken", str(error))
        raise
    except OSError as error:
        if (reason := (NO_ROOM | NO_ACCESS).get(error.errno or 0)) is not None:
            node = ray.util.get_node_ip_address()
            job.say("broken", f"{job.state.place} cannot be written from node {node}: {reason}; make room")
        raise


def _train(job: Job) -> None:
    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    check_here(job.versions, job.seen)
    set_threads(job.config)

    def say(kind: str, what: Any) -> None:
        if rank == 0:
            job.say(kind, what)

    resume = _shared(job.state.load(partial(say, "tell")) if rank == 0 else None, world_size)
    history: list[dict[str, Any]] = resume["history"] if resume else []
    say("start", {"epochs_done": len(history), "workers": world_size})
    for metrics, state in train_epochs(
        job.config,
        ray.get(job.train),
        None if job.validation is None else ray.get(job.validation),
        classes=job.classes,
        device=ray.train.torch.get_device(),
        rank=rank,
        world_size=world_size,
        on_step=None if rank else (lambda report: say("step", asdict(report))),
        resume=resume,
    ):
        history.append(metrics.to_dict() | {"ended": "", "kept_epoch": state.kept_epoch})
        if rank == 0:
            job.state.save(state.state_dict() | {"history": history}, partial(say, "tell"))
        say("epoch", metrics.to_dict())
        ray.train.report(history[-1])


def _shared(state: dict[str, Any] | None, world_size: int) -> dict[str, Any] | None:
    """Rank 0's state on every rank: each reading the file by itself might, over a network, meet different ones."""
    if world_size == 1:
        return state
    box = [state]
    dist.broadcast_object_list(box, src=0, device=torch.device("cpu") if dist.get_backend() == "gloo" else None)
    return box[0]
