"""`python -m benchmarks.search_overhead`: seconds that a search spends on a trial that does nothing.

Ours, with its journal, its lines and TensorBoard files, beside Ray Tune's bare minimum with and without reused actors, in turns in
one Ray of two CPUs. Each turn runs few trials and then many; what one more trial costs is the difference. Medians over the turns.
Writes docs/results/search_overhead.json and .md.
"""

import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from benchmarks.search_peers import AT_ONCE, nothing
from cluster.connect import Resources, cluster
from cluster.nodes import versions
from cluster.storage import open_storage
from fmnist.cli import command
from fmnist.config import TrainConfig
from fmnist.data import find_data, load_info, load_train, split_train
from fmnist.device import cpu_threads
from fmnist.run import environment, write_atomic, write_json
from tune.plan import Plan
from tune.presets import SearchConfig
from tune.search import SearchJob, run_trials
from tune.trial import Place

RESULTS = Path("docs/results")
ARMS = {
    "ours": "the search's own path: journal synced at each report, a line per trial, TensorBoard files",
    "reused": "Ray Tune alone, reuse_actors=True, a finished trial is all it knows",
    "fresh": "Ray Tune alone, as it is by default: a process for each trial",
}
TRIALS = {"ours": (20, 220), "reused": (20, 220), "fresh": (2, 8)}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure what Ray and the search take of each trial."""

    turns: int = 5


def ours(trials: int, resources: Resources, folder: Path) -> None:
    import ray.tune

    data = find_data()
    info = load_info(data)
    train = load_train(data, info)
    config = SearchConfig(trials=trials, scheduler="none", base=TrainConfig(epochs=1, train_images=1000, threads=1))
    base, training, validation = split_train(config.base, train)
    assert validation is not None
    quiet = Console(file=io.StringIO())
    storage = open_storage(str(folder))
    run = folder / "s"
    run.mkdir(parents=True)
    drawn = [{"seed": number} for number in range(trials)]
    propose = lambda number, records: drawn[number] if number < trials else None  # noqa: E731
    job = SearchJob(config, propose, drawn, train, training, validation, info, resources, quiet, storage)
    plan = Plan(trials, [], AT_ONCE, base.epochs, len(training), "", trials, trials, 1.0, 1.0, {})
    place = Place(storage, run.absolute(), versions())
    run_trials(run, job, job.state(run), plan, place, ray.tune.with_resources(nothing, {"cpu": 1}))


def bare(trials: int, reuse: bool, folder: Path) -> None:
    import ray.tune

    ray.tune.Tuner(
        ray.tune.with_resources(nothing, {"cpu": 1}),
        param_space={"trial": {"number": ray.tune.grid_search(list(range(trials)))}},
        tune_config=ray.tune.TuneConfig(reuse_actors=reuse),
        run_config=ray.tune.RunConfig(storage_path=str(folder.absolute()), verbose=0),
    ).fit()


def seconds_of(run: Callable[[int, Path], None], counts: tuple[int, int]) -> float:
    """What one more trial takes."""
    took: list[float] = []
    for trials in counts:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            started = time.perf_counter()
            run(trials, Path(folder) / "runs")
            took.append(time.perf_counter() - started)
    return (took[1] - took[0]) / (counts[1] - counts[0])


def main(options: Options) -> None:
    console = Console(highlight=False, soft_wrap=True)
    os.environ["PYTHONPATH"] = str(Path.cwd())
    found: dict[str, list[float]] = {arm: [] for arm in ARMS}
    with tempfile.TemporaryDirectory(prefix="fm", ignore_cleanup_errors=True) as folder:
        os.environ["RAY_TMPDIR"] = folder
        with cluster(None) as resources:
            runs: dict[str, Callable[[int, Path], None]] = {
                "ours": lambda trials, folder: ours(trials, resources, folder),
                "reused": lambda trials, folder: bare(trials, True, folder),
                "fresh": lambda trials, folder: bare(trials, False, folder),
            }
            for _ in track(range(options.turns), "turns", console=console):
                for arm, run in runs.items():
                    found[arm].append(seconds_of(run, TRIALS[arm]))
    known = environment()["versions"]
    where = f"{cpu_threads()} CPU threads, Python {known['python']}, ray {known['ray']}"
    rows: list[dict[str, Any]] = [
        {
            "arm": arm,
            "s_per_trial": round(statistics.median(several), 4),
            "lowest": round(min(several), 4),
            "highest": round(max(several), 4),
            "turns": len(several),
            "machine": where,
        }
        for arm, several in found.items()
    ]
    write_json(RESULTS / "search_overhead.json", rows)
    lines = [
        "# What a search spends on a trial that does nothing",
        "",
        f"`python -m benchmarks.search_overhead` on {where}: {AT_ONCE} trials at once, {options.turns} turns; what one more",
        "trial adds to the wall-clock time.",
        "",
        "| arm | seconds per trial: median (lowest to highest) | what |",
        "|---|---:|---|",
        *(
            f"| {row['arm']} | {row['s_per_trial']:.3f} ({row['lowest']:.3f} to {row['highest']:.3f}) | {ARMS[row['arm']]} |"
            for row in rows
        ),
        "",
    ]
    write_atomic(RESULTS / "search_overhead.md", "\n".join(lines))
    console.print("\n".join(lines))


if __name__ == "__main__":
    command(Options, main)
