"""`python -m benchmarks.gpu`, or `make gpu-cluster`: on GPUs, all that a machine without one cannot show; docs/results/gpu.md.

A training on one GPU, one on all of them over NCCL, a search with four trials on each GPU, export, verification and latency under
CUDA: whole commands, as a user types them.
"""

import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from fmnist.cli import command
from fmnist.errors import FailedError, check
from fmnist.run import environment, write_atomic, write_json

RESULTS = Path("docs/results")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Run on this machine's GPUs all that a machine without one cannot show; some minutes."""

    workers: int = 0
    """GPUs that the DDP training takes; all by default."""


def commands(gpus: int) -> list[str]:
    """What to run, in order, where there are so many GPUs."""
    several = [f"cluster.train --recipe resnet18 --epochs 3 --workers {gpus} --name gpu-nccl"] if gpus > 1 else []
    return [
        "cluster.train --recipe resnet18 --epochs 3 --workers 1 --name gpu-one",
        *several,
        f"tune.search --preset demo --gpus-per-trial 0.25 --trials {8 * gpus} --name gpu-search",
        "export.to_onnx runs/gpu-search",
        "export.verify runs/gpu-search --provider cuda",
        "export.benchmark runs/gpu-search",
    ]


def run(words: str) -> dict[str, Any]:
    """One command: how long it took, and all that it said."""
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-m", *shlex.split(words)], capture_output=True, text=True)
    return {
        "command": f"python -m {words}",
        "seconds": round(time.monotonic() - started, 1),
        "exit": done.returncode,
        "said": (done.stdout + done.stderr).splitlines()[-40:],
    }


def main(options: Options) -> None:
    found = torch.cuda.device_count()
    check(found >= 1, "no GPU: PyTorch finds none on this machine; run it where nvidia-smi shows one")
    check(0 <= options.workers <= found, f"workers={options.workers}: this machine has {found} GPUs")
    console, rows = Console(highlight=False, soft_wrap=True), list[dict[str, Any]]()
    for words in commands(options.workers or found):
        console.print(f"python -m {words}")
        rows.append(run(words))
        console.print(f"  exit {rows[-1]['exit']} after {rows[-1]['seconds']} s: {(rows[-1]['said'] or [''])[-1]}", markup=False)
    gpu, versions = f"{found} × {torch.cuda.get_device_name()}", environment()["versions"]
    write_json(RESULTS / "gpu.json", {"gpu": gpu, "versions": versions, "commands": rows})
    lines = ["# On GPUs", "", f"`python -m benchmarks.gpu` on {gpu}: {', '.join(f'{k} {v}' for k, v in versions.items())}.", ""]
    for row in rows:
        lines += [f"`{row['command']}`: exit {row['exit']} after {row['seconds']} s", "", "```", *row["said"], "```", ""]
    write_atomic(RESULTS / "gpu.md", "\n".join(lines))
    failed = [row["command"] for row in rows if row["exit"]]
    if failed:
        raise FailedError(f"failed: {'; '.join(failed)}; see {RESULTS / 'gpu.md'}")


if __name__ == "__main__":
    command(Options, main)
