"""`python -m export.benchmark [RUN]`: latency and throughput of PyTorch eager and ONNX Runtime, by batch and threads.

Both take NumPy pixels and give NumPy logits in float32. They take turns in short blocks, so that a machine whose speed
drifts slows both alike; only ratios between them are to be trusted. Warm-up is apart.
"""

import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from export.session import Provider, default_provider, open_session
from export.to_onnx import INPUT, Served
from fmnist.checkpoint import Checkpoint, load_checkpoint
from fmnist.cli import command
from fmnist.device import cpu_threads
from fmnist.errors import InputError, check
from fmnist.plots import MARKERS, color, figure, save_figure
from fmnist.run import MODEL, environment, find_bundle, find_checkpoint, write_json
from fmnist.summary import stage

P99_CALLS = 1000
"""A 99th percentile of fewer calls is not printed."""
MIN_CALLS = 20
BLOCK_CALLS, BLOCK_S = 5, 0.03
"""A backend's turn: at least so many calls and so long; the first call after the other's turn does not count."""
WARMUP_CALLS = 10

Predict = Callable[[NDArray[np.uint8]], Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One backend at one batch size and number of threads."""

    backend: str
    provider: str
    threads: int
    batch: int
    calls: int
    p50_us: float
    p90_us: float
    p99_us: float | None
    images_per_s: float
    """Over all calls that count."""
    warmup_ms: float
    """The first call."""


def pytorch_predict(checkpoint: Checkpoint, provider: Provider) -> Predict:
    """Eager PyTorch in float32."""
    device = torch.device(provider)
    model = Served(checkpoint.model).eval().to(device)

    def predict(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return model(torch.from_numpy(pixels).to(device))[0].cpu().numpy()

    return predict


def onnxruntime_predict(path: Path, provider: Provider, threads: int) -> Predict:
    session = open_session(path, provider, threads=threads)
    return lambda pixels: session.run(["logits"], {INPUT: pixels})[0]


def measure(backends: dict[str, Predict], pixels: NDArray[np.uint8], min_seconds: float) -> dict[str, tuple[float, list[float]]]:
    """Let the backends take turns until each has P99_CALLS calls, or min_seconds and MIN_CALLS.

    Returns:
        for each backend the seconds of its first call, and those of every call that counts.
    """
    first = {name: _timed(predict, pixels) for name, predict in backends.items()}
    for predict in backends.values():
        for _ in range(WARMUP_CALLS):
            predict(pixels)
    times: dict[str, list[float]] = {name: [] for name in backends}
    while not all(len(t) >= P99_CALLS or (len(t) >= MIN_CALLS and sum(t) >= min_seconds) for t in times.values()):
        for name, predict in backends.items():
            predict(pixels)
            turn: list[float] = []
            ends = time.perf_counter() + BLOCK_S
            while len(turn) < BLOCK_CALLS or time.perf_counter() < ends:
                turn.append(_timed(predict, pixels))
            times[name] += turn
    return {name: (first[name], times[name]) for name in backends}


def _timed(predict: Predict, pixels: NDArray[np.uint8]) -> float:
    started = time.perf_counter()
    predict(pixels)
    return time.perf_counter() - started


def benchmark(
    path: Path, checkpoint: Checkpoint, provider: Provider, batches: tuple[int, ...], threads: tuple[int, ...], min_seconds: float
) -> list[Row]:
    """Measure every batch size with every number of threads."""
    rows: list[Row] = []
    source = np.random.default_rng(0)
    threads_before = torch.get_num_threads()
    with Progress(transient=True) as progress:
        for count, batch in progress.track([(count, batch) for count in threads for batch in batches], description="latency"):
            torch.set_num_threads(count)
            backends = {
                "pytorch": pytorch_predict(checkpoint, provider),
                "onnxruntime": onnxruntime_predict(path, provider, count),
            }
            pixels = source.integers(0, 256, (batch, *checkpoint.data.problem.image_shape), np.uint8)
            for name, (first, times) in measure(backends, pixels, min_seconds).items():
                rows.append(summarise(name, provider, count, batch, first, times))
    torch.set_num_threads(threads_before)
    return rows


def summarise(backend: str, provider: str, threads: int, batch: int, first: float, times: list[float]) -> Row:
    p50, p90, p99 = (round(float(np.percentile(times, q)) * 1e6, 1) for q in (50, 90, 99))
    enough = len(times) >= P99_CALLS
    speed = round(batch * len(times) / sum(times), 1)
    return Row(backend, provider, threads, batch, len(times), p50, p90, p99 if enough else None, speed, round(first * 1e3, 2))


def plot_latency(rows: list[Row], path: Path) -> None:
    """Images/s by batch size: what batching buys, and what ONNX Runtime buys over PyTorch."""
    fig, axes = figure("Throughput by batch size", "batch", "images/s")
    styles = dict(zip(sorted({row.threads for row in rows}), ("-", "--", ":"), strict=False))
    for number, backend in enumerate(("onnxruntime", "pytorch")):
        for threads, style in styles.items():
            line = sorted((row.batch, row.images_per_s) for row in rows if (row.backend, row.threads) == (backend, threads))
            label = f"{backend}, {threads} thread{'s' if threads > 1 else ''}"
            axes.plot(*zip(*line, strict=True), MARKERS[number] + style, color=color(number), label=label)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(batches := sorted({row.batch for row in rows}), [str(batch) for batch in batches])
    axes.legend(fontsize=8)
    save_figure(fig, path)


def show(rows: list[Row], console: Console) -> None:
    table = Table(title=f"latency on {rows[0].provider}, float32, in µs; first call in ms", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("batch", "threads"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("backend", no_wrap=True)
    for name in ("p50", "p90", "p99", "images/s", "first", "p50 ×"):
        table.add_column(name, justify="right", no_wrap=True)
    eager = {(row.threads, row.batch): row.p50_us for row in rows if row.backend == "pytorch"}
    for row in sorted(rows, key=lambda row: (row.batch, row.threads)):
        ratio = eager[row.threads, row.batch] / row.p50_us
        table.add_row(
            str(row.batch),
            str(row.threads),
            row.backend,
            f"{row.p50_us:,.0f}",
            f"{row.p90_us:,.0f}",
            "–" if row.p99_us is None else f"{row.p99_us:,.0f}",
            f"{row.images_per_s:,.0f}",
            f"{row.warmup_ms:,.1f}",
            "" if row.backend == "pytorch" else f"[bold]{ratio:.2f}×[/]",
            end_section=row.backend == "onnxruntime",
        )
    console.print(table)


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions:
    """Measure the latency of an exported model against PyTorch eager; a table, export/benchmark.json and a chart."""

    run: Annotated[str | None, tyro.conf.Positional] = None
    """Run folder; by default the newest run."""
    provider: Annotated[Provider | None, tyro.conf.arg(metavar="{cpu,cuda}")] = None
    """Where both run; by default cuda where PyTorch finds a GPU, else cpu."""
    batches: tuple[int, ...] = (1, 32, 256)
    """Batch sizes."""
    threads: tuple[int, ...] = ()
    """Numbers of CPU threads; by default 1 and all."""
    min_seconds: float = 3.0
    """Seconds each backend is measured for at each batch size, unless it makes 1,000 calls sooner."""

    def __post_init__(self) -> None:
        check(bool(self.batches) and min(self.batches) >= 1, f"batches={self.batches}: one or more, each at least 1")
        check(all(count >= 1 for count in self.threads), f"threads={self.threads}: each must be at least 1")
        check(self.min_seconds >= 0, f"min_seconds={self.min_seconds}: it must be at least 0")


def main(options: BenchmarkOptions) -> None:
    bundle = find_bundle(options.run)
    checkpoint = load_checkpoint(find_checkpoint(bundle.parent))
    provider = options.provider or default_provider()
    if provider == "cuda" and not torch.cuda.is_available():
        raise InputError("provider='cuda': PyTorch finds no GPU here; use --provider cpu")
    threads = options.threads or tuple(sorted({1, cpu_threads()})) if provider == "cpu" else (cpu_threads(),)
    with stage(bundle.parent, "benchmark") as found:
        rows = benchmark(bundle / MODEL, checkpoint, provider, options.batches, threads, options.min_seconds)
        single = {row.backend: row.p50_us for row in rows if row.batch == 1 and row.threads == threads[0]}
        if single:
            where = f"{threads[0]} thread{'s' if threads[0] > 1 else ''}" if provider == "cpu" else provider
            found |= {"latency_p50_us": single, "latency_setting": where}
        machine = {"processor": platform.processor() or platform.machine(), "cpu_threads": cpu_threads(), **environment()}
        write_json(bundle / "benchmark.json", {"rows": [asdict(row) for row in rows], "machine": machine})
        plot_latency(rows, bundle.parent / "figures/latency.png")
    show(rows, Console())


if __name__ == "__main__":
    command(BenchmarkOptions, main)
