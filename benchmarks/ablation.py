"""`python -m benchmarks.ablation`: what each technique of training gains, and what it costs, on
validation images alone.

Every technique is one change to the base, trained with the same seeds; the gain is the mean
difference, seed by seed, in validation accuracy after the last epoch. The cost is the time of an
epoch over that of the base's, from short epochs in turns, on the idle machine. Techniques that are
no option of TrainConfig are in benchmarks/research until one pays. Goes on where it stopped. Writes
docs/results/ablation.md, and a JSON for each base.
"""

import multiprocessing
import signal
import statistics
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import dataclass

from rich.progress import track

from benchmarks.images import first_images, split_data
from benchmarks.research.techniques import BASES, HELD_OUT, REMOVED, TECHNIQUES, Hook
from benchmarks.results import CONSOLE, Page, Row, Rows, machine, read_rows, versions_text
from fmnist.cli import command
from fmnist.config import TrainConfig
from fmnist.errors import check, one_of
from fmnist.runs.threads import cpu_threads
from fmnist.training.device import Rank, default_device, resolve, set_threads
from fmnist.training.loop import train_epochs

BASE = "base"
"""Stands in the rows for the base itself."""
EXPENSIVE = "distilled from best"
ALL = tuple(name for name in TECHNIQUES if name != EXPENSIVE)
TURNS, TURN_IMAGES = 5, 4 * 1024
"""The costs' epochs, and their images."""

Job = tuple[str, str, int]
"""Base, technique, seed."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Train the base with each technique.

    Example: python -m benchmarks.ablation --techniques muon "shift 1" --seeds 5
    """

    base: str = "short"
    """short (8 epochs, Nesterov), narrow (6 epochs of a narrower network), cpu-93 (that recipe),
    long (16 epochs, Muon, erasing), wide (long, wider), ten (wider, for ten minutes on two CPU
    threads), cpu-10min (that recipe) or small (that one, on a GPU)."""
    techniques: tuple[str, ...] = ALL
    """By default all but "distilled from best", whose teacher takes days on a CPU."""
    seeds: int = 3
    workers: int = 1
    """Processes that train at a time, and share the CPU's threads; costs are measured
    afterwards, one by one."""

    def __post_init__(self) -> None:
        check(self.seeds >= 1, f"seeds={self.seeds}: it must be at least 1")
        check(
            1 <= self.workers <= cpu_threads(),
            f"workers={self.workers}: it must be from 1 to this machine's {cpu_threads()} threads",
        )
        one_of("base", self.base, BASES)

        for name in self.techniques:
            one_of("techniques", name, TECHNIQUES)
            bases = TECHNIQUES[name].bases
            check(
                self.techniques == ALL or self.base in bases,
                f"techniques={name!r}: it changes {' and '.join(bases)}, not {self.base}",
            )


def parts(base: str, name: str) -> tuple[TrainConfig, Hook]:
    """The config of a technique on a base, and what must be in place while it trains."""
    if name == BASE:
        return BASES[base], nullcontext
    technique = TECHNIQUES[name]
    return BASES[base].replace(**technique.changes), technique.hook


def start_worker(threads: int) -> None:
    """Prepare a process that trains; Ctrl-C is the parent's to take."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_threads(TrainConfig(threads=threads))


def train(base: str, name: str, seed: int) -> float:
    """Accuracy on the validation images, after the last epoch."""
    config, hook = parts(base, name)
    config, data = split_data(config.replace(seed=seed))
    with hook():
        *_, (metrics, _) = train_epochs(config, data, Rank(default_device()))

    assert metrics.validation_accuracy is not None
    return metrics.validation_accuracy


def train_all(jobs: Sequence[Job], workers: int) -> Iterator[tuple[Job, float]]:
    """Each job's accuracy, as they end."""
    spawn = multiprocessing.get_context("spawn")
    threads = cpu_threads() // workers
    with ProcessPoolExecutor(workers, spawn, start_worker, (threads,)) as pool:
        futures = {pool.submit(train, *job): job for job in jobs}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            # Ctrl-C is ignored there: without this they would train on.
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def measure_cost(base: str, name: str) -> float:
    """Measure the time of an epoch over that of the base's: the mean of turns, since epochs may
    differ."""
    rank, data = Rank(default_device()), first_images(TURN_IMAGES)
    config, hook = parts(base, name)
    ours = train_epochs(BASES[base].replace(epochs=TURNS + 1), data, rank)
    theirs = train_epochs(config.replace(epochs=TURNS + 1), data, rank)
    ratios: list[float] = []

    for _ in range(TURNS + 1):
        metrics, _ = next(ours)
        # The hook is in place for the technique's epochs alone, its start included.
        with hook():
            changed, _ = next(theirs)
        ratios.append(metrics.images_per_s / changed.images_per_s)

    # The first turn is warm-up.
    return statistics.mean(ratios[1:])


def write_page() -> None:
    page = Page("What each technique gains and costs")
    page.text(
        f"""`python -m benchmarks.ablation --base …`. Each is one change to the base, trained with
        the same seeds; accuracies are of {HELD_OUT:,} validation images after the last epoch, never
        of the test set. Gain: mean difference to the base in points, seed by seed, ± its standard
        error; of one seed, its noise is 1.4 times the base's deviation over seeds. Cost: time of an
        epoch over the base's, from short epochs in turns."""
    )

    for base in BASES:
        rows = read_rows(f"ablation_{base}")
        if any(row["technique"] == BASE for row in rows):
            add_section(page, base, rows)

    if not read_rows("ablation_small"):
        page.not_measured(
            {
                "small": "make gpu PART=ablation",
                "small, taught by the recipe best": "make gpu PART=distillation",
            }
        )

    page.write("ablation")


def add_section(page: Page, base: str, rows: Sequence[Row]) -> None:
    """Add the table of one base."""
    config = BASES[base]
    plain = {row["seed"]: row["accuracy"] for row in rows if row["technique"] == BASE}
    reached = f"{100 * statistics.mean(plain.values()):.2f}"
    if len(plain) > 1:
        reached += f" ± {100 * statistics.stdev(plain.values()):.2f}"

    network = f"{config.model} {'/'.join(map(str, config.widths))}".strip()
    augmented = f"shift {config.shift}, erasing in {config.erase:.0%}"
    if config.cutmix:
        augmented += f", CutMix in {config.cutmix:.0%}"
    page.heading(f"{base}: {network}, {config.optimizer}, {config.epochs} epochs, {augmented}")
    page.text(
        f"""The base reaches {reached} % (seeds: {len(plain)}). {rows[0]["machine"]},
        {rows[0]["precision"]}; {versions_text(rows[0])}."""
    )
    page.notes(rows)

    lines: list[tuple[float, list[object]]] = []
    abouts = {name: technique.about for name, technique in TECHNIQUES.items()} | REMOVED
    for name, about in abouts.items():
        # A seed counts only where the base was trained with it too.
        own = [row for row in rows if row["technique"] == name and row["seed"] in plain]
        if own:
            lines.append(table_line(name, about, own, plain))

    lines.sort(key=lambda line: (-line[0], str(line[1][0])))
    cells = [line for _, line in lines]
    page.table("llrrrr", "technique | what | seeds | accuracy, % | gain | cost", cells)


def table_line(
    name: str, about: str, rows: Sequence[Row], plain: dict[int, float]
) -> tuple[float, list[object]]:
    """A technique's mean gain, by which the table is sorted, and its cells."""
    gains = [100 * (row["accuracy"] - plain[row["seed"]]) for row in rows]
    mean = statistics.mean(gains)
    gain = f"{mean:+.2f}"
    if len(gains) > 1:
        gain += f" ± {statistics.stdev(gains) / len(gains) ** 0.5:.2f}"
    accuracy = 100 * statistics.mean(row["accuracy"] for row in rows)
    costs = [row["cost"] for row in rows if row["cost"] is not None]
    cost = f"{costs[0]:.2f}" if costs else "–"
    return mean, [name, about, len(rows), f"{accuracy:.2f}", gain, cost]


def check_precision(rows: Rows, base: str, precision: str) -> None:
    """Raise InputError if rows were trained in another precision than this machine would."""
    # Rows of two precisions would compare precisions, not techniques.
    others = {row["precision"] for row in rows.rows} - {precision}
    check(
        not others,
        f"base={base!r}: docs/results/{rows.name}.json is in {', '.join(others)}, and here it "
        f"would train in {precision}, so differences would not be the technique's; go on where it "
        "trains alike, or move that file away",
    )


def main(options: Options) -> None:
    base = options.base
    rows = Rows(f"ablation_{base}", "technique", "seed")
    precision = resolve(BASES[base], default_device()).precision
    check_precision(rows, base, precision)

    names: list[str] = []
    for name in options.techniques:
        technique = TECHNIQUES[name]
        # fp32 changes nothing where the base trains in fp32.
        same = technique.changes == {"precision": precision}
        if base in technique.bases and not same:
            names.append(name)

    jobs: list[Job] = []
    for seed in range(options.seeds):
        missing = [name for name in (BASE, *names) if not rows.measured(name, seed)]
        jobs += [(base, name, seed) for name in missing]

    trained = train_all(jobs, options.workers)
    for (_, name, seed), accuracy in track(trained, "training", len(jobs), console=CONSOLE):
        row: Row = {"technique": name, "seed": seed, "accuracy": accuracy, "cost": None}
        rows.add(row | {"precision": precision} | machine("torch"))
        CONSOLE.print(f"{name}, seed {seed}: {accuracy:.2%}")

    # Costs are measured here, by one process with all threads.
    set_threads(TrainConfig())
    for row in track(rows.rows, "costs", console=CONSOLE):
        if row["technique"] in names and row["seed"] == 0 and row["cost"] is None:
            row["cost"] = round(measure_cost(base, row["technique"]), 2)
            rows.write()

    write_page()


if __name__ == "__main__":
    command(Options, main)
