"""Can every node do its part: has it our versions, and does it see the storage?

The driver asks each node before a job, and each worker asks itself as it starts.
"""

import importlib.metadata
import platform
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.exceptions
import ray.util
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.storage import Storage
from fmnist.errors import InputError, check
from fmnist.runs.files import write_atomic

PROBE_TIMEOUT_S = 120.0


def versions() -> dict[str, str]:
    """Versions that all nodes must share; Ray itself compares Ray and Python of what joins it."""
    packages = {name: importlib.metadata.version(name) for name in ("ray", "torch")}
    return {"Python": platform.python_version()} | packages


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a node needs to take part in a job."""

    versions: dict[str, str]
    """The driver's."""
    seen: str | None
    """A file in the storage that the node must see; None where all nodes see the same."""

    def check_here(self) -> None:
        """Raise InputError if this node has other versions, or does not see the file."""
        node = ray.util.get_node_ip_address()
        for name, version in versions().items():
            wanted = self.versions[name]
            check(
                _same_version(name, version, wanted),
                f"node {node} has {name} {version}, the driver {wanted}: install the same on both",
            )
        check(
            self.seen is None or Path(self.seen).exists(),
            f"storage: node {node} does not see {self.seen}: "
            "give --storage a folder that all nodes share, or s3://BUCKET/PREFIX",
        )


def _same_version(name: str, version: str, wanted: str) -> bool:
    if name == "Python":  # what one patch release pickles, another of the same minor one reads
        return version.split(".")[:2] == wanted.split(".")[:2]
    return version == wanted


def check_nodes(storage: Storage) -> None:
    """Ask every node of a Ray that we did not start ourselves.

    Raises:
        InputError: one has other versions, no fmnist, or does not see the storage.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    marker = None
    if not storage.remote:
        marker = Path(storage.place) / f".seen-{uuid.uuid4().hex}"

    requirements = Requirements(versions(), None if marker is None else str(marker))
    try:
        if marker is not None:
            write_atomic(marker, "")
        for node in nodes:
            _ask(node, requirements)
    finally:
        if marker is not None:
            marker.unlink(missing_ok=True)


def _ask(node: dict[str, Any], requirements: Requirements) -> None:
    there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    task = ray.remote(Requirements.check_here).options(
        num_cpus=0, max_retries=0, scheduling_strategy=there
    )
    name = node["NodeManagerAddress"]
    try:
        ray.get(task.remote(requirements), timeout=PROBE_TIMEOUT_S)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise InputError(str(error.cause)) from None
        if isinstance(error.cause, ImportError) or "No module named" in str(error):
            raise InputError(
                f"node {name} lacks this code: submit with "
                "ray job submit --working-dir . -- python -m …, or set PYTHONPATH there"
            ) from None
        raise
    except ray.exceptions.GetTimeoutError as error:
        raise InputError(
            f"node {name} did not answer within {PROBE_TIMEOUT_S:.0f} s; see `ray status`"
        ) from error
