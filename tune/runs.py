"""`python -m tune.runs`: the runs so far, what each found, what sets them apart, and which to be rid of."""

import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich import box
from rich.console import Console
from rich.prompt import Confirm
from rich.table import Table

from fmnist.cli import command
from fmnist.errors import InputError, check
from fmnist.lock import hold, in_use
from fmnist.run import LATEST, RUNS, find_run, is_complete, read_json
from fmnist.summary import SUMMARY, read_summary
from tune.journal import TRIALS, Event, read_events

REMOVING = ".removing-"
"""What the name of a folder that is being removed begins with: one cut short by a kill is no run any more, and goes next time."""
UNTOLD = ("validation_images", "threads")
"""Fields of a config that say nothing about the model."""


@dataclass(frozen=True, kw_only=True)
class RunsOptions:
    """List the runs, show one, compare several, or remove some.

    Examples: python -m tune.runs; python -m tune.runs show demo; python -m tune.runs compare demo laptop;
    python -m tune.runs prune --keep 5
    """

    action: Annotated[Literal["list", "show", "compare", "prune"], tyro.conf.Positional] = "list"
    """list: all, the newest first. show: one, by default the newest. compare: what sets two or more apart. prune: remove those
    named, or those that --keep and --older-than choose; it shows them and asks first."""
    runs: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Run folders."""
    keep: int | None = None
    """Prune all but so many, the newest."""
    older_than: float | None = None
    """Prune only what has not changed for so many days."""
    yes: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Prune without asking."""
    storage: Path = RUNS
    """Folder that holds the runs."""

    def __post_init__(self) -> None:
        check(self.keep is None or self.keep >= 0, f"keep={self.keep}: it must be at least 0")
        check(self.older_than is None or self.older_than >= 0, f"older_than={self.older_than}: it must be at least 0 days")
        chosen = self.keep is not None or self.older_than is not None
        if self.action == "prune":
            check(bool(self.runs) != chosen, "prune: name runs, or choose them with --keep or --older-than")
        else:
            check(not chosen and not self.yes, f"{self.action}: --keep, --older-than and --yes are for prune")
        counts = {"list": (0, 0, "no run"), "show": (0, 1, "one run"), "compare": (2, 99, "two runs or more")}
        low, high, words = counts.get(self.action, (0, len(self.runs), ""))
        check(low <= len(self.runs) <= high, f"{self.action}: name {words}, not {len(self.runs)}")


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What a run folder tells of itself."""

    path: Path
    kind: str
    """search or training."""
    state: str
    """running, complete, unfinished, or what is damaged."""
    changed: float
    """Seconds since 1970."""
    size: int
    """Bytes."""
    trials: tuple[Event, ...]
    """Those that are done."""
    config: dict[str, Any]
    summary: dict[str, Any]

    @property
    def validation_accuracy(self) -> float | None:
        """Of the model, or of the best trial so far."""
        found = [trial["curve"][(trial["kept_epoch"] or len(trial["curve"])) - 1] for trial in self.trials if trial["curve"]]
        return self.summary.get("validation_accuracy") or max(found, default=None)


def read_info(run: Path) -> RunInfo:
    """Of a run folder, damaged or not."""
    damage = ""
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    trials: tuple[Event, ...] = ()
    try:
        config = read_json(run / "config.json")
        summary = read_summary(run) if (run / SUMMARY).exists() else {}
        trials = tuple(read_events(run / TRIALS))
    except InputError as error:
        damage = f"damaged: {error}"
    # A folder's own time changes with what looks into it, such as the lock.
    files = [path.lstat() for path in run.rglob("*") if not path.is_dir() and path.name != ".lock"]
    state = "running" if in_use(run) else damage or ("complete" if is_complete(run) else "unfinished")
    return RunInfo(
        path=run,
        kind="search" if "search" in config else "training",
        state=state,
        changed=max((file.st_mtime for file in files), default=run.stat().st_mtime),
        size=sum(file.st_size for file in files),
        trials=trials,
        config=config,
        summary=summary,
    )


def all_runs(folder: Path) -> list[RunInfo]:
    """The newest first. Raises InputError if there is no such folder."""
    check(folder.is_dir(), f"storage={str(folder)!r}: no such folder; runs are kept in {RUNS}/ unless --storage said otherwise")
    found = [path.parent for path in folder.glob("*/config.json")]
    runs = [read_info(path) for path in found if not path.is_symlink() and not path.name.startswith(".")]
    return sorted(runs, key=lambda run: run.changed, reverse=True)


def main(options: RunsOptions) -> None:
    console = Console(highlight=False, soft_wrap=True)
    if options.action == "list":
        runs = all_runs(options.storage)
        console.print(table_of(runs))
        total = sum(run.size for run in runs)
        console.print(f"{len(runs)} run{'s' if len(runs) != 1 else ''} in {options.storage}, {size_words(total)}")
    elif options.action == "show":
        show(read_info(find_run(next(iter(options.runs), None), options.storage)), console)
    elif options.action == "compare":
        compare([read_info(find_run(name, options.storage)) for name in options.runs], console)
    else:
        prune(options, console)


def table_of(runs: Sequence[RunInfo]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("run", "kind", "state"):
        table.add_column(name, overflow="fold")
    for name in ("trials", "validation", "test", "size", "age"):
        table.add_column(name, justify="right", no_wrap=True)
    for run in runs:
        style = {"complete": "", "running": "bold", "unfinished": "dim"}.get(run.state, "red")
        trials = str(len(run.trials)) if run.kind == "search" else ""
        accuracies = (percent(run.validation_accuracy), percent(run.summary.get("test_accuracy")))
        when = age_words(time.time() - run.changed)
        table.add_row(run.path.name, run.kind, run.state, trials, *accuracies, size_words(run.size), when, style=style)
    return table


def show(run: RunInfo, console: Console) -> None:
    """Everything about one run, and what to do with it next."""
    check(bool(run.config), f"run={str(run.path)!r}: it is no run, or damaged ({run.state}); python -m tune.runs lists them")
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in _facts(run):
        grid.add_row(name, text)
    console.print(f"[bold]{run.path}[/]", grid, sep="\n")


def _facts(run: RunInfo) -> Iterator[tuple[str, str]]:
    yield "state", f"{run.kind}, {run.state}, changed {age_words(time.time() - run.changed)} ago"
    yield "data", f"{run.config['data']['name']}, {len(run.config['data']['classes'])} classes"
    for name, value in settings(run).items():
        yield name, str(value)
    if run.trials:
        outcomes = Counter(trial["outcome"].partition(":")[0].partition(" at ")[0] for trial in run.trials)
        yield "trials", f"{len(run.trials)}: " + ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
        yield "epochs", f"{sum(len(trial['curve']) for trial in run.trials)} by all trials"
    for name, value in found(run).items():
        yield name, value
    parts = {path.name: tree_size(path) for path in run.path.iterdir() if path.is_dir()}
    largest = sorted(parts.items(), key=lambda part: -part[1])
    yield "size", f"{size_words(run.size)}: " + ", ".join(f"{name} {size_words(size)}" for name, size in largest)
    environment = run.config.get("environment", {})
    versions = ", ".join(f"{name} {version}" for name, version in environment.get("versions", {}).items())
    yield "made by", f"commit {str(environment.get('git_commit'))[:12]}; {versions}"
    if run.state == "unfinished":
        module = "tune.search" if run.kind == "search" else "fmnist.train"
        yield "next", f"python -m {module} --name {run.path.name} --resume"
    elif run.state == "complete":
        yield (
            "next",
            f"python -m export.to_onnx {run.path}" + (f", python -m tune.report {run.path}" if run.kind == "search" else ""),
        )


def settings(run: RunInfo) -> dict[str, Any]:
    """How it was run: the search's numbers, and the config of the model, or of all trials while there is none."""
    search = {key: value for key, value in run.config.get("search", {}).items() if key not in ("space_values", "first")}
    train = run.summary.get("config") or run.config.get("train", {})
    return search | {key: value for key, value in train.items() if key not in UNTOLD}


def found(run: RunInfo) -> dict[str, str]:
    """What a run measured, in words."""
    seconds = run.summary.get("seconds", {})
    facts = {
        "validation": percent(run.validation_accuracy),
        "test": percent(run.summary.get("test_accuracy")),
        "seconds": ", ".join(f"{stage} {value:,.0f}" for stage, value in seconds.items()),
        "peak memory": f"{run.summary['peak_memory_mb']:,} MB" if "peak_memory_mb" in run.summary else "",
    }
    return {name: words for name, words in facts.items() if words}


def compare(runs: Sequence[RunInfo], console: Console) -> None:
    """A column for each run, a row for each setting in which they differ and for each figure."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", style="bold", no_wrap=True)
    for run in runs:
        check(bool(run.config), f"run={str(run.path)!r}: it is no run, or damaged ({run.state}); python -m tune.runs lists them")
        table.add_column(run.path.name, overflow="fold")
    for part in (settings, found):
        columns = [part(run) for run in runs]
        for name in dict.fromkeys(name for column in columns for name in column):
            values = [str(column.get(name, "")) for column in columns]
            if part is found or len(set(values)) > 1:
                table.add_row(name, *values)
        table.add_section()
    table.add_row("trials", *(str(len(run.trials) or "") for run in runs))
    table.add_row("epochs by all", *(str(sum(len(trial["curve"]) for trial in run.trials) or "") for run in runs))
    table.add_row("size", *(size_words(run.size) for run in runs))
    console.print(table)
    names = " ".join(str(run.path) for run in runs)
    console.print(f"whether they differ by more than chance, and their curves: python -m fmnist.compare {names}")


def prune(options: RunsOptions, console: Console) -> None:
    """Remove runs, once somebody has seen which, and said yes; never one that another process works on."""
    everything = all_runs(options.storage)
    if options.runs:
        named = [find_run(name, options.storage).resolve() for name in options.runs]
        chosen = [run for run in everything if run.path.resolve() in named]
        missing = [str(path) for path in named if path not in {run.path.resolve() for run in chosen}]
        check(not missing, f"prune: {', '.join(missing)} is no run of {options.storage}; python -m tune.runs lists them")
    else:
        oldest = time.time() - 86400 * (options.older_than or 0)
        chosen = [run for run in everything[options.keep or 0 :] if run.changed < oldest]
    running = [run.path.name for run in chosen if run.state == "running"]
    check(not (running and options.runs), f"prune: {', '.join(running)} is in use by another process; wait for it to end")
    chosen = [run for run in chosen if run.state != "running"]
    for rest in options.storage.glob(f"{REMOVING}*"):
        shutil.rmtree(rest)
    if not chosen:
        console.print(f"nothing to remove of {len(everything)} runs" + (f"; {', '.join(running)} runs" if running else ""))
        return
    console.print(table_of(chosen))
    question = (
        f"remove {'this run' if len(chosen) == 1 else f'these {len(chosen)} runs'}, {size_words(sum(r.size for r in chosen))}"
    )
    if not options.yes:
        check(sys.stdin.isatty(), "prune: it asks before it removes, and there is no terminal to answer on; add --yes")
        if not Confirm.ask(f"{question}?", default=False, console=console):
            console.print("nothing removed")
            return
    for run in chosen:
        remove(run.path)
    console.print(f"removed {', '.join(run.path.name for run in chosen)}")


def remove(run: Path) -> None:
    """Rename a run folder, which is done at once or not at all, and then delete it."""
    hold(run)
    gone = run.rename(run.with_name(f"{REMOVING}{run.name}"))
    latest = run.with_name(LATEST.name)
    if latest.is_symlink() and not latest.exists():
        latest.unlink()
    shutil.rmtree(gone)


def tree_size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{fraction:.2%}"


def size_words(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if size >= 10 or unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def age_words(seconds: float) -> str:
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


if __name__ == "__main__":
    command(RunsOptions, main)
