"""`python -m benchmarks.memory`: peak memory of training and of evaluation, by network and batch, and how it grows.

Each measurement is a process of its own: what it takes above what it had before. On a GPU PyTorch's own count of what is
allocated, on a CPU the kernel's high-water mark (Linux). Growth is what a few more epochs add: it shows a leak. Goes on where it
stopped. Writes docs/results/memory.json and .md.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from rich.console import Console
from rich.progress import Progress

from fmnist.cli import command
from fmnist.config import TrainConfig
from fmnist.data import find_data, load_info, load_train
from fmnist.device import autocast, default_device, hardware, resolve, set_threads
from fmnist.errors import FailedError, check, one_of
from fmnist.evaluate import EVALUATION_BATCH, compute_logits
from fmnist.loop import start_training, train_epochs
from fmnist.models import MODELS
from fmnist.run import environment, read_json, write_atomic, write_json

RESULTS = Path("docs/results")
ROWS = RESULTS / "memory.json"
EPOCHS, STEPS = 4, 3
"""Short ones: memory is the same in all; growth is from the less of the first two to the less of the last two, since what the
allocator keeps comes and goes."""
MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure the memory that training and evaluating each network takes."""

    models: tuple[str, ...] = tuple(MODELS)
    batches: tuple[int, ...] = (64, 256, 1024)
    """Images per step; the largest are left out where four times as many as before would not fit."""

    def __post_init__(self) -> None:
        for name in self.models:
            one_of("models", name, MODELS)
        check(all(batch >= 2 for batch in self.batches), f"batches={self.batches}: each must be 2 or more")


def resident(device: torch.device) -> int:
    """Bytes now."""
    return torch.cuda.memory_allocated() if device.type == "cuda" else psutil.Process().memory_info().rss


def forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # man 5 proc: the high-water mark becomes what there is now


def peak(device: torch.device) -> int:
    """Bytes at most, since `forget_peak`."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return 1024 * int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])


def measure(name: str, batch: int) -> dict[str, float]:
    """In this process: MiB above what it has with the images loaded and the network built. A batch of 0 evaluates."""
    device = default_device()
    config = resolve(TrainConfig(model=name, global_batch_size=batch or 2, epochs=EPOCHS, lr=1e-6, validation_images=0), device)
    set_threads(config)
    folder = find_data()
    train = load_train(folder, load_info(folder))
    few = train.take(np.arange(STEPS * (batch or EVALUATION_BATCH)))
    model = start_training(config, few, 10, device).model
    before = resident(device)
    forget_peak(device)
    if batch:
        after = [resident(device) for _ in train_epochs(config, few, classes=10, device=device)]
        return {"mib": round((peak(device) - before) / MIB, 1), "growth": round((min(after[2:]) - min(after[:2])) / MIB, 1)}
    with autocast(config, device):
        compute_logits(model, few.images.to(device))
    return {"mib": round((peak(device) - before) / MIB, 1), "growth": 0.0}


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    first = rows[0]
    batches = sorted({row["batch"] for row in rows})
    machines = " and ".join(dict.fromkeys(row["machine"] for row in rows))
    versions = ", ".join(f"{name} {version}" for name, version in first["versions"].items())
    lines = [
        "# Memory",
        "",
        f"`python -m benchmarks.memory` on {machines}; {versions}. MiB above what the process has with the data loaded and",
        f"the network built (some hundreds for PyTorch, 52 for the images). Evaluating: in batches of {EVALUATION_BATCH:,}, as",
        "validation does. Growth: from the less after the first two epochs to the less after the last two, the largest of all",
        "batches; what does not stay near 0 would be a leak.",
        "",
        *(line for note in dict.fromkeys(row["note"] for row in rows if "note" in row) for line in (note, "")),
        f"| network | precision | {' | '.join(f'batch {batch:,}' if batch else 'evaluating' for batch in batches)} | growth |",
        f"|---|---|{'---:|' * len(batches)}---:|",
    ]
    for name in dict.fromkeys(row["model"] for row in rows):
        mine = {row["batch"]: row for row in rows if row["model"] == name}
        cells = [
            name,
            " and ".join(dict.fromkeys(row["precision"] for row in mine.values())),
            *(f"{mine[batch]['mib']:,.0f}" if batch in mine else "–" for batch in batches),
            f"{max(row['growth'] for row in mine.values()):+,.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def main(options: Options) -> None:
    console = Console(highlight=False, soft_wrap=True)
    rows: list[dict[str, Any]] = read_json(ROWS) if ROWS.exists() else []
    known = {(row["model"], row["batch"]): row for row in rows}
    device = default_device()
    room = (torch.cuda.mem_get_info()[0] if device.type == "cuda" else psutil.virtual_memory().available) / MIB
    with Progress(console=console) as progress:
        for name, batch in progress.track(list(product(options.models, (0, *sorted(options.batches)))), description="networks"):
            before = max((row["mib"] for (model, _), row in known.items() if model == name), default=0.0)
            if (name, batch) in known or 4 * before > 0.8 * room:
                continue
            script = f"import json; from benchmarks.memory import measure; print(json.dumps(measure({name!r}, {batch})))"
            done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
            if done.returncode:
                raise FailedError(f"{name}, batch {batch}: {(done.stderr.splitlines() or ['no word'])[-1]}")
            known[name, batch] = {
                "model": name,
                "batch": batch,
                **json.loads(done.stdout.splitlines()[-1]),
                "precision": resolve(TrainConfig(), device).precision,
                "machine": hardware(),
                "versions": {name: environment()["versions"].get(name) for name in ("python", "torch")},
            }
            console.print(f"{name}, batch {batch}: {known[name, batch]['mib']:,.0f} MiB")
            write_json(ROWS, list(known.values()))
    text = page(list(known.values()))
    write_atomic(RESULTS / "memory.md", text)
    console.print(text)


if __name__ == "__main__":
    command(Options, main)
