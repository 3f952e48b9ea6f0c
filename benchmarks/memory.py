"""`python -m benchmarks.memory`: peak memory of training and of evaluation, by network and batch, and how it grows.

Each measurement is a process of its own: what it takes above what it had before. On a GPU PyTorch's own count of what is
allocated, on a CPU the kernel's high-water mark (Linux). Growth is what a few more epochs add: it shows a leak. Goes on where it
stopped. Writes docs/results/memory.md, with what a CPU and what a GPU found in a JSON each.
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

from benchmarks.pages import unmeasured
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
COMMANDS = {"cpu": "python -m benchmarks.memory", "cuda": "make gpu PART=8"}
ROWS = {device: RESULTS / f"memory_{device}.json" for device in COMMANDS}
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


def page() -> str:
    """Of all that was found so far."""
    lines = [
        "# Memory",
        "",
        "`python -m benchmarks.memory`: MiB above what the process has with the data loaded and the network built (some",
        f"hundreds for PyTorch, 52 for the images). Evaluating: in batches of {EVALUATION_BATCH:,}, as validation does. Growth:",
        "from the less after the first two epochs to the less after the last two, the largest of all batches; what does not stay",
        "near 0 would be a leak.",
    ]
    for device, path in ROWS.items():
        lines += section(read_json(path)) if path.exists() else unmeasured({"memory of every network": COMMANDS[device]}, device)
    return "\n".join([*lines, ""])


def section(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The table of one kind of device."""
    batches = sorted({row["batch"] for row in rows})
    lines = [
        "",
        f"## {' and '.join(dict.fromkeys(row['machine'] for row in rows))}",
        "",
        f"{', '.join(f'{name} {version}' for name, version in rows[0]['versions'].items())}.",
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
    return lines


def main(options: Options) -> None:
    console = Console(highlight=False, soft_wrap=True)
    device = default_device()
    path = ROWS[device.type]
    rows: list[dict[str, Any]] = read_json(path) if path.exists() else []
    known = {(row["model"], row["batch"]): row for row in rows}
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
            write_json(path, list(known.values()))
            write_atomic(RESULTS / "memory.md", page())
    write_atomic(RESULTS / "memory.md", page())
    console.print(page())


if __name__ == "__main__":
    command(Options, main)
