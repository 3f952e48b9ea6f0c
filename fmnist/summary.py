"""What each stage adds to a run's summary.json, and the panel that closes a run: `python -m fmnist.summary [RUN]`."""

import threading
import time
from collections import defaultdict
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import psutil
import tyro
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from fmnist.cli import command
from fmnist.errors import check
from fmnist.lock import hold
from fmnist.run import find_run, read_json, write_json

SUMMARY = "summary.json"
SUMMARY_VERSION = 1
SAMPLE_EVERY_S = 2.0


def read_summary(run: Path) -> dict[str, Any]:
    """What a run found so far. Raises InputError if the file is damaged or another version's."""
    path = run / SUMMARY
    summary = read_json(path)
    remedy = f"move {path} away, and run the stages whose figures you need again"
    check(isinstance(summary, dict), f"{path} does not hold an object; {remedy}")
    version = summary.get("version")
    check(version == SUMMARY_VERSION, f"{path} has version {version!r}, this is fmnist's {SUMMARY_VERSION}; {remedy}")
    shapes = {"seconds": dict, "peak_memory_mb": int, "config": dict, "latency_p50_us": dict}
    for key, kind in shapes.items():
        check(
            key not in summary or isinstance(summary[key], kind),
            f"{path}: {key}={summary.get(key)!r} is no {kind.__name__}; {remedy}",
        )
    return summary


def record(run: Path, stage: str, seconds: float, peak_memory_mb: float, found: dict[str, Any]) -> None:
    """Merge what `stage` found into the run's summary."""
    summary: dict[str, Any] = {"version": SUMMARY_VERSION}
    summary |= (read_summary(run) if (run / SUMMARY).exists() else {}) | found
    summary["seconds"] = summary.get("seconds", {}) | {stage: round(seconds, 2)}
    summary["peak_memory_mb"] = max(summary.get("peak_memory_mb", 0), round(peak_memory_mb))
    write_json(run / SUMMARY, summary)


@contextmanager
def stage(run: Path, name: str) -> Generator[dict[str, Any]]:
    """Lock the run, time a stage and watch its memory; what it puts into the dict given is recorded if it ends well."""
    hold(run)
    if (run / SUMMARY).exists():
        read_summary(run)  # before the work, which a damaged summary would make vain
    found: dict[str, Any] = {}
    started = time.perf_counter()
    with peak_memory() as peak:
        yield found
    record(run, name, time.perf_counter() - started, max(peak), found)


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
            total += getattr(memory, "pss", memory.uss)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total / 2**20


@dataclass(frozen=True, kw_only=True)
class SummaryOptions:
    """Show what a run found."""

    run: Annotated[str | None, tyro.conf.Positional] = None
    """Run folder; by default the newest run."""


def main(options: SummaryOptions) -> None:
    run = find_run(options.run)
    check((run / SUMMARY).exists(), f"run={str(run)!r}: it has no {SUMMARY} yet; let its first stage finish")
    Console().print(closing_panel(run, read_summary(run)))


def closing_panel(run: Path, summary: dict[str, Any]) -> Panel:
    """Best config, accuracies, parity, latency against PyTorch, and where everything is; what is not done yet is left out."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, text in _rows(run, summary):
        table.add_row(name, text)
    return Panel(table, title=f"[bold]{run}[/]", title_align="left", border_style="green", expand=False)


def _rows(run: Path, summary: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if "config" in summary:
        config = defaultdict(lambda: "?", summary["config"])  # not a TrainConfig, for which PyTorch would be imported
        network = f"{config['model']} {'-'.join(map(str, config['widths']))}".strip()
        yield "best config", f"{network}, {config['optimizer']}, lr {config['lr']}, batch {config['global_batch_size']}"
        shape = f"{config['schedule']}, weight decay {config['weight_decay']}, shift {config['shift']}, erase {config['erase']}"
        yield "", f"{shape}, {config['epochs']} epochs"
    if summary.get("validation_accuracy") is not None:
        trial = f" (of the trial, on {summary['trial_images']:,} images)" if "trial_images" in summary else ""
        yield "validation", f"{summary['validation_accuracy']:.2%}{trial}"
    if "test_accuracy" in summary:
        yield "test", f"[bold green]{summary['test_accuracy']:.2%}[/] of {summary['test_images']:,} images, read once"
    if "parity_max_abs_diff" in summary:
        difference, allowed = summary["parity_max_abs_diff"], summary["parity_tolerance"]
        accuracy = f"test {summary['onnx_test_accuracy']:.2%}"
        yield "parity", f"ONNX logits within {difference:.1e} of PyTorch's ({allowed:.1e} allowed), {accuracy}"
    latency = summary.get("latency_p50_us", {})
    if "pytorch" in latency:
        eager, served = latency["pytorch"], latency["onnxruntime"]
        ratio = f"{eager / served:.1f}× (batch 1, {summary['latency_setting']})"
        yield "latency p50", f"ONNX Runtime {served:,.0f} µs, PyTorch {eager:,.0f} µs: {ratio}"
    seconds = summary.get("seconds", {})
    stages = ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items())
    yield "time", f"{sum(seconds.values()) / 60:.1f} min: {stages}"
    yield "peak memory", f"{summary.get('peak_memory_mb', 0):,} MB"
    places = {
        "model": run / "export/model.onnx",
        "weights": run / "best/model.safetensors",
        "figures": run / "figures",
        "trials": run / "search/trials.jsonl",
        "report": run / "report.html",
    }
    for name, path in places.items():
        if path.exists():
            yield name, str(path)


if __name__ == "__main__":
    command(SummaryOptions, main)
