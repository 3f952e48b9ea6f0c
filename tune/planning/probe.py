"""What a network needs, measured before a search: images/s and GPU memory."""

import dataclasses
import math
import statistics
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import ray
import ray.exceptions
import torch

from cluster.shared_data import SharedData, share_data
from fmnist.config import TrainConfig
from fmnist.data.dataset import TrainingData
from fmnist.errors import check
from fmnist.training.device import Rank, default_device, set_threads
from fmnist.training.throughput import measure_speed

TRIAL_START_S = 0.3
"""Seconds that Ray takes to hand one trial to a process that runs already."""
RAY_TRAIN_PROCESSES = 8
"""Processes that Ray Train starts beside the workers. Each imports PyTorch; on few CPU threads they
wait for one another."""

CONTEXT_BYTES = 700_000_000
"""GPU memory of a process beside what PyTorch reports: CUDA's context and the libraries'
workspace."""
USABLE_MEMORY = 0.95
MOST_TRIALS = 16
"""On one GPU: more trials only wait for one another."""


@dataclass(frozen=True, slots=True)
class Speeds:
    """The speeds that were measured."""

    trial: dict[str, float]
    """Images/s of one of several trials that run at once."""
    alone: dict[str, float]
    """Images/s of one worker with all that a worker of the winner's training gets."""
    start_s: float
    """Seconds from asking for a process to its first work."""
    trial_start_s: float = TRIAL_START_S
    """Seconds to start one trial."""

    def shared_by(self, workers: int, cpus: int) -> "Speeds":
        """Return the speeds of trials that are DDP jobs, where one process was measured.

        Communication between the workers is not taken into account.
        """
        trial = {network: workers * speed for network, speed in self.trial.items()}
        return Speeds(trial, self.alone, self.start_s, self.job_start_s(cpus))

    def job_start_s(self, cpus: int) -> float:
        """Return the seconds that Ray Train takes to start a job."""
        return self.start_s * math.ceil(RAY_TRAIN_PROCESSES / max(cpus, 1))


class SpeedSample(NamedTuple):
    """What one process measured."""

    began: float
    """The time at which the process began to work, seconds since 1970."""
    images_per_s: float


def measure_network(config: TrainConfig, data: SharedData, threads: int) -> SpeedSample:
    """Measure the speed of training `config` in this process."""
    began = time.time()
    set_threads(config.replace(threads=config.threads or threads))
    return SpeedSample(began, measure_speed(config, data.open(), Rank(default_device())))


def measure_memory(config: TrainConfig, data: SharedData) -> tuple[int, int]:
    """Train a few batches of `config` on this process's GPU.

    Returns:
        the bytes that PyTorch took at the peak, and the bytes that the GPU has.
    """
    measure_speed(config, data.open(), Rank(default_device()))
    total = torch.cuda.get_device_properties(0).total_memory
    return torch.cuda.max_memory_reserved(), total


@dataclass(frozen=True, slots=True)
class _Bench:
    """Measures speeds in processes of the cluster."""

    data: SharedData

    def run(
        self, config: TrainConfig, share: Mapping[str, float], processes: int
    ) -> SpeedSample | None:
        """Train a few batches of `config` in several processes at once.

        Returns:
            the medians over the processes; None if a process failed.
        """
        threads = int(share["CPU"])
        task = ray.remote(measure_network).options(
            num_cpus=share["CPU"], num_gpus=share.get("GPU", 0), max_retries=0
        )

        running = [task.remote(config, self.data, threads) for _ in range(processes)]
        try:
            samples = ray.get(running)
        except ray.exceptions.RayError:
            # The batch does not fit the images, or the network the memory. Its trial will report
            # the reason; the others can still be planned.
            return None

        began = statistics.median(sample.began for sample in samples)
        images_per_s = statistics.median(sample.images_per_s for sample in samples)
        return SpeedSample(began, images_per_s)


def measure(
    configs: list[TrainConfig],
    data: TrainingData,
    processes: int,
    share: Mapping[str, float],
    worker: Mapping[str, float],
) -> Speeds:
    """Train a few batches of each network, in as many processes at once as will train.

    The slowest is then measured alone; the others are taken to gain by the same factor.

    Args:
        configs: one for each network to measure.
        processes: processes that will run at once.
        share: CPUs and GPUs of a trial's process, as Ray names them.
        worker: those of a worker of the winner's training.

    Raises:
        InputError: no network could be trained.
    """
    bench = _Bench(share_data(_without_validation(data)))
    asked = time.time()
    start_s = 0.0
    measured: dict[str, float] = {}
    measured_configs: dict[str, TrainConfig] = {}
    for config in configs:
        sample = bench.run(config, share, processes)
        if sample is None:
            continue

        # Only the first waits for new processes; Ray keeps them for the others.
        if not measured:
            start_s = sample.began - asked
        measured[config.network_name] = sample.images_per_s
        measured_configs[config.network_name] = config

    check(
        bool(measured),
        "no network of the space could be trained for a few batches: "
        "try one with python -m fmnist.train",
    )

    slowest = min(measured, key=lambda network: measured[network])
    gain = 1.0
    alone = bench.run(measured_configs[slowest], worker, 1)
    if alone is not None:
        gain = alone.images_per_s / measured[slowest]

    return Speeds(
        trial=measured,
        alone={network: gain * speed for network, speed in measured.items()},
        start_s=start_s,
    )


def pack(configs: list[TrainConfig], data: TrainingData) -> float:
    """Return the share of a GPU at which trials of any of these networks fit side by side.

    Each network is measured alone on a whole GPU.

    Raises:
        InputError: none of them could be trained.
    """
    shared = share_data(_without_validation(data))
    task = ray.remote(measure_memory).options(num_gpus=1, max_retries=0, max_calls=1)
    shares: list[float] = []
    for config in configs:
        # A network that cannot be trained is left out here; its trial will report the reason.
        with suppress(ray.exceptions.RayError):
            peak, total = ray.get(task.remote(config, shared))
            shares.append(gpu_share(peak, total))

    check(
        bool(shares),
        "gpus_per_trial=0: no network of the space could be trained for a few batches; "
        "give a share, such as 0.25",
    )
    return max(shares)


def _without_validation(data: TrainingData) -> TrainingData:
    return dataclasses.replace(data, validation=None)


def gpu_share(peak: int, total: int) -> float:
    """Return the largest 1/n of a GPU, in Ray's four decimals, that holds a trial.

    Args:
        peak: bytes that PyTorch takes for a trial.
        total: bytes that the GPU has; at most MOST_TRIALS share it.
    """
    fitting = int(USABLE_MEMORY * total / (peak + CONTEXT_BYTES))
    trials = min(max(fitting, 1), MOST_TRIALS)

    # Rounded down, or n such shares would be more than one GPU.
    return math.floor(1e4 / trials) / 1e4


def speed_of(speeds: dict[str, float], config: TrainConfig) -> float:
    """Return the speed of the config's network, or the median if it was not measured."""
    return speeds.get(config.network_name) or statistics.median(speeds.values())
