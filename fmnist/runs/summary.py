"""A run's summary.json: what each stage of the run found, its seconds and its peak memory.

A stage is a step such as training, export or benchmark. It adds its results under keys of its own:

    with stage(run, "benchmark") as found:
        found["latency_p50_us"] = {"pytorch": 200.0, "onnxruntime": 25.0}
        found["panel"] = {"latency p50": "ONNX Runtime 25 µs, PyTorch 200 µs: 8.0×"}
        found["files"] = {"model": "export/model.onnx"}

`panel` and `files` are what the stage adds to the closing panel (`python -m fmnist.summary`), which
knows nothing of the stages: a title with a line of text, and a title with a path relative to the
run. Both are merged into what earlier stages gave; a title that is there already keeps its place.
"""

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from fmnist.errors import check
from fmnist.runs.files import read_json, write_json
from fmnist.runs.lock import hold

SUMMARY = "summary.json"
SUMMARY_VERSION = 1
SAMPLE_EVERY_S = 2.0
SHAPES: dict[str, type] = {
    "seconds": dict,
    "peak_memory_mb": int,
    "config": dict,
    "latency_p50_us": dict,
    "panel": dict,
    "files": dict,
}
"""Types of the keys that others read."""
MERGED = ("panel", "files")
"""Keys to which each stage adds titles; of any other key the last stage's value counts."""


def read_summary(run: Path) -> dict[str, Any]:
    """The summary of a run so far.

    Raises:
        InputError: there is none, it is damaged, or it is another version's.
    """
    path = run / SUMMARY
    summary = read_json(path)
    remedy = f"move {path} away, and run the stages whose figures you need again"
    check(isinstance(summary, dict), f"{path} does not hold an object; {remedy}")

    version = summary.get("version")
    check(
        version == SUMMARY_VERSION,
        f"{path} has version {version!r}, this is fmnist's {SUMMARY_VERSION}; {remedy}",
    )
    for key, kind in SHAPES.items():
        check(
            key not in summary or isinstance(summary[key], kind),
            f"{path}: {key}={summary.get(key)!r} is no {kind.__name__}; {remedy}",
        )
    for key in MERGED:
        for title, text in summary.get(key, {}).items():
            check(isinstance(text, str), f"{path}: {key}[{title!r}]={text!r} is no str; {remedy}")
    return summary


def record(
    run: Path, stage: str, seconds: float, peak_memory_mb: float, found: dict[str, Any]
) -> None:
    """Merge what `stage` found into the run's summary."""
    before: dict[str, Any] = {}
    if (run / SUMMARY).exists():
        before = read_summary(run)

    summary = {"version": SUMMARY_VERSION} | before | found
    for key in MERGED:
        if key in before or key in found:
            summary[key] = before.get(key, {}) | found.get(key, {})
    summary["seconds"] = before.get("seconds", {}) | {stage: round(seconds, 2)}
    summary["peak_memory_mb"] = max(before.get("peak_memory_mb", 0), round(peak_memory_mb))
    write_json(run / SUMMARY, summary)


@contextmanager
def stage(run: Path, name: str) -> Generator[dict[str, Any]]:
    """Lock the run, time a stage, and watch its memory.

    Yields:
        a dict for what the stage finds (see above), which is recorded if the stage ends well.

    Raises:
        InputError: another process works on the run, or its summary is damaged.
    """
    hold(run)
    if (run / SUMMARY).exists():
        # Before the work, which would be lost if its results could not be added.
        read_summary(run)

    found: dict[str, Any] = {}
    started = time.perf_counter()
    with peak_memory() as samples:
        yield found
    record(run, name, time.perf_counter() - started, max(samples), found)


@contextmanager
def peak_memory() -> Generator[list[float]]:
    """Samples of `memory_mb`, a new one every few seconds."""
    samples: list[float] = [memory_mb()]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(SAMPLE_EVERY_S):
            samples.append(memory_mb())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield samples
    finally:
        done.set()
        watcher.join()
        samples.append(memory_mb())


def memory_mb() -> float:
    """Memory of this process and all below it; pages that they share count once (PSS)."""
    total = 0
    this = psutil.Process()
    for process in (this, *this.children(recursive=True)):
        try:
            memory = process.memory_full_info()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # It has ended since, or is another user's.
        total += getattr(memory, "pss", memory.uss)  # Linux alone knows PSS.
    return total / 2**20
