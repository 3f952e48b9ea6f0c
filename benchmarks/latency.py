"""`python -m benchmarks.latency [RUN…]`: what `python -m export.benchmark` measured, against the goals and against a plain loop.

The loop is what onnxruntime_perf_test does: the same session, one call after the other, nothing between them but a clock. Writes
docs/results/latency.json and .md, and the last run's chart to docs/images/latency.png.
"""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray
from rich.console import Console

from export.backends import plain
from export.benchmark import Row
from export.bundle import BENCHMARKED
from export.check import read_manifest
from export.graph import INPUT, OUTPUTS
from export.session import SessionChoice, open_session
from export.timing import measure, percentile
from fmnist.cli import command
from fmnist.errors import check
from fmnist.run import MODEL, find_bundle, read_json, write_atomic, write_json

RESULTS = Path("docs/results")
PICTURE = Path("docs/images/latency.png")
RAW_CALLS = 2000
RAW_TURNS = 5
GOALS = {"lenet": 7.0, "airnet": 3.0}
"""How many times as fast as PyTorch eager ONNX Runtime's p50 of one image is to be, on one CPU thread, by network."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Gather what was measured of exported models, and check the measurement itself."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional] = ("lenet", "demo")
    """Runs or bundles that `python -m export.benchmark` has measured on this machine's CPU."""


def agreement(bundle: Path, choice: SessionChoice) -> dict[str, float]:
    """p50 of one image on one thread, in µs, as the benchmark measures it and in plain loops, with and without buffers bound; in
    turns."""
    image = read_manifest(bundle)["input"][0]["shape"][1:]
    pixels = np.random.default_rng(0).integers(0, 256, (1, *image), np.uint8)
    session = open_session(bundle / MODEL, "cpu", threads=1, choice=choice)
    binding = session.io_binding()
    binding.bind_cpu_input(INPUT, pixels)
    binding.bind_output(OUTPUTS[0], "cpu")
    found: dict[str, list[float]] = {"benchmark": [], "loop": [], "bound": []}
    for _ in range(RAW_TURNS):
        timed = measure({"benchmark": plain(session)}, pixels, 0.0)["benchmark"].times
        found["benchmark"].append(percentile(timed, 50))
        found["loop"].append(raw(lambda: session.run([OUTPUTS[0]], {INPUT: pixels})))
        found["bound"].append(raw(lambda: session.run_with_iobinding(binding)))
    return {name: round(1e6 * float(np.median(several)), 2) for name, several in found.items()}


def raw(call: Callable[[], object]) -> float:
    """Median seconds of a call."""
    times: NDArray[np.int64] = np.empty(RAW_CALLS, np.int64)
    for number in range(RAW_CALLS):
        started = time.perf_counter_ns()
        call()
        times[number] = time.perf_counter_ns() - started
    return float(np.median(times)) / 1e9


def gathered(run: str) -> dict[str, Any]:
    bundle = find_bundle(run)
    manifest = read_manifest(bundle)
    check((bundle / BENCHMARKED).exists(), f"runs={run!r}: not measured yet; python -m export.benchmark {run}")
    measured = read_json(bundle / BENCHMARKED)
    network = manifest["train"][0]["model"]
    choice = SessionChoice(**measured["session"])
    return {"run": run, "network": network, "measured": measured, "agreement": agreement(bundle, choice)}


def section(found: Mapping[str, Any]) -> list[str]:
    measured, agreed = found["measured"], found["agreement"]
    rows = [Row(**row) for row in measured["rows"]]
    one = {row.backend: row.p50_us for row in rows if (row.mode, row.batch, row.threads) == ("single-stream", 1, 1)}
    goal = GOALS.get(found["network"])
    ratio, cost = one["pytorch"] / one["onnxruntime"], measured["own_cost_us"] / min(one.values())
    asked = f" (the goal is {goal:g})" if goal else ""
    apart = agreed["benchmark"] / agreed["loop"] - 1
    off = [name for name, on in measured["session"].items() if not on]
    lines = [
        f"## {found['run']}: {found['network']}",
        "",
        f"One image on one thread: **{ratio:.1f} times as fast as PyTorch eager**{asked}.",
    ]
    if "openvino" in one:
        lines.append(
            f"ONNX Runtime takes {one['onnxruntime'] / one['openvino']:.2f} of OpenVINO's time (the goal is at most 1.10)."
        )
    lines += [
        f"Session options that differ from ONNX Runtime's own, since they were faster here: {', '.join(off) or 'none'}"
        + (" off." if off else "."),
        f"The clock's own cost is {measured['own_cost_us']:.2f} µs, {cost:.1%} of the shortest call. A plain loop over the same",
        f"session gives {agreed['loop']:.1f} µs where the benchmark gives {agreed['benchmark']:.1f} ({apart:+.1%}); with buffers",
        f"bound it is {agreed['bound']:.1f}.",
        "",
        "| mode | threads | batch | backend | p50, µs | p90 | p99 | images/s | first call, ms | × PyTorch |",
        "|---|---:|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    eager = {(row.mode, row.threads, row.batch): row.p50_us for row in rows if row.backend == "pytorch"}
    for row in sorted(rows, key=lambda row: (row.mode != "single-stream", row.mode, row.threads, row.batch)):
        base = eager.get((row.mode, row.threads, row.batch))
        cells = (
            row.mode,
            row.threads,
            row.batch,
            row.backend + (" ~" if row.noisy else ""),
            f"{row.p50_us:,.0f}",
            f"{row.p90_us:,.0f}",
            "–" if row.p99_us is None else f"{row.p99_us:,.0f}",
            f"{row.images_per_s:,.0f}",
            f"{row.warmup_ms:,.1f}",
            "–" if base is None else f"{base / row.p50_us:.2f}",
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return [*lines, ""]


def page(found: Sequence[Mapping[str, Any]]) -> str:
    machine = found[0]["measured"]["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    names = " ".join(one["run"] for one in found)
    lines = [
        "# Latency on a CPU",
        "",
        f"`python -m export.benchmark RUN` of each run, then `python -m benchmarks.latency {names}`, on {machine['processor']},",
        f"{machine['cpu_threads']} threads; {versions}. The machine is shared: only ratios, of backends that took turns, are to be",
        "trusted; ~ marks what did not hold its speed three times over. On a GPU nothing was measured yet; there the same command",
        "adds CUDA (with TF32, bound buffers, CUDA graphs), fp16 and TensorRT.",
        "",
        "![Latency and throughput](../images/latency.png)",
        "",
    ]
    return "\n".join([*lines, *(line for one in found for line in section(one))])


def main(options: Options) -> None:
    console = Console(highlight=False, soft_wrap=True)
    found = [gathered(run) for run in options.runs]
    text = page(found)
    write_json(RESULTS / "latency.json", found)
    write_atomic(RESULTS / "latency.md", text)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(find_bundle(options.runs[-1]).parent / "figures/latency.png", PICTURE)
    console.print(text)


if __name__ == "__main__":
    command(Options, main)
