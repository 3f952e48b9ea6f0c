"""`python -m tests.shaken`: the tests that start processes, many times over, at three speeds;
docs/results/tests.json.

A test that passes at one speed alone hopes that something is still running, or is over. Each round
    runs them as-is    on this machine; pinned   on one thread of it, with a busy neighbour on that
    thread; fast     with networks of one neuron on 200 images, which train faster than any machine
    does anything else.
"""

import contextlib
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from fmnist.cli import command
from fmnist.errors import check
from fmnist.runs.files import write_json
from fmnist.runs.provenance import environment
from fmnist.runs.threads import cpu_threads
from fmnist.training.device import processor
from tests.gates import PATH, ROOT

RESULTS = ROOT / "docs/results/tests.json"
Speed = Literal["as-is", "pinned", "fast"]
BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"
"""It ends with whoever started it, however that ends."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Run the tests that start processes many times over, at three speeds; a line and a row for
    each run."""

    runs: int = 10
    """Times that each speed is tried, each with an order of its own."""
    speeds: tuple[Speed, ...] = ("as-is", "pinned", "fast")
    """Which of them."""
    only: str = "processes"
    """Which tests, as pytest's -m has it."""
    keep: bool = True
    """Write the rows to docs/results/tests.json, beside those that are there."""

    def __post_init__(self) -> None:
        check(self.runs >= 1, f"runs={self.runs}: it must be at least 1")


@contextlib.contextmanager
def speed(name: Speed) -> Generator[dict[str, str]]:
    """The environment of a run at this speed; meanwhile the neighbour is busy, if it has one."""
    if name == "fast":
        yield {"FMNIST_TEST_FAST": "1"}
        return
    if name == "as-is":
        yield {}
        return
    threads = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(threads)})  # what is started from here on inherits it
    try:
        with subprocess.Popen([sys.executable, "-c", BUSY]) as neighbour:
            try:
                yield {"PYTHONPATH": PATH, "FMNIST_TEST_CPUS": str(len(threads))}
            finally:
                neighbour.kill()
    finally:
        os.sched_setaffinity(0, threads)


def run_once(name: Speed, number: int, only: str) -> dict[str, Any]:
    """Run the tests once; a row of the table."""
    seed = random.Random(f"{name} {number} {time.time()}").getrandbits(31)
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-m",
        only,
        f"--randomly-seed={seed}",
        "--durations",
        "0",
    ]
    began = time.monotonic()
    with speed(name) as changes:
        done = subprocess.run(
            words, cwd=ROOT, env=os.environ | changes, capture_output=True, text=True
        )
    counts = {
        kind: int(count)
        for count, kind in re.findall(
            r"(\d+) (passed|failed|error|skipped)", done.stdout.splitlines()[-1]
        )
    }
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.M)
    if done.returncode:
        Path(f"shaken-{name}-{number}.log").write_text(done.stdout + done.stderr)
    return {
        "speed": name,
        "passed": counts.get("passed", 0),
        "failed": (
            " ".join(failed)
            or ("" if done.returncode == 0 else f"pytest ended with {done.returncode}")
        ),
        "minutes": round((time.monotonic() - began) / 60, 2),
        "seed": seed,
    }


def main(options: Options) -> None:
    console = Console(highlight=False, soft_wrap=True)
    machine = {
        "processor": processor(),
        "threads": cpu_threads(),
        "commit": (environment()["git_commit"] or "")[:12],
    }
    rows: list[dict[str, Any]] = (
        json.loads(RESULTS.read_text()) if options.keep and RESULTS.exists() else []
    )
    failures = 0
    for number in range(options.runs):
        for name in options.speeds:
            row = run_once(name, number, options.only)
            failures += bool(row["failed"])
            console.print(
                f"{name} {number + 1}: {row['passed']} passed in {row['minutes']:.1f} min "
                f" {row['failed']}"
            )
            rows.append(row | {"tests": options.only} | machine)
            if options.keep:
                write_json(RESULTS, rows)
    console.print(
        f"{options.runs * len(options.speeds) - failures} of {options.runs * len(options.speeds)}"
        " runs green"
    )
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    command(Options, main)
