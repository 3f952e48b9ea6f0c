"""What a search will take: measured on a few batches of each network, then played through with chance in place of accuracy."""

import heapq
import math
import random
import statistics
import time
from bisect import bisect
from collections.abc import Mapping
from dataclasses import dataclass

import ray
import ray.exceptions

from cluster.connect import Resources
from fmnist.config import TrainConfig
from fmnist.data import Split
from fmnist.errors import check
from tune.asha import Asha
from tune.presets import SearchConfig
from tune.trial import measure_network, to_arrays

PLAYS = 15
"""Times the search is played through; the plan is their median."""
TRIAL_START_S = 0.3
"""What Ray takes to hand one trial to a process that runs already."""
RAY_TRAIN_PROCESSES = 8
"""What Ray Train starts beside the workers, each of which imports PyTorch: on few CPU threads they wait for one another."""
VALIDATION_COST = 1 / 3
"""Of an image that is evaluated, as a share of one that is trained on: it needs no backward pass."""

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
    """Train a few batches of each network, first with as many processes at once as trials will be, then alone.

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
    alone = {network_of(config): speed for config in configs if network_of(config) in trial and (speed := run(config, worker, 1))}
    check(bool(alone), "no network of the space could be trained for a few batches: try one with python -m fmnist.train")
    return Speeds(trial, alone, started[0] - asked)


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
    plays = [play(search, epoch_s, base.epochs, at_once, random.Random(seed), speeds.trial_start_s) for seed in range(PLAYS)]
    seconds, epochs = (statistics.median(values) for values in zip(*plays, strict=True))
    seconds += speeds.start_s
    if search.time_budget_s:
        seconds = min(seconds, search.time_budget_s)
    # Large networks tend to win, so the winner is taken to be slower than three trials in four.
    slow = statistics.quantiles([1 / speed_of(speeds.alone, config) for config in configs] * 2, n=4)[2]
    retrain_s = speeds.job_start_s(resources.cpus) + (search.retrain_epochs or base.epochs) * retrain_images * slow / workers
    scheduler = Asha(search.grace_epochs, search.reduction_factor, base.epochs)
    return Plan(
        trials=len(configs),
        rungs=list(scheduler.rungs),
        at_once=at_once,
        epochs=base.epochs,
        images=images,
        worst_epochs=len(configs) * base.epochs,
        expected_epochs=epochs,
        search_s=seconds,
        retrain_s=retrain_s,
        speeds=speeds.trial,
    )


def play(
    search: SearchConfig, epoch_s: list[float], epochs: int, at_once: int, source: random.Random, start_s: float = TRIAL_START_S
) -> tuple[float, float]:
    """Seconds and epochs of a search under the scheduler that will run it, its trials good half by size and half by chance."""
    scheduler = Asha(search.grace_epochs, search.reduction_factor, epochs)
    ordered = sorted(epoch_s)
    quality = [bisect(ordered, seconds) / len(ordered) + source.random() for seconds in epoch_s]
    waiting = iter(range(len(epoch_s)))
    running: list[tuple[float, int, int]] = []  # end of the epoch, trial, epoch
    now, total = 0.0, 0

    def start() -> None:
        if (trial := next(waiting, None)) is not None:
            heapq.heappush(running, (now + start_s + epoch_s[trial], trial, 1))

    for _ in range(at_once):
        start()
    while running:
        now, trial, epoch = heapq.heappop(running)
        total += 1
        if epoch == epochs or scheduler.stops(trial, epoch, quality[trial] + source.gauss(0, 0.1)):
            start()
        else:
            heapq.heappush(running, (now + epoch_s[trial], trial, epoch + 1))
    return now, total


def plan_lines(plan: Plan, resources: Resources, price_per_hour: float, time_budget_s: float) -> list[str]:
    """The plan in words, a line each."""
    networks = ", ".join(f"{name_of(network)} {speed:,.0f}" for network, speed in sorted(plan.speeds.items()))
    rungs = ", ".join(map(str, plan.rungs)) or "none"
    limit = f" (at most {time_budget_s / 60:.1f}, the time budget)" if time_budget_s else ""
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
    return lines


def name_of(network: Network) -> str:
    model, widths = network
    return f"{model} {'-'.join(map(str, widths))}".strip()
