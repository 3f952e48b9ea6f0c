"""Join or start Ray, quietly, and say what it offers."""

import logging
import os
import socket
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

for name, value in {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a process of its own, which imports for seconds on a small machine
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # reports pass one per interval: 2 s by default
}.items():
    os.environ.setdefault(name, value)

import ray  # noqa: E402  # after the settings that it reads when imported

from fmnist.device import cpu_threads  # noqa: E402
from fmnist.errors import InputError  # noqa: E402


@dataclass(frozen=True, slots=True)
class Resources:
    """What the cluster offers."""

    cpus: int
    gpus: int
    nodes: int

    def __str__(self) -> str:
        nodes = f"{self.nodes} nodes, " if self.nodes > 1 else ""
        return f"{nodes}{self.cpus} CPU threads, {self.gpus} GPUs"


@contextmanager
def cluster(address: str | None = None, *, verbose: bool = False) -> Generator[Resources]:
    """Start a Ray of our own on this machine, or join the one at `address`; leave it at the end.

    Args:
        address: of a Ray that is up.
        verbose: show what Ray and the workers print.

    Without an address we never join what happens to be there: a stale address file would lead to a dead cluster.

    Raises:
        InputError: nothing answers at `address`.
    """
    if address is not None:
        _check_answers(address)
    quiet: dict[str, Any] = {"logging_level": logging.INFO if verbose else logging.ERROR, "log_to_driver": verbose}
    try:
        if address is None:
            ray.init(address="local", num_cpus=cpu_threads(), include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, ValueError) as error:
        raise InputError(f"address={address!r}: no Ray cluster answers there ({str(error).splitlines()[0]})") from error
    try:
        total = ray.cluster_resources()
        yield Resources(int(total.get("CPU", 0)), int(total.get("GPU", 0)), len(ray.nodes()))
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Raise InputError unless something listens at host:port; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host:
        return  # "auto", which Ray answers at once
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as error:
        raise InputError(
            f"address={address!r}: nothing answers there ({error}); give auto, HOST:6379 or ray://HOST:10001"
        ) from error
