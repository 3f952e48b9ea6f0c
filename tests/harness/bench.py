"""The jobs that are broken, the clusters they run on, and the undisturbed runs they are compared
with."""

import json
import os
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from ray.cluster_utils import Cluster

from tests.gates import Gates
from tests.harness.commands import Census, Command
from tune.searchers.grid import grid
from tune.space import Space

EPOCHS = 5
MIDDLE = 2.5
"""Epochs after which a training waits for its fault: the middle of the third."""
SPACE: Space = {"model": ["lenet"], "lr": [0.02, 0.05, 0.1]}
HELD_LR: float = grid(SPACE, 0)[-1]["lr"]
"""Learning rate of the trial that starts last."""
TRAINING = f"--recipe e-lenet-0.05 --epochs {EPOCHS} --global-batch-size 64"
SEARCH = (
    "--preset demo --space space.toml --searcher grid --trials 3 --retrain-epochs 1 "
    f"--grace-epochs {EPOCHS} --time-budget-min 0 "
    f"--train.epochs {EPOCHS} --train.global-batch-size 64"
)
QUICK = {"RAY_health_check_period_ms": "1000", "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20"}
"""A cluster that counts a node as lost in seconds, and a job that does not wait a minute for
workers on it; Ray's own defaults are 3,000 and 60."""
MEMORY = 120_000_000
"""Bytes of each node's object store."""
WEIGHTS = "best/model.safetensors"


@dataclass
class Bench:
    """A folder for everything, and the undisturbed run that others are compared with."""

    folder: Path
    images: int = 20_000
    """Training images of each job."""
    outage_s: float = 60.0
    """The least time for which a storage that comes back is gone; it is gone until the job has
    said so in any case."""
    environment: dict[str, str] = field(default_factory=dict[str, str])
    """Variables of every command."""
    reference: dict[str, bytes] = field(default_factory=dict[str, bytes])
    censuses: dict[str, Census] = field(default_factory=dict[str, Census])

    def start(
        self, folder: Path, module: str, *arguments: object, gates: Gates | None = None, **how: Any
    ) -> Command:
        """Start a command in a folder, with the gates that a test has for it."""
        environ = dict(self.environment)
        if gates is not None:
            environ |= gates.environment
        environ |= how.pop("environ", {})
        return Command(folder, module, *arguments, environ=environ, **how)

    def training(self, folder: Path, *more: object, workers: object = 2, **how: Any) -> Command:
        """Start a training by so many workers; 0 is a plain one."""
        module, share = "fmnist.train", ()
        if workers:
            module, share = "cluster.train", ("--workers", workers)
        data = ("--train-images", self.images, "--validation-images", self.images // 4)
        common = (*TRAINING.split(), *data, *share, "--name", "run")
        return self.start(folder, module, *common, *more, **how)

    def search(self, folder: Path, *more: object, **how: Any) -> Command:
        train, validation = self.images, self.images // 4
        data = ("--train.train-images", train, "--train.validation-images", validation)
        common = (*SEARCH.split(), *data, "--name", "run")
        return self.start(folder, "tune.search", *common, *more, **how)

    def gates(self, name: str) -> Gates:
        """A gate in the middle of the third epoch, closed."""
        folder = self.folder / f"{name}_gates"
        folder.mkdir()
        gates = Gates(folder)
        gates.close(MIDDLE)
        return gates

    def left_over(self) -> dict[str, list[str]]:
        """Processes of each fault that are still there in two minutes: agents of a killed raylet
        take one."""
        deadline = time.monotonic() + 120
        left: dict[str, list[str]] = {}
        for name, census in self.censuses.items():
            left[name] = census.left(max(deadline - time.monotonic(), 0))

        return left

    def fresh(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir()
        return folder

    def fresh_search(self, name: str) -> Path:
        """A folder from which SEARCH can start."""
        folder = self.fresh(name)
        lines = [f"{field} = {json.dumps(values)}\n" for field, values in SPACE.items()]
        (folder / "space.toml").write_text("".join(lines))
        return folder

    def weights(self, workers: int) -> bytes:
        """Weights of an undisturbed training by so many workers."""
        name = f"undisturbed{workers}"
        if name not in self.reference:
            folder = self.fresh(name)
            with self.training(folder, workers=workers) as job:
                job.end()
            self.reference[name] = (folder / "runs/run" / WEIGHTS).read_bytes()

        return self.reference[name]

    def same(self, run: Path, workers: int) -> bool:
        """Return whether a run has the weights of an undisturbed one."""
        return (run / WEIGHTS).read_bytes() == self.weights(workers)


@contextmanager
def nodes(
    *workers: dict[str, Any], environ: dict[str, str], dashboard: bool = False
) -> Generator[tuple[Cluster, list[Any]]]:
    """A Ray cluster of several nodes on this machine: a head without CPUs, and the others, in
    this order."""
    # A short path, for Ray's sockets.
    with (
        tempfile.TemporaryDirectory(prefix="fm", ignore_cleanup_errors=True) as folder,
        patch.dict(os.environ, environ | QUICK, RAY_TMPDIR=folder),
    ):
        # For the file with the newest cluster's address, which must not be this machine's.
        Path(folder, "ray").mkdir()
        # Trainings run on the other nodes, which can be taken away.
        head = {
            "num_cpus": 0,
            "temp_dir": folder,
            "include_dashboard": dashboard,
            "object_store_memory": MEMORY,
        }
        cluster = Cluster(initialize_head=True, head_node_args=head)

        try:
            yield cluster, [add_node(cluster, **resources) for resources in workers]
        finally:
            cluster.shutdown()


def add_node(cluster: Cluster, **resources: Any) -> Any:
    """Add a node with one CPU."""
    return cluster.add_node(num_cpus=1, object_store_memory=MEMORY, **resources)
