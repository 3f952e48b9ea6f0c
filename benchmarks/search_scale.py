"""`python -m benchmarks.search_scale`: the search's rules at 1 to 1,000 workers and up to 100,000
trials, in simulated time.

They are fed real learning curves (benchmarks/recorded_curves.py), which `--record` records and goes
on where it stopped. What drives the rules is the state that drives a real search. Writes
docs/results/search_scale (.json and .md) and docs/images/search_scale.png.
"""

import heapq
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from rich.progress import track

from benchmarks.recorded_curves import (
    BASE,
    CURVES,
    EARLY_SHARE,
    SPACE,
    SPACE_NAME,
    Curves,
    Floats,
    Surrogate,
    interpolate,
    record,
    recorded,
)
from benchmarks.results import (
    CONSOLE,
    IMAGES,
    Page,
    Row,
    machine,
    machine_text,
    percents,
    write_rows,
)
from fmnist.cli import Flag, command
from fmnist.errors import check
from fmnist.evaluation.plots import color, figure, plain, save_figure
from fmnist.training.loop import steps_in_epoch
from fmnist.training.metrics import EpochReport
from tune.journal import EpochRecorded, Journal
from tune.planning.simulate import Clock, Script, play
from tune.presets import SearchConfig
from tune.rules import Decision
from tune.rules.asha import rungs
from tune.searchers import build_searcher
from tune.searchers.tpe import suggest
from tune.space import Candidate, walk
from tune.state import Limits, Propose, SearchState, TrialRecord, winner

START_S = 0.15
"""To hand a trial to a worker: the goal for Ray's share of it."""
SCALES = ((1, 200), (10, 1_000), (100, 10_000), (1_000, 10_000), (1_000, 100_000))
"""Workers and trials."""
RULES: dict[str, SearchConfig] = {
    "asha": SearchConfig(scheduler="asha"),
    "promotion": SearchConfig(scheduler="promotion"),
    "asha, η 4": SearchConfig(scheduler="asha", reduction_factor=4),
    "promotion, η 4": SearchConfig(scheduler="promotion", reduction_factor=4),
    "asha, η 2": SearchConfig(scheduler="asha", reduction_factor=2),
    "promotion, η 2": SearchConfig(scheduler="promotion", reduction_factor=2),
    "median": SearchConfig(scheduler="median"),
    "none": SearchConfig(scheduler="none"),
}
HALVING = "synchronous halving"
BUDGETS_MIN = {2: (2.0, 4.0, 6.0, 12.0, 24.0), 16: (0.5, 1.0, 2.0), 128: (0.25, 0.5)}
"""Minutes, by workers."""
SEARCHER_MIN, SEARCHER_WORKERS = (0.5, 1.0, 2.0, 6.0), 2
SURROGATE_TRIALS = 1000
OPTUNA = ("Optuna's TPE", "its Hyperband")
PICTURED = ("asha", "promotion", HALVING, "none")
PICTURED_WORKERS = 2
LOOKS = (1, 3)
"""Epochs after which a trial is looked at."""
JOURNAL_LINES = 300


@dataclass(frozen=True, kw_only=True)
class Options:
    """Replay recorded learning curves through the search's rules, or record them."""

    record: Annotated[bool, Flag] = False
    """Train the candidates that have no curve yet (200: about 40 minutes on two CPU threads),
    and stop."""
    count: int = 200
    """Candidates to record."""
    draws: int = 40
    """Searches of each kind whose results are averaged."""

    def __post_init__(self) -> None:
        check(self.draws >= 1, f"draws={self.draws}: it must be at least 1")


class TimedState(SearchState):
    """Counts the seconds that its answers take."""

    spent_s = 0.0
    reports = 0

    def report(self, number: int, report: EpochReport) -> Decision:
        started = time.perf_counter()
        decision = super().report(number, report)
        self.spent_s += time.perf_counter() - started
        self.reports += 1
        return decision

    def next(self) -> int | None:
        started = time.perf_counter()
        number = super().next()
        self.spent_s += time.perf_counter() - started
        return number


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of one simulated search."""

    seconds: float
    epochs: int
    idle: float
    accuracy: float
    """Accuracy of its winner, trained in full."""
    us_per_report: float = 0.0


def search(
    rule: SearchConfig, curves: Curves, trials: int, workers: int, limit_s: float = 0.0
) -> Outcome:
    """Search by a rule among `trials`, in time that is not limited if limit_s is 0."""

    def propose(number: int, records: Mapping[int, TrialRecord]) -> Candidate | None:
        return {} if number < trials else None

    clock = Clock()
    limits = Limits(seconds=limit_s)
    state = TimedState(rule.rule(BASE.epochs), propose, BASE, limits=limits, clock=clock)
    played = play(state, clock, workers, Script(BASE.epochs, curves.epoch_s, curves.value, START_S))
    state.close()

    best = winner(list(state.records.values()))
    accuracy = curves.value(best.number, BASE.epochs) if best else 0.0
    us_per_report = 1e6 * state.spent_s / max(state.reports, 1)
    return Outcome(played.seconds, played.epochs, played.idle, accuracy, us_per_report)


def halving(curves: Curves, trials: int, workers: int) -> Outcome:
    """Run synchronous successive halving (Jamieson and Talwalkar, 2016): each rung waits for all
    of its trials."""

    def rank(number: int, epoch: int) -> float:
        return float(np.nan_to_num(curves.value(number, epoch)))

    rule = SearchConfig()
    ends = [*rungs(rule.grace_epochs, rule.reduction_factor, BASE.epochs), BASE.epochs]
    alive = list(range(trials))
    now = busy_s = 0.0
    epochs = before = 0

    for end in ends:
        # A heap of when each worker is free.
        free_at = [now] * min(workers, len(alive))
        for number in alive:
            stage = range(before + 1, end + 1)
            seconds = START_S + sum(curves.epoch_s(number, epoch) for epoch in stage)
            heapq.heapreplace(free_at, free_at[0] + seconds)
            busy_s += seconds
            epochs += len(stage)

        now = max(free_at)
        before = end
        alive.sort(key=lambda number: rank(number, before), reverse=True)
        if end < BASE.epochs:
            alive = alive[: max(len(alive) // rule.reduction_factor, 1)]

    return Outcome(now, epochs, 1 - busy_s / (workers * now), rank(alive[0], BASE.epochs))


def largest_halving(curves: Curves, workers: int, limit_s: float) -> Outcome:
    """Run the largest halving that ends in time: an advantage, since nobody knows beforehand which
    that is."""
    low, high = 1, len(curves.share)
    while low < high:
        # Bisection: a larger halving never ends earlier.
        middle = (low + high + 1) // 2
        if halving(curves, middle, workers).seconds <= limit_s:
            low = middle
        else:
            high = middle - 1

    return halving(curves, low, workers)


def scale_rows() -> list[Row]:
    """All trials of a pool, by each rule, at every scale."""
    rows: list[Row] = []
    for workers, trials in track(SCALES, "scales", console=CONSOLE):
        # One pool for all rules, so that regret compares.
        curves = interpolate(trials, 0)
        outcomes: dict[str, Outcome] = {}
        for name in ("asha", "promotion"):
            outcomes[name] = search(RULES[name], curves, trials, workers)

        outcomes[HALVING] = halving(curves, trials, workers)

        for name, outcome in outcomes.items():
            decisions_per_s = None
            if outcome.us_per_report:
                decisions_per_s = round(1e6 / outcome.us_per_report)
            rows.append(
                {
                    "table": "scale",
                    "rule": name,
                    "workers": workers,
                    "trials": trials,
                    "simulated_minutes": round(outcome.seconds / 60, 2),
                    "epochs": outcome.epochs,
                    "idle": round(outcome.idle, 4),
                    "regret": round(curves.best - outcome.accuracy, 5),
                    "us_per_report": round(outcome.us_per_report, 2),
                    "decisions_per_s": decisions_per_s,
                }
            )

    return rows


def budget_rows(draws: int) -> list[Row]:
    """The winner's accuracy at full length after equal time, over many searches, each with other
    trials."""
    rows: list[Row] = []
    for workers, budgets in BUDGETS_MIN.items():
        count = draws
        if workers != min(BUDGETS_MIN):
            count = max(draws // 2, 1)

        for minutes in budgets:
            outcomes: dict[str, list[Outcome]] = {name: [] for name in (*RULES, HALVING)}
            words = f"{workers} workers, {minutes} minutes"
            for seed in track(range(count), words, console=CONSOLE):
                # More trials than any rule can begin in time.
                curves = interpolate(round(40 * workers * minutes), seed)
                trials, limit_s = len(curves.share), 60 * minutes
                for name, rule in RULES.items():
                    outcomes[name].append(search(rule, curves, trials, workers, limit_s))
                outcomes[HALVING].append(largest_halving(curves, workers, limit_s))

            case = {"workers": workers, "minutes": minutes, "searches": count}
            for name, several in outcomes.items():
                rows.append(_budget_row(name, several, outcomes["asha"]) | case)

    return rows


def _budget_row(name: str, outcomes: Sequence[Outcome], asha: Sequence[Outcome]) -> Row:
    accuracies = np.array([outcome.accuracy for outcome in outcomes])
    mean, error = _mean_and_error(accuracies - np.array([outcome.accuracy for outcome in asha]))
    return {
        "table": "budget",
        "rule": name,
        "accuracy": round(float(accuracies.mean()), 5),
        "tenth": round(float(np.quantile(accuracies, 0.1)), 5),
        "ahead_of_asha": mean,
        "standard_error": error,
        "idle": round(statistics.mean(outcome.idle for outcome in outcomes), 4),
    }


def _mean_and_error(differences: Floats) -> tuple[float, float]:
    """Mean and its standard error, rounded."""
    error = differences.std() / max(len(differences) - 1, 1) ** 0.5
    return round(float(differences.mean()), 5), round(float(error), 5)


def surrogate_search(
    rule: SearchConfig, surrogate: Surrogate, seed: int, workers: int, limit_s: float
) -> float:
    """Accuracy at full length of the winner of a search whose searcher learns."""
    source = np.random.default_rng(seed)
    curves: dict[int, tuple[Floats, float]] = {}
    searcher: Propose = build_searcher(rule.searcher, SPACE, SURROGATE_TRIALS, seed)

    def propose(number: int, records: Mapping[int, TrialRecord]) -> Candidate | None:
        candidate = searcher(number, records)
        if candidate is not None:
            curves[number] = surrogate.curve(candidate, int(source.integers(1 << 30)))
        return candidate

    def epoch_s(number: int, epoch: int) -> float:
        return curves[number][1]

    def accuracy(number: int, epoch: int) -> float:
        return float(curves[number][0][epoch - 1])

    clock = Clock()
    limits = Limits(seconds=limit_s)
    state = SearchState(rule.rule(BASE.epochs), propose, BASE, limits=limits, clock=clock)
    play(state, clock, workers, Script(BASE.epochs, epoch_s, accuracy, START_S))
    state.close()
    best = winner(list(state.records.values()))

    return accuracy(best.number, BASE.epochs) if best else 0.0


def optuna_search(surrogate: Surrogate, seed: int, workers: int, limit_s: float) -> float:
    """The same of Optuna's TPE and Hyperband pruner at their defaults, each worker a process with
    a sampler of its own, as benchmarks/search_peers.py has them."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    source = np.random.default_rng(seed)
    seeds = range(workers * seed, workers * (seed + 1))
    samplers = [optuna.samplers.TPESampler(seed=each) for each in seeds]
    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=BASE.epochs)
    study = optuna.create_study(study_name="search", direction="maximize", pruner=pruner)

    # A heap of the epochs in flight: end, worker, epoch, trial, curve, seconds of an epoch.
    in_flight: list[tuple[float, int, int, Any, Floats, float]] = []
    # Of each trial that ended: in full or not, its last value, its value at full length.
    ended: list[tuple[bool, float, float]] = []

    def begin(now: float, worker: int) -> None:
        study.sampler = samplers[worker]
        trial = study.ask()
        candidate = walk(SPACE, lambda name, domain: suggest(trial, name, domain))
        curve, epoch_s = surrogate.curve(candidate, int(source.integers(1 << 30)))
        heapq.heappush(in_flight, (now + epoch_s, worker, 1, trial, curve, epoch_s))

    for worker in range(workers):
        begin(0.0, worker)

    # An epoch that ends after the limit is not reported any more.
    while in_flight[0][0] <= limit_s:
        now, worker, epoch, trial, curve, epoch_s = heapq.heappop(in_flight)
        value = float(curve[epoch - 1])
        trial.report(value, epoch)
        full = epoch == BASE.epochs
        if full:
            study.tell(trial, value)
        elif trial.should_prune():
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            heapq.heappush(in_flight, (now + epoch_s, worker, epoch + 1, trial, curve, epoch_s))
            continue

        ended.append((full, value, float(curve[-1])))
        begin(now, worker)

    return max(ended, default=(False, 0.0, 0.0))[-1]


def searcher_rows(draws: int) -> list[Row]:
    """Searchers and rules together, and Optuna's own, on the surrogate."""
    surrogate, ours = Surrogate(), SearchConfig()
    rows: list[Row] = []
    for minutes in SEARCHER_MIN:
        accuracies: dict[tuple[str, str], list[float]] = {}
        limits = (SEARCHER_WORKERS, 60 * minutes)
        for seed in track(range(draws), f"searchers, {minutes} minutes", console=CONSOLE):
            for searcher in ("random", "tpe"):
                for scheduler in ("asha", "promotion", "none"):
                    rule = SearchConfig(searcher=searcher, scheduler=scheduler)
                    accuracy = surrogate_search(rule, surrogate, seed, *limits)
                    accuracies.setdefault((searcher, scheduler), []).append(accuracy)
            accuracy = optuna_search(surrogate, seed, *limits)
            accuracies.setdefault(OPTUNA, []).append(accuracy)

        reference = np.array(accuracies[ours.searcher, ours.scheduler])
        for (searcher, scheduler), several in accuracies.items():
            behind, error = _mean_and_error(reference - np.array(several))
            rows.append(
                {
                    "table": "searcher",
                    "searcher": searcher,
                    "rule": scheduler,
                    "workers": SEARCHER_WORKERS,
                    "minutes": minutes,
                    "searches": draws,
                    "accuracy": round(statistics.mean(several), 5),
                    "tenth": round(float(np.quantile(several, 0.1)), 5),
                    "behind_ours": behind,
                    "standard_error": error,
                    "surrogate_r2": round(surrogate.r2, 3),
                }
            )

    return rows


def early_groups() -> dict[str, list[Row]]:
    """The recorded trials that ran in full: all, by network, by optimiser and by batch."""
    groups: dict[str, list[Row]] = {"all": []}
    for line in recorded():
        if len(line["curve"]) < BASE.epochs or not line["early"]:
            continue
        candidate = line["candidate"]
        network = "-".join(map(str, (candidate["model"], *candidate["widths"])))
        batch = f"batch {candidate['global_batch_size']}"
        groups["all"].append(line)
        for name in (network, candidate["optimizer"], batch):
            groups.setdefault(name, []).append(line)

    return groups


def early_rows() -> list[Row]:
    """Rank trials by a first look and by their end: all, and those of one network, optimiser or
    batch."""
    # Here: a second to import.
    from scipy.stats import spearmanr

    rows: list[Row] = []
    for name, lines in early_groups().items():
        final = np.array([line["curve"][-1] for line in lines])
        share = f"epoch 1, {EARLY_SHARE:.0%} of the images"
        looks = {share: np.array([line["early"][0] for line in lines])}
        for epoch in LOOKS:
            looks[f"epoch {epoch}"] = np.array([line["curve"][epoch - 1] for line in lines])

        best = int(final.argmax())
        for look, values in looks.items():
            correlation: Any = spearmanr(values, final)
            rows.append(
                {
                    "table": "early",
                    "trials": len(lines),
                    "of": name,
                    "look": look,
                    "spearman": round(float(correlation.statistic), 3),
                    "place_of_the_best": int((values > values[best]).sum()) + 1,
                }
            )

    return rows


def journal_row() -> Row:
    """Median microseconds of a line of the journal, synced to this machine's disk."""
    seconds: list[float] = []
    with tempfile.TemporaryDirectory(dir=".") as folder:
        journal = Journal(Path(folder) / "journal.jsonl")
        for number in range(JOURNAL_LINES):
            event = EpochRecorded(
                trial=number,
                epoch=1,
                validation_accuracy=0.9,
                images_per_s=1000.0,
                seconds=1.0,
                kept_epoch=1,
                s=1.0,
            )
            started = time.perf_counter()
            journal.append(event)
            seconds.append(time.perf_counter() - started)

    return {"table": "journal", "us_per_line": round(1e6 * statistics.median(seconds), 1)}


def draw(rows: list[Row]) -> None:
    """Draw the winner's accuracy by minutes of search."""
    x, y = "minutes of search", "validation accuracy at full length, %"
    fig, axes = figure(f"Winner of a search with {PICTURED_WORKERS} workers", x, y)
    for number, name in enumerate(PICTURED):
        minutes: list[float] = []
        accuracies: list[float] = []
        for row in rows:
            if row["table"] == "budget" and (row["rule"], row["workers"]) == (
                name,
                PICTURED_WORKERS,
            ):
                minutes.append(row["minutes"])
                accuracies.append(100 * row["accuracy"])

        axes.plot(minutes, accuracies, "o-", color=color(number), label=name)

    plain(axes, x, y)
    axes.legend(frameon=False)
    save_figure(fig, IMAGES / "search_scale.png")


def write_page(rows: list[Row]) -> None:
    tables: dict[str, list[Row]] = {}
    for row in rows:
        tables.setdefault(row["table"], []).append(row)

    page = Page("The search's rules, in simulated time")
    page.text(
        f"""`python -m benchmarks.search_scale` on {machine_text(rows[0])}. {len(recorded())}
        candidates of the space {SPACE_NAME}, each trained {BASE.epochs} epochs on
        {BASE.train_images:,} images ({CURVES.name}, `--record`); trials between them are
        interpolated. The state and the rules are those of a real search, without Ray; its clock is
        simulated. η is 3 and the first rung is epoch 1 unless said."""
    )
    add_scale(page, tables["scale"], tables["journal"][0]["us_per_line"])
    add_budgets(page, tables["budget"])
    page.image("Accuracy of the winner by minutes of search", "search_scale.png")
    add_searchers(page, tables["searcher"])
    add_early(page, tables["early"])
    page.write("search_scale")


def add_scale(page: Page, rows: list[Row], journal_us: float) -> None:
    page.heading("Scale")
    page.text(
        f"""All trials of a pool. Regret: accuracy at full length of the pool's best trial, less
        that of the search's winner. µs: of the state's own code for each report, its share of
        dealing out trials included; the journal's line, synced, is {journal_us:,.0f} µs more on
        this disk."""
    )
    shown: list[Row] = []

    for row in rows:
        # Halving is no rule of ours, so its speed is not measured.
        speed = " | "
        if row["decisions_per_s"]:
            speed = f"{row['us_per_report']:.1f} | {row['decisions_per_s']:,}"
        shown.append(percents(row, "regret") | {"speed": speed})

    page.row_table(
        "rrlrrrrrr",
        "workers | trials | rule | simulated minutes | epochs | idle | regret, points | "
        "µs per report | decisions/s",
        "{workers:,} | {trials:,} | {rule} | {simulated_minutes:,.1f} | {epochs:,} | {idle:.1%} | "
        "{regret:.2f} | {speed}",
        shown,
    )


def add_budgets(page: Page, rows: list[Row]) -> None:
    page.heading("Equal time")
    page.text(
        """The winner's accuracy at full length, the mean of many searches, each among trials of its
        own without end; what the worst tenth did not reach; how far ahead of asha, with the
        standard error of that mean. Halving has the largest size that ends in time, which nobody
        could know beforehand."""
    )
    shown: list[Row] = []

    for row in rows:
        row = percents(row, "accuracy", "tenth", "ahead_of_asha", "standard_error")
        ahead = ""
        if row["rule"] != "asha":
            ahead = "{ahead_of_asha:+.2f} ± {standard_error:.2f}".format_map(row)
        shown.append(row | {"ahead": ahead, "idle": max(row["idle"], 0)})

    page.row_table(
        "rrlrrrrr",
        "workers | minutes | rule | accuracy, % | worst tenth below | ahead of asha, points | "
        "idle | searches",
        "{workers} | {minutes:g} | {rule} | {accuracy:.2f} | {tenth:.2f} | {ahead} | "
        "{idle:.1%} | {searches}",
        shown,
    )


def add_searchers(page: Page, rows: list[Row]) -> None:
    page.heading("Searchers")
    page.text(
        f"""Candidates of the space itself, their curves foretold by trees that learned from the
        recorded ones (they explain {rows[0]["surrogate_r2"]:.0%} of the variance of the logarithm
        of final errors that they had not seen), with an error drawn from theirs. Two workers, which
        begin at once: what a start takes is not in here. Behind ours: behind the default, tpe with
        promotion, and the standard error of that mean."""
    )
    fractions = ("accuracy", "tenth", "behind_ours", "standard_error")
    page.row_table(
        "rllrrrr",
        "minutes | searcher | rule | accuracy, % | worst tenth below | behind ours, points | "
        "searches",
        "{minutes:g} | {searcher} | {rule} | {accuracy:.2f} | {tenth:.2f} | "
        "{behind_ours:+.2f} ± {standard_error:.2f} | {searches}",
        [percents(row, *fractions) for row in rows],
    )


def add_early(page: Page, rows: list[Row]) -> None:
    steps: list[int] = []
    for size in SPACE["global_batch_size"]:
        config = BASE.replace(global_batch_size=size, early_epochs=1, early_share=EARLY_SHARE)
        steps.append(steps_in_epoch(config, 1, BASE.train_images))

    page.heading("A first look at a share of the images")
    page.text(
        """How well the accuracy after a first look ranks the trials by their last: Spearman's
        correlation, and the place at that look of the trial that ends best.""",
        f"""{EARLY_SHARE:.0%} of {BASE.train_images:,} images is {min(steps)} to {max(steps)}
        optimiser steps here: batch norm's running statistics have hardly left where they begin, and
        what learns fast is ahead of what ends up good. So `--train.early-epochs` with
        `--train.early-share` is off by default: it is for data of which a share still is many
        hundreds of steps.""",
    )
    page.row_table(
        "llrr",
        "trials | look | correlation | place of the best",
        "{of} ({trials}) | {look} | {spearman:.2f} | {place_of_the_best}",
        rows,
    )


def main(options: Options) -> None:
    if options.record:
        record(options.count)
        return

    rows = [journal_row(), *scale_rows(), *budget_rows(options.draws)]
    rows += [*searcher_rows(max(options.draws // 2, 1)), *early_rows()]
    rows = [row | machine() for row in rows]
    write_rows("search_scale", rows)
    draw(rows)
    write_page(rows)


if __name__ == "__main__":
    command(Options, main)
