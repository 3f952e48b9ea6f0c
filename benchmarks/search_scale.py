"""`python -m benchmarks.search_scale`: the search's rules at 1 to 1,000 workers and up to 100,000 trials, in simulated time.

They are fed real learning curves: candidates of the space quick, each trained in full once by `--record`, which goes on where it
stopped, into benchmarks/search_curves.jsonl. Between the curves others are interpolated. What drives the rules is the state that
drives a real search. Writes docs/results/search_scale.json and .md and docs/images/search_scale.png.
"""

import heapq
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from fmnist.cli import command
from fmnist.config import TrainConfig
from fmnist.data import Split, find_data, load_info, load_train, split_train
from fmnist.device import cpu_threads, default_device, set_threads
from fmnist.errors import check
from fmnist.loop import DivergedError, steps_of, train_epochs
from fmnist.plots import color, figure, plain, save_figure
from fmnist.run import environment, write_atomic, write_json
from tune.asha import Decision, rungs
from tune.journal import Journal, read_events
from tune.presets import SearchConfig
from tune.searcher import build_searcher, suggest
from tune.simulate import Clock, play
from tune.space import SPACES, candidates, walk
from tune.state import Candidate, Limits, SearchState, TrialRecord, winner

CURVES = Path(__file__).with_name("search_curves.jsonl")
RESULTS = Path("docs/results")
PICTURE = Path("docs/images/search_scale.png")
SPACE = "quick"
BASE = TrainConfig(epochs=9, train_images=6000)
EARLY_SHARE = 1 / 3
NEIGHBOURS = 10
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
CHANCE = 0.1
"""Accuracy that a curve counts as having once it diverged."""
SURROGATE_MIN, SURROGATE_TRIALS = (0.5, 1.0, 2.0, 6.0), 1000
OPTUNA = ("Optuna's TPE", "its Hyperband")
PICTURED = ("asha", "promotion", HALVING, "none")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Replay recorded learning curves through the search's rules, or record them."""

    record: bool = False
    """Train the candidates that have no curve yet (200: about 40 minutes on two CPU threads), and stop."""
    count: int = 200
    """Candidates to record."""
    draws: int = 40
    """Searches of each kind whose results are averaged."""


def record(count: int, console: Console) -> None:
    """Train each of the first `count` candidates in full, and its first epoch on a share of the images; a line for each."""
    folder = find_data()
    train = load_train(folder, load_info(folder))
    base, training, validation = split_train(BASE, train)
    set_threads(base)
    known = {event["number"] for event in read_events(CURVES)}
    journal = Journal(CURVES)
    missing = [(n, candidate) for n, candidate in enumerate(candidates(SPACES[SPACE], count, seed=0)) if n not in known]
    for number, candidate in track(missing, "training in full", console=console):
        config = base.replace(**candidate)
        curve, seconds = _train(config, training, validation, config.epochs)
        early, _ = _train(config.replace(early_epochs=1, early_share=EARLY_SHARE), training, validation, 1)
        where = {"threads": cpu_threads(), "torch": environment()["versions"]["torch"]}
        journal.append({"number": number, "candidate": candidate, "curve": curve, "seconds": seconds, "early": early, **where})
    console.print(f"{len(known) + len(missing)} curves in {CURVES.name}")


def _train(config: TrainConfig, train: Split, validation: Split | None, epochs: int) -> tuple[list[float], list[float]]:
    """Validation accuracy after each of so many epochs, until it diverges; seconds of each."""
    values: list[float] = []
    seconds: list[float] = []
    try:
        for metrics, _ in train_epochs(config, train, validation, classes=10, device=default_device()):
            values.append(round(metrics.validation_accuracy or 0.0, 4))
            seconds.append(round(metrics.seconds, 3))
            if metrics.epoch == epochs:
                break
    except DivergedError:
        pass
    return values, seconds


@dataclass(frozen=True, slots=True)
class Curves:
    """Trials, each between two recorded ones that end alike."""

    values: NDArray[np.float64]  # (recorded, epochs): NaN once diverged
    seconds: NDArray[np.float64]  # (recorded, epochs)
    first: NDArray[np.int64]  # (trials,)
    second: NDArray[np.int64]  # (trials,)
    share: NDArray[np.float64]  # (trials,) of the second

    def value(self, number: int, epoch: int) -> float:
        return self._between(self.values, number, epoch)

    def epoch_s(self, number: int, epoch: int) -> float:
        return self._between(self.seconds, number, epoch)

    def _between(self, table: NDArray[np.float64], number: int, epoch: int) -> float:
        share = self.share[number]
        return float((1 - share) * table[self.first[number], epoch - 1] + share * table[self.second[number], epoch - 1])

    @property
    def best(self) -> float:
        """Final accuracy of the best trial."""
        share = self.share
        return float(np.nanmax((1 - share) * self.values[self.first, -1] + share * self.values[self.second, -1]))


def read_curves() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Accuracies and seconds (recorded, epochs), the best by final accuracy first, those that diverged last."""
    events = read_events(CURVES)
    check(bool(events), f"{CURVES}: no curves; record them with --record")
    values = np.full((len(events), BASE.epochs), np.nan)
    seconds = np.zeros_like(values)
    of_kind: dict[str, list[float]] = {}
    for event in events:
        of_kind.setdefault(kind(event), []).extend(event["seconds"])
    for row, event in enumerate(events):
        values[row, : len(event["curve"])] = event["curve"]
        seconds[row] = statistics.median(of_kind[kind(event)])
    order = np.argsort(-np.nan_to_num(values[:, -1]))
    return values[order], seconds[order]


def kind(event: dict[str, Any]) -> str:
    """What an epoch's time depends on; the machine's moods are not the candidate's."""
    return str([event["candidate"][field] for field in ("model", "widths", "global_batch_size")])


def interpolate(values: NDArray[np.float64], seconds: NDArray[np.float64], trials: int, seed: int) -> Curves:
    """So many trials, each a mixture of a recorded one and one of its neighbours by final accuracy."""
    source = np.random.default_rng(seed)
    first = source.integers(len(values), size=trials)
    second = np.clip(first + source.integers(-NEIGHBOURS, NEIGHBOURS + 1, size=trials), 0, len(values) - 1)
    second = np.where(np.isnan(values[first, -1]) | np.isnan(values[second, -1]), first, second)
    return Curves(values, seconds, first, second, source.random(trials))


class TimedState(SearchState):
    """Counts the seconds that its answers take."""

    spent_s = 0.0
    reports = 0

    def report(self, number: int, result: dict[str, Any]) -> Decision:
        started = time.perf_counter()
        decision = super().report(number, result)
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
    """Of one simulated search."""

    seconds: float
    epochs: int
    idle: float
    accuracy: float
    """Of its winner, trained in full."""
    us_per_report: float = 0.0


def search(
    rule: SearchConfig, curves: Curves, trials: int, workers: int, limit_s: float = 0.0, journal: Journal | None = None
) -> Outcome:
    """One search by a rule among `trials`, in time that is not limited if limit_s is 0."""
    clock = Clock()
    state = TimedState(
        rule.rule(BASE.epochs),
        lambda number, records: {} if number < trials else None,
        BASE,
        limits=Limits(seconds=limit_s),
        journal=journal,
        clock=clock,
    )
    played = play(state, clock, workers, curves.epoch_s, curves.value, BASE.epochs, START_S)
    state.close()
    best = winner(list(state.records.values()))
    accuracy = curves.value(best.number, BASE.epochs) if best else 0.0
    return Outcome(played.seconds, played.epochs, played.idle, accuracy, 1e6 * state.spent_s / max(state.reports, 1))


def halving(curves: Curves, trials: int, workers: int) -> Outcome:
    """Synchronous successive halving (Jamieson and Talwalkar, 2016): each rung waits for all of its trials."""
    rule = SearchConfig()
    alive, now, busy, epochs, before = list(range(trials)), 0.0, 0.0, 0, 0
    for end in (*rungs(rule.grace_epochs, rule.reduction_factor, BASE.epochs), BASE.epochs):
        free = [now] * min(workers, len(alive))  # when each worker has time
        for number in alive:
            seconds = START_S + sum(curves.epoch_s(number, epoch) for epoch in range(before + 1, end + 1))
            heapq.heapreplace(free, free[0] + seconds)
            busy, epochs = busy + seconds, epochs + end - before
        now, before = max(free), end
        alive.sort(key=lambda number: np.nan_to_num(curves.value(number, end)), reverse=True)
        if end < BASE.epochs:
            alive = alive[: max(len(alive) // rule.reduction_factor, 1)]
    return Outcome(now, epochs, 1 - busy / (workers * now), float(np.nan_to_num(curves.value(alive[0], BASE.epochs))))


def largest_halving(curves: Curves, workers: int, limit_s: float) -> Outcome:
    """The largest halving that ends in time: an advantage, since nobody knows beforehand which that is."""
    low, high = 1, len(curves.share)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if halving(curves, middle, workers).seconds <= limit_s else (low, middle - 1)
    return halving(curves, low, workers)


def scale_rows(make: Callable[[int, int], Curves], console: Console) -> list[dict[str, Any]]:
    """All trials of a pool, by each rule, at every scale."""
    rows: list[dict[str, Any]] = []
    for workers, trials in track(SCALES, "scales", console=console):
        curves = make(trials, 0)
        found = {name: search(RULES[name], curves, trials, workers) for name in ("asha", "promotion")}
        found[HALVING] = halving(curves, trials, workers)
        for name, outcome in found.items():
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
                    "decisions_per_s": round(1e6 / outcome.us_per_report) if outcome.us_per_report else None,
                }
            )
    return rows


def budget_rows(make: Callable[[int, int], Curves], draws: int, console: Console) -> list[dict[str, Any]]:
    """The winner's accuracy at full length after equal time, over many searches, each with other trials."""
    rows: list[dict[str, Any]] = []
    for workers, budgets in BUDGETS_MIN.items():
        for minutes in budgets:
            found: dict[str, list[Outcome]] = {name: [] for name in (*RULES, HALVING)}
            count = draws if workers == min(BUDGETS_MIN) else max(draws // 2, 1)
            for seed in track(range(count), f"{workers} workers, {minutes} minutes", console=console):
                curves = make(round(40 * workers * minutes), seed)
                for name, rule in RULES.items():
                    found[name].append(search(rule, curves, len(curves.share), workers, 60 * minutes))
                found[HALVING].append(largest_halving(curves, workers, 60 * minutes))
            reference = [outcome.accuracy for outcome in found["asha"]]
            for name, outcomes in found.items():
                rows.append(_budget_row(name, outcomes, reference) | {"workers": workers, "minutes": minutes, "searches": count})
    return rows


def _budget_row(name: str, outcomes: Sequence[Outcome], reference: Sequence[float]) -> dict[str, Any]:
    accuracies = np.array([outcome.accuracy for outcome in outcomes])
    ahead = accuracies - np.array(reference)
    return {
        "table": "budget",
        "rule": name,
        "accuracy": round(float(accuracies.mean()), 5),
        "tenth": round(float(np.quantile(accuracies, 0.1)), 5),
        "ahead_of_asha": round(float(ahead.mean()), 5),
        "standard_error": round(float(ahead.std() / max(len(ahead) - 1, 1) ** 0.5), 5),
        "idle": round(statistics.mean(outcome.idle for outcome in outcomes), 4),
    }


class Surrogate:
    """Foretells the learning curve of any candidate of the space, from those recorded (after Eggensperger et al., 2015): extremely
    randomised trees on the logarithm of the share of errors, and on top of what they say the error that they made on a recorded
    curve which they had not seen, and of which they thought alike."""

    def __init__(self) -> None:
        from sklearn.ensemble import ExtraTreesRegressor

        events = read_events(CURVES)
        curves = np.array([(event["curve"] + [CHANCE] * BASE.epochs)[: BASE.epochs] for event in events])
        seconds = [statistics.median(other for e in events if kind(e) == kind(event) for other in e["seconds"]) for event in events]
        inputs, outputs = np.array([features(e["candidate"]) for e in events]), np.column_stack((np.log(1 - curves), seconds))
        self.forest = ExtraTreesRegressor(100, bootstrap=True, oob_score=True, min_samples_leaf=2, random_state=0)
        self.forest.fit(inputs, outputs)
        unseen = self.forest.oob_prediction_
        self.thought = unseen[:, BASE.epochs - 1]
        self.errors = (outputs - unseen)[:, : BASE.epochs]
        final = outputs[:, BASE.epochs - 1]
        self.r2 = 1 - float((self.errors[:, -1] ** 2).sum() / ((final - final.mean()) ** 2).sum())

    def curve(self, candidate: dict[str, Any], luck: int) -> tuple[NDArray[np.float64], float]:
        """Accuracy after each epoch, and seconds of one."""
        said = self.forest.predict([features(candidate)])[0]
        alike = np.argsort(np.abs(self.thought - said[BASE.epochs - 1]))[: 2 * NEIGHBOURS]
        return 1 - np.exp(said[:-1] + self.errors[alike[luck % len(alike)]]), float(said[-1])


def features(candidate: dict[str, Any]) -> list[float]:
    """Where each value lies in its list or range, from 0 to 1."""
    found: list[float] = []

    def read(name: str, domain: Any) -> Any:
        value = candidate[name.partition(",")[0]]
        if isinstance(domain, list):
            found.append(domain.index(value) / max(len(domain) - 1, 1))
        else:
            low, high = math.log(domain["low"]), math.log(domain["high"])
            found.append((math.log(value) - low) / (high - low))
        return value

    walk(SPACES[SPACE], read)
    return found


def surrogate_search(rule: SearchConfig, surrogate: Surrogate, seed: int, workers: int, limit_s: float) -> float:
    """Accuracy at full length of the winner of a search whose searcher learns."""
    clock, source = Clock(), np.random.default_rng(seed)
    known: dict[int, tuple[NDArray[np.float64], float]] = {}
    propose = build_searcher(rule.searcher, SPACES[SPACE], SURROGATE_TRIALS, seed)

    def proposed(number: int, records: Mapping[int, TrialRecord]) -> Candidate | None:
        if (candidate := propose(number, records)) is not None:
            known[number] = surrogate.curve(candidate, int(source.integers(1 << 30)))
        return candidate

    state = SearchState(rule.rule(BASE.epochs), proposed, BASE, limits=Limits(seconds=limit_s), clock=clock)
    play(
        state,
        clock,
        workers,
        lambda number, epoch: known[number][1],
        lambda number, epoch: float(known[number][0][epoch - 1]),
        BASE.epochs,
        START_S,
    )
    state.close()
    best = winner(list(state.records.values()))
    return float(known[best.number][0][-1]) if best else 0.0


def optuna_search(surrogate: Surrogate, seed: int, workers: int, limit_s: float) -> float:
    """The same of Optuna's TPE and Hyperband pruner at their defaults, each worker a process with a sampler of its own, as
    benchmarks/search_peers.py has them."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    source = np.random.default_rng(seed)
    samplers = [optuna.samplers.TPESampler(seed=workers * seed + worker) for worker in range(workers)]
    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=BASE.epochs)
    study = optuna.create_study(study_name="search", direction="maximize", pruner=pruner)
    running: list[tuple[float, int, int, Any, NDArray[np.float64], float]] = []  # when an epoch ends, worker, epoch, trial, curve
    reached: list[tuple[bool, float, float]] = []  # in full or not, the last value, the value at full length

    def begin(now: float, worker: int) -> None:
        study.sampler = samplers[worker]
        trial = study.ask()
        candidate = walk(SPACES[SPACE], lambda name, domain: suggest(trial, name, domain))
        curve, epoch_s = surrogate.curve(candidate, int(source.integers(1 << 30)))
        heapq.heappush(running, (now + epoch_s, worker, 1, trial, curve, epoch_s))

    for worker in range(workers):
        begin(0.0, worker)
    while running[0][0] <= limit_s:
        now, worker, epoch, trial, curve, epoch_s = heapq.heappop(running)
        value = float(curve[epoch - 1])
        trial.report(value, epoch)
        if (full := epoch == BASE.epochs) or trial.should_prune():
            study.tell(trial, value if full else None, optuna.trial.TrialState.COMPLETE if full else optuna.trial.TrialState.PRUNED)
            reached.append((full, value, float(curve[-1])))
            begin(now, worker)
        else:
            heapq.heappush(running, (now + epoch_s, worker, epoch + 1, trial, curve, epoch_s))
    return max(reached, default=(False, 0.0, 0.0))[-1]


def searcher_rows(draws: int, console: Console) -> list[dict[str, Any]]:
    """Searchers and rules together, and Optuna's own, on the surrogate."""
    surrogate, ours = Surrogate(), SearchConfig()
    rows: list[dict[str, Any]] = []
    for minutes in SURROGATE_MIN:
        found: dict[tuple[str, str], list[float]] = {}
        for seed in track(range(draws), f"searchers, {minutes} minutes", console=console):
            for searcher in ("random", "tpe"):
                for scheduler in ("asha", "promotion", "none"):
                    rule = SearchConfig(searcher=searcher, scheduler=scheduler)
                    accuracy = surrogate_search(rule, surrogate, seed, 2, 60 * minutes)
                    found.setdefault((searcher, scheduler), []).append(accuracy)
            found.setdefault(OPTUNA, []).append(optuna_search(surrogate, seed, 2, 60 * minutes))
        reference = np.array(found[ours.searcher, ours.scheduler])
        for (searcher, scheduler), accuracies in found.items():
            behind = reference - np.array(accuracies)
            rows.append(
                {
                    "table": "searcher",
                    "searcher": searcher,
                    "rule": scheduler,
                    "workers": 2,
                    "minutes": minutes,
                    "searches": draws,
                    "accuracy": round(statistics.mean(accuracies), 5),
                    "tenth": round(float(np.quantile(accuracies, 0.1)), 5),
                    "behind_ours": round(float(behind.mean()), 5),
                    "standard_error": round(float(behind.std() / max(draws - 1, 1) ** 0.5), 5),
                    "surrogate_r2": round(surrogate.r2, 3),
                }
            )
    return rows


def early_rows() -> list[dict[str, Any]]:
    """How well a first look foretells the end: all trials, and those of one network."""
    from scipy.stats import spearmanr  # here: a second to import

    rows: list[dict[str, Any]] = []
    events = [event for event in read_events(CURVES) if len(event["curve"]) == BASE.epochs and event["early"]]
    groups = {"all": events}
    for event in events:
        name = "-".join(map(str, (event["candidate"]["model"], *event["candidate"]["widths"])))
        groups.setdefault(name, []).append(event)
        groups.setdefault(event["candidate"]["optimizer"], []).append(event)
        groups.setdefault(f"batch {event['candidate']['global_batch_size']}", []).append(event)
    for name, members in groups.items():
        final = np.array([event["curve"][-1] for event in members])
        looks = {f"epoch 1, {EARLY_SHARE:.0%} of the images": [event["early"][0] for event in members]}
        looks |= {f"epoch {epoch}": [event["curve"][epoch - 1] for event in members] for epoch in (1, 3)}
        for look, values in looks.items():
            best = max(range(len(members)), key=final.__getitem__)
            place = int((np.array(values) > values[best]).sum())
            rows.append(
                {
                    "table": "early",
                    "trials": len(members),
                    "of": name,
                    "look": look,
                    "spearman": round(float(spearmanr(values, final).statistic), 3),  # pyright: ignore
                    "place_of_the_best": place + 1,
                }
            )
    return rows


def journal_us() -> float:
    """Microseconds of a line of the journal, synced to this machine's disk; a median."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        journal = Journal(Path(folder) / "journal.jsonl")
        times: list[float] = []
        for number in range(300):
            started = time.perf_counter()
            journal.append({"event": "report", "trial": number, "epoch": 1, "validation_accuracy": 0.9, "s": 1.0})
            times.append(time.perf_counter() - started)
    return 1e6 * statistics.median(times)


def picture(rows: list[dict[str, Any]], workers: int = 2) -> None:
    fig, axes = figure(f"Winner of a search with {workers} workers", "minutes of search", "validation accuracy at full length, %")
    for number, name in enumerate(PICTURED):
        points = [row for row in rows if row["table"] == "budget" and row["rule"] == name and row["workers"] == workers]
        axes.plot([p["minutes"] for p in points], [100 * p["accuracy"] for p in points], "o-", color=color(number), label=name)
    plain(axes, "minutes of search", "validation accuracy at full length, %")
    axes.legend(frameon=False)
    save_figure(fig, PICTURE)


def page(rows: list[dict[str, Any]], where: str) -> list[str]:
    by_table = {name: [row for row in rows if row["table"] == name] for name in ("scale", "budget", "searcher", "early")}
    recorded = len(read_events(CURVES))
    return [
        "# The search's rules, in simulated time",
        "",
        f"`python -m benchmarks.search_scale` on {where}. {recorded} candidates of the space {SPACE}, each trained",
        f"{BASE.epochs} epochs on {BASE.train_images:,} images ({CURVES.name}, `--record`); trials between them are interpolated.",
        "The state and the rules are those of a real search, without Ray; its clock is simulated. η is 3 and the first rung is",
        "epoch 1 unless said.",
        "",
        *scale_lines(by_table["scale"]),
        "",
        *budget_lines(by_table["budget"]),
        "",
        "![Accuracy of the winner by minutes of search](../images/search_scale.png)",
        "",
        *searcher_lines(by_table["searcher"]),
        "",
        *early_lines(by_table["early"]),
        "",
    ]


def scale_lines(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "## Scale",
        "",
        "All trials of a pool. Regret: accuracy at full length of the pool's best trial, less that of the search's winner. µs: of",
        "the state's own code for each report, its share of dealing out trials included; the journal's line, synced, is",
        f"{journal_us():,.0f} µs more on this disk.",
        "",
        "| workers | trials | rule | simulated minutes | epochs | idle | regret, points | µs per report | decisions/s |",
        "|---:|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        speed = (f"{row['us_per_report']:.1f}", f"{row['decisions_per_s']:,}") if row["decisions_per_s"] else ("", "")
        cells = (f"{row['workers']:,}", f"{row['trials']:,}", row["rule"], f"{row['simulated_minutes']:,.1f}", f"{row['epochs']:,}")
        lines.append("| " + " | ".join((*cells, f"{row['idle']:.1%}", f"{100 * row['regret']:.2f}", *speed)) + " |")
    return lines


def budget_lines(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "## Equal time",
        "",
        "The winner's accuracy at full length, the mean of many searches, each among trials of its own without end; what the",
        "worst tenth did not reach; how far ahead of asha, with the standard error of that mean. Halving has the largest size that",
        "ends in time, which nobody could know beforehand.",
        "",
        "| workers | minutes | rule | accuracy, % | worst tenth below | ahead of asha, points | idle | searches |",
        "|---:|---:|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        ahead = "" if row["rule"] == "asha" else f"{100 * row['ahead_of_asha']:+.2f} ± {100 * row['standard_error']:.2f}"
        cells = (
            row["workers"],
            f"{row['minutes']:g}",
            row["rule"],
            f"{100 * row['accuracy']:.2f}",
            f"{100 * row['tenth']:.2f}",
            ahead,
        )
        lines.append("| " + " | ".join(map(str, (*cells, f"{max(row['idle'], 0):.1%}", row["searches"]))) + " |")
    return lines


def searcher_lines(rows: list[dict[str, Any]]) -> list[str]:
    return [
        "## Searchers",
        "",
        "Candidates of the space itself, their curves foretold by trees that learned from the recorded ones (they explain",
        f"{rows[0]['surrogate_r2']:.0%} of the variance of the logarithm of final errors that they had not",
        "seen), with an error drawn from theirs. Two workers, which begin at once: what a start takes is not in here. Behind ours:",
        "behind the default, tpe with promotion, and the standard error of that mean.",
        "",
        "| minutes | searcher | rule | accuracy, % | worst tenth below | behind ours, points | searches |",
        "|---:|---|---|---:|---:|---:|---:|",
        *(
            f"| {row['minutes']:g} | {row['searcher']} | {row['rule']} | {100 * row['accuracy']:.2f} | {100 * row['tenth']:.2f} "
            f"| {100 * row['behind_ours']:+.2f} ± {100 * row['standard_error']:.2f} | {row['searches']} |"
            for row in rows
        ),
    ]


def early_lines(rows: list[dict[str, Any]]) -> list[str]:
    sizes = SPACES[SPACE]["global_batch_size"]
    steps = sorted(
        steps_of(BASE.replace(global_batch_size=s, early_epochs=1, early_share=EARLY_SHARE), 1, BASE.train_images) for s in sizes
    )
    return [
        "## A first look at a share of the images",
        "",
        "How well the accuracy after a first look ranks the trials by their last: Spearman's correlation, and the place at that",
        "look of the trial that ends best.",
        "",
        f"{EARLY_SHARE:.0%} of {BASE.train_images:,} images is {steps[0]} to {steps[-1]} optimiser steps here: batch norm's",
        "running statistics have hardly left where they begin, and what learns fast is ahead of what ends up good. So",
        "`--base.early-epochs` with `--base.early-share` is off by default: it is for data of which a share still is many",
        "hundreds of steps.",
        "",
        "| trials | look | correlation | place of the best |",
        "|---|---|---:|---:|",
        *(
            f"| {row['of']} ({row['trials']}) | {row['look']} | {row['spearman']:.2f} | {row['place_of_the_best']} |"
            for row in rows
        ),
    ]


def main(options: Options) -> None:
    console = Console(highlight=False, soft_wrap=True)
    if options.record:
        record(options.count, console)
        return
    values, seconds = read_curves()

    def make(trials: int, seed: int) -> Curves:
        return interpolate(values, seconds, trials, seed)

    rows = [*scale_rows(make, console), *budget_rows(make, options.draws, console)]
    rows += [*searcher_rows(max(options.draws // 2, 1), console), *early_rows()]
    versions = environment()["versions"]
    where = f"{cpu_threads()} CPU threads, Python {versions['python']}"
    write_json(RESULTS / "search_scale.json", [row | {"machine": where} for row in rows])
    picture(rows)
    text = "\n".join(page(rows, where))
    write_atomic(RESULTS / "search_scale.md", text)
    console.print(text)


if __name__ == "__main__":
    command(Options, main)
