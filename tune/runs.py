"""`python -m tune.runs`: the runs so far, what each found, what sets them apart, and which to
remove."""

import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from rich.console import Console
from rich.prompt import Confirm
from rich.table import Table

from fmnist.cli import Flag, Positional, command, plural
from fmnist.errors import InputError, check
from fmnist.runs.files import read_json
from fmnist.runs.lock import hold, in_use
from fmnist.runs.run_folder import LATEST, RUNS, find_run, is_complete
from fmnist.runs.summary import SUMMARY, read_summary
from tune.columns import Column, break_name, fitting_table, total_width
from tune.journal import TRIALS, read_lines

DAY_S = 86400
REMOVING = ".removing-"
"""Prefix of a folder that is being removed: one cut short by a kill is no run any more, and goes
the next time."""
NOT_OF_THE_MODEL = ("validation_images", "threads")
"""Fields of a config that say nothing about the model."""
STYLES = {"complete": "", "running": "bold", "unfinished": "dim", "damaged": "red"}
COMPARED_WIDTH = 24
"""Longest line in a column of a comparison."""


@dataclass(frozen=True, kw_only=True)
class RunsOptions:
    """List the runs, show one, compare several, or remove some.

    Examples: python -m tune.runs; python -m tune.runs show demo; python -m tune.runs compare demo
    laptop; python -m tune.runs prune --keep 5
    """

    action: Annotated[Literal["list", "show", "compare", "prune"], Positional] = "list"
    """list: all, the newest first. show: one, by default the newest. compare: what sets two or
    more apart. prune: remove those named, or those that --keep and --older-than-days choose; it
    shows them and asks first."""
    runs: Annotated[tuple[str, ...], Positional] = ()
    """Run folders."""
    keep: int | None = None
    """Prune all but so many, the newest."""
    older_than_days: float | None = None
    """Prune only what has not changed for so many days."""
    yes: Annotated[bool, Flag] = False
    """Prune without asking."""
    storage: Path = RUNS
    """Folder that holds the runs."""

    def __post_init__(self) -> None:
        keep, days = self.keep, self.older_than_days
        check(keep is None or keep >= 0, f"keep={keep}: it must be at least 0")
        check(days is None or days >= 0, f"older_than_days={days}: it must be at least 0")

        by_rule = keep is not None or days is not None
        if self.action == "prune":
            check(
                bool(self.runs) != by_rule,
                "prune: name runs, or choose them with --keep or --older-than-days",
            )
        else:
            check(
                not by_rule and not self.yes,
                f"{self.action}: --keep, --older-than-days and --yes are for prune",
            )
        self._check_count(len(self.runs))

    def _check_count(self, count: int) -> None:
        match self.action:
            case "list":
                check(count == 0, f"list: name no run, not {count}")
            case "show":
                check(count <= 1, f"show: name one run, not {count}")
            case "compare":
                check(count >= 2, f"compare: name two runs or more, not {count}")
            case "prune":
                pass


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What a run folder says of itself."""

    path: Path
    kind: str
    """search or training."""
    state: str
    """running, complete, unfinished or damaged."""
    damage: str
    """What is damaged, in a line; empty if nothing is."""
    changed: float
    """Seconds since 1970."""
    size: int
    """Bytes."""
    trials: list[dict[str, Any]]
    """Those that are done."""
    config: dict[str, Any]
    summary: dict[str, Any]

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def age(self) -> str:
        return age_words(time.time() - self.changed)

    @property
    def validation_accuracy(self) -> float | None:
        """Of the model, or of the best trial so far."""
        accuracies: list[float] = []
        for trial in self.trials:
            curve = trial["curve"]
            if curve:
                # 0 where the record does not say which: then the last epoch counts.
                kept_epoch = trial["kept_epoch"] or len(curve)
                accuracies.append(curve[kept_epoch - 1])

        return self.summary.get("validation_accuracy") or max(accuracies, default=None)

    @property
    def test_accuracy(self) -> float | None:
        return self.summary.get("test_accuracy")

    def check_readable(self) -> None:
        """Raise InputError unless it has a config."""
        reason = self.damage or "its config.json is empty"
        check(
            bool(self.config),
            f"run={str(self.path)!r}: it is no run, or damaged ({reason}); "
            "python -m tune.runs lists them",
        )


def read_info(run: Path) -> RunInfo:
    """Read a run folder, damaged or not."""
    damage = ""
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    trials: list[dict[str, Any]] = []
    try:
        config = read_json(run / "config.json")
        if (run / SUMMARY).exists():
            summary = read_summary(run)
        trials = read_lines(run / TRIALS)
    except InputError as error:
        damage = str(error)

    # A folder's own time changes with what looks into it, such as the lock.
    size = 0
    times: list[float] = []
    for path in files_in(run):
        if path.name != ".lock":
            file = path.lstat()
            size += file.st_size
            times.append(file.st_mtime)

    kind = "search" if "search" in config else "training"
    return RunInfo(
        path=run,
        kind=kind,
        state=_state(run, damage),
        damage=damage,
        changed=max(times, default=run.stat().st_mtime),
        size=size,
        trials=trials,
        config=config,
        summary=summary,
    )


def _state(run: Path, damage: str) -> str:
    # First, as a running process may be about to write what seems damaged.
    if in_use(run):
        return "running"
    if damage:
        return "damaged"
    if is_complete(run):
        return "complete"
    return "unfinished"


def all_runs(storage: Path) -> list[RunInfo]:
    """The runs in a folder, the newest first. Raises InputError if there is no such folder."""
    check(
        storage.is_dir(),
        f"storage={str(storage)!r}: no such folder; runs are kept in {RUNS}/ unless --storage "
        "said otherwise",
    )
    runs: list[RunInfo] = []
    for file in storage.glob("*/config.json"):
        folder = file.parent
        # The link named latest leads to one of the others; a dot begins what is being removed.
        if not folder.is_symlink() and not folder.name.startswith("."):
            runs.append(read_info(folder))

    return sorted(runs, key=lambda run: run.changed, reverse=True)


def main(options: RunsOptions) -> None:
    console = Console(highlight=False, soft_wrap=True)
    match options.action:
        case "list":
            runs = all_runs(options.storage)
            print_table(runs, console)
            count = plural(len(runs), "run")
            console.print(f"{count} in {options.storage}, {_total_size(runs)}")
        case "show":
            name = options.runs[0] if options.runs else None
            show(read_info(find_run(name, options.storage)), console)
        case "compare":
            # All are looked for before one is read, which takes longer.
            folders = [find_run(name, options.storage) for name in options.runs]
            compare(list(map(read_info, folders)), console)
        case "prune":
            prune(options, console)


def print_table(runs: Sequence[RunInfo], console: Console) -> None:
    """A line for each run; under the table what is damaged."""
    columns = [
        Column("run"),
        Column("kind", rank=2),
        Column("state"),
        Column("trials", right=True, rank=1),
        Column("val. %", right=True),
        Column("test %", right=True),
        Column("size", right=True),
        Column("age", right=True),
    ]
    styles: list[str] = []
    for run in runs:
        styles.append(STYLES[run.state])
        trials = str(len(run.trials)) if run.kind == "search" else ""
        cells = [
            run.name,
            run.kind,
            run.state,
            trials,
            percent(run.validation_accuracy),
            percent(run.test_accuracy),
            size_words(run.size),
            run.age,
        ]
        for column, cell in zip(columns, cells, strict=True):
            column.cells.append(cell)

    console.print(fitting_table(columns, console.width, wrapped="run", styles=styles))
    console.print()

    # Not a column: a reason is too long for one.
    for run in runs:
        if run.damage:
            console.print(f"{run.name} is damaged: {run.damage}", style="red", markup=False)


def show(run: RunInfo, console: Console) -> None:
    """Everything about one run, and what to do with it next."""
    run.check_readable()
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in _facts(run):
        grid.add_row(name, text)

    console.print(f"[bold]{run.path}[/]", grid, sep="\n")
    # Outside of the grid, which would break a long name: these lines are there to be copied.
    for step in _next_steps(run):
        console.print(f"next: {step}")


def _facts(run: RunInfo) -> Iterator[tuple[str, str]]:
    data = run.config["data"]
    yield "state", f"{run.kind}, {run.state}, changed {run.age} ago"
    yield "data", f"{data['name']}, {len(data['classes'])} classes"

    for name, value in settings(run).items():
        yield name, str(value)
    if run.trials:
        yield "trials", f"{len(run.trials)}: {_outcomes(run)}"
        yield "epochs", f"{_epochs(run)} by all trials"
    yield from results(run).items()
    yield "size", f"{size_words(run.size)}: {_sizes_of_parts(run.path)}"

    environment = run.config.get("environment", {})
    commit = str(environment.get("git_commit"))[:12]
    versions: list[str] = []
    for name, version in environment.get("versions", {}).items():
        versions.append(f"{name} {version}")
    yield "made by", f"commit {commit}; {', '.join(versions)}"


def _outcomes(run: RunInfo) -> str:
    """How many trials ended how; "stopped at rung 3: …" counts as stopped."""
    counts: Counter[str] = Counter()
    for trial in run.trials:
        outcome = trial["outcome"].partition(":")[0]
        counts[outcome.partition(" at ")[0]] += 1

    words: list[str] = []
    for outcome, count in counts.most_common():
        words.append(f"{count} {outcome}")

    return ", ".join(words)


def _epochs(run: RunInfo) -> int:
    return sum(len(trial["curve"]) for trial in run.trials)


def _sizes_of_parts(run: Path) -> str:
    """Sizes of a run's folders, the largest first."""
    sizes: dict[str, int] = {}
    for folder in run.iterdir():
        if folder.is_dir():
            sizes[folder.name] = sum(path.lstat().st_size for path in files_in(folder))

    largest_first = sorted(sizes.items(), key=lambda part: -part[1])
    return ", ".join(f"{name} {size_words(size)}" for name, size in largest_first)


def files_in(folder: Path) -> list[Path]:
    """Files at any depth, links to folders among them."""
    return [path for path in folder.rglob("*") if not path.is_dir()]


def _total_size(runs: Sequence[RunInfo]) -> str:
    return size_words(sum(run.size for run in runs))


def _next_steps(run: RunInfo) -> list[str]:
    if run.state == "unfinished":
        module = "tune.search" if run.kind == "search" else "fmnist.train"
        return [f"python -m {module} --name {run.name} --resume"]
    if run.state != "complete":
        return []

    steps = [f"python -m export.to_onnx {run.path}"]
    if run.kind == "search":
        steps.append(f"python -m tune.report {run.path}")

    return steps


def settings(run: RunInfo) -> dict[str, Any]:
    """How it was run: the search's numbers, and the config of the model, or of all trials while
    there is none."""
    search = dict(run.config.get("search", {}))
    # These are whole tables, of every parameter's values and of configs.
    for name in ("space_values", "first"):
        search.pop(name, None)

    train = dict(run.summary.get("config") or run.config.get("train", {}))
    for name in NOT_OF_THE_MODEL:
        train.pop(name, None)

    return search | train


def results(run: RunInfo) -> dict[str, str]:
    """What a run measured, in words."""
    words: dict[str, str] = {}
    if run.validation_accuracy is not None:
        words["validation"] = f"{run.validation_accuracy:.2%}"
    if run.test_accuracy is not None:
        words["test"] = f"{run.test_accuracy:.2%}"
    stages: list[str] = []
    for stage, seconds in run.summary.get("seconds", {}).items():
        stages.append(f"{stage} {seconds:,.0f}")
    if stages:
        words["seconds"] = ", ".join(stages)
    if "peak_memory_mb" in run.summary:
        words["peak memory"] = f"{run.summary['peak_memory_mb']:,} MB"

    return words


def compare(runs: Sequence[RunInfo], console: Console) -> None:
    """A column for each run, a row for each setting in which they differ and for each result.

    Runs that have no room beside the others stand in tables below.
    """
    for run in runs:
        run.check_readable()

    heads = Column("")
    columns = [Column(break_name(run.name, COMPARED_WIDTH)) for run in runs]
    for name, values in _compared_rows(runs):
        heads.cells.append(name)
        for column, value in zip(columns, values, strict=True):
            column.cells.append(break_name(value, COMPARED_WIDTH))

    # As many runs beside one another as there is room for.
    blocks: list[list[Column]] = []
    for column in columns:
        if blocks and total_width([heads, *blocks[-1], column]) <= console.width:
            blocks[-1].append(column)
        else:
            blocks.append([column])

    for block in blocks:
        table = fitting_table([heads, *block], console.width, wrapped=block[0].head)
        console.print(table)
        console.print()

    paths = " ".join(str(run.path) for run in runs)
    console.print("Whether they differ by more than chance, and their curves:")
    console.print(f"python -m fmnist.compare {paths}")


def _compared_rows(runs: Sequence[RunInfo]) -> Iterator[tuple[str, list[str]]]:
    """Rows of a comparison: a name, and a value for each run."""
    for name, values in _aligned(list(map(settings, runs))):
        # What all runs have in common does not explain a difference between them.
        if len(set(values)) > 1:
            yield name, values

    yield "", [""] * len(runs)

    measured: list[dict[str, Any]] = []
    for run in runs:
        # A training has neither trials nor epochs of them: an empty cell rather than 0.
        counts = {
            "trials": len(run.trials) or "",
            "epochs by all": _epochs(run) or "",
            "size": size_words(run.size),
        }
        measured.append(counts)

    yield from _aligned(list(map(results, runs)))
    yield from _aligned(measured)


def _aligned(of_runs: Sequence[dict[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """Each name in the order of its first appearance, and each run's value of it, or nothing."""
    names: dict[str, None] = {}
    for values in of_runs:
        names |= dict.fromkeys(values)

    for name in names:
        yield name, [str(values.get(name, "")) for values in of_runs]


def prune(options: RunsOptions, console: Console) -> None:
    """Remove runs, once somebody has seen which, and said yes; never one that another process
    works on."""
    everything = all_runs(options.storage)
    chosen = _named(options, everything) if options.runs else _by_rule(options, everything)
    idle: list[RunInfo] = []
    running: list[str] = []
    for run in chosen:
        if run.state == "running":
            running.append(run.name)
        else:
            idle.append(run)

    check(
        not (running and options.runs),
        f"prune: {', '.join(running)} is in use by another process; wait for it to end",
    )

    # What a kill left of an earlier removal.
    for rest in options.storage.glob(f"{REMOVING}*"):
        shutil.rmtree(rest)

    if not idle:
        words = f"nothing to remove of {plural(len(everything), 'run')}"
        if running:
            words += f"; {', '.join(running)} is in use"
        console.print(words)
        return

    print_table(idle, console)
    if not options.yes and not _confirm(idle, console):
        console.print("nothing removed")
        return

    removed: list[str] = []
    for run in idle:
        remove(run.path)
        removed.append(run.name)
    console.print(f"removed {', '.join(removed)}")


def _named(options: RunsOptions, everything: Sequence[RunInfo]) -> list[RunInfo]:
    # By their real paths: a run can be named by a link, such as latest.
    known = {run.path.resolve(): run for run in everything}
    named: set[Path] = set()
    missing: list[str] = []
    for name in options.runs:
        path = find_run(name, options.storage).resolve()
        named.add(path)
        if path not in known:
            missing.append(str(path))

    check(
        not missing,
        f"prune: {', '.join(missing)} is no run of {options.storage}; "
        "python -m tune.runs lists them",
    )

    return [run for path, run in known.items() if path in named]


def _by_rule(options: RunsOptions, everything: Sequence[RunInfo]) -> list[RunInfo]:
    """All but the newest that --keep keeps, and of them those that --older-than-days lets go."""
    newest_allowed = time.time() - DAY_S * (options.older_than_days or 0)
    candidates = everything[options.keep or 0 :]
    return [run for run in candidates if run.changed < newest_allowed]


def _confirm(chosen: Sequence[RunInfo], console: Console) -> bool:
    check(
        sys.stdin.isatty(),
        "prune: it asks before it removes, and there is no terminal to answer on; add --yes",
    )
    which = "this run" if len(chosen) == 1 else f"these {len(chosen)} runs"
    question = f"remove {which}, {_total_size(chosen)}?"
    return Confirm.ask(question, default=False, console=console)


def remove(run: Path) -> None:
    """Rename a run folder, which is done at once or not at all, and then delete it."""
    # Nobody may begin to work on it in the meantime.
    hold(run)
    removed = run.rename(run.with_name(f"{REMOVING}{run.name}"))
    latest = run.with_name(LATEST.name)
    # A link that leads to nothing would mislead.
    if latest.is_symlink() and not latest.exists():
        latest.unlink()

    shutil.rmtree(removed)


def percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.2f}"


def size_words(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            digits = 0 if size >= 10 or unit == "B" else 1
            return f"{size:.{digits}f} {unit}"
        size /= 1000

    return f"{size:.1f} GB"


def age_words(seconds: float) -> str:
    for unit, length in (("days", DAY_S), ("h", 3600), ("min", 60)):
        # From two of a unit on: "24 h" says more than "1 day".
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"

    return f"{max(seconds, 0):.0f} s"


if __name__ == "__main__":
    command(RunsOptions, main, renamed={"--older-than": "--older-than-days"})
