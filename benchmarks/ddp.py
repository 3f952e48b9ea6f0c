"""`python -m benchmarks.ddp`: our DDP job beside plain torchrun with the same loop, and beside the
way of Ray's own example.

Whole commands in turns, each started afresh: images/s of the epochs after the first, seconds from
the start of the command to its first training step, seconds in all. Medians of the turns; ratios
turn by turn. Writes docs/results/ddp (.json and .md); with --batch-norm docs/results/batch_norm.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated

from rich.progress import track

from benchmarks.images import test_images
from benchmarks.results import CONSOLE, ROOT, Page, Row, machine, machine_text, percents, write_rows
from fmnist.cli import Flag, command
from fmnist.config import TrainConfig
from fmnist.data.sources import find_data
from fmnist.errors import check
from fmnist.evaluation.held_out import split_logits
from fmnist.evaluation.metrics import classification_metrics
from fmnist.recipes import RECIPES
from fmnist.runs.files import read_json, write_json
from fmnist.runs.run_folder import RUNS
from fmnist.training.checkpoint import load_checkpoint

TURNS = RUNS / "ddp_turns.json"
"""Turns measured so far, for a benchmark that was interrupted."""
WAYS = ("ours", "torchrun", "example")
RECIPE = "airnet-quick"
EPOCH_LINE = re.compile(r"epoch +(\d+)/.*?([\d,]+) images/s.* ([\d.]+) s")
BATCH_NORM = TrainConfig(epochs=6, lr=0.05, threads=1)
"""At the recipe's own rate, .3, rounding errors grow so fast that after three epochs accuracies
lie 1.3 points apart."""

Turn = dict[str, float]
"""Steady images_per_s, first_step_s and total_s of one command."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Compare cluster.train with torchrun and with Ray's example."""

    models: tuple[str, ...] = ("lenet",)
    workers: tuple[str, ...] = ("1x1", "1x2", "2x1")
    """Workers, and CPU threads of each."""
    turns: int = 3
    epochs: int = 5
    train_images: int = 20_000
    batch_norm: Annotated[bool, Flag] = False
    """Measure instead what accuracy 1, 2 and 4 workers reach, batch norm synchronised and not:
    docs/results/batch_norm.md."""

    def __post_init__(self) -> None:
        for size in self.workers:
            fine = re.fullmatch(r"[1-9]\d*x[1-9]\d*", size)
            check(
                fine is not None,
                f"workers={size!r}: it must be workers x threads of each, such as 2x1",
            )

        check(self.epochs >= 2, f"epochs={self.epochs}: it must be 2 or more; the first warms up")


def torchrun(config: TrainConfig, workers: int, *more: str) -> list[str]:
    launcher = ["torch.distributed.run", "--standalone", f"--nproc-per-node={workers}"]
    text = json.dumps(config.to_dict())
    return [sys.executable, "-m", *launcher, "-m", "benchmarks.plain_ddp", "--config", text, *more]


def words(way: str, config: TrainConfig, workers: int, name: str) -> list[str]:
    """The command of a way."""
    if way == "torchrun":
        return torchrun(config, workers)
    if way == "example":
        arguments = ["--config", json.dumps(config.to_dict()), "--workers", str(workers)]
        return [sys.executable, "-m", "benchmarks.ray_example", *arguments]

    run = ["--workers", str(workers), "--name", name]
    return [sys.executable, "-m", "cluster.train", "--recipe", RECIPE, *flags(config), *run]


def flags(config: TrainConfig) -> list[str]:
    """The flags that turn the recipe into this config."""
    base = RECIPES[RECIPE].config.to_dict()
    found: list[str] = []
    for field, value in config.to_dict().items():
        if value == base[field] or value in ([], None):
            continue
        name = field.replace("_", "-")
        if isinstance(value, bool):
            found.append(f"--{name}" if value else f"--no-{name}")
        else:
            found.append(f"--{name}={value}")

    return found


def run_turn(way: str, config: TrainConfig, workers: int, folder: Path, turn: int) -> Turn:
    """Run one command from start to end."""
    environ = os.environ | {
        "PYTHONPATH": str(ROOT),
        "FMNIST_DATA": str(find_data()),
        "RAY_TMPDIR": str(folder),
        "NO_COLOR": "1",
        # Wide enough for whole lines, which are parsed below.
        "COLUMNS": "200",
        "OMP_NUM_THREADS": str(config.threads),
    }
    name = f"{way}-{config.model}-{workers}x{config.threads}-{turn}"
    started = time.monotonic()

    with subprocess.Popen(
        words(way, config, workers, name),
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = [(time.monotonic(), line) for line in process.stdout]

    total_s = time.monotonic() - started

    output = "".join(line for _, line in lines)[-2000:]
    check(process.returncode == 0, f"{name} exited {process.returncode}: {output}")
    epochs: dict[int, tuple[float, float, float]] = {}
    for when, line in lines:
        found = EPOCH_LINE.search(line)
        if found:
            speed = float(found[2].replace(",", ""))
            # Ray may print a worker's line twice: the first counts.
            epochs.setdefault(int(found[1]), (when, speed, float(found[3])))

    check(
        len(epochs) == config.epochs,
        f"{name} printed {len(epochs)} of {config.epochs} epochs: {output}",
    )

    first_end, _, first_epoch_s = epochs.pop(1)
    return {
        "images_per_s": statistics.median(speed for _, speed, _ in epochs.values()),
        "first_step_s": first_end - first_epoch_s - started,
        "total_s": total_s,
    }


def compared_config(model: str, threads: int, options: Options) -> TrainConfig:
    """A config that all three ways can train."""
    return TrainConfig(
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


def ways_for(model: str) -> tuple[str, ...]:
    """The example's overhead shows on a network that costs little itself, so only there it runs."""
    return WAYS if model == "lenet" else WAYS[:2]


def compare(options: Options, folder: Path) -> list[Row]:
    known: dict[str, Turn] = read_json(TURNS) if TURNS.exists() else {}
    found: dict[tuple[str, str, str], list[Turn]] = {}
    cases = list(product(range(options.turns), options.models, options.workers))
    for turn, model, size in track(cases, "turns", console=CONSOLE):
        workers, threads = map(int, size.split("x"))
        config = compared_config(model, threads, options)
        ways = ways_for(model)
        # Another way comes first in each turn: what changes with time is no way's alone.
        first = turn % len(ways)

        for way in ways[first:] + ways[:first]:
            key = f"{way} {workers} {turn} {json.dumps(config.to_dict())}"
            if key not in known:
                known[key] = run_turn(way, config, workers, folder, turn)
                write_json(TURNS, known)
            found.setdefault((model, size, way), []).append(known[key])

    # All are measured: the next comparison starts afresh.
    TURNS.unlink()

    # By network, then by workers, and in the order of WAYS.
    order = sorted(found, key=lambda case: (case[0], case[1], WAYS.index(case[2])))
    return [compared_row(*case, found) for case in order]


def compared_row(
    model: str, size: str, way: str, found: dict[tuple[str, str, str], list[Turn]]
) -> Row:
    """Medians of a way's turns, and of their differences to torchrun's."""
    turns = found[model, size, way]
    ratios: list[float] = []
    later: list[float] = []
    for ours, torchrun in zip(turns, found[model, size, "torchrun"], strict=True):
        ratios.append(ours["images_per_s"] / torchrun["images_per_s"])
        later.append(ours["first_step_s"] - torchrun["first_step_s"])

    workers, threads = map(int, size.split("x"))
    row: Row = {
        "model": model,
        "workers": workers,
        "threads": threads,
        "way": way,
        "turns": len(turns),
    }
    for field in turns[0]:
        row[field] = round(statistics.median(turn[field] for turn in turns), 1)

    row["of_torchrun"] = round(statistics.median(ratios), 3)
    row["first_step_later_s"] = round(statistics.median(later), 1)
    return row


def measure_batch_norm(options: Options, folder: Path) -> list[Row]:
    """Test accuracy of a network with batch norm, by workers, with statistics over the global
    batch and over each worker's share."""
    rows: list[Row] = []
    # With one worker both are the same.
    for synchronised, workers in ((True, 1), (True, 2), (True, 4), (False, 2), (False, 4)):
        config = BATCH_NORM.replace(train_images=options.train_images, sync_batch_norm=synchronised)
        kept = folder / f"{workers}-{synchronised}"
        subprocess.run(torchrun(config, workers, "--checkpoint", str(kept)), check=True)
        test = test_images()
        logits = split_logits(load_checkpoint(kept), test)
        metrics = classification_metrics(logits, test.labels)
        rows.append(
            {
                "workers": workers,
                "synchronised": synchronised,
                "test_accuracy": metrics["accuracy"],
            }
        )

    return rows


def write_page(rows: list[Row], options: Options) -> None:
    page = Page("DDP: our job, torchrun, and Ray's example")
    page.text(
        f"""`python -m benchmarks.ddp` on {machine_text(rows[0])}. {options.epochs} epochs of
        {options.train_images:,} images, batch 256; medians of {rows[0]["turns"]} whole commands.
        Two workers share the one core: this shows overhead, not speed-up. Ray's own processes need
        a few per cent of a thread. With one worker of one thread a thread is left for them, as on a
        machine with a GPU; else they take it from the workers.""",
        """Goals: at least .97 of torchrun's images/s, the first step at most 6 s later, 5 times the
        example's images/s on LeNet.""",
    )
    page.row_table(
        "lllllllll",
        "network | workers | threads each | way | images/s | of torchrun's | first step after | "
        "torchrun's + | in all",
        "{model} | {workers} | {threads} | {way} | {images_per_s:,.0f} | {of_torchrun:.3f} | "
        "{first_step_s:.1f} s | {first_step_later_s:+.1f} s | {total_s:.1f} s",
        rows,
    )
    page.write("ddp")


def write_batch_norm_page(rows: list[Row], options: Options) -> None:
    page = Page("Batch norm and the number of workers")
    page.text(
        f"""`python -m benchmarks.ddp --batch-norm` on {machine_text(rows[0])}. airnet,
        {BATCH_NORM.epochs} epochs of {options.train_images:,} images, batch
        {BATCH_NORM.global_batch_size}, peak learning rate {BATCH_NORM.lr}, seed 0. Synchronised,
        the statistics are the global batch's, whatever the number of workers. Plain, each worker's
        share is normalised by itself, and what is evaluated are rank 0's running statistics
        alone."""
    )
    kinds = {True: "synchronised", False: "plain"}
    page.row_table(
        "lll",
        "workers | batch norm | test accuracy",
        "{workers} | {kind} | {test_accuracy:.2f}",
        [percents(row, "test_accuracy") | {"kind": kinds[row["synchronised"]]} for row in rows],
    )
    page.write("batch_norm")


def main(options: Options) -> None:
    name, measure, write = "ddp", compare, write_page
    if options.batch_norm:
        name, measure, write = "batch_norm", measure_batch_norm, write_batch_norm_page

    with tempfile.TemporaryDirectory(prefix="fm", ignore_cleanup_errors=True) as folder:
        rows = [row | machine("torch", "ray") for row in measure(options, Path(folder))]

    write_rows(name, rows)
    write(rows, options)


if __name__ == "__main__":
    command(Options, main)
