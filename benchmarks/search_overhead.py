"""`python -m benchmarks.search_overhead`: seconds that a search spends on a trial that does
nothing.

Ours, with its journal, its lines and TensorBoard files, beside Ray Tune's bare minimum with and
without reused actors, in turns in one Ray of two CPUs. Each turn runs few trials and then many;
what one more trial costs is the difference. Medians over the turns. Writes
docs/results/search_overhead (.json and .md).
"""

import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from rich.console import Console
from rich.progress import track

from benchmarks.images import info, split_data, train_images
from benchmarks.results import CONSOLE, ROOT, Page, Row, machine, machine_text, write_rows
from benchmarks.search_peers import AT_ONCE, nothing
from cluster.connect import cluster
from cluster.placement import Resources
from cluster.storage import open_storage
from fmnist.cli import command
from fmnist.config import TrainConfig
from fmnist.data.sources import find_data
from fmnist.errors import check
from tune.planning.plan import Plan
from tune.presets import SearchConfig
from tune.searchers import Listed
from tune.setup import Packing, SearchSetup, SearchTask
from tune.space import SPACES

ARMS = {
    "ours": (
        "the search's own path: journal synced at each report, a line per trial, TensorBoard files"
    ),
    "reused": "Ray Tune alone, reuse_actors=True, a finished trial is all it knows",
    "fresh": "Ray Tune alone, as it is by default: a process for each trial",
}
TRIALS = {"ours": (20, 220), "reused": (20, 220), "fresh": (2, 8)}
"""Few and many."""

RunTrials = Callable[[int, Path], None]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure what Ray and the search take of each trial."""

    turns: int = 5

    def __post_init__(self) -> None:
        check(self.turns >= 1, f"turns={self.turns}: it must be at least 1")


def run_ours(trials: int, resources: Resources, folder: Path) -> None:
    # Here: importing Ray before its settings are made would ignore them.
    import tune.engine.run as engine

    train = TrainConfig(epochs=1, train_images=1000, threads=1)
    train, data = split_data(train)
    drawn = [{"seed": number} for number in range(trials)]
    task = SearchTask(
        config=SearchConfig(trials=trials, scheduler="none", train=train),
        space=SPACES["quick"],
        first=[],
        propose=Listed(drawn),
        drawn=drawn,
        train=train_images(),
        data=data,
        folder=find_data(),
        info=info(),
    )
    run = folder / "s"
    run.mkdir(parents=True)
    setup = SearchSetup(task, resources, open_storage(str(folder)))
    packing = Packing({"CPU": 1}, AT_ONCE)
    plan = Plan(
        trials=trials,
        rungs=[],
        at_once=AT_ONCE,
        epochs=1,
        images=len(data.train),
        early="",
        worst_epochs=trials,
        expected_epochs=trials,
        search_s=1.0,
        retrain_s=1.0,
        speeds={},
    )
    around = engine.Surroundings(Console(file=io.StringIO()))
    # Everything of ours is real but the trial.
    with patch.object(engine, "run_trial", nothing):
        engine.run_trials(run, setup, packing, setup.state(run), plan, around)


def run_bare(trials: int, reuse: bool, folder: Path) -> None:
    import ray.tune

    numbers = ray.tune.grid_search(list(range(trials)))
    ray.tune.Tuner(
        ray.tune.with_resources(nothing, {"cpu": 1}),
        param_space={"trial": {"number": numbers}},
        tune_config=ray.tune.TuneConfig(reuse_actors=reuse),
        run_config=ray.tune.RunConfig(storage_path=str(folder.absolute()), verbose=0),
    ).fit()


def seconds_per_trial(run: RunTrials, counts: tuple[int, int]) -> float:
    """Seconds that one more trial takes."""
    taken_s: list[float] = []
    for trials in counts:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            started = time.perf_counter()
            run(trials, Path(folder) / "runs")
            taken_s.append(time.perf_counter() - started)

    # Starting and ending cancel out.
    return (taken_s[1] - taken_s[0]) / (counts[1] - counts[0])


def measure(turns: int) -> dict[str, list[float]]:
    """Seconds per trial of each arm, in turns."""
    os.environ["PYTHONPATH"] = str(ROOT)
    seconds: dict[str, list[float]] = {arm: [] for arm in ARMS}
    with tempfile.TemporaryDirectory(prefix="fm", ignore_cleanup_errors=True) as folder:
        os.environ["RAY_TMPDIR"] = folder
        with cluster(None) as resources:
            runs: dict[str, RunTrials] = {
                "ours": lambda trials, folder: run_ours(trials, resources, folder),
                "reused": lambda trials, folder: run_bare(trials, True, folder),
                "fresh": lambda trials, folder: run_bare(trials, False, folder),
            }
            for _ in track(range(turns), "turns", console=CONSOLE):
                for arm, run in runs.items():
                    seconds[arm].append(seconds_per_trial(run, TRIALS[arm]))

    return seconds


def write_page(rows: list[Row]) -> None:
    page = Page("What a search spends on a trial that does nothing")
    page.text(
        f"""`python -m benchmarks.search_overhead` on {machine_text(rows[0])}: {AT_ONCE} trials at
        once, {rows[0]["turns"]} turns; what one more trial adds to the wall-clock time."""
    )
    page.row_table(
        "lrl",
        "arm | seconds per trial: median (lowest to highest) | what",
        "{arm} | {s_per_trial:.3f} ({lowest:.3f} to {highest:.3f}) | {what}",
        [row | {"what": ARMS[row["arm"]]} for row in rows],
    )
    page.write("search_overhead")


def main(options: Options) -> None:
    rows: list[Row] = []
    for arm, several in measure(options.turns).items():
        row: Row = {
            "arm": arm,
            "s_per_trial": round(statistics.median(several), 4),
            "lowest": round(min(several), 4),
            "highest": round(max(several), 4),
            "turns": len(several),
        }
        rows.append(row | machine("torch", "ray"))

    write_rows("search_overhead", rows)
    write_page(rows)


if __name__ == "__main__":
    command(Options, main)
