"""`python -m export.benchmark [RUN]`: latency and throughput of an exported model by backend, batch and threads.

Every backend takes NumPy pixels and gives NumPy logits. They take turns in short blocks, so that a machine whose speed drifts slows
all alike; only ratios between them are to be trusted. The first call, which compiles and plans, is apart. The modes are named after
MLPerf Inference's scenarios (Reddi et al., 2020) and claim to be none of its submissions: single stream (a call after the other),
server (requests at random times), offline (as many images as there are).
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
import tyro
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from export.backends import Backend, backends, on_cpu
from export.bundle import BENCHMARKED, checkpoints_of, refresh
from export.check import read_manifest
from export.graph import averaged
from export.session import Provider, SessionChoice, default_provider
from export.timing import NOISY, P99_CALLS, Timed, highest_rate, measure, own_cost, percentile
from fmnist.cli import command
from fmnist.device import cpu_threads, processor
from fmnist.errors import InputError, check
from fmnist.plots import GRAY, MARKERS, color, figure, save_figure
from fmnist.run import MODEL, RUNS, environment, find_bundle, read_json, write_json
from fmnist.summary import stage

Mode = Literal["single-stream", "server", "offline"]
CHOICES = (
    SessionChoice(),
    SessionChoice(spinning=False),
    SessionChoice(arena=False),
    SessionChoice(pattern=False),
    SessionChoice(layout=False),
)
"""Session options that are tried, each changing one of ONNX Runtime's defaults."""
CHOICE_S = 0.3
BETTER = 1.03
"""An option must make batch 1 this much faster to be taken."""
OFFLINE_BATCHES = (256, 1024)
PARETO = "pareto.png"


@dataclass(frozen=True, slots=True)
class Row:
    """One backend in one mode, at one batch size and number of threads."""

    backend: str
    provider: str
    precision: str
    mode: str
    threads: int
    batch: int
    calls: int
    p50_us: float
    p90_us: float
    p99_us: float | None
    """None of fewer than 1,000 calls."""
    images_per_s: float
    """Over all calls that count; in server mode the highest rate within the bound."""
    warmup_ms: float
    """The first call."""
    noisy: bool
    """The machine did not hold its speed, three times over."""


def summarise(backend: Backend, provider: str, threads: int, batch: int, found: Timed, mode: str = "single-stream") -> Row:
    p50, p90, p99 = (round(percentile(found.times, rank) * 1e6, 1) for rank in (50, 90, 99))
    return Row(
        backend=backend.name,
        provider=provider,
        precision=backend.precision,
        mode=mode,
        threads=threads,
        batch=batch,
        calls=len(found.times),
        p50_us=p50,
        p90_us=p90,
        p99_us=p99 if len(found.times) >= P99_CALLS else None,
        images_per_s=round(batch * len(found.times) / sum(found.times), 1),
        warmup_ms=round(found.first * 1e3, 2),
        noisy=found.spread >= NOISY,
    )


def single_stream(
    several: Sequence[Backend],
    provider: str,
    batches: Sequence[int],
    threads: Sequence[int],
    image: Sequence[int],
    min_seconds: float,
) -> list[Row]:
    """Every backend at every batch size with every number of threads."""
    rows: list[Row] = []
    source = np.random.default_rng(0)
    before = torch.get_num_threads()
    with Progress(transient=True) as progress:
        for count, batch in progress.track([(count, batch) for count in threads for batch in batches], description="single stream"):
            torch.set_num_threads(count)
            calls = {backend.name: backend.make(count) for backend in several}
            pixels = source.integers(0, 256, (batch, *image), np.uint8)
            found = measure(calls, pixels, min_seconds)
            rows += [summarise(b, provider, count, batch, found[b.name]) for b in several]
    torch.set_num_threads(before)
    return rows


def server(several: Sequence[Backend], provider: str, threads: int, image: Sequence[int], bound_ms: float) -> list[Row]:
    """The highest rate of single requests at which 99 % are answered in time, each backend alone."""
    rows: list[Row] = []
    pixels = np.random.default_rng(0).integers(0, 256, (1, *image), np.uint8)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    with Progress(transient=True) as progress:
        for backend in progress.track(several, description="server"):
            predict = backend.make(threads)
            found = measure({backend.name: predict}, pixels, 0.0)[backend.name]
            rate = round(highest_rate(predict, pixels, bound_ms / 1e3), 1)
            rows.append(replace(summarise(backend, provider, threads, 1, found, "server"), images_per_s=rate))
    torch.set_num_threads(before)
    return rows


def offline(rows: Sequence[Row], threads: int) -> list[Row]:
    """Of what was measured with all threads, the batch size at which each backend is fastest."""
    best: dict[str, Row] = {}
    for row in rows:
        if row.threads == threads and (row.backend not in best or row.images_per_s > best[row.backend].images_per_s):
            best[row.backend] = row
    return [replace(row, mode="offline") for row in best.values()]


def fastest_choice(path: Path, image: Sequence[int], threads: int) -> tuple[SessionChoice, dict[str, float]]:
    """The session options that answer a single image soonest, and microseconds of each that was tried."""
    pixels = np.random.default_rng(0).integers(0, 256, (1, *image), np.uint8)
    found = measure({str(number): on_cpu(path, choice)(threads) for number, choice in enumerate(CHOICES)}, pixels, CHOICE_S)
    times = [float(np.median(found[str(number)].times)) for number in range(len(CHOICES))]
    names = ["default", "no spinning", "no arena", "no memory pattern", "no layout"]
    fields = ("spinning", "arena", "pattern", "layout")
    better = {field: False for field, seconds in zip(fields, times[1:], strict=True) if times[0] / seconds >= BETTER}
    return SessionChoice(**better), {name: round(1e6 * seconds, 1) for name, seconds in zip(names, times, strict=True)}


def plot_latency(rows: Sequence[Row], path: Path) -> None:
    """Latency against throughput: a line for each backend, a mark for each batch size."""
    fig, axes = figure("Latency and throughput, batch by batch", "p50 of a call, ms", "images/s")
    most = max(row.threads for row in rows)
    for number, backend in enumerate(dict.fromkeys(row.backend for row in rows)):
        mine = [row for row in rows if (row.backend, row.threads) == (backend, most)]
        line = sorted((row.batch, row.p50_us / 1e3, row.images_per_s) for row in mine)
        style = MARKERS[number % len(MARKERS)] + "-"
        axes.plot([x for _, x, _ in line], [y for _, _, y in line], style, color=color(number), label=backend)
        for batch, x, y in line:
            axes.annotate(str(batch), (x, y), textcoords="offset points", xytext=(4, -9), fontsize=6, color=color(number))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.legend(fontsize=8, title=f"{most} thread{'s' if most > 1 else ''}; numbers: batch")
    save_figure(fig, path)


class Shipped(NamedTuple):
    """What one can ship: a graph in one precision."""

    name: str
    precision: str
    latency_us: float
    """p50 of one image, single stream, on the fewest threads measured."""
    accuracy: float
    """On the test set: chosen by it is nothing here, but whoever ships the best of many should know that it flatters."""


def pareto_front(points: Sequence[Shipped]) -> list[Shipped]:
    """Those that no other beats in both, the quickest first."""
    front: list[Shipped] = []
    for point in sorted(points, key=lambda point: (point.latency_us, -point.accuracy)):
        if not front or point.accuracy > front[-1].accuracy:
            front.append(point)
    return front


def plot_pareto(points: Sequence[Shipped], where: str, path: Path) -> None:
    """Accuracy against latency; the Pareto front is drawn through, and numbered, with a key. Of the others, float32 is named."""
    fig, axes = figure("Which one to ship? Accuracy and latency", f"p50 of one image, µs ({where})", "test accuracy, %", (8.0, 5.0))
    front = pareto_front(points)
    axes.step([p.latency_us for p in front], [100 * p.accuracy for p in front], where="post", color=GRAY, linewidth=1, zorder=1)
    for number, precision in enumerate(dict.fromkeys(point.precision for point in points)):
        mine = [point for point in points if point.precision == precision]
        x, y = [point.latency_us for point in mine], [100 * point.accuracy for point in mine]
        axes.scatter(x, y, marker=MARKERS[number % len(MARKERS)], color=color(number), label=precision, s=28, zorder=2)
    names = {point: point.name for point in points if point.precision == "float32"} | {p: str(i) for i, p in enumerate(front, 1)}
    for point, name in names.items():
        place, weight = (point.latency_us, 100 * point.accuracy), "bold" if point in front else "normal"
        axes.annotate(name, place, textcoords="offset points", xytext=(4, 4), fontsize=6.5, fontweight=weight)
    key = [f"{i}  {p.name}, {p.precision}: {p.latency_us:,.0f} µs, {100 * p.accuracy:.2f} %" for i, p in enumerate(front, 1)]
    axes.text(0.02, 0.03, "\n".join(key), transform=axes.transAxes, fontsize=7.5)
    axes.set_xscale("log")
    axes.legend(
        frameon=False, loc="lower right", fontsize=8, title="the line: no other is both quicker and better", title_fontsize=8
    )
    save_figure(fig, path)


def shipped(bundle: Path) -> list[Shipped]:
    """Each precision of a bundle that was verified and measured on a CPU or a GPU by ONNX Runtime, one image at a time."""
    found = read_json(bundle / BENCHMARKED)["rows"]
    verified = read_manifest(bundle)["verified"] or {}
    accuracies = {name: variant["accuracy"] for name, variant in verified.get("variants", {}).items()}
    accuracies["float32"] = verified.get("onnx_accuracy")
    rows = [
        row for row in found if (row["mode"], row["batch"]) == ("single-stream", 1) and row["backend"].startswith("onnxruntime")
    ]
    best: dict[str, float] = {}
    for row in rows:
        if row["threads"] == min(other["threads"] for other in rows) and accuracies.get(row["precision"]) is not None:
            best[row["precision"]] = min(row["p50_us"], best.get(row["precision"], np.inf))
    return [Shipped(bundle.parent.name, precision, p50, accuracies[precision]) for precision, p50 in best.items()]


def show(rows: Sequence[Row], console: Console) -> None:
    """A table for each mode and number of threads, 80 columns wide."""
    eager = {(row.mode, row.threads, row.batch): row.p50_us for row in rows if row.backend == "pytorch"}
    for mode, threads in dict.fromkeys((row.mode, row.threads) for row in rows):
        title = f"{mode} on {rows[0].provider}, {threads} thread{'s' if threads > 1 else ''}; µs, first call ms"
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        table.add_column("backend", no_wrap=True)
        for name in ("batch", "p50", "p90", "p99", "images/s", "first", "p50 ×"):
            table.add_column(name, justify="right", no_wrap=True)
        mine = [row for row in rows if (row.mode, row.threads) == (mode, threads)]
        for row in sorted(mine, key=lambda row: row.batch):
            base = eager.get((mode, threads, row.batch))
            table.add_row(
                row.backend + (" ~" if row.noisy else ""),
                str(row.batch),
                f"{row.p50_us:,.0f}",
                f"{row.p90_us:,.0f}",
                "–" if row.p99_us is None else f"{row.p99_us:,.0f}",
                f"{row.images_per_s:,.0f}",
                f"{row.warmup_ms:,.0f}",
                "" if base is None or row.backend == "pytorch" else f"[bold]{base / row.p50_us:.2f}[/]",
            )
        console.print(table)
    if any(row.noisy for row in rows):
        console.print("~: the machine did not hold its speed, three times over")


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions:
    """Measure an exported model beside PyTorch: a table, export/benchmark.json, and a chart in figures/.

    Example: python -m export.benchmark --compare demo laptop
    """

    run: Annotated[str | None, tyro.conf.Positional] = None
    """Run folder or bundle; by default the newest run."""
    provider: Annotated[Provider | None, tyro.conf.arg(metavar="{cpu,cuda,tensorrt}")] = None
    """Where they run; by default cuda where PyTorch finds a GPU, else cpu."""
    modes: tuple[Mode, ...] = ("single-stream", "server", "offline")
    """single-stream: a call after the other. server: the highest rate of requests at random times of which 99 % are answered in
    time. offline: the most images a second, at whichever batch size."""
    batches: tuple[int, ...] = (1, 32, 256)
    """Batch sizes of single-stream."""
    threads: tuple[int, ...] = ()
    """Numbers of CPU threads; by default 1 and all."""
    server_p99_ms: float = 10.0
    """The time within which server mode answers 99 of 100 requests."""
    min_seconds: float = 3.0
    """Seconds each backend is measured for at each batch size, unless it makes 1,000 calls sooner."""
    compiled: bool = True
    """Measure torch.compile too; its first call takes a minute."""
    compare: tuple[str, ...] = ()
    """Show what was measured of these runs side by side, and draw accuracy against latency; measure nothing."""

    def __post_init__(self) -> None:
        check(bool(self.batches) and min(self.batches) >= 1, f"batches={self.batches}: one or more, each at least 1")
        check(all(count >= 1 for count in self.threads), f"threads={self.threads}: each must be at least 1")
        check(self.min_seconds >= 0, f"min_seconds={self.min_seconds}: it must be at least 0")
        check(self.server_p99_ms > 0, f"server_p99_ms={self.server_p99_ms}: it must be above 0")
        check(len(self.compare) != 1, "compare: name two runs or more")


def main(options: BenchmarkOptions) -> None:
    console = Console(highlight=False, soft_wrap=True)
    if options.compare:
        bundles = [find_bundle(run) for run in options.compare]
        console.print(comparison(bundles))
        if points := [point for bundle in bundles for point in shipped(bundle)]:
            plot_pareto(points, "the fewest threads measured", RUNS / PARETO)
            console.print(f"accuracy against latency: {RUNS / PARETO}")
        return
    bundle = find_bundle(options.run)
    manifest = read_manifest(bundle)
    run = bundle.parent
    checkpoints = checkpoints_of(manifest, run if (run / "config.json").exists() else None)
    provider = options.provider or default_provider()
    if provider != "cpu" and checkpoints and not torch.cuda.is_available():
        raise InputError(f"provider={provider!r}: PyTorch finds no GPU here; use --provider cpu")
    threads = options.threads or tuple(sorted({1, cpu_threads()})) if provider == "cpu" else (cpu_threads(),)
    image = manifest["input"][0]["shape"][1:]
    model = averaged(checkpoints, manifest["average_flips"]) if checkpoints else None
    with stage(run, "benchmark") as found:
        choice, tried = fastest_choice(bundle / MODEL, image, threads[0]) if provider == "cpu" else (SessionChoice(), {})
        several = backends(bundle, manifest, model, provider, choice)
        several = [backend for backend in several if options.compiled or backend.name != "pytorch-compiled"]
        rows = single_stream(several, provider, options.batches, threads, image, options.min_seconds)
        single = {row.backend: row.p50_us for row in rows if row.batch == 1 and row.threads == threads[0]}
        plot_latency(rows, run / "figures/latency.png")
        if "offline" in options.modes:
            larger = [batch for batch in OFFLINE_BATCHES if batch not in options.batches]
            more = single_stream(several, provider, larger, threads[-1:], image, options.min_seconds)
            rows += offline([*rows, *more], threads[-1])
        if "server" in options.modes:
            rows += server(several, provider, threads[0], image, options.server_p99_ms)
        if single:
            where = f"{threads[0]} thread{'s' if threads[0] > 1 else ''}" if provider == "cpu" else provider
            found |= {"latency_p50_us": single, "latency_setting": where}
        machine = {"processor": processor(), "cpu_threads": cpu_threads(), "load": round(os.getloadavg()[0], 2), **environment()}
        written = {
            "rows": [asdict(row) for row in rows],
            "machine": machine,
            "session": choice.to_dict(),
            "session_tried_us": tried,
            "server_p99_ms": options.server_p99_ms,
            "own_cost_us": round(1e6 * own_cost(), 3),
            "sha256": manifest["files"][MODEL]["sha256"],
        }
        write_json(bundle / BENCHMARKED, written)
        refresh(bundle)
    show(rows, console)


def comparison(bundles: Sequence[Path]) -> Table:
    """A column for each bundle: p50 by backend, batch and threads, images/s in the other modes, and accuracy."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("", "batch", "threads"):
        table.add_column(name, no_wrap=True)
    values: dict[tuple[str, int, int], dict[Path, str]] = {}
    for bundle in bundles:
        remedy = f"python -m export.benchmark {bundle.parent}"
        check((bundle / BENCHMARKED).exists(), f"compare={bundle.parent.name!r}: not measured yet; {remedy}")
        table.add_column(bundle.parent.name, justify="right")
        for row in read_json(bundle / BENCHMARKED)["rows"]:
            alone = row["mode"] == "single-stream"
            name = f"{row['backend']}, p50 µs" if alone else f"{row['backend']}, {row['mode']}, images/s"
            key = (name, row["batch"] if row["mode"] != "offline" else 0, row["threads"])
            values.setdefault(key, {})[bundle] = f"{row['p50_us'] if alone else row['images_per_s']:,.0f}"
    for (name, batch, threads), cells in values.items():
        table.add_row(name, str(batch or "best"), str(threads), *(cells.get(bundle, "") for bundle in bundles))
    table.add_section()
    accuracies = [(read_json(bundle / "manifest.json")["verified"] or {}).get("onnx_accuracy") for bundle in bundles]
    table.add_row("test accuracy", "", "", *("" if value is None else f"{value:.2%}" for value in accuracies))
    return table


if __name__ == "__main__":
    command(BenchmarkOptions, main)
