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
    "RAY_ENABLE_AUTO_CONNECT": "0",  # a thread that outlives ray.shutdown() would start another Ray
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a process of its own, which imports for seconds on a small machine
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",  # it would put its own handlers on our process
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # reports pass one per interval: 2 s by default
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "60",  # a worker that hangs counts as dead after it: 10 minutes by default
    "TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S": "10",  # how long the others then wait for it: 30 s by default
}.items():
    os.environ.setdefault(name, value)

import ray  # noqa: E402  # after the settings that it reads when imported
import ray.exceptions  # noqa: E402

from fmnist.device import cpu_threads  # noqa: E402
from fmnist.errors import InputError, check, first_line  # noqa: E402

AUTOSCALED_GPUS = "autoscaled_gpus"
"""A custom resource of the head: as many GPUs as the autoscaler may rent. Ray 2.60 does not tell a driver."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What the cluster offers."""

    node_cpus: tuple[int, ...]
    """CPU threads of each node."""
    gpus: int = 0
    gpus_to_come: int = 0
    """What the autoscaler would add if asked."""

    @property
    def gpus_ever(self) -> int:
        return self.gpus + self.gpus_to_come

    @property
    def nodes(self) -> int:
        return len(self.node_cpus)

    @property
    def cpus(self) -> int:
        return sum(self.node_cpus)

    def __str__(self) -> str:
        nodes = f"{self.nodes} nodes, " if self.nodes > 1 else ""
        to_come = f" (and {self.gpus_to_come} if asked for)" if self.gpus_to_come else ""
        return f"{nodes}{self.cpus} CPU threads, {self.gpus} GPUs{to_come}"


def look() -> Resources:
    """What the cluster offers at this moment. Raises InputError if it has nothing to train on."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = int(sum(node.get("GPU", 0) for node in alive))
    ever = int(sum(node.get(AUTOSCALED_GPUS, 0) for node in alive))
    found = Resources(tuple(int(node.get("CPU", 0)) for node in alive), gpus, max(ever - gpus, 0))
    check(bool(found.cpus or found.gpus_to_come), f"the cluster has {found}: start its nodes with --num-cpus of at least 1")
    return found


@contextmanager
def cluster(address: str | None = None, *, verbose: bool = False, dashboard: bool = False) -> Generator[Resources]:
    """Start a Ray of our own on this machine, or join the one at `address`; leave it at the end.

    Args:
        address: of a Ray that is up.
        verbose: show what Ray and the workers print.
        dashboard: a Ray of our own gets one too; what Ray Train leaves behind when a trial is stopped is found through it.

    Without an address we never join what happens to be there: a stale address file would lead to a dead cluster.

    Raises:
        InputError: nothing answers at `address`, the token is wrong, or its Ray or Python is of another version.
    """
    if address is not None:
        _check_answers(address)
    quiet: dict[str, Any] = {"logging_level": logging.INFO if verbose else logging.ERROR, "log_to_driver": verbose}
    try:
        if address is None:
            ray.init(
                address="local",
                num_cpus=cpu_threads(),
                **(_with_dashboard() if dashboard else {"include_dashboard": False}),
                **quiet,
            )
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise InputError(f"address={address!r}: {_why_refused(error)}") from error
    except OSError as error:
        if "AF_UNIX" not in str(error):
            raise
        raise InputError(
            f"RAY_TMPDIR={os.environ.get('RAY_TMPDIR')!r}: too long a path for Ray's sockets; take a shorter one"
        ) from error
    try:
        yield look()
    finally:
        ray.shutdown()


def _with_dashboard() -> dict[str, Any]:
    """Arguments of ray.init for a dashboard that its own processes find, whatever other clusters this machine has."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    here = {"RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{port}"}
    return {"include_dashboard": True, "dashboard_port": port, "runtime_env": {"env_vars": here}}


def _why_refused(error: BaseException) -> str:
    """What kept us from joining, in a line."""
    chain: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        chain.append(str(cause))
        cause = cause.__cause__ or cause.__context__
    said = "\n".join(chain)
    if "uthentication" in said or "nauthenticated" in said or "oken" in said:
        return (
            "the cluster wants its token, and this machine has none or another; copy the head's ~/.ray/auth_token to ~/.ray/ here, "
            "and set RAY_AUTH_MODE=token"
        )
    if "ersion mismatch" in said:
        words = " ".join(line.strip() for line in said.splitlines() if "Ray:" in line or "Python:" in line or "ersion" in line)
        return f"its versions are not ours ({words}); install the same Ray and Python on both"
    return f"no Ray cluster answers there ({first_line(error)})"


def _check_answers(address: str) -> None:
    """Raise InputError unless something listens at host:port; Ray itself would try for minutes."""
    remedy = (
        "on a node of the cluster give auto or HOST:6379; from outside: ray job submit --address http://HOST:8265 -- python -m …"
    )
    check(not address.startswith(("ray://", "http")), f"address={address!r}: a driver has to run in its cluster; {remedy}")
    host, _, port = address.rpartition(":")
    if not host:
        return  # "auto", which Ray answers at once
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as error:
        raise InputError(f"address={address!r}: nothing answers there ({error}); {remedy}") from error
