"""What a search will take: measured on a few batches of each network, then played through with
chance in place of accuracy."""

import random
import statistics
import textwrap
from bisect import bisect
from collections.abc import Mapping
from dataclasses import dataclass

from cluster.placement import Resources
from fmnist.cli import plural
from fmnist.config import TrainConfig
from tune.planning.probe import TRIAL_START_S, Speeds, speed_of
from tune.planning.simulate import Clock, Played, Script, play
from tune.presets import SearchConfig
from tune.space import Candidate
from tune.state import Limits, SearchState, TrialRecord

PLAYS = 15
"""Times that the search is played through; the plan is their median."""
VALIDATION_COST = 1 / 3
"""Time to evaluate an image as a share of the time to train on it: there is no backward pass."""
LABEL_COLUMNS = 13
LINE_COLUMNS = 78
"""Longest line of a plan: the command indents it by two, and a terminal may have 80 columns."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What a search runs on."""

    resources: Resources
    at_once: int
    """Trials that run at once."""
    workers: int
    """Workers of the winner's training."""


@dataclass(frozen=True, slots=True)
class TrialCosts:
    """The time that the trials of a search take."""

    epochs: int
    """Epochs of a full trial."""
    epoch_s: list[float]
    """Seconds of an epoch, for each trial."""
    early_epochs: int = 0
    """Epochs at the start that see a share of the images only."""
    early_cost: float = 1.0
    """Time of such an epoch as a share of the time of another."""
    start_s: float = TRIAL_START_S
    """Seconds to start a trial."""

    def seconds(self, number: int, epoch: int) -> float:
        seconds = self.epoch_s[number]
        return seconds * self.early_cost if epoch <= self.early_epochs else seconds


@dataclass(frozen=True, slots=True)
class Plan:
    """What a search is expected to do and to take."""

    trials: int
    rungs: list[int]
    at_once: int
    epochs: int
    """Epochs of a full trial."""
    images: int
    early: str
    """How the first epochs see fewer images, in words; empty if they do not."""
    worst_epochs: int
    """Epochs if no trial were stopped."""
    expected_epochs: float
    search_s: float
    retrain_s: float
    speeds: dict[str, float]
    """Images/s of a trial of each network, while as many trials run beside it as will."""

    @property
    def minutes(self) -> float:
        return (self.search_s + self.retrain_s) / 60


def make_plan(
    search: SearchConfig,
    configs: list[TrainConfig],
    images: int,
    retrain_images: int,
    speeds: Speeds,
    machine: Machine,
) -> Plan:
    """Estimate the search of `configs` and the training of its winner.

    Args:
        configs: one for each trial.
        images: training images of a trial.
        retrain_images: those of the winner.
    """
    base = configs[0]
    costs = _trial_costs(configs, images, speeds)
    plays = [guess(search, costs, machine.at_once, random.Random(seed)) for seed in range(PLAYS)]
    search_s = speeds.start_s + statistics.median(played.seconds for played in plays)
    if search.time_budget_min:
        search_s = min(search_s, 60 * search.time_budget_min)

    early = ""
    if base.early_epochs:
        share = f"{base.early_share:.0%}"
        early = f"epochs to {base.early_epochs} on {share} of them, others each time"

    return Plan(
        trials=len(configs),
        rungs=search.rule(base.epochs).rungs,
        at_once=machine.at_once,
        epochs=base.epochs,
        images=images,
        early=early,
        worst_epochs=len(configs) * base.epochs,
        expected_epochs=statistics.median(played.epochs for played in plays),
        search_s=search_s,
        retrain_s=_retrain_seconds(search, configs, retrain_images, speeds, machine),
        speeds=speeds.trial,
    )


def _trial_costs(configs: list[TrainConfig], images: int, speeds: Speeds) -> TrialCosts:
    base = configs[0]

    # An epoch as a number of images to train on: its validation counts for less.
    epoch_images = images + VALIDATION_COST * (base.validation_images or 0)
    return TrialCosts(
        epochs=base.epochs,
        epoch_s=[epoch_images / speed_of(speeds.trial, config) for config in configs],
        early_epochs=base.early_epochs,
        early_cost=1 - images * (1 - base.early_share) / epoch_images,
        start_s=speeds.trial_start_s,
    )


def _retrain_seconds(
    search: SearchConfig,
    configs: list[TrainConfig],
    images: int,
    speeds: Speeds,
    machine: Machine,
) -> float:
    """Estimate the seconds of the winner's training."""
    # Large networks tend to win, so the winner is taken to be slower than three trials in four.
    # Each counts twice, since quantiles of a single trial do not exist.
    image_s = [1 / speed_of(speeds.alone, config) for config in configs]
    _, _, slow_image_s = statistics.quantiles(image_s * 2, n=4)

    epochs = search.retrain_epochs or configs[0].epochs
    start_s = speeds.job_start_s(machine.resources.cpus)
    return start_s + epochs * images * slow_image_s / machine.workers


def guess(search: SearchConfig, costs: TrialCosts, at_once: int, source: random.Random) -> Played:
    """Play a search through under the rule that will run it.

    A trial's quality is half its network's size, by the time of its epochs, and half chance.

    Args:
        at_once: trials that run at once.
    """
    ordered = sorted(costs.epoch_s)
    quality: list[float] = []
    for seconds in costs.epoch_s:
        rank_by_size = bisect(ordered, seconds) / len(ordered)
        quality.append(rank_by_size + source.random())

    def propose(number: int, records: Mapping[int, TrialRecord]) -> Candidate | None:
        return {} if number < len(quality) else None

    # The state itself decides, on a clock that the simulation moves on.
    clock = Clock()
    limits = Limits(seconds=60 * search.time_budget_min, epochs=search.max_epochs_total)
    state = SearchState(
        search.rule(costs.epochs), propose, search.train, limits=limits, clock=clock
    )
    script = Script(
        epochs=costs.epochs,
        epoch_s=costs.seconds,
        accuracy=lambda number, epoch: quality[number] + source.gauss(0, 0.1),
        start_s=costs.start_s,
    )
    return play(state, clock, at_once, script)


def plan_lines(
    plan: Plan, resources: Resources, price_per_hour: float, time_budget_min: float
) -> list[str]:
    """Describe a plan in lines of at most LINE_COLUMNS characters."""
    rungs = ", ".join(map(str, plan.rungs)) or "none"
    epochs = plural(plan.epochs, "epoch")
    lines = labelled(
        "trials",
        f"{plan.trials} of up to {epochs} on {plan.images:,} images; rungs at {rungs}",
    )
    if plan.early:
        warning = "such rungs favour what learns fast (docs/results/search_scale.md)"
        lines += labelled("images", f"{plan.early}: {warning}")
    lines += labelled("at once", f"{plan.at_once}, on {resources}")
    lines += labelled(
        "epochs",
        f"about {plan.expected_epochs:.0f}, {plan.worst_epochs} if no trial were stopped",
    )

    lines += labelled("images/s", "of a trial, measured on a few batches:")
    for network, speed in sorted(plan.speeds.items()):
        lines += labelled("", f"{network} {speed:,.0f}")

    search = f"search {plan.search_s / 60:.1f}"
    if time_budget_min:
        search += f" (at most {time_budget_min:g}, the time budget)"
    lines += labelled(
        "minutes", f"about {plan.minutes:.1f}: {search}, winner {plan.retrain_s / 60:.1f}"
    )

    if price_per_hour:
        money = plan.minutes / 60 * price_per_hour * resources.nodes
        nodes = plural(resources.nodes, "node")
        lines += labelled(
            "money", f"about {money:.2f}, at {price_per_hour:g} an hour for each of {nodes}"
        )
    return lines


def labelled(label: str, text: str) -> list[str]:
    """Wrap a text beside its label."""
    return textwrap.wrap(
        text,
        LINE_COLUMNS,
        initial_indent=label.ljust(LABEL_COLUMNS),
        subsequent_indent=" " * LABEL_COLUMNS,
        break_on_hyphens=False,  # "16-32-64" are a network's widths.
    )
