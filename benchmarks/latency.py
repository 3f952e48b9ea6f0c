"""`python -m benchmarks.latency [RUN…]`: what `python -m export.benchmark` measured, against the
goals and against a plain loop.

The loop is what onnxruntime_perf_test does: the same session, one call after the other, nothing
between them but a clock. Writes docs/results/latency (.json and .md), and the last run's chart to
docs/images/latency.png.
"""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from benchmarks.results import IMAGES, Page, Row, versions_text, write_rows
from export.bundle.integrity import read_manifest
from export.bundle.layout import BENCHMARKED, MODEL, find_bundle
from export.client import INPUT, OUTPUTS
from export.latency.backends import plain
from export.session import SessionChoice, open_session
from export.timing import measure, percentile
from fmnist.cli import Positional, command
from fmnist.errors import check
from fmnist.runs.files import read_json

LOOP_CALLS = 2000
TURNS = 5
GOALS = {"lenet": 7.0, "airnet": 3.0}
"""Least speed-up of ONNX Runtime over PyTorch eager: p50 of one image on one CPU thread, by
network."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Gather what was measured of exported models, and check the measurement itself."""

    runs: Annotated[tuple[str, ...], Positional] = ("lenet", "demo")
    """Runs or bundles that `python -m export.benchmark` has measured on this machine's CPU."""


def compare_loops(bundle: Path, choice: SessionChoice) -> dict[str, float]:
    """p50 of one image on one thread, in µs, as the benchmark measures it and in plain loops,
    with and without buffers bound; in turns."""
    image = read_manifest(bundle)["input"][0]["shape"][1:]
    pixels = np.random.default_rng(0).integers(0, 256, (1, *image), np.uint8)
    session = open_session(bundle / MODEL, "cpu", threads=1, choice=choice)
    # Buffers that are bound once spare a call its copies.
    binding = session.io_binding()
    binding.bind_cpu_input(INPUT, pixels)
    binding.bind_output(OUTPUTS[0], "cpu")

    seconds: dict[str, list[float]] = {"benchmark": [], "loop": [], "bound": []}
    for _ in range(TURNS):
        timed = measure({"benchmark": plain(session)}, pixels, 0.0)["benchmark"]
        seconds["benchmark"].append(percentile(timed.times, 50))
        seconds["loop"].append(loop_s(lambda: session.run([OUTPUTS[0]], {INPUT: pixels})))
        seconds["bound"].append(loop_s(lambda: session.run_with_iobinding(binding)))

    return {name: round(1e6 * float(np.median(times)), 2) for name, times in seconds.items()}


def loop_s(call: Callable[[], object]) -> float:
    """Median seconds of a call."""
    times = np.empty(LOOP_CALLS, np.int64)
    for number in range(LOOP_CALLS):
        started = time.perf_counter_ns()
        call()
        times[number] = time.perf_counter_ns() - started

    return float(np.median(times)) / 1e9


def gather(run: str) -> Row:
    """Gather the benchmark of a run's bundle, and compare it with plain loops."""
    bundle = find_bundle(run)
    check(
        (bundle / BENCHMARKED).exists(),
        f"runs={run!r}: not measured yet; run python -m export.benchmark {run}",
    )
    measured = read_json(bundle / BENCHMARKED)

    return {
        "run": run,
        "network": read_manifest(bundle)["train"][0]["model"],
        "measured": measured,
        "agreement": compare_loops(bundle, SessionChoice(**measured["session"])),
    }


def write_page(runs: Sequence[Row]) -> None:
    machine = runs[0]["measured"]["machine"]
    names = " ".join(run["run"] for run in runs)
    page = Page("Latency on a CPU")
    page.text(
        f"""`python -m export.benchmark RUN` of each run, then `python -m benchmarks.latency
        {names}`, on {machine["processor"]}, {machine["cpu_threads"]} threads;
        {versions_text(machine)}. The machine is shared: only ratios, of backends that took turns,
        are to be trusted; ~ marks what did not hold its speed three times over. On a GPU nothing
        was measured yet; there the same command adds CUDA (with TF32, bound buffers, CUDA graphs),
        fp16 and TensorRT."""
    )
    page.image("Latency and throughput", "latency.png")
    for run in runs:
        add_section(page, run)

    page.write("latency")


def add_section(page: Page, run: Mapping[str, Any]) -> None:
    """Add what was found of one run."""
    rows: list[Row] = run["measured"]["rows"]
    page.heading(f"{run['run']}: {run['network']}")
    page.text(summary(run, rows))

    eager = {place(row): row["p50_us"] for row in rows if row["backend"] == "pytorch"}
    shown: list[Row] = []
    for row in sorted(rows, key=lambda row: (row["mode"] != "single-stream", *place(row))):
        words = {"mark": "", "p99": "–", "ratio": "–"}
        if row["noisy"]:
            words["mark"] = " ~"
        if row["p99_us"] is not None:
            words["p99"] = f"{row['p99_us']:,.0f}"
        if place(row) in eager:
            words["ratio"] = f"{eager[place(row)] / row['p50_us']:.2f}"
        shown.append(row | words)

    page.row_table(
        "lrrlrrrrrr",
        "mode | threads | batch | backend | p50, µs | p90 | p99 | images/s | first call, ms | "
        "× PyTorch",
        "{mode} | {threads} | {batch} | {backend}{mark} | {p50_us:,.0f} | {p90_us:,.0f} | {p99} | "
        "{images_per_s:,.0f} | {warmup_ms:,.1f} | {ratio}",
        shown,
    )


def place(row: Row) -> tuple[str, int, int]:
    """The place in the table that backends share."""
    return row["mode"], row["threads"], row["batch"]


def summary(run: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """The ratios that goals are set for, and how far the measurement can be trusted."""
    measured, agreed = run["measured"], run["agreement"]
    one_image: dict[str, float] = {}
    for row in rows:
        if place(row) == ("single-stream", 1, 1):
            one_image[row["backend"]] = row["p50_us"]

    ratio = one_image["pytorch"] / one_image["onnxruntime"]
    cost = measured["own_cost_us"] / min(one_image.values())
    apart = agreed["benchmark"] / agreed["loop"] - 1
    goal = GOALS.get(run["network"])
    wanted = f" (the goal is {goal:g})" if goal else ""
    openvino = ""
    if "openvino" in one_image:
        share = one_image["onnxruntime"] / one_image["openvino"]
        openvino = f"ONNX Runtime takes {share:.2f} of OpenVINO's time (the goal is at most 1.10)."

    # What was switched off was measured to be faster so (CHOICES of export.latency).
    off = [name for name, on in measured["session"].items() if not on]
    changed = f"{', '.join(off)} off" if off else "none"
    return f"""One image on one thread: **{ratio:.1f} times as fast as PyTorch eager**{wanted}.
        {openvino} Session options that differ from ONNX Runtime's own, since they were faster here:
        {changed}. The clock's own cost is {measured["own_cost_us"]:.2f} µs, {cost:.1%} of the
        shortest call. A plain loop over the same session gives {agreed["loop"]:.1f} µs where the
        benchmark gives {agreed["benchmark"]:.1f} ({apart:+.1%}); with buffers bound it is
        {agreed["bound"]:.1f}."""


def main(options: Options) -> None:
    runs = [gather(run) for run in options.runs]
    write_rows("latency", runs)
    write_page(runs)
    IMAGES.mkdir(parents=True, exist_ok=True)
    figures = find_bundle(options.runs[-1]).parent / "figures"
    shutil.copy(figures / "latency.png", IMAGES / "latency.png")


if __name__ == "__main__":
    command(Options, main)
