"""`python -m benchmarks.gpu`, or `make gpu-cluster`: on GPUs, all that a machine without one cannot
show.

A training on one GPU, one on all of them over NCCL, a search with four trials on each GPU, export,
verification and latency under CUDA: whole commands, as a user types them. Writes docs/results/gpu
(.json and .md).
"""

import shlex
import subprocess
import sys
import time
from dataclasses import dataclass

import torch

from benchmarks.results import CONSOLE, Page, Row, machine, machine_text, write_rows
from fmnist.cli import command
from fmnist.errors import FailedError, check

SHOWN_LINES = 40


@dataclass(frozen=True, kw_only=True)
class Options:
    """Run on this machine's GPUs all that a machine without one cannot show; some minutes."""

    workers: int = 0
    """GPUs that the DDP training takes; 0 takes all."""


def commands(gpus: int) -> list[str]:
    """The commands to run, in order, where there are so many GPUs."""
    training = "cluster.train --recipe resnet18 --epochs 3"
    found = [f"{training} --workers 1 --name gpu-one"]
    if gpus > 1:
        found.append(f"{training} --workers {gpus} --name gpu-nccl")

    trials = f"--gpus-per-trial 0.25 --trials {8 * gpus}"
    return [
        *found,
        f"tune.search --preset demo {trials} --name gpu-search",
        "export.to_onnx runs/gpu-search",
        "export.verify runs/gpu-search --provider cuda",
        "export.benchmark runs/gpu-search",
    ]


def run(words: str) -> Row:
    """Run one command; how long it took, and its last lines."""
    started = time.monotonic()
    arguments = [sys.executable, "-m", *shlex.split(words)]
    # A command that fails is a row too; the others still run.
    done = subprocess.run(arguments, capture_output=True, text=True)

    return {
        "command": f"python -m {words}",
        "seconds": round(time.monotonic() - started, 1),
        "exit": done.returncode,
        "output": (done.stdout + done.stderr).splitlines()[-SHOWN_LINES:],
    }


def write_page(rows: list[Row]) -> None:
    page = Page("On GPUs")
    page.text(f"`python -m benchmarks.gpu` on {rows[0]['gpus']} × {machine_text(rows[0])}.")
    for row in rows:
        page.text(f"`{row['command']}`: exit {row['exit']} after {row['seconds']} s")
        page.blocks.append("\n".join(["```", *row["output"], "```"]))
    page.write("gpu")


def main(options: Options) -> None:
    gpus = torch.cuda.device_count()
    check(gpus >= 1, "PyTorch finds no GPU on this machine; run it where nvidia-smi shows one")
    check(
        0 <= options.workers <= gpus,
        f"workers={options.workers}: it must be from 0 to this machine's {gpus} GPUs",
    )

    rows: list[Row] = []
    where = {"gpus": gpus} | machine("torch", "ray", "onnxruntime-gpu")
    for words in commands(options.workers or gpus):
        CONSOLE.print(f"python -m {words}")
        row = run(words)
        rows.append(row | where)
        write_rows("gpu", rows)
        CONSOLE.print(f"  exit {row['exit']} after {row['seconds']} s")

    write_page(rows)

    failed = [row["command"] for row in rows if row["exit"]]
    if failed:
        raise FailedError(f"failed: {'; '.join(failed)}; see docs/results/gpu.md")


if __name__ == "__main__":
    command(Options, main)
