"""What a search will take: measured on a few batches of each network, then played through with chance in place of accuracy."""

import math
import random
import statistics
import time
from bisect import bisect
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import ray
import ray.exceptions

from cluster.connect import Resources
from fmnist.config import TrainConfig
from fmnist.data import Split
from fmnist.errors import check
from tune.measure import measure_memory, measure_network, to_arrays
from tune.presets import SearchConfig
from tune.simulate import Clock, play
from tune.state import Candidate, Limits, SearchState, TrialRecord

PLAYS = 15
"""Times the search is played through; the plan is their median."""
TRIAL_START_S = 0.3
"""What Ray takes to hand one trial to a process that runs already."""
RAY_TRAIN_PROCESSES = 8
"""What Ray Train starts beside the workers, each of which imports PyTorch: on few CPU threads they wait for one another."""
VALIDATION_COST = 1 / 3
"""Of an image that is evaluated, as a share of one that is trained on: it needs no backward pass."""

CONTEXT_BYTES = 700_000_000
"""GPU memory of a process beside what PyTorch reports: CUDA's context and the libraries' work space."""
USABLE_MEMORY = 0.95
MOST_TRIALS = 16
"""On one GPU: more of them only wait for one another."""

Network = tuple[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is going to happen, before it does."""

    trials: int
    rungs: list[int]
    at_once: int
    epochs: int
    """Of a full trial."""
    images: int
    early: str
    """What is less about the first epochs, in words; empty if nothing is."""
    worst_epochs: int
    """If no trial were stopped."""
    expected_epochs: float
    search_s: float
    retrain_s: float
    speeds: dict[Network, float]
    """Images/s of a trial of each network, while as many trials run beside it as will."""

    @property
    def minutes(self) -> float:
        return (self.search_s + self.retrain_s) / 60


@dataclass(frozen=True, slots=True)
class Speeds:
    """What was measured."""

    trial: dict[Network, float]
    """Images/s of one of several trials that run at once."""
    alone: dict[Network, float]
    """Images/s of one worker with all that a worker gets."""
    start_s: float
    """From asking for a process to its first work."""
    trial_start_s: float = TRIAL_START_S
    """Of one trial."""

    def shared_by(self, workers: int, cpus: int) -> "Speeds":
        """Of trials that are DDP jobs, in which one process was measured; nothing is taken off for their talking to one another."""
        trial = {network: workers * speed for network, speed in self.trial.items()}
        return Speeds(trial, self.alone, self.start_s, self.job_start_s(cpus))

    def job_start_s(self, cpus: int) -> float:
        return self.start_s * math.ceil(RAY_TRAIN_PROCESSES / max(cpus, 1))


def measure(
    configs: list[TrainConfig], train: Split, classes: int, at_once: int, share: Mapping[str, float], worker: Mapping[str, float]
) -> Speeds:
    """Train a few batches of each network with as many processes at once as trials will be, then of the slowest alone, which the
    others are taken to gain as much by.

    Args:
        configs: one for each network to measure.
        share: CPUs and GPUs of a trial, as Ray names them.
        worker: those of a worker of the winner's training.
    """
    data = ray.put(to_arrays(Split(train.images[:20_000], train.labels[:20_000])))
    asked = time.time()
    started: list[float] = []

    def run(config: TrainConfig, amounts: Mapping[str, float], count: int) -> float | None:
        task = ray.remote(measure_network).options(num_cpus=amounts["CPU"], num_gpus=amounts.get("GPU", 0), max_retries=0)
        try:
            found = ray.get([task.remote(config, data, classes, int(amounts["CPU"])) for _ in range(count)])
        except ray.exceptions.RayError:  # the batch does not fit the images, or the network the memory: its trial will say so
            return None
        started.append(statistics.median(began for began, _ in found))
        return statistics.median(speed for _, speed in found)

    trial = {network_of(config): speed for config in configs if (speed := run(config, share, at_once))}
    check(bool(trial), "no network of the space could be trained for a few batches: try one with python -m fmnist.train")
    slowest = min((config for config in configs if network_of(config) in trial), key=lambda config: trial[network_of(config)])
    gain = (run(slowest, worker, 1) or trial[network_of(slowest)]) / trial[network_of(slowest)]
    return Speeds(trial, {network: gain * speed for network, speed in trial.items()}, started[0] - asked)


def pack(configs: list[TrainConfig], train: Split, classes: int) -> float:
    """The share of a GPU at which trials of any of these networks fit side by side, each network measured alone on a whole GPU.

    Raises:
        InputError: none of them could be trained.
    """
    data = ray.put(to_arrays(train))
    shares: list[float] = []
    for config in configs:
        task = ray.remote(measure_memory).options(num_gpus=1, max_retries=0, max_calls=1)
        with suppress(ray.exceptions.RayError):  # its trial will say so
            shares.append(gpu_share(*ray.get(task.remote(config, data, classes))))
    check(bool(shares), "gpus_per_trial=0: no network of the space could be trained for a few batches; give a share, such as 0.25")
    return max(shares)


def gpu_share(peak: int, total: int) -> float:
    """The largest 1/n of a GPU, in Ray's four decimals, that holds a trial of so many bytes; at most MOST_TRIALS share one."""
    fitting = int(USABLE_MEMORY * total / (peak + CONTEXT_BYTES))
    return math.floor(1e4 / min(max(fitting, 1), MOST_TRIALS)) / 1e4


def speed_of(speeds: dict[Network, float], config: TrainConfig) -> float:
    """Of the config's network, or the median of those measured."""
    return speeds.get(network_of(config)) or statistics.median(speeds.values())


def network_of(config: TrainConfig) -> Network:
    return config.model, config.widths


def make_plan(
    search: SearchConfig,
    configs: list[TrainConfig],
    images: int,
    retrain_images: int,
    speeds: Speeds,
    at_once: int,
    workers: int,
    resources: Resources,
) -> Plan:
    """Estimate the search of `configs` and the training of its winner."""
    base = configs[0]
    evaluated = images + VALIDATION_COST * (base.validation_images or 0)
    epoch_s = [evaluated / speed_of(speeds.trial, config) for config in configs]
    early = 1 - images * (1 - base.early_share) / evaluated
    plays = [
        guess(search, epoch_s, early, base.epochs, at_once, random.Random(seed), speeds.trial_start_s) for seed in range(PLAYS)
    ]
    seconds, epochs = (statistics.median(values) for values in zip(*plays, strict=True))
    seconds += speeds.start_s
    if search.time_budget:
        seconds = min(seconds, 60 * search.time_budget)
    # Large networks tend to win, so the winner is taken to be slower than three trials in four.
    slow = statistics.quantiles([1 / speed_of(speeds.alone, config) for config in configs] * 2, n=4)[2]
    retrain_s = speeds.job_start_s(resources.cpus) + (search.retrain_epochs or base.epochs) * retrain_images * slow / workers
    return Plan(
        trials=len(configs),
        rungs=search.rule(base.epochs).rungs,
        at_once=at_once,
        epochs=base.epochs,
        images=images,
        early=f"epochs to {base.early_epochs} on {base.early_share:.0%} of them, others each time" if base.early_epochs else "",
        worst_epochs=len(configs) * base.epochs,
        expected_epochs=epochs,
        search_s=seconds,
        retrain_s=retrain_s,
        speeds=speeds.trial,
    )


def guess(
    search: SearchConfig,
    epoch_s: list[float],
    early: float,
    epochs: int,
    at_once: int,
    source: random.Random,
    start_s: float = TRIAL_START_S,
) -> tuple[float, float]:
    """Seconds and epochs of a search under the rule that will run it, its trials good half by size and half by chance.

    Args:
        epoch_s: seconds of an epoch of each trial.
        early: what one of the base's early epochs takes, as a share of that.
    """
    ordered = sorted(epoch_s)
    quality = [bisect(ordered, seconds) / len(ordered) + source.random() for seconds in epoch_s]
    clock = Clock()
    limits = Limits(seconds=60 * search.time_budget, epochs=search.max_epochs_total)

    def propose(number: int, records: Mapping[int, TrialRecord]) -> Candidate | None:
        return {} if number < len(epoch_s) else None

    state = SearchState(search.rule(epochs), propose, search.base, limits=limits, clock=clock)
    played = play(
        state,
        clock,
        at_once,
        lambda number, epoch: epoch_s[number] * (early if epoch <= search.base.early_epochs else 1),
        lambda number, epoch: quality[number] + source.gauss(0, 0.1),
        epochs,
        start_s,
    )
    return played.seconds, played.epochs


def plan_lines(plan: Plan, resources: Resources, price_per_hour: float, time_budget: float) -> list[str]:
    """The plan in words, a line each."""
    networks = ", ".join(f"{name_of(network)} {speed:,.0f}" for network, speed in sorted(plan.speeds.items()))
    rungs = ", ".join(map(str, plan.rungs)) or "none"
    limit = f" (at most {time_budget:g}, the time budget)" if time_budget else ""
    lines = [
        f"trials       {plan.trials} of up to {plan.epochs} epochs on {plan.images:,} images; rungs at {rungs}",
        f"at once      {plan.at_once}, on {resources}",
        f"epochs       about {plan.expected_epochs:.0f}, {plan.worst_epochs} if no trial were stopped",
        f"images/s     of a trial, measured on a few batches: {networks}",
        f"minutes      about {plan.minutes:.1f}: search {plan.search_s / 60:.1f}{limit}, winner {plan.retrain_s / 60:.1f}",
    ]
    if price_per_hour:
        money = plan.minutes / 60 * price_per_hour * resources.nodes
        lines.append(f"money        about {money:.2f}, at {price_per_hour:g} an hour for each of {resources.nodes} node(s)")
    if plan.early:
        lines.insert(1, f"images       {plan.early}: such rungs favour what learns fast (docs/results/search_scale.md)")
    return lines


def name_of(network: Network) -> str:
    model, widths = network
    return f"{model} {'-'.join(map(str, widths))}".strip()
