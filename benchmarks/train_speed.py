"""`python -m benchmarks.train_speed`: images/s of training each network in our loop, beside the
usual ways and the bound.

In turns of some seconds: an epoch of ours; as many steps on one constant batch, which needs no
input at all (the bound); the reports' way (torchvision's data set, a DataLoader with two workers,
transforms image by image, fp32, a plain loop); Lightning with the same network, precision and
loader. Medians of the turns, and of their ratios turn by turn. Ours flips and shifts its images,
the others only normalise theirs. Goes on where it stopped. Writes docs/results/speed.md, with rows
of a CPU and of a GPU in a JSON each.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Tensor
from torch.optim import SGD
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.images import CLASSES, first_images, train_images
from benchmarks.results import CONSOLE, Page, Row, Rows, machine, read_rows, versions_text
from benchmarks.usual_ways import lightning_speed, plain_loop_speed, usual_loader, write_idx_files
from fmnist.cli import command
from fmnist.config import Precision, TrainConfig
from fmnist.data.dataset import Split, TrainingData
from fmnist.errors import check, one_of
from fmnist.models import MODELS, count_parameters
from fmnist.training.device import Rank, autocast, default_device, set_threads
from fmnist.training.loop import start_training, train_epochs
from fmnist.training.state import TrainState
from fmnist.training.throughput import measure_speed

COMMANDS = {"cpu": "python -m benchmarks.train_speed", "cuda": "make gpu PART=speed"}
"""The command that measures a device."""
TURN_S = 2.0
"""About how long a turn of ours lasts, in whole batches."""
STEP_S = 1.0
"""The batch is doubled until a step would take longer, so that turns of the largest networks
stay short."""
MIN_BATCH = 16
MIN_TURNS = 3
PEAK_SIZE, PEAK_TIMES = 2048, 12
LARGE = 1_000_000
"""Parameters of a network that has a goal of its own beside the reports' way."""
LR = 1e-6
"""Hundreds of full steps on one batch would kill units, and dead ones are faster."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure the training speed of every network, beside the reports' way, Lightning, and the
    bound."""

    models: tuple[str, ...] = tuple(MODELS)
    """Networks to measure."""
    precisions: tuple[Precision, ...] = ("bf16", "fp32")
    turns: int = 9
    """Turns of each network; one whose turns take minutes gets fewer, at least 3. One more, the
    first, is warm-up."""
    limit_s: float = 60
    """Seconds after which a network gets no more turns."""
    global_batch_size: int = 256
    """The largest batch; from 16 on it is doubled while a step takes less than a second."""

    def __post_init__(self) -> None:
        for name in self.models:
            one_of("models", name, MODELS)

        check(self.turns >= 1, f"turns={self.turns}: it must be at least 1")
        check(
            self.global_batch_size >= MIN_BATCH,
            f"global_batch_size={self.global_batch_size}: it must be at least {MIN_BATCH}",
        )


class Batch(NamedTuple):
    """Images (B, H, W) or (B, 3, H, W) uint8 and labels (B,) int64, on the device."""

    images: Tensor
    labels: Tensor


def on_device(split: Split, device: torch.device) -> Batch:
    return Batch(split.images.tensor().to(device), split.labels.to(device))


def constant_batch_speed(state: TrainState, batch: Batch, steps: int) -> float:
    """Images/s of `steps` optimiser steps on one batch that is there already."""
    state.trained.train()
    started = time.perf_counter()
    for _ in range(steps):
        _backward(state, batch)
        for optimizer in state.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    if batch.images.is_cuda:
        torch.cuda.synchronize()

    return steps * len(batch.labels) / (time.perf_counter() - started)


def flops_per_image(state: TrainState, batch: Batch) -> float:
    """Floating-point operations, forward and backward, as PyTorch counts them; a multiplication
    and an addition are two. Muon's own products, a step's and not an image's, do not count."""
    few = Batch(batch.images[:8], batch.labels[:8])
    with FlopCounterMode(display=False) as counter:
        _backward(state, few)
    return counter.get_total_flops() / len(few.labels)


def _backward(state: TrainState, batch: Batch) -> None:
    with autocast(state.config, batch.images.device):
        logits = state.trained(batch.images).float()
        smoothing = state.config.label_smoothing
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=smoothing)
    loss.backward()


def matmul_flops_per_s(precision: str, device: torch.device) -> float:
    """Speed of a large matrix product: the best of some. In fp32 on a CPU of oneDNN's too, which
    computes the convolutions: on AMD's processors MKL, which computes `torch.mm`, has half its
    speed."""
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    a = torch.randn(PEAK_SIZE, PEAK_SIZE, device=device).to(kind)
    b = torch.randn(PEAK_SIZE, PEAK_SIZE, device=device).to(kind)
    products: list[Callable[[], Tensor]] = [partial(torch.mm, a, b)]
    if device.type == "cpu" and kind == torch.float32:
        products.append(partial(F.linear, a.to_mkldnn(), b.to_mkldnn()))

    shortest_s = float("inf")
    for run_product in PEAK_TIMES * products:
        _synchronise(device)
        started = time.perf_counter()
        run_product()
        _synchronise(device)
        shortest_s = min(shortest_s, time.perf_counter() - started)

    return 2 * PEAK_SIZE**3 / shortest_s


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def choose_batch(config: TrainConfig, largest: int, rank: Rank) -> tuple[TrainConfig, float]:
    """The config with the largest batch whose step is short, and its images/s."""
    data = TrainingData(train_images(), None, CLASSES)
    size = MIN_BATCH
    config = config.replace(global_batch_size=size)
    speed = measure_speed(config, data, rank)

    while 2 * size <= largest and 2 * size / speed <= STEP_S:
        # Measured anew each time: small batches are slow where the weights are many.
        size *= 2
        config = config.replace(global_batch_size=size)
        speed = measure_speed(config, data, rank)

    return config, speed


@dataclass
class Turns:
    """Measurements of one network, turn by turn."""

    images_per_s: dict[str, list[float]]
    """Speeds by way: ours, bound, reports, lightning."""
    memory_mb: list[float]


def take_turns(
    config: TrainConfig, steps: int, bound: TrainState, folder: Path, options: Options
) -> Turns:
    """Measure ours, the bound and the usual ways in turns, until there are enough or time is up.

    Args:
        steps: of a turn of ours.
        folder: torchvision's files.
    """
    device, size = default_device(), config.global_batch_size
    data = first_images(steps * size)
    batch = on_device(data.train.first(size), device)
    usual = start_training(config, data, device).trained
    loader = usual_loader(folder, size)
    # A turn of the usual ways lasts as long as one of ours would if they took a third of its speed.
    few = max(steps // 3, 2)

    speeds: dict[str, list[float]] = {"ours": [], "bound": [], "reports": [], "lightning": []}
    turns = Turns(speeds, [])
    started = time.perf_counter()
    for metrics, _ in train_epochs(config.replace(epochs=options.turns + 1), data, Rank(device)):
        speeds["ours"].append(metrics.images_per_s)
        speeds["bound"].append(constant_batch_speed(bound, batch, steps))
        turns.memory_mb.append(psutil.Process().memory_info().rss / 2**20)
        # The reports train in fp32 only.
        if config.precision == "fp32":
            plain = SGD(usual.network.parameters(), LR)
            speed = plain_loop_speed(usual.network, plain, loader, few, device)
            speeds["reports"].append(speed)

        speeds["lightning"].append(lightning_speed(usual, loader, few, config.precision, LR))

        enough = len(speeds["ours"]) > MIN_TURNS
        if enough and time.perf_counter() - started > options.limit_s:
            break

    return turns


def measure(config: TrainConfig, folder: Path, options: Options) -> Row:
    """Measure one network in one precision."""
    device = default_device()
    config, speed = choose_batch(config, options.global_batch_size, Rank(device))
    size = config.global_batch_size
    steps = min(max(round(TURN_S * speed / size), 1), len(train_images()) // size)
    # A network of its own: the constant batch would spoil ours.
    bound = start_training(config, first_images(steps * size), device)
    data = first_images(size)
    batch = on_device(data.train, device)
    flops = flops_per_image(bound, batch)
    peak = matmul_flops_per_s(config.precision, device)
    turns = take_turns(config, steps, bound, folder, options)

    # The first turn is warm-up.
    ours = turns.images_per_s["ours"][1:]
    row: Row = {
        "model": config.model,
        "precision": config.precision,
        "parameters": count_parameters(bound.trained),
        "batch": size,
        "turns": len(ours),
    }

    for way, speeds in turns.images_per_s.items():
        if speeds:
            row[f"{way}_images_per_s"] = round(statistics.median(speeds[1:]))

    for way, speeds in turns.images_per_s.items():
        if speeds and way != "ours":
            ratios = [mine / other for mine, other in zip(ours, speeds[1:], strict=True)]
            row[f"{way}_ratio"] = round(statistics.median(ratios), 3)

    return row | {
        "mflop_per_image": round(flops / 1e6, 2),
        "peak_gflops": round(peak / 1e9, 1),
        "peak_share": round(statistics.median(ours) * flops / peak, 3),
        "memory_mb": round(turns.memory_mb[1]),
        "memory_growth_mb": round(turns.memory_mb[-1] - turns.memory_mb[1]),
    }


def write_page() -> None:
    page = Page("Training speed")
    page.text(
        """`python -m benchmarks.train_speed`: images/s, medians of turns that take each other's
        place every few seconds, ratios turn by turn. The batch is doubled, from 16 on, while a step
        takes less than a second."""
    )
    page.items(
        (
            """**bound**: the same network on one constant batch, which is there already: what no
            input pipeline can beat.""",
            """**reports**: torchvision's data set, a DataLoader with two workers, transforms image
            by image, fp32, a plain loop.""",
            """**Lightning**: the same network, precision and loader, with neither logger nor
            progress bar.""",
            """**peak**: share of the speed of a large matrix product in that precision on the same
            machine, by PyTorch's count of the multiplications and additions of a training step.""",
        )
    )
    page.text("Ours flips and shifts its images, the others only normalise theirs.")

    for device, measured_by in COMMANDS.items():
        rows = read_rows(f"speed_{device}")
        if not rows:
            page.not_measured({"images/s of every network": measured_by}, device)
            continue

        reports = {
            row["model"]: row["reports_images_per_s"]
            for row in rows
            if "reports_images_per_s" in row
        }
        add_table(page, rows, reports)
        if device == "cpu":
            add_verdicts(page, rows, reports)

    page.write("speed")


def add_table(page: Page, rows: Sequence[Row], reports: Mapping[str, float]) -> None:
    """Add the table of one kind of device.

    Args:
        reports: images/s of the reports' way, by network.
    """
    page.heading(rows[0]["machine"])
    page.text(f"{versions_text(rows[0])}.")
    shown: list[Row] = []
    for row in rows:
        plain = "– | –"
        if row["model"] in reports:
            speed = reports[row["model"]]
            plain = f"{speed:,} | {row['ours_images_per_s'] / speed:.1f}"
        shown.append(row | {"reports": plain})

    page.row_table(
        "lrlrrrrrrrrrr",
        "network | parameters | precision | batch | images/s | of bound | reports' way | × | "
        "Lightning | × | peak | MB | grows",
        "{model} | {parameters:,} | {precision} | {batch} | {ours_images_per_s:,} | "
        "{bound_ratio:.3f} | {reports} | {lightning_images_per_s:,} | {lightning_ratio:.1f} | "
        "{peak_share:.0%} of {peak_gflops:,.0f} GFLOP/s | {memory_mb:,} | {memory_growth_mb:+,}",
        shown,
    )


def add_verdicts(page: Page, rows: Sequence[Row], reports: Mapping[str, float]) -> None:
    """Add which goals were met on a CPU, a line each."""
    fastest = {row["model"]: row for row in sorted(rows, key=lambda row: row["ours_images_per_s"])}
    bounds = {f"{row['model']} in {row['precision']}": row["bound_ratio"] for row in rows}
    times: dict[str, float] = {}
    large: dict[str, float] = {}

    for name, speed in reports.items():
        times[name] = fastest[name]["ours_images_per_s"] / speed
        if fastest[name]["parameters"] > LARGE:
            large[name] = times[name]

    lenet = {name: ratio for name, ratio in times.items() if name == "lenet"}
    lightning = {name: row["lightning_ratio"] for name, row in fastest.items() if name == "lenet"}

    goals: list[tuple[float, str, dict[str, float], int]] = [
        (0.95, "of the bound", bounds, 3),
        (1.5, f"times the reports' way on networks of over {LARGE:,} parameters", large, 1),
        (10, "times the reports' way on LeNet", lenet, 1),
        (3, "times Lightning on LeNet", lightning, 1),
    ]
    lines: list[str] = []

    for least, what, ratios, digits in goals:
        below = [f"{name} {ratio:.{digits}f}" for name, ratio in ratios.items() if ratio < least]
        verdict = f"**missed** by {', '.join(below)}" if below else "met"
        if ratios:
            lines.append(f"at least {least:g} {what}: {verdict}")

    page.text("Goals, in the faster precision unless one is named:")
    page.items(lines)
    page.text("Where LeNet's time goes: [profile_cpu.md](profile_cpu.md), e-lenet-0.05.")


def main(options: Options) -> None:
    set_threads(TrainConfig())
    rows = Rows(f"speed_{default_device().type}", "model", "precision")
    cases: list[tuple[str, Any]] = []
    for name, precision in product(options.models, options.precisions):
        if not rows.measured(name, precision):
            cases.append((name, precision))

    with tempfile.TemporaryDirectory() as folder:
        write_idx_files(Path(folder))
        for name, precision in track(cases, "networks", console=CONSOLE):
            config = TrainConfig(model=name, precision=precision, lr=LR)
            row = measure(config, Path(folder), options)
            rows.add(row | machine("torch", "torchvision"))
            CONSOLE.print(f"{name}, {precision}: {row['ours_images_per_s']:,} images/s")

    write_page()


if __name__ == "__main__":
    command(Options, main)
