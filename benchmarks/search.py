"""`python -m benchmarks.search`: our search beside the peers', at equal wall-clock on this machine.

Each arm gets the same minutes from the start of its process, the same space, 10,000 training images, the demo preset's epochs, and
two trials at once of a thread each; then it is killed. Goes on where it stopped: a search that is in docs/results/search.json is
not run again. Then `--retrain` trains each winner on all training images and tests it once. Writes search.json and .md there, and
docs/images/search_time.png.
"""

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.progress import Progress

from benchmarks.search_peers import DEMO, REPORTS, load
from benchmarks.search_scale import OPTUNA
from fmnist.cli import command
from fmnist.config import TrainConfig
from fmnist.data import find_data, load_info, load_test, load_train
from fmnist.device import default_device, hardware, resolve, set_threads
from fmnist.evaluate import compute_logits
from fmnist.loop import train_epochs
from fmnist.plots import color, figure, save_figure
from fmnist.run import environment, read_json, write_atomic, write_json
from tune.journal import JOURNAL, read_events

ROOT = Path(__file__).parent.parent
RESULTS = Path("docs/results")
ROWS = RESULTS / "search.json"
PICTURE = Path("docs/images/search_time.png")
OURS = ("-m", "tune.search", "--preset", "demo", "--name", "s", "--trials", "300", "--time-budget", "0")
ARMS = {
    "ours": "python -m tune.search, its defaults",
    "random": "the same at random, every trial in full (--searcher random --scheduler none)",
    "ray": "Ray Tune's random search under its own ASHA, at their defaults",
    "optuna": "Optuna's TPE and Hyperband pruner, at their defaults, in two processes without Ray",
}
ELSEWHERE = (
    "What else is measured of the search:",
    "",
    "- [search_scale.md](search_scale.md), `python -m benchmarks.search_scale`: stopping, promotion, median stopping, halving and",
    "  the searchers compared on recorded curves, at up to 1,000 workers and 100,000 trials; what first rungs on a share of the",
    "  images foretell.",
    "- [search_overhead.md](search_overhead.md), `python -m benchmarks.search_overhead`: what Ray and the search take of a trial.",
    "- [faults.md](faults.md), `python -m benchmarks.faults`: what a search loses when its driver, a worker or a node dies.",
    "- [demo.md](demo.md): the plan against what the search took.",
)
RETRAIN_EPOCHS = DEMO.base.epochs


@dataclass(frozen=True, kw_only=True)
class Options:
    """Run our search and the peers', each for some minutes, several seeds of each."""

    seeds: int = 5
    minutes: float = 6.0
    """Of each search, its start included."""
    arms: tuple[str, ...] = tuple(ARMS)
    retrain: bool = False
    """Train the winners that have no test accuracy yet on all images (about 2 minutes each on two CPU threads), and test them."""


@dataclass(frozen=True, slots=True)
class Report:
    """An epoch of a trial."""

    seconds: float
    """Since the process was started."""
    trial: str
    epoch: int
    value: float
    candidate: dict[str, Any]


def start(arm: str, seed: int, folder: Path) -> subprocess.Popen[bytes]:
    words = {
        "ours": (*OURS, "--search-seed", str(seed)),
        "random": (*OURS, "--search-seed", str(seed), "--scheduler", "none", "--searcher", "random"),
        "ray": ("-c", f"import benchmarks.search_peers as p; p.search_with_ray({seed}, p.Path())"),
        "optuna": ("-c", f"import benchmarks.search_peers as p; p.search_with_optuna({seed}, p.Path())"),
    }
    (folder / "ray").mkdir()
    known = {"PYTHONPATH": str(ROOT), "RAY_TMPDIR": str(folder / "ray"), "FMNIST_DATA": str(find_data().absolute())}
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, *words[arm]], cwd=folder, env=os.environ | known, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )


def kill(process: subprocess.Popen[bytes]) -> None:
    """With all that it started, the driver first, so that nothing of it starts anew what dies."""
    below = psutil.Process(process.pid).children(recursive=True)
    for each in (psutil.Process(process.pid), *below):
        with suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait()
    psutil.wait_procs(below, timeout=30)


def run(arm: str, seed: int, minutes: float, progress: Progress) -> list[Report]:
    """What a search reported in so many minutes."""
    with tempfile.TemporaryDirectory(prefix="fm", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        journal = folder / "runs/s" / JOURNAL
        task = progress.add_task(f"{arm}, seed {seed}", total=60 * minutes)
        began, told = time.time(), time.perf_counter()
        process = start(arm, seed, folder)
        dealt = None  # when the first trial was dealt out, from which our journal counts
        while (elapsed := time.perf_counter() - told) < 60 * minutes:
            assert process.poll() is None, f"{arm} ended:\n{(folder / 'log').read_text()[-3000:]}"
            if dealt is None and journal.exists() and journal.stat().st_size:
                dealt = elapsed
            progress.update(task, completed=elapsed)
            time.sleep(0.05 if dealt is None else 0.5)
        kill(process)
        progress.remove_task(task)
        if arm in ("ray", "optuna"):
            lines = [json.loads(line) for line in (folder / REPORTS).read_text().splitlines()]
            return [Report(line.pop("time") - began, **line) for line in lines]
        assert dealt is not None
        events = read_events(journal)
    candidates = {event["trial"]: event["candidate"] for event in events if "candidate" in event}
    return [
        Report(dealt + e["s"], str(e["trial"]), e["epoch"], e["validation_accuracy"] or 0.0, candidates[e["trial"]])
        for e in events
        if e["event"] == "report"
    ]


def row_of(arm: str, seed: int, minutes: float, reports: list[Report]) -> dict[str, Any]:
    """A search in a row; its winner is the best of those that ran in full, or of all if none did."""
    best, improved = 0.0, []
    for report in sorted(reports, key=lambda report: report.seconds):
        if report.value > best:
            best = report.value
            improved.append((round(report.seconds, 1), best))
    full = [report for report in reports if report.epoch == DEMO.base.epochs]
    winner = max(full or reports, key=lambda report: report.value)
    return {
        "arm": arm,
        "seed": seed,
        "minutes": minutes,
        "first_report_s": round(min(report.seconds for report in reports), 1),
        "trials": len({report.trial for report in reports}),
        "in_full": len(full),
        "epochs": len(reports),
        "best": best,
        "improved_s": [seconds for seconds, _ in improved],
        "improved_to": [value for _, value in improved],
        "winner_accuracy": winner.value,
        "winner": json.dumps(winner.candidate),
        "machine": f"{hardware()} ({resolve(TrainConfig(), default_device()).precision})",
        "versions": ", ".join(f"{name} {environment()['versions'][name]}" for name in ("python", "torch", "ray")),
        "test_accuracy": None,
    }


def best_at(row: dict[str, Any], seconds: float) -> float:
    """The best accuracy that a search had reported by then; NaN before the first."""
    return max((value for at, value in zip(row["improved_s"], row["improved_to"], strict=True) if at <= seconds), default=np.nan)


def reached_s(row: dict[str, Any], accuracy: float) -> float | None:
    """When a search reached an accuracy."""
    return next((at for at, value in zip(row["improved_s"], row["improved_to"], strict=True) if value >= accuracy), None)


def retrain(row: dict[str, Any]) -> float:
    """Test accuracy of a search's winner, trained on all training images."""
    folder = find_data()
    info = load_info(folder)
    train, test = load_train(folder, info), load_test(folder, info)
    base, _, _ = load()
    config: TrainConfig = base.replace(
        **json.loads(row["winner"]), train_images=0, validation_images=0, epochs=RETRAIN_EPOCHS, threads=0
    )
    set_threads(config)
    device = default_device()
    *_, (_, state) = train_epochs(config, train, None, classes=10, device=device)
    said = compute_logits(state.model, test.images.to(device)).argmax(1).cpu()
    return float((said == test.labels).float().mean())


def picture(rows: list[dict[str, Any]]) -> None:
    fig, axes = figure("Best validation accuracy so far: median and range of the seeds", "minutes", "validation accuracy, %")
    seconds = np.arange(15, 60 * max(row["minutes"] for row in rows) + 1)
    for number, arm in enumerate(ARMS):
        curves = np.array([[best_at(row, at) for at in seconds] for row in rows if row["arm"] == arm])
        if len(curves):
            there = ~np.isnan(curves).any(0)
            low, middle, high = np.quantile(100 * curves[:, there], (0, 0.5, 1), axis=0)
            axes.plot(seconds[there] / 60, middle, color=color(number), label=arm, linewidth=2)
            axes.fill_between(seconds[there] / 60, low, high, color=color(number), alpha=0.15, linewidth=0)
    finals = [row["best"] for row in rows]
    axes.set_ylim(100 * min(finals) - 4, 100 * max(finals) + 0.3)
    axes.legend(frameon=False, loc="lower right")
    save_figure(fig, PICTURE)


def page(rows: list[dict[str, Any]]) -> list[str]:
    by_arm = {arm: {row["seed"]: row for row in rows if row["arm"] == arm} for arm in ARMS}
    minutes = rows[0]["minutes"]
    machines: dict[str, set[int]] = {}
    for row in rows:
        machines.setdefault(row["machine"], set()).add(row["seed"])
    told = "; ".join(f"{machine}: seeds {', '.join(map(str, sorted(seeds)))}" for machine, seeds in machines.items())
    lines = [
        "# Our search beside others, at equal time",
        "",
        f"`python -m benchmarks.search`: {minutes:g} minutes each from the start of the process, two trials at once of a thread",
        f"each. Space {DEMO.space}, {DEMO.base.epochs} epochs, {DEMO.base.train_images:,} training images, 5,000 to choose by.",
        f"{rows[0]['versions']}. Machine: {told}. The arms of a seed follow each other, in an order drawn for it.",
        "",
        *(f"- **{arm}**: {words}." for arm, words in ARMS.items()),
        "",
        "| arm | seeds | best validation, %: median (lowest to highest) | first report, s | trials | in full | epochs | test, % |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for arm, several in by_arm.items():
        if several:
            best = [100 * row["best"] for row in several.values()]
            middle = [
                statistics.median(row[key] for row in several.values()) for key in ("first_report_s", "trials", "in_full", "epochs")
            ]
            tests = [100 * row["test_accuracy"] for row in several.values() if row["test_accuracy"] is not None]
            test = f"{statistics.mean(tests):.2f} ({len(tests)})" if tests else ""
            values = f"**{statistics.median(best):.2f}** ({min(best):.2f} to {max(best):.2f})"
            cells = (arm, len(several), values, *(f"{value:g}" for value in middle), test)
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += [
        "",
        "Medians over the seeds; the test accuracy is the mean of the winners retrained on all 60,000 images (how many of them).",
        "",
        "![Best validation accuracy by minute](../images/search_time.png)",
        "",
        "Seed by seed, ours against each other:",
        "",
        "| against | seeds in which ours is ahead | difference, points: median | mean | time to its final accuracy, share of its |",
        "|---|---:|---:|---:|---:|",
    ]
    for arm in ARMS:
        both = [seed for seed in by_arm["ours"] if seed in by_arm[arm]]
        if arm == "ours" or not both:
            continue
        pairs = [(by_arm["ours"][seed], by_arm[arm][seed]) for seed in both]
        ahead = sum(ours["best"] > theirs["best"] for ours, theirs in pairs)
        differences = [100 * (ours["best"] - theirs["best"]) for ours, theirs in pairs]
        doubt = f" ± {statistics.stdev(differences) / len(pairs) ** 0.5:.2f}" if len(pairs) > 1 else ""
        difference = f"{statistics.median(differences):+.2f} | {statistics.mean(differences):+.2f}{doubt}"
        reached = [reached_s(ours, theirs["best"]) for ours, theirs in pairs]
        shares = ", ".join(
            "never" if at is None else f"{at / 60 / minutes:.2f}" for at in sorted(reached, key=lambda at: at or 1e9)
        )
        lines.append(f"| {arm} | {ahead} of {len(both)} | {difference} | {shares} |")
    return [*lines, "", *simulated(), "", *ELSEWHERE, ""]


def simulated() -> list[str]:
    """What many searches in simulated time say of the same comparison."""
    rows = [row for row in read_json(RESULTS / "search_scale.json") if row.get("searcher") == OPTUNA[0]]
    told = "; ".join(f"{row['minutes']:g} min {100 * row['behind_ours']:+.2f} ± {100 * row['standard_error']:.2f}" for row in rows)
    return [
        "The mean stands with its standard error: so few searches leave much to chance. In simulated time, on recorded curves and",
        f"without what a start takes, {rows[0]['searches']} searches a figure, ours is ahead of Optuna's by so many points:",
        f"{told} ([search_scale.md](search_scale.md)).",
        "Before its first trial ours has started Ray, measured every network for the plan, and handed out the images: that is the",
        "difference in *first report*; the smaller the budget the more it weighs.",
    ]


def main(options: Options) -> None:
    console = Console(highlight=False, soft_wrap=True)
    rows: list[dict[str, Any]] = read_json(ROWS) if ROWS.exists() else []
    known = {(row["arm"], row["seed"]) for row in rows}
    with Progress(console=console) as progress:
        for seed in range(options.seeds):
            order = list(options.arms)
            random.Random(seed).shuffle(order)  # the machine's moods are not one arm's
            for arm in order:
                if (arm, seed) in known or options.retrain:
                    continue
                row = row_of(arm, seed, options.minutes, run(arm, seed, options.minutes, progress))
                console.print(f"{arm}, seed {seed}: best {row['best']:.2%}, {row['trials']} trials, {row['epochs']} epochs")
                rows.append(row)
                write_json(ROWS, rows)
        for row in progress.track(
            [row for row in rows if options.retrain and row["test_accuracy"] is None], description="retraining"
        ):
            row["test_accuracy"] = retrain(row)
            console.print(f"{row['arm']}, seed {row['seed']}: test {row['test_accuracy']:.2%}")
            write_json(ROWS, rows)
    picture(rows)
    text = "\n".join(page(rows))
    write_atomic(RESULTS / "search.md", text)
    console.print(text)


if __name__ == "__main__":
    command(Options, main)
