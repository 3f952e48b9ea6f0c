"""`python -m benchmarks.scaling`: what DDP costs by network, link and number of GPUs, from a formula; and a check of the formula.

The formula and where its figures come from: docs/scaling.md. The check: all-reduces of some sizes between two processes here give
latency and bandwidth of gloo on this machine; they predict the all-reduce of each network's gradients, which is then measured.
Writes docs/results/scaling.json and .md.
"""

import platform
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from rich.console import Console
from torch.multiprocessing.spawn import spawn

from fmnist.cli import command
from fmnist.config import TrainConfig
from fmnist.device import cpu_threads
from fmnist.models import Problem, build_model, count_parameters
from fmnist.run import environment, write_atomic, write_json

RESULTS = Path("docs/results")
NETWORKS = ("lenet", "airnet", "resnet18", "wideresnet28")
SIZES = (4_000, 40_000, 400_000, 4_000_000, 16_000_000)
"""Bytes."""
REPEATS = 15
LINKS = {"10 Gbit/s": (1.25e9, 30e-6), "25 Gbit/s": (3.125e9, 20e-6), "100 Gbit/s": (12.5e9, 10e-6), "NVLink 4": (450e9, 3e-6)}
"""Bytes/s each way, and seconds of one message's way."""
GPUS = (2, 8, 64, 256)
BYTES = 4
"""Of a gradient: float32, under autocast as well."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Predict what DDP costs, and check the formula here."""

    step_ms: float = 12.8
    """Of one GPU's own work on its batch. By default ResNet-18's in report E: 256 images at 19,990 a second on an RTX 4060."""


def all_reduce_s(size: float, workers: int, bandwidth: float, latency_s: float) -> float:
    """Seconds of a ring all-reduce of `size` bytes: each rank sends 2(n-1) messages of size/n bytes, one after the other."""
    return 2 * (workers - 1) * (latency_s + size / workers / bandwidth)


def efficiency(step_s: float, reduce_s: float) -> tuple[float, float]:
    """Share of linear speed-up: with nothing overlapped, and with all that the backward pass, two thirds of a step, can hide."""
    hidden = min(reduce_s, step_s * 2 / 3)
    return step_s / (step_s + reduce_s), step_s / (step_s + reduce_s - hidden)


def _rank(rank: int, folder: str, sizes: list[int]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    found: dict[int, float] = {}
    tensors = {size: torch.ones(size // BYTES) for size in sizes}
    times: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(REPEATS):
        for size, tensor in tensors.items():
            dist.barrier()
            started = time.perf_counter()
            dist.all_reduce(tensor)
            times[size].append(time.perf_counter() - started)
    found = {size: statistics.median(several[2:]) for size, several in times.items()}
    if rank == 0:
        torch.save(found, f"{folder}/found.pt")
    dist.destroy_process_group()


def measure(sizes: list[int]) -> dict[int, float]:
    """Seconds of an all-reduce between two processes here, by bytes."""
    with tempfile.TemporaryDirectory() as folder:
        spawn(_rank, (folder, sizes), nprocs=2)
        return torch.load(f"{folder}/found.pt")


def fit(found: dict[int, float]) -> tuple[float, float]:
    """Bandwidth and latency for which the formula meets the times of two ranks, each time counting the same whatever its size."""
    sizes, times = np.array(list(found)), np.array(list(found.values()))
    terms = np.stack((2 * np.ones_like(times), sizes), 1)  # seconds = 2 latency + size / bandwidth
    latency_s, per_byte = np.linalg.lstsq(terms / times[:, None], np.ones_like(times), rcond=None)[0]
    return 1 / float(per_byte), float(latency_s)


def main(options: Options) -> None:
    parameters = {name: count_parameters(build_model(TrainConfig(model=name), Problem(10, 1, 28))) for name in NETWORKS}
    gradients = {name: count * BYTES for name, count in parameters.items()}
    found = measure([*SIZES, *gradients.values()])
    bandwidth, latency_s = fit({size: found[size] for size in SIZES})
    rows: list[dict[str, Any]] = []
    for name, size in gradients.items():
        predicted = all_reduce_s(size, 2, bandwidth, latency_s)
        row: dict[str, Any] = {"network": name, "parameters": parameters[name], "bytes_per_step": size}
        row |= {"here_predicted_ms": round(1e3 * predicted, 3), "here_measured_ms": round(1e3 * found[size], 3)}
        for link, (link_bandwidth, link_latency_s) in LINKS.items():
            for gpus in GPUS:
                reduce_s = all_reduce_s(size, gpus, link_bandwidth, link_latency_s)
                low, high = efficiency(options.step_ms / 1e3, reduce_s)
                case = {"link": link, "gpus": gpus, "all_reduce_ms": round(1e3 * reduce_s, 3)}
                rows.append(row | case | {"efficiency_low": round(low, 3), "efficiency_high": round(high, 3)})
    versions = environment()["versions"]
    where = f"{cpu_threads()} CPU threads ({platform.machine()}), torch {versions['torch']}"
    write_json(RESULTS / "scaling.json", [row | {"step_ms": options.step_ms, "machine": where} for row in rows])
    lines = _page(rows, options, where, bandwidth, latency_s)
    write_atomic(RESULTS / "scaling.md", "\n".join(lines))
    Console().print("\n".join(lines), highlight=False, soft_wrap=True)


def _page(rows: list[dict[str, Any]], options: Options, where: str, bandwidth: float, latency_s: float) -> list[str]:
    by_network = {row["network"]: row for row in rows}
    lines = [
        "# What DDP costs: predicted, and checked here",
        "",
        f"`python -m benchmarks.scaling` on {where}; the formula stands in docs/scaling.md.",
        "",
        f"gloo between two processes here: {bandwidth / 1e9:.2f} GB/s and {1e6 * latency_s:.0f} µs a message, by all-reduces of "
        f"{', '.join(f'{size:,}' for size in SIZES)} bytes. They predict those of the networks' gradients:",
        "",
        "| network | parameters | bytes per step | all-reduce here, predicted | measured | measured / predicted |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in by_network.items():
        predicted, measured = row["here_predicted_ms"], row["here_measured_ms"]
        times = f"{predicted:.2f} ms | {measured:.2f} ms | {measured / predicted:.2f}"
        lines.append(f"| {name} | {row['parameters']:,} | {row['bytes_per_step']:,} | {times} |")
    lines += [
        "",
        f"Predicted share of linear speed-up, each GPU working {options.step_ms:g} ms on its own batch: with no overlap – with the",
        "all-reduce hidden behind the backward pass as far as it goes.",
        "",
        "| network | link | " + " | ".join(f"{gpus} GPUs" for gpus in GPUS) + " |",
        "|---|---|" + "---|" * len(GPUS),
    ]
    for name in NETWORKS:
        for link in LINKS:
            cases = [row for row in rows if row["network"] == name and row["link"] == link]
            cells = (f"{row['efficiency_low']:.0%} – {row['efficiency_high']:.0%}" for row in cases)
            lines.append(f"| {name} | {link} | " + " | ".join(cells) + " |")
    return [*lines, ""]


if __name__ == "__main__":
    command(Options, main)
