"""Gates: a test closes one, and a training in another process waits there until it is opened.

The test's half; `sitecustomize.py` beside it is the half in the process under test. Nothing in the
product knows of gates.
"""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PATH = f"{HERE}{os.pathsep}{ROOT}"
"""PYTHONPATH of every process under test; `sitecustomize.py` does nothing where no variable asks
for it."""
FAIR = {"RAY_worker_niceness": "0"}
"""Ray's workers are nice (15) by default: beside anything else on the machine they would starve."""
LIMIT_S = 400.0
"""No test waits longer for a process to come where it should; a starved machine takes a minute."""


def wait_until(condition: Callable[[], bool], check_runs: Callable[[], Any] = lambda: None) -> None:
    """Wait for what is bound to come.

    Args:
        check_runs: raises if what was to bring it about has ended.
    """
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        check_runs()
        assert time.monotonic() < deadline, f"not within {LIMIT_S} s"
        time.sleep(0.01)


@dataclass(frozen=True)
class Gates:
    """A folder with a file for each closed gate, and one for each process that waits there."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to know its gates; those below it inherit it, Ray's workers too."""
        return {"PYTHONPATH": PATH, "FMNIST_TEST_GATES": str(self.folder)} | FAIR

    def close(self, epoch: float, name: str = "gate", *, take_bytes: int = 0, **where: Any) -> None:
        """Let trainings wait once `epoch` epochs are behind them: 2.5 is the middle of the third.

        Args:
            name: of the gate, where a test has several.
            take_bytes: memory that a process fills while it waits.
            where: fields of TrainConfig; only trainings that have these values wait.
        """
        temporary = self.folder / f"{name}.new"
        temporary.write_text(json.dumps({"epoch": epoch, "where": where, "take_bytes": take_bytes}))
        temporary.rename(self.folder / f"{name}.gate")

    def open(self, name: str = "gate") -> None:
        """Let go of all that wait, and forget them."""
        (self.folder / f"{name}.gate").unlink()
        for file in self.folder.glob(f"{name}.[0-9]*"):
            file.unlink(missing_ok=True)  # the process lets go of it too

    def waiting(self, name: str = "gate") -> list[int]:
        """Processes that came to the gate, by their numbers."""
        return sorted(int(file.suffix[1:]) for file in self.folder.glob(f"{name}.[0-9]*"))

    def wait_for(
        self, processes: int, check_runs: Callable[[], Any], name: str = "gate"
    ) -> list[int]:
        """Wait until so many processes wait at the gate; give their numbers.

        Args:
            check_runs: raises if the command under test has ended, which would never come here.
        """
        wait_until(lambda: len(self.waiting(name)) >= processes, check_runs)
        return self.waiting(name)


def wait_until_gone(processes: list[int]) -> None:
    """Wait for the end of processes that something else has ended or will."""
    alive = [psutil.Process(pid) for pid in processes if psutil.pid_exists(pid)]
    _, left = psutil.wait_procs(alive, timeout=LIMIT_S)
    left = [
        process
        for process in left
        if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    ]
    assert not left, f"still there after {LIMIT_S} s: {left}"
