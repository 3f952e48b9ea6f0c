"""`python -m benchmarks.kill`: what a kill -9 costs a training and a search. Writes docs/results/kill.json and .md.

The training is killed in the middle of an epoch and resumed; an undisturbed one is the yardstick. The search's driver is killed
once some trials are done and others run, and resumed.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from fmnist.checkpoint import load_state
from fmnist.cli import command
from fmnist.run import environment, write_atomic, write_json

RESULTS = Path("docs/results")
TRAIN = ("--recipe", "airnet-quick", "--epochs", "4", "--train-images", "20000", "--ema", "0.99")
SEARCH = ("--preset", "demo", "--trials", "8", "--retrain-epochs", "1")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Kill a training and a search, resume them, and measure what was lost and repeated."""

    done_trials: int = 3
    """The search's driver is killed once so many trials are done."""


def start(folder: Path, module: str, *arguments: str) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", module, *arguments]
    changes = {"PYTHONPATH": str(Path.cwd()), "RAY_TMPDIR": str(folder / "ray")}
    return subprocess.Popen(words, cwd=folder, env=os.environ | changes, stdout=subprocess.DEVNULL)


def finish(process: subprocess.Popen[bytes]) -> None:
    if process.wait():
        raise SystemExit(f"{' '.join(process.args)} exited {process.returncode}")  # pyright: ignore


def kill_when(process: subprocess.Popen[bytes], condition: Callable[[], bool], then_s: float = 0.0) -> float:
    """Kill -9 the process `then_s` after the condition holds; give the time of the kill."""
    while not condition():
        if process.poll() is not None:
            raise SystemExit("it ended before it was to be killed")
        time.sleep(0.02)
    time.sleep(then_s)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return time.time()


def kill_training(folder: Path) -> dict[str, Any]:
    finish(start(folder, "fmnist.train", *TRAIN, "--name", "undisturbed"))
    whole = load_state(folder / "runs/undisturbed/last.pt")
    state = folder / "runs/killed/last.pt"
    process = start(folder, "fmnist.train", *TRAIN, "--name", "killed")
    killed = kill_when(process, lambda: state.exists() and load_state(state)["epoch"] == 2, whole["history"][2]["seconds"] / 2)
    lost_s = killed - state.stat().st_mtime
    finish(start(folder, "fmnist.train", *TRAIN, "--name", "killed", "--resume"))
    resumed = load_state(state)
    weights = ("model", "average")
    return {
        "what": "fmnist.train",
        "killed": "in the middle of epoch 3 of 4",
        "done_before": 2,
        "repeated": "the epoch in flight",
        "lost_s": round(lost_s, 1),
        "bit_identical": all(torch.equal(whole[kind][name], resumed[kind][name]) for kind in weights for name in whole[kind]),
    }


def kill_search(folder: Path, done_trials: int) -> dict[str, Any]:
    journal = folder / "runs/search/search/trials.jsonl"

    def trials() -> list[dict[str, Any]]:
        return [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []

    process = start(folder, "tune.search", *SEARCH, "--name", "search")
    kill_when(process, lambda: len(trials()) >= done_trials)
    before = trials()
    finish(start(folder, "tune.search", *SEARCH, "--name", "search", "--resume"))
    after = trials()
    return {
        "what": "tune.search",
        "killed": f"the driver, with {len(before)} of {len(after)} trials done",
        "done_before": len(before),
        "repeated": "the trials in flight, from their first epoch",
        "completed_trials_run_again": sum(after[number] != trial for number, trial in enumerate(before)),
        "trials_twice_in_the_journal": len(after) - len({trial["number"] for trial in after}),
    }


def main(options: Options) -> None:
    with tempfile.TemporaryDirectory(prefix="fm", ignore_cleanup_errors=True) as name:
        rows = [kill_training(Path(name)), kill_search(Path(name), options.done_trials)]
    versions = environment()["versions"]
    rows = [row | {"torch": versions["torch"], "ray": versions["ray"], "python": versions["python"]} for row in rows]
    write_json(RESULTS / "kill.json", rows)
    training, search = rows
    lines = [
        "# What a kill -9 costs",
        "",
        f"`python -m benchmarks.kill`: torch {versions['torch']}, ray {versions['ray']}, Python {versions['python']}, CPU.",
        "",
        "| killed | when | lost | repeated | afterwards |",
        "|---|---|---|---|---|",
        f"| `python -m fmnist.train` | {training['killed']} | {training['lost_s']} s | {training['repeated']} "
        f"| weights and averaged weights bit-identical to an undisturbed run: {'yes' if training['bit_identical'] else 'NO'} |",
        f"| `python -m tune.search` | {search['killed']} | | {search['repeated']} "
        f"| completed trials run again: {search['completed_trials_run_again']}; "
        f"trials twice in the journal: {search['trials_twice_in_the_journal']} |",
        "",
    ]
    write_atomic(RESULTS / "kill.md", "\n".join(lines))
    Console().print("\n".join(lines), highlight=False, soft_wrap=True)


if __name__ == "__main__":
    command(Options, main)
