"""`python -m benchmarks.scaling`: what DDP costs by network, link and number of GPUs, from a
formula; and a check of the formula.

docs/scaling.md explains the formula and where its figures come from. The check: all-reduces of some
sizes between two processes here give latency and bandwidth of gloo on this machine; they predict
the all-reduce of each network's gradients, which is then measured. Writes docs/results/scaling
(.json and .md).
"""

import statistics
import tempfile
import time
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from benchmarks.results import Page, Row, machine, machine_text, write_rows
from fmnist.cli import command
from fmnist.config import Problem, TrainConfig
from fmnist.models import build_model, count_parameters

NETWORKS = ("lenet", "airnet", "resnet18", "wideresnet28")
SIZES = (4_000, 40_000, 400_000, 4_000_000, 16_000_000)
"""Bytes."""
REPEATS = 15
WARM_UP = 2
LINKS = {
    "10 Gbit/s": (1.25e9, 30e-6),
    "25 Gbit/s": (3.125e9, 20e-6),
    "100 Gbit/s": (12.5e9, 10e-6),
    "NVLink 4": (450e9, 3e-6),
}
"""Bytes/s each way, and seconds of one message's way."""
GPUS = (2, 8, 64, 256)
BYTES = 4
"""Size of a gradient: float32, under autocast as well."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Predict what DDP costs, and check the formula here."""

    step_ms: float = 12.8
    """One GPU's own work on its batch. By default ResNet-18's in report E: 256 images at 19,990 a
    second on an RTX 4060."""


def all_reduce_s(size: float, workers: int, bandwidth: float, latency_s: float) -> float:
    """Seconds of a ring all-reduce of `size` bytes: each rank sends 2(n-1) messages of size/n
    bytes, one after the other."""
    return 2 * (workers - 1) * (latency_s + size / workers / bandwidth)


def efficiency(step_s: float, reduce_s: float) -> tuple[float, float]:
    """Share of linear speed-up: with nothing overlapped, and with all that the backward pass,
    two thirds of a step, can hide."""
    # DDP reduces gradients while the backward pass still computes others.
    hidden = min(reduce_s, step_s * 2 / 3)
    return step_s / (step_s + reduce_s), step_s / (step_s + reduce_s - hidden)


def time_all_reduces(rank: int, folder: str, sizes: list[int]) -> None:
    """Run as one of two processes; rank 0 leaves the median seconds by size in `folder`."""
    # Two processes share the machine.
    torch.set_num_threads(1)
    meeting = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    tensors = {size: torch.ones(size // BYTES) for size in sizes}
    times: dict[int, list[float]] = {size: [] for size in sizes}

    for _ in range(REPEATS):
        for size, tensor in tensors.items():
            dist.barrier()
            started = time.perf_counter()
            dist.all_reduce(tensor)
            times[size].append(time.perf_counter() - started)

    if rank == 0:
        medians = {size: statistics.median(several[WARM_UP:]) for size, several in times.items()}
        torch.save(medians, f"{folder}/medians.pt")

    dist.destroy_process_group()


def measure(sizes: list[int]) -> dict[int, float]:
    """Seconds of an all-reduce between two processes here, by bytes."""
    with tempfile.TemporaryDirectory() as folder:
        spawn(time_all_reduces, (folder, sizes), nprocs=2)
        return torch.load(f"{folder}/medians.pt")


def fit(seconds: dict[int, float]) -> tuple[float, float]:
    """Bandwidth and latency for which the formula meets the times of two ranks, each time
    counting the same whatever its size."""
    sizes, times = np.array(list(seconds)), np.array(list(seconds.values()))
    # Seconds are 2 latency + size / bandwidth.
    # Divided by the times, so that the relative errors are least.
    terms = np.stack((2 * np.ones_like(times), sizes), 1) / times[:, None]
    latency_s, per_byte = np.linalg.lstsq(terms, np.ones_like(times), rcond=None)[0]
    return 1 / float(per_byte), float(latency_s)


def network_rows(parameters: dict[str, int], step_ms: float) -> list[Row]:
    """A row for each network, link and number of GPUs."""
    sizes = {name: count * BYTES for name, count in parameters.items()}
    measured = measure([*SIZES, *sizes.values()])
    bandwidth, latency_s = fit({size: measured[size] for size in SIZES})

    rows: list[Row] = []
    for name, link, gpus in product(NETWORKS, LINKS, GPUS):
        size = sizes[name]
        here_s = all_reduce_s(size, 2, bandwidth, latency_s)
        reduce_s = all_reduce_s(size, gpus, *LINKS[link])
        low, high = efficiency(step_ms / 1e3, reduce_s)
        rows.append(
            {
                "network": name,
                "parameters": parameters[name],
                "bytes_per_step": size,
                "here_predicted_ms": round(1e3 * here_s, 3),
                "here_measured_ms": round(1e3 * measured[size], 3),
                "link": link,
                "gpus": gpus,
                "all_reduce_ms": round(1e3 * reduce_s, 3),
                "efficiency_low": round(low, 3),
                "efficiency_high": round(high, 3),
                "step_ms": step_ms,
            }
        )

    return rows


def write_page(rows: list[Row]) -> None:
    by_network = {row["network"]: row for row in rows}
    # The predictions lie on the line that was fitted, so they give its two numbers again.
    predicted = {
        row["bytes_per_step"]: row["here_predicted_ms"] / 1e3 for row in by_network.values()
    }
    bandwidth, latency_s = fit(predicted)

    page = Page("What DDP costs: predicted, and checked here")
    page.text(
        f"""`python -m benchmarks.scaling` on {machine_text(rows[0])}; the formula stands in
        docs/scaling.md.""",
        f"""gloo between two processes here: {bandwidth / 1e9:.2f} GB/s and {1e6 * latency_s:.0f} µs
        a message, by all-reduces of {", ".join(f"{size:,}" for size in SIZES)} bytes. They predict
        those of the networks' gradients:""",
    )
    for row in by_network.values():
        row["ratio"] = row["here_measured_ms"] / row["here_predicted_ms"]

    page.row_table(
        "llllll",
        "network | parameters | bytes per step | all-reduce here, predicted | measured | "
        "measured / predicted",
        "{network} | {parameters:,} | {bytes_per_step:,} | {here_predicted_ms:.2f} ms | "
        "{here_measured_ms:.2f} ms | {ratio:.2f}",
        by_network.values(),
    )

    page.text(
        f"""Predicted share of linear speed-up, each GPU working {rows[0]["step_ms"]:g} ms on its
        own batch: with no overlap – with the all-reduce hidden behind the backward pass as far as
        it goes."""
    )
    shares: dict[tuple[str, str], list[str]] = {}

    for row in rows:
        share = f"{row['efficiency_low']:.0%} – {row['efficiency_high']:.0%}"
        shares.setdefault((row["network"], row["link"]), []).append(share)

    headings = " | ".join(f"{gpus} GPUs" for gpus in GPUS)
    page.table(
        "ll" + "l" * len(GPUS),
        f"network | link | {headings}",
        [(*case, *several) for case, several in shares.items()],
    )
    page.write("scaling")


def main(options: Options) -> None:
    parameters: dict[str, int] = {}
    for name in NETWORKS:
        model = build_model(TrainConfig(model=name), Problem(10))
        parameters[name] = count_parameters(model)

    where = machine("torch")
    rows = [row | where for row in network_rows(parameters, options.step_ms)]
    write_rows("scaling", rows)
    write_page(rows)


if __name__ == "__main__":
    command(Options, main)
