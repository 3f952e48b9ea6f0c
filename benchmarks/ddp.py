"""`python -m benchmarks.ddp`: our DDP job beside plain torchrun with the same loop, and beside the way of Ray's own example.

Whole commands in turns, each started afresh: images/s of the epochs after the first, seconds from the start of the command to its
first training step, seconds in all. Medians of the turns; ratios turn by turn. Writes docs/results/ddp.json and .md.
"""

import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from fmnist.checkpoint import load_checkpoint
from fmnist.cli import command
from fmnist.config import TrainConfig
from fmnist.data import find_data, load_info, load_test
from fmnist.device import cpu_threads, default_device
from fmnist.errors import check
from fmnist.evaluate import evaluate
from fmnist.recipes import RECIPES
from fmnist.run import RUNS, environment, read_json, write_atomic, write_json

RESULTS = Path("docs/results")
TURNS = RUNS / "ddp_turns.json"
"""What is measured already, if the benchmark was interrupted."""
WAYS = ("ours", "torchrun", "example")
BATCH_NORM = TrainConfig(epochs=6, lr=0.05, threads=1)
"""At the recipe's own rate, .3, rounding errors grow so fast that after three epochs accuracies lie 1.3 points apart."""
GOALS = "Goals: at least .97 of torchrun's images/s, the first step at most 6 s later, 5 times the example's images/s on LeNet."


@dataclass(frozen=True, kw_only=True)
class Options:
    """Compare cluster.train with torchrun and with Ray's example."""

    models: tuple[str, ...] = ("lenet",)
    workers: tuple[str, ...] = ("1x1", "1x2", "2x1")
    """Workers, and CPU threads of each."""
    turns: int = 3
    epochs: int = 5
    train_images: int = 20_000
    batch_norm: bool = False
    """Measure instead what accuracy 1, 2 and 4 workers reach, batch norm synchronised and not: docs/results/batch_norm.md."""


def words(way: str, config: TrainConfig, workers: int, name: str) -> list[str]:
    """The command of a way."""
    text = json.dumps(config.to_dict())
    if way == "torchrun":
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(workers)]
        return [sys.executable, *launcher, "-m", "benchmarks.plain_ddp", text]
    if way == "example":
        return [sys.executable, "-m", "benchmarks.ray_example", text, str(workers)]
    more = ["--workers", str(workers), "--name", name]
    return [sys.executable, "-m", "cluster.train", "--recipe", "airnet-quick", *flags(config), *more]


def flags(config: TrainConfig) -> list[str]:
    """What makes the recipe airnet-quick this config."""
    base, found = RECIPES["airnet-quick"].config.to_dict(), list[str]()
    for field, value in config.to_dict().items():
        name = field.replace("_", "-")
        if value != base[field] and value not in ([], None):
            found.append(f"--{'' if value else 'no-'}{name}" if isinstance(value, bool) else f"--{name}={value}")
    return found


def run(way: str, config: TrainConfig, workers: int, folder: Path, turn: int) -> dict[str, float]:
    """One turn: steady images/s, seconds to the first step, seconds in all."""
    environ = os.environ | {
        "PYTHONPATH": str(Path.cwd()),
        "FMNIST_DATA": str(find_data()),
        "RAY_TMPDIR": str(folder),
        "NO_COLOR": "1",
        "COLUMNS": "200",
        "OMP_NUM_THREADS": str(config.threads),
    }
    started = time.monotonic()
    name = f"{way}-{config.model}-{workers}x{config.threads}-{turn}"
    with subprocess.Popen(
        words(way, config, workers, name), cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        lines = [(time.monotonic(), line) for line in process.stdout]
    said = "".join(line for _, line in lines)
    check(process.returncode == 0, f"{name} exited {process.returncode}: {said[-2000:]}")
    pattern = re.compile(r"epoch +(\d+)/.*?([\d,]+) images/s.* ([\d.]+) s")
    epochs: dict[str, tuple[float, re.Match[str]]] = {}
    for when, line in lines:
        if found := pattern.search(line):
            epochs.setdefault(found[1], (when, found))  # Ray may give a worker's line twice
    check(len(epochs) == config.epochs, f"{name} told of {len(epochs)} epochs: {said[-2000:]}")
    first, found = epochs["1"]
    return {
        "images_per_s": statistics.median(float(found[2].replace(",", "")) for _, found in list(epochs.values())[1:]),
        "first_step_s": first - float(found[3]) - started,
        "total_s": time.monotonic() - started,
    }


def compare(options: Options, folder: Path) -> list[dict[str, Any]]:
    for size in options.workers:
        check(bool(re.fullmatch(r"[1-9]\d*x[1-9]\d*", size)), f"workers={size!r}: give workers x threads of each, such as 2x1")
    cases = [(model, size, turn) for turn in range(options.turns) for model in options.models for size in options.workers]
    found: dict[tuple[str, str, str], list[dict[str, float]]] = {}
    known: dict[str, dict[str, float]] = read_json(TURNS) if TURNS.exists() else {}
    for model, size, turn in track(cases, "turns"):
        workers, threads = map(int, size.split("x"))
        config = TrainConfig(
            model=model,
            epochs=options.epochs,
            train_images=options.train_images,
            validation_images=5000,
            global_batch_size=256,
            optimizer="sgd",
            lr=0.05,
            flip=False,
            shift=0,
            threads=threads,
        )
        ways = WAYS if model == "lenet" else WAYS[:2]  # what the example's way costs shows on a network that costs little itself
        first = turn % len(ways)
        for way in ways[first:] + ways[:first]:
            key = f"{way} {workers} {turn} {json.dumps(config.to_dict())}"
            if key not in known:
                known[key] = run(way, config, workers, folder, turn)
                write_json(TURNS, known)
            found.setdefault((model, size, way), []).append(known[key])
    TURNS.unlink()
    rows: list[dict[str, Any]] = []
    for (model, size, way), turns in found.items():
        beside = found[model, size, "torchrun"]
        row = {key: round(statistics.median(turn[key] for turn in turns), 1) for key in turns[0]}
        ratios = [a["images_per_s"] / b["images_per_s"] for a, b in zip(turns, beside, strict=True)]
        later = [a["first_step_s"] - b["first_step_s"] for a, b in zip(turns, beside, strict=True)]
        more = {"of_torchrun": round(statistics.median(ratios), 3), "first_step_later_s": round(statistics.median(later), 1)}
        workers, threads = map(int, size.split("x"))
        rows.append({"model": model, "workers": workers, "threads": threads, "way": way, "turns": len(turns), **row, **more})
    return sorted(rows, key=lambda row: (row["model"], row["workers"], row["threads"], WAYS.index(row["way"])))


def batch_norm(options: Options, folder: Path) -> list[dict[str, Any]]:
    """Test accuracy of a net with batch norm, by workers, with statistics over the global batch and over each worker's share."""
    rows: list[dict[str, Any]] = []
    for synchronised in (True, False):
        for workers in (1, 2, 4):
            if workers == 1 and not synchronised:
                continue  # the same as with
            config = BATCH_NORM.replace(train_images=options.train_images, sync_batch_norm=synchronised)
            keep = folder / f"{workers}-{synchronised}"
            launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(workers)]
            text = json.dumps(config.to_dict())
            subprocess.run([sys.executable, *launcher, "-m", "benchmarks.plain_ddp", text, str(keep)], check=True)
            accuracy = evaluate(load_checkpoint(keep), load_test(find_data(), load_info(find_data())), default_device())["accuracy"]
            rows.append({"workers": workers, "synchronised": synchronised, "test_accuracy": accuracy})
    return rows


def main(options: Options) -> None:
    versions = environment()["versions"]
    where = f"{cpu_threads()} CPU threads ({platform.machine()}), torch {versions['torch']}, ray {versions['ray']}"
    stem = RESULTS / ("batch_norm" if options.batch_norm else "ddp")
    with tempfile.TemporaryDirectory(prefix="fm", ignore_cleanup_errors=True) as name:
        rows = (batch_norm if options.batch_norm else compare)(options, Path(name))
    write_json(stem.with_suffix(".json"), [row | {"machine": where} for row in rows])
    lines = _batch_norm_page(rows, where, options) if options.batch_norm else _page(rows, where, options)
    write_atomic(stem.with_suffix(".md"), "\n".join(lines))
    Console().print("\n".join(lines), highlight=False, soft_wrap=True)


def _page(rows: list[dict[str, Any]], where: str, options: Options) -> list[str]:
    lines = [
        "# DDP: our job, torchrun, and Ray's example",
        "",
        f"`python -m benchmarks.ddp` on {where}.",
        f"{options.epochs} epochs of {options.train_images:,} images, batch 256; medians of {options.turns} whole commands.",
        "Two workers share the one core: this shows overhead, not speed-up. Ray's own processes need a few per cent of a thread.",
        "With one worker of one thread a thread is left for them, as on a machine with a GPU; else they take it from the workers.",
        "",
        GOALS,
        "",
        "| network | workers | threads each | way | images/s | of torchrun's | first step after | torchrun's + | in all |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        speed = f"{r['images_per_s']:,.0f} | {r['of_torchrun']:.3f}"
        times = f"{r['first_step_s']:.1f} s | {r['first_step_later_s']:+.1f} s | {r['total_s']:.1f} s"
        lines.append(f"| {r['model']} | {r['workers']} | {r['threads']} | {r['way']} | {speed} | {times} |")
    return [*lines, ""]


def _batch_norm_page(rows: list[dict[str, Any]], where: str, options: Options) -> list[str]:
    lines = [
        "# Batch norm and the number of workers",
        "",
        f"`python -m benchmarks.ddp --batch-norm` on {where}.",
        f"airnet, {BATCH_NORM.epochs} epochs of {options.train_images:,} images, batch {BATCH_NORM.global_batch_size}, peak "
        f"learning rate {BATCH_NORM.lr}, seed 0.",
        "Synchronised, the statistics are the global batch's, whatever the number of workers.",
        "Plain, each worker's share is normalised by itself, and what is evaluated are rank 0's running statistics alone.",
        "",
        "| workers | batch norm | test accuracy |",
        "|---|---|---|",
    ]
    for r in rows:
        kind = "synchronised" if r["synchronised"] else "plain"
        lines.append(f"| {r['workers']} | {kind} | {100 * r['test_accuracy']:.2f} |")
    return [*lines, ""]


if __name__ == "__main__":
    command(Options, main)
