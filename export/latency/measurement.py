"""Measure every backend in turn: single stream, server, offline."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress

from export.bundle.layout import MODEL
from export.graph.conversion import Averaged
from export.latency import Mode
from export.latency.backends import Backend, backends, on_cpu
from export.providers import Provider
from export.session import SessionChoice
from export.timing import (
    NOISY,
    P99_CALLS,
    Timed,
    highest_rate,
    measure,
    own_cost,
    percentile,
)
from fmnist.cli import plural
from fmnist.runs.provenance import environment
from fmnist.runs.threads import cpu_threads
from fmnist.training.device import processor

SWITCHED_OFF = {
    "spinning": "no spinning",
    "arena": "no arena",
    "pattern": "no memory pattern",
    "layout": "no layout",
}
"""Session options that are tried without, one by one, and their names in benchmark.json."""
CHOICE_S = 0.3
BETTER = 1.03
"""Batch 1 must be this many times as fast without an option for it to stay off."""
OFFLINE_BATCHES = (256, 1024)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What the backends are measured on."""

    provider: Provider
    modes: Sequence[Mode]
    batches: Sequence[int]
    """Batch sizes of single stream."""
    threads: Sequence[int]
    """Numbers of CPU threads; server mode takes the first, offline the last."""
    image: Sequence[int]
    """Shape of one image."""
    min_seconds: float
    server_p99_ms: float


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


def measure_bundle(
    bundle: Path,
    manifest: dict[str, Any],
    model: Averaged | None,
    workload: Workload,
    *,
    compiled: bool,
) -> tuple[list[Row], dict[str, Any]]:
    """Measure a bundle's graphs, and PyTorch beside them.

    Args:
        model: PyTorch's own; None where the checkpoint is not at hand.
        compiled: measure torch.compile too.

    Returns:
        The rows, and the content of benchmark.json.
    """
    threads = workload.threads
    choice = SessionChoice()
    tried_us: dict[str, float] = {}
    if workload.provider == "cpu":
        choice, tried_us = fastest_choice(bundle / MODEL, workload.image, threads[0])
    several = backends(bundle, manifest, model, workload.provider, choice, compiled=compiled)

    # Always: the figure, the summary and offline mode are made of its rows.
    rows = single_stream(several, workload, workload.batches, threads)
    if "offline" in workload.modes:
        larger = [batch for batch in OFFLINE_BATCHES if batch not in workload.batches]
        more = single_stream(several, workload, larger, threads[-1:])
        rows += offline([*rows, *more], threads[-1])
    if "server" in workload.modes:
        rows += server(several, workload, threads[0])

    results = {
        "rows": [asdict(row) for row in rows],
        "machine": describe_machine(),
        "session": choice.to_dict(),
        "session_tried_us": tried_us,
        "server_p99_ms": workload.server_p99_ms,
        "own_cost_us": round(1e6 * own_cost(), 3),
        "sha256": manifest["files"][MODEL]["sha256"],
    }
    return rows, results


def describe_machine() -> dict[str, Any]:
    return {
        "processor": processor(),
        "cpu_threads": cpu_threads(),
        "load": round(os.getloadavg()[0], 2),
        **environment(),
    }


def summary_entries(rows: Sequence[Row], workload: Workload) -> dict[str, Any]:
    """What goes into the run's summary.json: p50 of one image, single stream, fewest threads."""
    threads = workload.threads[0]
    p50_us: dict[str, float] = {}
    for row in rows:
        if (row.mode, row.batch, row.threads) == ("single-stream", 1, threads):
            p50_us[row.backend] = row.p50_us
    if not p50_us:
        return {}

    setting = plural(threads, "thread") if workload.provider == "cpu" else workload.provider
    entries = {"latency_p50_us": p50_us, "latency_setting": setting}
    if "pytorch" not in p50_us:
        return entries

    eager, served = p50_us["pytorch"], p50_us["onnxruntime"]
    line = (
        f"ONNX Runtime {served:,.0f} µs, PyTorch {eager:,.0f} µs: "
        f"{eager / served:.1f}× (batch 1, {setting})"
    )
    return entries | {"panel": {"latency p50": line}}


def summarise(
    backend: Backend,
    provider: str,
    threads: int,
    batch: int,
    timed: Timed,
    mode: Mode = "single-stream",
) -> Row:
    """The row of what was measured of one backend."""
    calls = len(timed.times)
    p50, p90, p99 = (round(percentile(timed.times, rank) * 1e6, 1) for rank in (50, 90, 99))
    return Row(
        backend=backend.name,
        provider=provider,
        precision=backend.precision,
        mode=mode,
        threads=threads,
        batch=batch,
        calls=calls,
        p50_us=p50,
        p90_us=p90,
        p99_us=p99 if calls >= P99_CALLS else None,
        images_per_s=round(batch * calls / sum(timed.times), 1),
        warmup_ms=round(timed.first * 1e3, 2),
        noisy=timed.spread >= NOISY,
    )


def single_stream(
    several: Sequence[Backend],
    workload: Workload,
    batches: Sequence[int],
    threads: Sequence[int],
) -> list[Row]:
    """Measure call after call, every backend at every batch size with every number of threads."""
    settings = [(count, batch) for count in threads for batch in batches]
    generator = np.random.default_rng(0)
    rows: list[Row] = []
    # PyTorch's number is the process's, and is put back.
    before = torch.get_num_threads()
    with Progress(transient=True) as progress:
        for count, batch in progress.track(settings, description="single stream"):
            torch.set_num_threads(count)
            calls = {backend.name: backend.make(count) for backend in several}
            pixels = generator.integers(0, 256, (batch, *workload.image), np.uint8)
            timed = measure(calls, pixels, workload.min_seconds)
            for backend in several:
                measured = timed[backend.name]
                rows.append(summarise(backend, workload.provider, count, batch, measured))

    torch.set_num_threads(before)
    return rows


def server(several: Sequence[Backend], workload: Workload, threads: int) -> list[Row]:
    """Measure the highest rate of single requests at which 99 % are answered in time, each backend
    alone."""
    bound_s = workload.server_p99_ms / 1e3
    pixels = np.random.default_rng(0).integers(0, 256, (1, *workload.image), np.uint8)
    rows: list[Row] = []
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    with Progress(transient=True) as progress:
        for backend in progress.track(several, description="server"):
            predict = backend.make(threads)
            # Percentiles of an idle server; the rate is measured after that.
            timed = measure({backend.name: predict}, pixels, 0.0)[backend.name]
            row = summarise(backend, workload.provider, threads, 1, timed, "server")
            rate = round(highest_rate(predict, pixels, bound_s), 1)
            rows.append(replace(row, images_per_s=rate))
    torch.set_num_threads(before)
    return rows


def offline(rows: Sequence[Row], threads: int) -> list[Row]:
    """Of the rows with this many threads, each backend's at the batch size of most images a
    second."""
    best: dict[str, Row] = {}
    for row in rows:
        if row.threads != threads:
            continue
        if row.backend not in best or row.images_per_s > best[row.backend].images_per_s:
            best[row.backend] = row
    return [replace(row, mode="offline") for row in best.values()]


def fastest_choice(
    path: Path, image: Sequence[int], threads: int
) -> tuple[SessionChoice, dict[str, float]]:
    """Find the session options with which a single image is answered soonest.

    Args:
        path: the ONNX file.
        image: shape of one image.

    Returns:
        The options, and the median in microseconds of each that was tried.
    """
    choices = {"default": SessionChoice()}
    for field, name in SWITCHED_OFF.items():
        choices[name] = replace(SessionChoice(), **{field: False})
    calls = {name: on_cpu(path, choice)(threads) for name, choice in choices.items()}
    pixels = np.random.default_rng(0).integers(0, 256, (1, *image), np.uint8)
    timed = measure(calls, pixels, CHOICE_S)
    seconds = {name: float(np.median(timed[name].times)) for name in choices}

    # Options that help alone are taken together.
    fastest = SessionChoice()
    for field, name in SWITCHED_OFF.items():
        if seconds["default"] / seconds[name] >= BETTER:
            fastest = replace(fastest, **{field: False})
    return fastest, {name: round(1e6 * value, 1) for name, value in seconds.items()}
