"""`python -m benchmarks.input_pipeline`: images/s of training each network, and what shuffling and augmentation cost.

Each network trains in turns of one epoch of our loop and as many steps on one constant batch that needs no input at all:
the compute bound. Medians of the turns, and of their pairwise ratios. Writes docs/results/input_pipeline.json and .md.
"""

import platform
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from rich.console import Console
from rich.progress import track

from benchmarks.train_speed import constant_batch_speed
from fmnist.cli import command
from fmnist.config import TrainConfig
from fmnist.data import Split, find_data, load_info, load_train
from fmnist.device import cpu_threads, default_device, set_threads
from fmnist.loop import start_training, train_epochs
from fmnist.models import MODELS, count_parameters
from fmnist.optim import set_lr
from fmnist.plan import measure_speed
from fmnist.run import environment, write_atomic, write_json

RESULTS = Path("docs/results")
TURN_S = 2.0
"""About how long a turn lasts, in whole batches."""
MIN_TURNS = 3


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure the training speed of every network."""

    models: tuple[str, ...] = tuple(MODELS)
    """Networks to measure."""
    turns: int = 15
    """Turns of each network; a network whose turns take minutes gets fewer, at least 3. One more, the first, is warm-up."""
    limit_s: float = 120
    """Seconds after which a network gets no more turns."""
    global_batch_size: int = 256
    erase: float = 0.25


def measure(config: TrainConfig, everything: Split, options: Options) -> dict[str, Any]:
    """Interleave our loop and the compute bound."""
    device = default_device()
    size = config.global_batch_size
    speed = measure_speed(config, everything, 10, device)
    steps = min(max(round(TURN_S * speed / size), 1), len(everything) // size)
    train = Split(everything.images[: steps * size], everything.labels[: steps * size])
    bound = start_training(config, train, 10, device)
    set_lr(bound.optimizers, 1e-6)  # hundreds of full steps on one batch would kill units, and dead ones are faster
    batch = Split(train.images[:size].to(device), train.labels[:size].to(device))
    ours: list[float] = []
    bounds: list[float] = []
    memory: list[float] = []
    started = time.perf_counter()
    for metrics, _ in train_epochs(config.replace(epochs=options.turns + 1), train, classes=10, device=device):
        ours.append(metrics.images_per_s)
        bounds.append(constant_batch_speed(bound, batch, steps))
        memory.append(psutil.Process().memory_info().rss / 2**20)
        if len(ours) > MIN_TURNS and time.perf_counter() - started > options.limit_s:
            break
    ratios = [a / b for a, b in zip(ours[1:], bounds[1:], strict=True)]
    return {
        "model": config.model,
        "parameters": count_parameters(bound.model),
        "precision": bound.config.precision,
        "batch": size,
        "turns": len(ratios),
        "steps_per_turn": steps,
        "images_per_s": round(statistics.median(ours[1:])),
        "constant_batch_images_per_s": round(statistics.median(bounds[1:])),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_min": round(min(ratios), 3),
        "ratio_max": round(max(ratios), 3),
        "memory_mb": round(memory[1]),
        "memory_growth_mb": round(memory[-1] - memory[1]),
    }


def main(options: Options) -> None:
    device = default_device()
    set_threads(TrainConfig())
    folder = find_data()
    everything = load_train(folder, load_info(folder))
    rows: list[dict[str, Any]] = []
    for name in track(options.models, description="networks", transient=True):
        config = TrainConfig(model=name, global_batch_size=options.global_batch_size, erase=options.erase)
        rows.append(measure(config, everything, options))
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{cpu_threads()} CPU threads ({platform.machine()})"
    versions = environment()["versions"]
    rows = [row | {"machine": where, "torch": versions["torch"], "python": versions["python"]} for row in rows]
    write_json(RESULTS / "input_pipeline.json", rows)
    lines = [
        "# Training speed, and the cost of shuffling and augmentation",
        "",
        f"`python -m benchmarks.input_pipeline` on {where}, torch {versions['torch']}, Python {versions['python']}; batch "
        f"{options.global_batch_size}, flip, shift and erasing on. The bound is the same network fed with one constant batch; "
        "medians of interleaved turns of about two seconds, ratio pair by pair; the memory is the process's own, both in it.",
        "",
        "| network | parameters | precision | turns | images/s | bound, images/s | ratio (min to max) | MB after turn 2 | growth |",
        "|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {r['model']} | {r['parameters']:,} | {r['precision']} | {r['turns']} | {r['images_per_s']:,} "
            f"| {r['constant_batch_images_per_s']:,} | {r['ratio']:.3f} ({r['ratio_min']:.3f} to {r['ratio_max']:.3f}) "
            f"| {r['memory_mb']:,} | {r['memory_growth_mb']:+,} |"
            for r in rows
        ),
        "",
    ]
    write_atomic(RESULTS / "input_pipeline.md", "\n".join(lines))
    Console().print("\n".join(lines[4:]), highlight=False)


if __name__ == "__main__":
    command(Options, main)
