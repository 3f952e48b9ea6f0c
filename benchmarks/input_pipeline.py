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

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track

from fmnist.cli import command
from fmnist.config import TrainConfig
from fmnist.data import Split, find_data, load_train, split_train
from fmnist.device import autocast, cpu_threads, default_device, set_threads
from fmnist.loop import TrainState, start_training, train_epochs
from fmnist.models import MODELS, count_parameters
from fmnist.run import environment, write_atomic, write_json

RESULTS = Path("docs/results")
SLOW_ON_CPU = {"resnet18": 16}
"""Where a CPU takes minutes an epoch, the share of the images that is enough to measure: one in so many."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure the training speed of every network."""

    turns: int = 5
    """Turns of each network; the first of them is warm-up and does not count."""
    train_images: int = 10000
    """Images of an epoch."""
    global_batch_size: int = 256
    erase: float = 0.25


def constant_batch_speed(state: TrainState, batch: Split, steps: int) -> float:
    """Images/s of `steps` optimiser steps on one batch that is there already."""
    images, labels = batch.images, batch.labels
    state.model.train()
    started = time.perf_counter()
    for _ in range(steps):
        with autocast(state.config, images.device):
            loss = F.cross_entropy(state.model(images).float(), labels, label_smoothing=state.config.label_smoothing)
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        state.optimizer.step()
    if images.is_cuda:
        torch.cuda.synchronize()
    return steps * len(batch) / (time.perf_counter() - started)


def measure(config: TrainConfig, train: Split, turns: int) -> dict[str, Any]:
    """Interleave our loop and the compute bound."""
    device = default_device()
    bound = start_training(config, train, 10, device)
    size = config.global_batch_size
    batch = Split(train.images[:size].to(device), train.labels[:size].to(device))
    ours: list[float] = []
    bounds: list[float] = []
    for metrics, _ in train_epochs(config.replace(epochs=turns), train, classes=10, device=device):
        ours.append(metrics.images_per_s)
        bounds.append(constant_batch_speed(bound, batch, len(train) // size))
    ratios = [a / b for a, b in zip(ours[1:], bounds[1:], strict=True)]
    return {
        "model": config.model,
        "parameters": count_parameters(bound.model),
        "precision": bound.config.precision,
        "batch": size,
        "images_per_s": round(statistics.median(ours[1:])),
        "constant_batch_images_per_s": round(statistics.median(bounds[1:])),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_min": round(min(ratios), 3),
        "ratio_max": round(max(ratios), 3),
    }


def main(options: Options) -> None:
    device = default_device()
    set_threads(TrainConfig())
    everything = load_train(find_data())
    rows: list[dict[str, Any]] = []
    for name in track(sorted(MODELS), description="networks", transient=True):
        images = options.train_images // (SLOW_ON_CPU.get(name, 1) if device.type == "cpu" else 1)
        config = TrainConfig.from_dict({"model": name, "global_batch_size": options.global_batch_size, "erase": options.erase})
        train, _ = split_train(everything, validation_images=5000, train_images=images)
        rows.append(measure(config, train, options.turns))
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{cpu_threads()} CPU threads ({platform.machine()})"
    versions = environment()["versions"]
    rows = [row | {"machine": where, "torch": versions["torch"], "python": versions["python"]} for row in rows]
    write_json(RESULTS / "input_pipeline.json", rows)
    lines = [
        "# Training speed, and the cost of shuffling and augmentation",
        "",
        f"`python -m benchmarks.input_pipeline` on {where}, torch {versions['torch']}, Python {versions['python']}; batch "
        f"{options.global_batch_size}, flip, shift and erasing on. The bound is the same network fed with one constant batch; "
        "medians of interleaved turns, ratio pair by pair.",
        "",
        "| network | parameters | precision | images/s | bound, images/s | ratio (min to max) |",
        "|---|---|---|---|---|---|",
        *(
            f"| {r['model']} | {r['parameters']:,} | {r['precision']} | {r['images_per_s']:,} "
            f"| {r['constant_batch_images_per_s']:,} | {r['ratio']:.3f} ({r['ratio_min']:.3f} to {r['ratio_max']:.3f}) |"
            for r in rows
        ),
        "",
    ]
    write_atomic(RESULTS / "input_pipeline.md", "\n".join(lines))
    Console().print("\n".join(lines[4:]), highlight=False)


if __name__ == "__main__":
    command(Options, main)
