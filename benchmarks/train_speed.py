"""`python -m benchmarks.train_speed`: images/s of training each network in our loop, beside the usual ways and the bound.

In turns of some seconds: an epoch of ours; as many steps on one constant batch, which needs no input at all (the bound); the
reports' way (torchvision's data set, a DataLoader with two workers, transforms image by image, fp32, a plain loop); Lightning
with the same network, precision and loader. Medians of the turns, and of their ratios turn by turn. Ours flips and shifts its
images, the others only normalise theirs. Goes on where it stopped. Writes docs/results/speed.md, with what a CPU
and what a GPU found in a JSON each.
"""

import logging
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

import psutil
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.pages import unmeasured
from fmnist.cli import command
from fmnist.config import Precision, TrainConfig
from fmnist.data import Split, find_data, load_info, load_test, load_train
from fmnist.device import autocast, default_device, hardware, set_threads
from fmnist.errors import check, one_of
from fmnist.idx import write_idx
from fmnist.loop import TrainState, start_training, train_epochs
from fmnist.models import MODELS, Classifier, count_parameters
from fmnist.plan import measure_speed
from fmnist.run import environment, read_json, write_atomic, write_json

RESULTS = Path("docs/results")
COMMANDS = {"cpu": "python -m benchmarks.train_speed", "cuda": "make gpu PART=7"}
ROWS = {device: RESULTS / f"speed_{device}.json" for device in COMMANDS}
TURN_S = 2.0
"""About how long a turn of ours lasts, in whole batches."""
STEP_S = 1.0
"""The batch is doubled until a step would take longer, so that turns of the largest networks stay short."""
MIN_BATCH = 16
MIN_TURNS = 3
WORKERS = 2
WARM_UP = 4
"""Batches of the usual ways that do not count: processes start, buffers fill."""
PEAK_SIZE = 2048
LARGE = 1_000_000
"""Parameters of a network that has a goal of its own beside the reports' way."""
LR = 1e-6
"""Hundreds of full steps on one batch would kill units, and dead ones are faster."""

Loader = Callable[[], Iterator[tuple[Tensor, Tensor]]]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure the training speed of every network, beside the reports' way, Lightning, and the bound."""

    models: tuple[str, ...] = tuple(MODELS)
    """Networks to measure."""
    precisions: tuple[Precision, ...] = ("bf16", "fp32")
    turns: int = 9
    """Turns of each network; one whose turns take minutes gets fewer, at least 3. One more, the first, is warm-up."""
    limit_s: float = 60
    """Seconds after which a network gets no more turns."""
    global_batch_size: int = 256
    """At most; from 16 on doubled while a step takes less than a second."""

    def __post_init__(self) -> None:
        for name in self.models:
            one_of("models", name, MODELS)
        check(self.global_batch_size >= MIN_BATCH, f"global_batch_size={self.global_batch_size}: it must be {MIN_BATCH} or more")


def constant_batch_speed(state: TrainState, batch: Split, steps: int) -> float:
    """Images/s of `steps` optimiser steps on one batch that is there already."""
    images, labels = batch.images, batch.labels
    state.trained.train()
    started = time.perf_counter()
    for _ in range(steps):
        _step(state, images, labels)
    if images.is_cuda:
        torch.cuda.synchronize()
    return steps * len(batch) / (time.perf_counter() - started)


def _backward(state: TrainState, images: Tensor, labels: Tensor) -> None:
    with autocast(state.config, images.device):
        loss = F.cross_entropy(state.trained(images).float(), labels, label_smoothing=state.config.label_smoothing)
    loss.backward()


def _step(state: TrainState, images: Tensor, labels: Tensor) -> None:
    _backward(state, images, labels)
    for optimizer in state.optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def usual_loader(folder: Path, batch: int) -> Any:
    """torchvision's data set as most tutorials load it."""
    from torchvision import transforms  # here: a second to import
    from torchvision.datasets import FashionMNIST

    each = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.2860,), (0.3530,))])
    data = FashionMNIST(str(folder), train=True, transform=each)
    return DataLoader(data, batch, shuffle=True, num_workers=WORKERS, drop_last=True, persistent_workers=False)


def write_for_torchvision(folder: Path, train: Split, test: Split) -> None:
    raw = folder / "FashionMNIST/raw"
    for prefix, split in (("train", train), ("t10k", test)):
        write_idx(raw / f"{prefix}-images-idx3-ubyte", split.images.numpy())
        write_idx(raw / f"{prefix}-labels-idx1-ubyte", split.labels.byte().numpy())


def reports_speed(network: nn.Module, optimizer: Optimizer, loader: Any, steps: int, device: torch.device) -> float:
    """Images/s of a plain fp32 loop over the loader."""
    network.train()
    started, seen = 0.0, 0
    for number, (images, labels) in enumerate(islice(loader, WARM_UP + steps)):
        if number == WARM_UP:
            started = time.perf_counter()
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        loss.item()  # as they sum it up
        seen += len(labels) * (number >= WARM_UP)
    return seen / (time.perf_counter() - started)


def lightning_speed(model: Classifier, loader: Any, steps: int, precision: str) -> float:
    """Images/s of Lightning's Trainer over the loader, with neither logger nor progress bar nor checkpoints."""
    import pytorch_lightning as pl  # here: seconds to import

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    times: list[float] = []

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = model.network

        def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:  # pyright: ignore
            images, labels = batch
            return F.cross_entropy(self.network(images), labels)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), LR)

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            times.append(time.perf_counter())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice on workers, loggers and the like
        trainer = pl.Trainer(
            max_steps=WARM_UP + steps,
            max_epochs=-1,
            precision="bf16-mixed" if precision == "bf16" else "32-true",
            accelerator="auto",
            devices=1,
            logger=False,
            enable_progress_bar=False,
            enable_checkpointing=False,
            enable_model_summary=False,
        )
        trainer.fit(Module(), loader)
    return loader.batch_size * (len(times) - WARM_UP) / (times[-1] - times[WARM_UP - 1])


def flops_per_image(state: TrainState, batch: Split) -> float:
    """Forward and backward, counted by PyTorch; a multiplication and an addition are two. Muon's own products, a step's and not an
    image's, do not count."""
    with FlopCounterMode(display=False) as counter:
        _backward(state, batch.images[:8], batch.labels[:8])
    return counter.get_total_flops() / 8


def matmul_peak(precision: str, device: torch.device) -> float:
    """FLOP/s of a large matrix product: the best of some. In fp32 on a CPU of oneDNN's too, which computes the convolutions:
    on AMD's processors MKL, which computes `torch.mm`, has half its speed."""
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(PEAK_SIZE, PEAK_SIZE, device=device).to(kind) for _ in range(2))
    products: list[Callable[[], Tensor]] = [lambda: torch.mm(a, b)]
    if device.type == "cpu" and kind == torch.float32:
        products.append(partial(F.linear, a.to_mkldnn(), b.to_mkldnn()))
    best = 0.0
    for product in 12 * products:
        if device.type == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        product()
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2 * PEAK_SIZE**3 / (time.perf_counter() - started))
    return best


def row_of(config: TrainConfig, everything: Split, folder: Path, options: Options) -> dict[str, Any]:
    """Ours, the bound and the usual ways in turns."""
    device = default_device()
    size, speed = MIN_BATCH, measure_speed(config.replace(global_batch_size=MIN_BATCH), everything, 10, device)
    while 2 * size <= options.global_batch_size and 2 * size / speed <= STEP_S:
        size *= 2  # measured anew each time: small batches are slow where the weights are many
        speed = measure_speed(config.replace(global_batch_size=size), everything, 10, device)
    config, loader = config.replace(global_batch_size=size), usual_loader(folder, size)
    steps = min(max(round(TURN_S * speed / size), 1), len(everything) // size)
    train = Split(everything.images[: steps * size], everything.labels[: steps * size])
    bound, usual = (start_training(config, train, 10, device) for _ in range(2))
    batch = Split(train.images[:size].to(device), train.labels[:size].to(device))
    flops, peak = flops_per_image(bound, batch), matmul_peak(config.precision, device)
    # A turn of the usual ways lasts as long as one of ours would if they took a third of its speed.
    few = max(steps // 3, 2)
    found: dict[str, list[float]] = {"ours": [], "bound": [], "reports": [], "lightning": []}
    memory: list[float] = []
    started = time.perf_counter()
    for metrics, _ in train_epochs(config.replace(epochs=options.turns + 1), train, classes=10, device=device):
        found["ours"].append(metrics.images_per_s)
        found["bound"].append(constant_batch_speed(bound, batch, steps))
        memory.append(psutil.Process().memory_info().rss / 2**20)
        if config.precision == "fp32":
            network = usual.trained.network
            plain = torch.optim.SGD(network.parameters(), LR)
            found["reports"].append(reports_speed(network, plain, loader, few, device))
        found["lightning"].append(lightning_speed(usual.trained, loader, few, config.precision))
        if len(found["ours"]) > MIN_TURNS and time.perf_counter() - started > options.limit_s:
            break
    speeds = {f"{name}_images_per_s": round(statistics.median(values[1:])) for name, values in found.items() if values}
    ratios = {
        f"{name}_ratio": round(statistics.median(a / b for a, b in zip(found["ours"][1:], values[1:], strict=True)), 3)
        for name, values in found.items()
        if values and name != "ours"
    }
    return {
        "model": config.model,
        "precision": config.precision,
        "parameters": count_parameters(bound.trained),
        "batch": size,
        "turns": len(found["ours"]) - 1,
        **speeds,
        **ratios,
        "mflop_per_image": round(flops / 1e6, 2),
        "peak_gflops": round(peak / 1e9, 1),
        "peak_share": round(statistics.median(found["ours"][1:]) * flops / peak, 3),
        "memory_mb": round(memory[1]),
        "memory_growth_mb": round(memory[-1] - memory[1]),
        "machine": hardware(),
        "versions": {name: environment()["versions"].get(name) for name in ("python", "torch", "torchvision")},
    }


def page() -> str:
    """Of all that was found so far."""
    lines = [
        "# Training speed",
        "",
        "`python -m benchmarks.train_speed`: images/s, medians of turns that take each other's place every few seconds, ratios",
        "turn by turn. The batch is doubled, from 16 on, while a step takes less than a second.",
        "",
        "- **bound**: the same network on one constant batch, which is there already: what no input pipeline can beat.",
        "- **reports**: torchvision's data set, a DataLoader with two workers, transforms image by image, fp32, a plain loop.",
        "- **Lightning**: the same network, precision and loader, with neither logger nor progress bar.",
        "- **peak**: share of the speed of a large matrix product in that precision on the same machine, by PyTorch's count of",
        "  the multiplications and additions of a training step.",
        "",
        "Ours flips and shifts its images, the others only normalise theirs.",
    ]
    for device, path in ROWS.items():
        lines += (
            section(read_json(path), device)
            if path.exists()
            else unmeasured({"images/s of every network": COMMANDS[device]}, device)
        )
    return "\n".join([*lines, ""])


def section(rows: Sequence[Mapping[str, Any]], device: str) -> list[str]:
    """The table of one kind of device."""
    versions = ", ".join(f"{name} {version}" for name, version in rows[0]["versions"].items())
    lines = [
        "",
        f"## {rows[0]['machine']}",
        "",
        f"{versions}.",
        "",
        "| network | parameters | precision | batch | images/s | of bound | reports' way | × | Lightning | × | peak | MB | grows |",
        "|---|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    reports = {row["model"]: row["reports_images_per_s"] for row in rows if "reports_images_per_s" in row}
    for row in rows:
        plain = reports.get(row["model"])
        cells = (
            row["model"],
            f"{row['parameters']:,}",
            row["precision"],
            row["batch"],
            f"{row['ours_images_per_s']:,}",
            f"{row['bound_ratio']:.3f}",
            f"{plain:,}" if plain else "–",
            f"{row['ours_images_per_s'] / plain:.1f}" if plain else "–",
            f"{row['lightning_images_per_s']:,}",
            f"{row['lightning_ratio']:.1f}",
            f"{row['peak_share']:.0%} of {row['peak_gflops']:,.0f} GFLOP/s",
            f"{row['memory_mb']:,}",
            f"{row['memory_growth_mb']:+,}",
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines + (verdicts(rows, reports) if device == "cpu" else [])


def verdicts(rows: Sequence[Mapping[str, Any]], reports: Mapping[str, float]) -> list[str]:
    """Which goals were met on a CPU, a line each."""
    fastest = {row["model"]: row for row in sorted(rows, key=lambda row: row["ours_images_per_s"])}
    times = {name: fastest[name]["ours_images_per_s"] / plain for name, plain in reports.items()}
    large = {name: ratio for name, ratio in times.items() if fastest[name]["parameters"] > LARGE}
    lightning = {name: row["lightning_ratio"] for name, row in fastest.items()}
    bounds = {f"{row['model']} in {row['precision']}": row["bound_ratio"] for row in rows}
    goals = (
        (0.95, "of the bound", bounds, bounds),
        (1.5, f"times the reports' way on networks of over {LARGE:,} parameters", large, large),
        (10, "times the reports' way on LeNet", times, ["lenet"]),
        (3, "times Lightning on LeNet", lightning, ["lenet"]),
    )
    lines = ["", "Goals, in the faster precision unless one is named:", ""]
    for least, what, ratios, names in goals:
        if not (found := [name for name in names if name in ratios]):
            continue
        below = [f"{name} {ratios[name]:.{3 if ratios is bounds else 1}f}" for name in found if ratios[name] < least]
        lines.append(f"- at least {least:g} {what}: " + (f"**missed** by {', '.join(below)}" if below else "met"))
    return [*lines, "", "Where LeNet's time goes: [profile_cpu.md](profile_cpu.md), e-lenet-0.05."]


def main(options: Options) -> None:
    console = Console(highlight=False, soft_wrap=True)
    set_threads(TrainConfig())
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    folder = find_data()
    info = load_info(folder)
    everything = load_train(folder, info)
    path = ROWS[default_device().type]
    rows: list[dict[str, Any]] = read_json(path) if path.exists() else []
    known = {(row["model"], row["precision"]) for row in rows}
    left = [(name, p) for name in options.models for p in options.precisions if (name, p) not in known]
    with tempfile.TemporaryDirectory() as temporary, Progress(console=console) as progress:
        write_for_torchvision(Path(temporary), everything, load_test(folder, info))
        for name, precision in progress.track(left, description="networks"):
            config = TrainConfig(model=name, precision=cast(Precision, precision), lr=LR)
            rows.append(row_of(config, everything, Path(temporary), options))
            console.print(f"{name}, {precision}: {rows[-1]['ours_images_per_s']:,} images/s")
            write_json(path, rows)
            write_atomic(RESULTS / "speed.md", page())
    write_atomic(RESULTS / "speed.md", page())
    console.print(page())


if __name__ == "__main__":
    command(Options, main)
