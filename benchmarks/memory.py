"""`python -m benchmarks.memory`: peak memory of training and of evaluation, by network and batch,
and how it grows.

Each measurement is a process of its own: what it takes above what it had before. On a GPU PyTorch's
own count of what is allocated, on a CPU the kernel's high-water mark (Linux). Growth is what a few
more epochs add: it shows a leak. Goes on where it stopped. Writes docs/results/memory.md, with rows
of a CPU and of a GPU in a JSON each.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import psutil
import torch
from rich.progress import track

from benchmarks.images import first_images
from benchmarks.results import CONSOLE, Page, Row, Rows, machine, read_rows, versions_text
from fmnist.cli import command
from fmnist.config import TrainConfig
from fmnist.data.dataset import TrainingData
from fmnist.errors import FailedError, check, one_of
from fmnist.models import MODELS, Classifier
from fmnist.training.device import Rank, autocast, default_device, resolve, set_threads
from fmnist.training.inference import EVALUATION_BATCH, compute_logits
from fmnist.training.loop import start_training, train_epochs

COMMANDS = {"cpu": "python -m benchmarks.memory", "cuda": "make gpu PART=memory"}
"""The command that measures a device."""
EPOCHS, STEPS = 4, 3
"""Short ones: memory is the same in all. Growth is from the less of the first two to the less of
the last two, since what the allocator keeps comes and goes."""
EVALUATING = 0
"""Stands for the batch where nothing is trained."""
MIB = 2**20
SCRIPT = """
import json
from benchmarks.memory import measure
print(json.dumps(measure({name!r}, {batch})))
"""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure the memory that training and evaluating each network takes."""

    models: tuple[str, ...] = tuple(MODELS)
    batches: tuple[int, ...] = (64, 256, 1024)
    """Images per step; the largest are left out where four times as many as before would not
    fit."""

    def __post_init__(self) -> None:
        for name in self.models:
            one_of("models", name, MODELS)
        for batch in self.batches:
            check(batch >= 2, f"batches={self.batches}: each must be at least 2")


def current_memory(device: torch.device) -> int:
    """Bytes."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated()
    return psutil.Process().memory_info().rss


def reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        # The high-water mark becomes what there is now (man 5 proc).
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> int:
    """Bytes at most, since `reset_peak`."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    _, _, rest = Path("/proc/self/status").read_text().partition("VmHWM:")
    return 1024 * int(rest.split()[0])


def measure(name: str, batch: int) -> dict[str, float]:
    """Measure in this process: MiB above what it has with the images loaded and the network
    built."""
    device = default_device()
    config = TrainConfig(
        model=name, global_batch_size=batch or 2, epochs=EPOCHS, lr=1e-6, validation_images=0
    )
    config = resolve(config, device)
    set_threads(config)
    data = first_images(STEPS * (batch or EVALUATION_BATCH))
    model = start_training(config, data, device).model

    before = current_memory(device)
    reset_peak(device)
    growth = 0
    if batch == EVALUATING:
        evaluate(config, model, data, device)
    else:
        epochs = train_epochs(config, data, Rank(device))
        after = [current_memory(device) for _ in epochs]
        # The lesser of two, since what the allocator keeps comes and goes.
        growth = min(after[2:]) - min(after[:2])

    return {
        "mib": round((peak_memory(device) - before) / MIB, 1),
        "growth": round(growth / MIB, 1),
    }


def evaluate(
    config: TrainConfig, model: Classifier, data: TrainingData, device: torch.device
) -> None:
    with autocast(config, device):
        compute_logits(model, data.train.images)


def measure_apart(name: str, batch: int) -> Row:
    """Measure in a process of its own. Raises FailedError if that fails."""
    script = SCRIPT.format(name=name, batch=batch)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    if done.returncode:
        output = done.stderr.splitlines() or ["no output"]
        raise FailedError(f"{name}, batch {batch}: {output[-1]}")

    found = json.loads(done.stdout.splitlines()[-1])
    precision = resolve(TrainConfig(), default_device()).precision
    return {"model": name, "batch": batch, **found, "precision": precision}


def available_mib() -> float:
    if default_device().type == "cuda":
        return torch.cuda.mem_get_info()[0] / MIB
    return psutil.virtual_memory().available / MIB


def write_page() -> None:
    page = Page("Memory")
    page.text(
        f"""`python -m benchmarks.memory`: MiB above what the process has with the data loaded and
        the network built (some hundreds for PyTorch, 52 for the images). Evaluating: in batches of
        {EVALUATION_BATCH:,}, as validation does. Growth: from the less after the first two epochs
        to the less after the last two, the largest of all batches; what does not stay near 0 would
        be a leak."""
    )

    for device, measured_by in COMMANDS.items():
        rows = read_rows(f"memory_{device}")
        if rows:
            add_section(page, rows)
        else:
            page.not_measured({"memory of every network": measured_by}, device)

    page.write("memory")


def add_section(page: Page, rows: Sequence[Row]) -> None:
    """Add the table of one kind of device."""
    page.heading(" and ".join(dict.fromkeys(row["machine"] for row in rows)))
    page.text(f"{versions_text(rows[0])}.")
    page.notes(rows)

    batches = sorted({row["batch"] for row in rows})
    by_model: dict[str, dict[int, Row]] = {}
    for row in rows:
        by_model.setdefault(row["model"], {})[row["batch"]] = row

    cells: list[list[str]] = []
    for name, by_batch in by_model.items():
        precisions = dict.fromkeys(row["precision"] for row in by_batch.values())
        peaks = [
            f"{by_batch[batch]['mib']:,.0f}" if batch in by_batch else "–" for batch in batches
        ]
        growth = max(row["growth"] for row in by_batch.values())
        cells.append([name, " and ".join(precisions), *peaks, f"{growth:+,.0f}"])

    columns = [f"batch {batch:,}" if batch else "evaluating" for batch in batches]
    headings = " | ".join(["network", "precision", *columns, "growth"])
    page.table("ll" + "r" * len(batches) + "r", headings, cells)


def main(options: Options) -> None:
    rows = Rows(f"memory_{default_device().type}", "model", "batch")
    room = available_mib()
    batches = (EVALUATING, *sorted(options.batches))
    for name, batch in track(list(product(options.models, batches)), "networks", console=CONSOLE):
        # Four times the batch takes about four times the memory.
        largest = max((row["mib"] for row in rows.rows if row["model"] == name), default=0.0)
        if rows.measured(name, batch) or 4 * largest > 0.8 * room:
            continue
        row = measure_apart(name, batch)
        rows.add(row | machine("torch"))
        CONSOLE.print(f"{name}, batch {batch}: {row['mib']:,.0f} MiB")

    write_page()


if __name__ == "__main__":
    command(Options, main)
