"""Can every node do its part: does it have our versions, and see the storage? Asked before a job, and by each worker as it
starts."""

import importlib.metadata
import platform
import uuid
from pathlib import Path
from typing import Any

import ray
import ray.exceptions
import ray.util
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.storage import Storage
from fmnist.errors import InputError, check
from fmnist.run import write_atomic

PROBE_TIMEOUT_S = 120.0


def versions() -> dict[str, str]:
    """What must be the same on all nodes; Ray itself compares Ray and Python of what joins it."""
    return {"Python": platform.python_version(), **{name: importlib.metadata.version(name) for name in ("ray", "torch")}}


def check_here(expected: dict[str, str], seen: str | None) -> None:
    """Raise InputError if this node has other versions, or does not see the file `seen`."""
    node = ray.util.get_node_ip_address()
    for name, version in versions().items():
        wanted = expected[name]
        same = version == wanted or (name == "Python" and version.split(".")[:2] == wanted.split(".")[:2])
        check(same, f"node {node} has {name} {version}, the driver {wanted}: install the same on both")
    check(
        seen is None or Path(seen).exists(),
        f"storage: node {node} does not see {seen}: give --storage a folder that all nodes share, or s3://BUCKET/PREFIX",
    )


def check_nodes(storage: Storage) -> None:
    """Ask every node that is up: of a Ray that we did not start ourselves.

    Raises:
        InputError: one has other versions, no fmnist, or does not see the storage.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    seen = None if storage.remote else Path(storage.place) / f".seen-{uuid.uuid4().hex}"
    try:
        if seen is not None:
            write_atomic(seen, "")
        for node in nodes:
            _ask(node, str(seen) if seen else None)
    finally:
        if seen is not None:
            seen.unlink(missing_ok=True)


def _ask(node: dict[str, Any], seen: str | None) -> None:
    there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    asked = ray.remote(check_here).options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote(versions(), seen)
    name = node["NodeManagerAddress"]
    try:
        ray.get(asked, timeout=PROBE_TIMEOUT_S)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise InputError(str(error.cause)) from None
        if isinstance(error.cause, ImportError) or "No module named" in str(error):
            raise InputError(
                f"node {name} lacks this code: submit with ray job submit --working-dir . -- python -m …, or set PYTHONPATH there"
            ) from None
        raise
    except ray.exceptions.GetTimeoutError as error:
        raise InputError(f"node {name} did not answer within {PROBE_TIMEOUT_S:.0f} s; see `ray status`") from error
