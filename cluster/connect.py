"""Join or start Ray, quietly, and say what it offers."""

import logging
import os
import re
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from cluster.placement import Resources
from fmnist.errors import InputError, check, first_line
from fmnist.runs.threads import cpu_threads

RAY_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    # A thread that outlives ray.shutdown() would start another Ray.
    "RAY_ENABLE_AUTO_CONNECT": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    # The watcher is a process of its own, which imports for seconds on a small machine.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # Structured logging would put Ray's own handlers on our process.
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    # Reports pass one per interval, which is 2 s by default.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    # A worker that hangs counts as dead after this long; by default it takes 10 minutes.
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "60",
    # How long its peers then wait for it; 30 s by default.
    "TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S": "10",
}
for name, value in RAY_SETTINGS.items():
    os.environ.setdefault(name, value)

# Ray reads these settings when it is imported.
import ray  # noqa: E402
import ray.exceptions  # noqa: E402

AUTOSCALED_GPUS = "autoscaled_gpus"
"""A custom resource of the head: as many GPUs as the autoscaler may rent. Ray 2.60 does not tell a
driver."""
CONNECT_TIMEOUT_S = 10


def look() -> Resources:
    """Resources that the cluster offers at this moment.

    Raises:
        InputError: it has nothing to train on.
    """
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    node_cpus = tuple(int(node.get("CPU", 0)) for node in alive)
    gpus = int(sum(node.get("GPU", 0) for node in alive))
    autoscaled = int(sum(node.get(AUTOSCALED_GPUS, 0) for node in alive))

    resources = Resources(node_cpus, gpus, gpus_to_come=max(autoscaled - gpus, 0))
    check(
        bool(resources.cpus or resources.gpus_to_come),
        f"the cluster has {resources}: start its nodes with --num-cpus of at least 1",
    )
    return resources


@contextmanager
def cluster(
    address: str | None = None, *, verbose: bool = False, dashboard: bool = False
) -> Generator[Resources]:
    """Start a Ray of our own on this machine, or join the one at `address`; leave it at the end.

    Without an address we never join what happens to be there: a stale address file would lead to a
    dead cluster.

    Args:
        address: of a Ray that is up.
        verbose: show what Ray and the workers print.
        dashboard: a Ray of our own gets one too; Ray Train finds through it what is left behind
            when a trial is stopped.

    Raises:
        InputError: nothing answers at `address`, the token is wrong, or its Ray or Python is of
            another version.
    """
    arguments: dict[str, Any] = {
        "logging_level": logging.INFO if verbose else logging.ERROR,
        "log_to_driver": verbose,
    }
    if address is not None:
        _check_answers(address)
        arguments |= {"address": address}
    else:
        arguments |= {"address": "local", "num_cpus": cpu_threads()}
        arguments |= _with_dashboard() if dashboard else {"include_dashboard": False}

    try:
        ray.init(**arguments)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise InputError(f"address={address!r}: {_why_refused(error)}") from error
    except OSError as error:
        if "AF_UNIX" not in str(error):
            raise
        folder = os.environ.get("RAY_TMPDIR")
        raise InputError(
            f"RAY_TMPDIR={folder!r}: too long a path for Ray's sockets; take a shorter one"
        ) from error

    try:
        yield look()
    finally:
        ray.shutdown()


def _with_dashboard() -> dict[str, Any]:
    """Arguments of ray.init for a dashboard that its own processes find.

    The machine may have other clusters, with dashboards of their own.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    here = {"RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{port}"}
    return {
        "include_dashboard": True,
        "dashboard_port": port,
        "runtime_env": {"env_vars": here},
    }


def _why_refused(error: BaseException) -> str:
    """Why we could not join, in one line."""
    chain: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        chain.append(str(cause))
        cause = cause.__cause__ or cause.__context__
    text = "\n".join(chain)

    # Without their first letters: they stand at the start of a sentence, or within one.
    if any(word in text for word in ("uthentication", "nauthenticated", "oken")):
        return (
            "the cluster wants its token, and this machine has none or another; copy the head's "
            "~/.ray/auth_token to ~/.ray/ here, and set RAY_AUTH_MODE=token"
        )
    if "ersion mismatch" in text:
        lines = [line.strip() for line in text.splitlines()]
        versions = [line for line in lines if re.search("Ray:|Python:|ersion", line)]
        return (
            f"its versions are not ours ({' '.join(versions)}); "
            "install the same Ray and Python on both"
        )
    return f"no Ray cluster answers there ({first_line(error)})"


def _check_answers(address: str) -> None:
    """Raise InputError unless something listens at host:port; Ray itself would try for minutes."""
    remedy = (
        "on a node of the cluster give auto or HOST:6379; "
        "from outside: ray job submit --address http://HOST:8265 -- python -m …"
    )
    check(
        not address.startswith(("ray://", "http")),
        f"address={address!r}: a driver has to run in its cluster; {remedy}",
    )
    host, _, port = address.rpartition(":")
    if not host:
        return  # "auto", which Ray answers at once
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError, OverflowError) as error:
        raise InputError(
            f"address={address!r}: nothing answers there ({error}); {remedy}"
        ) from error
