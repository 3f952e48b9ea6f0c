"""`python -m benchmarks.search`: our search beside the peers', at equal wall-clock on this machine.

Each arm gets the same minutes from the start of its process, the same space, 10,000 training
images, the demo preset's epochs, and two trials at once of a thread each; then it is killed. Goes
on where it stopped: a search that is in docs/results/search.json is not run again. Then `--retrain`
trains each winner on all training images and tests it once. Writes docs/results/search (.json and
.md) and docs/images/search_time.png.
"""

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
from rich.progress import Progress, track

from benchmarks.images import split_data, test_images
from benchmarks.results import (
    CONSOLE,
    IMAGES,
    ROOT,
    Page,
    Row,
    Rows,
    machine,
    read_rows,
    versions_text,
)
from benchmarks.search_peers import DEMO, REPORTS
from benchmarks.search_scale import OPTUNA
from fmnist.cli import Flag, command
from fmnist.config import TrainConfig
from fmnist.data.sources import find_data
from fmnist.errors import FailedError, check, one_of
from fmnist.evaluation.plots import color, figure, save_figure
from fmnist.training.device import Rank, default_device, hardware, resolve, set_threads
from fmnist.training.inference import compute_logits
from fmnist.training.loop import train_epochs
from tune.journal import JOURNAL

PICTURE = "search_time.png"
ARMS = {
    "ours": "python -m tune.search, its defaults",
    "random": "the same at random, every trial in full (--searcher random --scheduler none)",
    "ray": "Ray Tune's random search under its own ASHA, at their defaults",
    "optuna": "Optuna's TPE and Hyperband pruner, at their defaults, in two processes without Ray",
}
OURS = "-m tune.search --preset demo --name s --trials 300 --time-budget-min 0"
AT_RANDOM = "--scheduler none --searcher random"
PEERS = ("ray", "optuna")
RETRAIN_EPOCHS = DEMO.train.epochs
FIRST_CURVE_S = 15
"""Start of the picture's curves."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Run our search and the peers', each for some minutes, several seeds of each."""

    seeds: int = 5
    minutes: float = 6.0
    """Minutes of each search, its start included."""
    arms: tuple[str, ...] = tuple(ARMS)
    retrain: Annotated[bool, Flag] = False
    """Train the winners that have no test accuracy yet on all images (about 2 minutes each on
    two CPU threads), and test them."""

    def __post_init__(self) -> None:
        check(self.seeds >= 1, f"seeds={self.seeds}: it must be at least 1")
        check(self.minutes > 0, f"minutes={self.minutes}: it must be above 0")
        for arm in self.arms:
            one_of("arms", arm, ARMS)


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
    """Start a search in a folder, where its output goes to `log`."""
    match arm:
        case "ours":
            arguments = [*OURS.split(), "--search-seed", str(seed)]
        case "random":
            arguments = [*OURS.split(), "--search-seed", str(seed), *AT_RANDOM.split()]
        case _:
            arguments = ["-m", "benchmarks.search_peers", "--peer", arm, "--seed", str(seed)]

    (folder / "ray").mkdir()
    # A folder of Ray's own for each search: none joins another's cluster.
    environ = os.environ | {
        "PYTHONPATH": str(ROOT),
        "RAY_TMPDIR": str(folder / "ray"),
        "FMNIST_DATA": str(find_data().absolute()),
    }

    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process with all that it started, the driver first, so that it restarts nothing."""
    driver = psutil.Process(process.pid)
    below = driver.children(recursive=True)
    for each in (driver, *below):
        with suppress(psutil.NoSuchProcess):
            each.kill()

    process.wait()
    psutil.wait_procs(below, timeout=30)


def read_lines(file: Path) -> list[Row]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def run(arm: str, seed: int, minutes: float, progress: Progress) -> list[Report]:
    """Run a search for so many minutes; what it reported. Raises FailedError if it ended."""
    with tempfile.TemporaryDirectory(prefix="fm", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        journal = folder / "runs/s" / JOURNAL
        task = progress.add_task(f"{arm}, seed {seed}", total=60 * minutes)
        began, started = time.time(), time.perf_counter()
        process = start(arm, seed, folder)
        # Our journal counts its seconds from when the first trial was dealt out.
        dealt_s: float | None = None

        while (elapsed := time.perf_counter() - started) < 60 * minutes:
            if process.poll() is not None:
                log = (folder / "log").read_text()
                raise FailedError(f"{arm}, seed {seed}: the search ended: {log[-3000:]}")
            if dealt_s is None and journal.exists() and journal.stat().st_size:
                dealt_s = elapsed
            progress.update(task, completed=elapsed)
            time.sleep(0.05 if dealt_s is None else 0.5)

        kill(process)
        progress.remove_task(task)

        if arm in PEERS:
            lines = read_lines(folder / REPORTS)
            return [Report(line.pop("time") - began, **line) for line in lines]

        assert dealt_s is not None
        return journal_reports(read_lines(journal), dealt_s)


def journal_reports(events: Sequence[Row], dealt_s: float) -> list[Report]:
    """The reports in our own journal."""
    candidates = {event["trial"]: event["candidate"] for event in events if "candidate" in event}
    reports: list[Report] = []
    for event in events:
        if event["event"] == "report":
            trial, value = event["trial"], event["validation_accuracy"] or 0.0
            seconds = dealt_s + event["s"]
            reports.append(Report(seconds, str(trial), event["epoch"], value, candidates[trial]))

    return reports


def summarise(arm: str, seed: int, minutes: float, reports: list[Report]) -> Row:
    """Sum up a search; its winner is the best of those that ran in full, or of all if none did."""
    best = 0.0
    improved_s: list[float] = []
    improved_to: list[float] = []
    for report in sorted(reports, key=lambda report: report.seconds):
        if report.value > best:
            best = report.value
            improved_s.append(round(report.seconds, 1))
            improved_to.append(best)

    # Only a full length compares: early epochs of fast networks look better.
    full = [report for report in reports if report.epoch == DEMO.train.epochs]
    winner = max(full or reports, key=lambda report: report.value)
    where = machine("torch", "ray")
    precision = resolve(TrainConfig(), default_device()).precision

    return {
        "arm": arm,
        "seed": seed,
        "minutes": minutes,
        "first_report_s": round(min(report.seconds for report in reports), 1),
        "trials": len({report.trial for report in reports}),
        "in_full": len(full),
        "epochs": len(reports),
        "best": best,
        "improved_s": improved_s,
        "improved_to": improved_to,
        "winner_accuracy": winner.value,
        "winner": json.dumps(winner.candidate),
        "machine": f"{hardware()} ({precision})",
        "versions": versions_text(where),
        "commit": where["commit"],
        "test_accuracy": None,
    }


def best_at(row: Row, seconds: float) -> float:
    """The best accuracy that a search had reported by then; NaN before the first."""
    best = np.nan
    for at, value in zip(row["improved_s"], row["improved_to"], strict=True):
        if at <= seconds:
            best = value
    return best


def reached_s(row: Row, accuracy: float) -> float | None:
    """When a search reached an accuracy; None if it never did."""
    for at, value in zip(row["improved_s"], row["improved_to"], strict=True):
        if value >= accuracy:
            return at
    return None


def retrain(row: Row) -> float:
    """Test accuracy of a search's winner, trained on all training images."""
    config = DEMO.train.replace(
        **json.loads(row["winner"]),
        train_images=0,
        validation_images=0,
        epochs=RETRAIN_EPOCHS,
        threads=0,
    )
    set_threads(config)
    config, data = split_data(config)
    device = default_device()
    *_, (_, state) = train_epochs(config, data, Rank(device))
    test = test_images()
    predicted = compute_logits(state.model, test.images).argmax(1)

    return float((predicted == test.labels).float().mean())


def draw(rows: list[Row]) -> None:
    """Draw the best accuracy by minute: median and range of the seeds."""
    title = "Best validation accuracy so far: median and range of the seeds"
    fig, axes = figure(title, "minutes", "validation accuracy, %")
    seconds = np.arange(FIRST_CURVE_S, 60 * max(row["minutes"] for row in rows) + 1)
    for number, arm in enumerate(ARMS):
        several = [row for row in rows if row["arm"] == arm]
        if not several:
            continue
        # (seeds, seconds); a second counts once every seed has a report.
        curves = np.array([[best_at(row, at) for at in seconds] for row in several])
        known = ~np.isnan(curves).any(0)
        low, middle, high = np.quantile(100 * curves[:, known], (0, 0.5, 1), axis=0)
        minutes, ink = seconds[known] / 60, color(number)
        axes.plot(minutes, middle, color=ink, label=arm, linewidth=2)
        axes.fill_between(minutes, low, high, color=ink, alpha=0.15, linewidth=0)

    finals = [100 * row["best"] for row in rows]
    axes.set_ylim(min(finals) - 4, max(finals) + 0.3)
    axes.legend(frameon=False, loc="lower right")
    save_figure(fig, IMAGES / PICTURE)


def write_page(rows: list[Row]) -> None:
    by_arm: dict[str, dict[int, Row]] = {arm: {} for arm in ARMS}
    machines: dict[str, set[int]] = {}
    for row in rows:
        by_arm[row["arm"]][row["seed"]] = row
        machines.setdefault(row["machine"], set()).add(row["seed"])

    where: list[str] = []
    for name, seeds in machines.items():
        where.append(f"{name}: seeds {', '.join(map(str, sorted(seeds)))}")

    minutes, base = rows[0]["minutes"], DEMO.train
    page = Page("Our search beside others, at equal time")
    page.text(
        f"""`python -m benchmarks.search`: {minutes:g} minutes each from the start of the process,
        two trials at once of a thread each. Space {DEMO.space}, {base.epochs} epochs,
        {base.train_images:,} training images, 5,000 to choose by. {rows[0]["versions"]}. Machine:
        {"; ".join(where)}. The arms of a seed follow each other, in an order drawn for it."""
    )
    page.items(f"**{arm}**: {words}." for arm, words in ARMS.items())
    page.table(
        "lrrrrrrr",
        "arm | seeds | best validation, %: median (lowest to highest) | first report, s | trials | "
        "in full | epochs | test, %",
        [arm_cells(arm, list(several.values())) for arm, several in by_arm.items() if several],
    )
    page.text(
        """Medians over the seeds; the test accuracy is the mean of the winners retrained on all
        60,000 images (how many of them)."""
    )
    page.image("Best validation accuracy by minute", PICTURE)

    page.text("Seed by seed, ours against each other:")
    others = [arm for arm in ARMS if arm != "ours" and by_arm["ours"].keys() & by_arm[arm].keys()]
    page.table(
        "lrrrr",
        "against | seeds in which ours is ahead | difference, points: median | mean | time to its "
        "final accuracy, share of its",
        [against_cells(arm, by_arm["ours"], by_arm[arm], minutes) for arm in others],
    )
    add_simulated(page)
    add_elsewhere(page)
    page.write("search")


def arm_cells(arm: str, rows: list[Row]) -> list[object]:
    best = [100 * row["best"] for row in rows]
    spread = f"**{statistics.median(best):.2f}** ({min(best):.2f} to {max(best):.2f})"
    fields = ("first_report_s", "trials", "in_full", "epochs")
    medians = [f"{statistics.median(row[field] for row in rows):g}" for field in fields]

    tested = [100 * row["test_accuracy"] for row in rows if row["test_accuracy"] is not None]
    test = f"{statistics.mean(tested):.2f} ({len(tested)})" if tested else ""
    return [arm, len(rows), spread, *medians, test]


def against_cells(
    arm: str, ours: dict[int, Row], theirs: dict[int, Row], minutes: float
) -> list[str]:
    """Compare ours with another arm, on the seeds that both have."""
    differences: list[float] = []
    reached: list[float | None] = []
    for seed in sorted(ours.keys() & theirs.keys()):
        differences.append(100 * (ours[seed]["best"] - theirs[seed]["best"]))
        reached.append(reached_s(ours[seed], theirs[seed]["best"]))

    count = len(differences)
    ahead = sum(difference > 0 for difference in differences)
    mean = f"{statistics.mean(differences):+.2f}"
    if count > 1:
        mean += f" ± {statistics.stdev(differences) / count**0.5:.2f}"
    shares = sorted(at / 60 / minutes for at in reached if at is not None)
    times = [f"{share:.2f}" for share in shares] + ["never"] * reached.count(None)
    median = f"{statistics.median(differences):+.2f}"
    return [arm, f"{ahead} of {count}", median, mean, ", ".join(times)]


def add_simulated(page: Page) -> None:
    """Add what many searches in simulated time say of the same comparison."""
    rows = [row for row in read_rows("search_scale") if row.get("searcher") == OPTUNA[0]]
    figures: list[str] = []
    for row in rows:
        ahead, error = 100 * row["behind_ours"], 100 * row["standard_error"]
        figures.append(f"{row['minutes']:g} min {ahead:+.2f} ± {error:.2f}")

    if figures:
        page.text(
            f"""The mean stands with its standard error: so few searches leave much to chance. In
            simulated time, on recorded curves and without what a start takes,
            {rows[0]["searches"]} searches a figure, ours is ahead of Optuna's by so many points:
            {"; ".join(figures)} ([search_scale.md](search_scale.md)). Before its first trial ours
            has started Ray, measured every network for the plan, and handed out the images: that is
            the difference in *first report*; the smaller the budget the more it weighs."""
        )


def add_elsewhere(page: Page) -> None:
    page.text("What else is measured of the search:")
    page.items(
        (
            """[search_scale.md](search_scale.md), `python -m benchmarks.search_scale`: stopping,
            promotion, median stopping, halving and the searchers compared on recorded curves, at up
            to 1,000 workers and 100,000 trials; what first rungs on a share of the images
            foretell.""",
            """[search_overhead.md](search_overhead.md), `python -m benchmarks.search_overhead`:
            what Ray and the search take of a trial.""",
            """[faults.md](faults.md), `python -m benchmarks.faults`: what a search loses when its
            driver, a worker or a node dies.""",
            "[demo.md](demo.md): the plan against what the search took.",
        )
    )


def run_missing(rows: Rows, options: Options) -> None:
    """Run every search that is not measured yet."""
    with Progress(console=CONSOLE) as progress:
        for seed in range(options.seeds):
            order = list(options.arms)
            # In a random order, so that no arm always follows the same other.
            random.Random(seed).shuffle(order)
            for arm in order:
                if rows.measured(arm, seed):
                    continue
                reports = run(arm, seed, options.minutes, progress)
                row = summarise(arm, seed, options.minutes, reports)
                rows.add(row)
                CONSOLE.print(
                    f"{arm}, seed {seed}: best {row['best']:.2%}, "
                    f"{row['trials']} trials, {row['epochs']} epochs"
                )


def main(options: Options) -> None:
    rows = Rows("search", "arm", "seed")
    if options.retrain:
        untested = [row for row in rows.rows if row["test_accuracy"] is None]
        for row in track(untested, "retraining", console=CONSOLE):
            row["test_accuracy"] = retrain(row)
            rows.write()
            CONSOLE.print(f"{row['arm']}, seed {row['seed']}: test {row['test_accuracy']:.2%}")
    else:
        run_missing(rows, options)

    draw(rows.rows)
    write_page(rows.rows)


if __name__ == "__main__":
    command(Options, main)
