"""Searches as the peers' own documents have them, for benchmarks.search: each goes on until it is
killed.

Same space, data, training loop, two trials at once of a thread each. An epoch of a trial is a line
of reports.jsonl in the working directory.
"""

import json
import math
import multiprocessing
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.images import split_data
from cluster.shared_data import SharedData, share_data
from fmnist.cli import command
from fmnist.config import TrainConfig
from fmnist.data.dataset import TrainingData
from fmnist.training.device import Rank, default_device, set_threads
from fmnist.training.loop import train_epochs
from fmnist.training.metrics import DivergedError, EpochMetrics, EpochReport
from tune.presets import PRESETS
from tune.searchers.tpe import suggest
from tune.space import SPACES, walk

REPORTS = "reports.jsonl"
AT_ONCE = 2
DEMO = PRESETS["demo"]
SPACE = SPACES[DEMO.space]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Search with a peer, in this folder, until killed."""

    peer: Literal["ray", "optuna"]
    seed: int = 0


def report(folder: Path, trial: str, epoch: int, value: float, candidate: dict[str, Any]) -> None:
    """Write a line at once and whole: two processes append to the file."""
    event = {
        "time": time.time(),
        "trial": trial,
        "epoch": epoch,
        "value": value,
        "candidate": candidate,
    }
    line = json.dumps(event) + "\n"
    # O_APPEND: the system puts each line behind all others.
    descriptor = os.open(folder / REPORTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, line.encode())
    os.close(descriptor)


def trial_epochs(config: TrainConfig, data: TrainingData) -> Iterator[tuple[int, float]]:
    """Each epoch and its validation accuracy."""
    set_threads(config)
    for metrics, _ in train_epochs(config, data, Rank(default_device())):
        assert metrics.validation_accuracy is not None
        yield metrics.epoch, metrics.validation_accuracy


def ray_trial(params: dict[str, Any], base: TrainConfig, data: SharedData, folder: Path) -> None:
    import ray.tune

    candidate = params["candidate"]
    name = ray.tune.get_context().get_trial_id()
    assert name is not None
    for epoch, value in trial_epochs(base.replace(**candidate), data.open()):
        report(folder, name, epoch, value, candidate)
        ray.tune.report({"validation_accuracy": value})


def search_with_ray(seed: int, folder: Path) -> None:
    """Run Ray Tune's random search under its ASHA, all at its defaults:
    https://docs.ray.io/en/latest/tune/api/schedulers.html"""
    import ray
    import ray.tune
    import ray.tune.schedulers

    # Ray pickles a function by its module's name, and this module is __main__ here.
    from benchmarks import search_peers

    source = random.Random(seed)

    def choose(name: str, domain: Any) -> Any:
        if isinstance(domain, list):
            return source.choice(domain)
        return math.exp(source.uniform(math.log(domain["low"]), math.log(domain["high"])))

    base, data = split_data(DEMO.train.replace(threads=1))
    assert data.validation is not None
    ray.init(address="local", num_cpus=AT_ONCE, include_dashboard=False, log_to_driver=False)
    trial = ray.tune.with_parameters(
        search_peers.ray_trial,
        base=base,
        data=share_data(data),
        folder=folder,
    )
    ray.tune.Tuner(
        trial,
        param_space={"candidate": ray.tune.sample_from(lambda _: walk(SPACE, choose))},
        tune_config=ray.tune.TuneConfig(
            metric="validation_accuracy",
            mode="max",
            num_samples=-1,
            scheduler=ray.tune.schedulers.ASHAScheduler(max_t=base.epochs),
        ),
        run_config=ray.tune.RunConfig(storage_path=str(folder), verbose=0),
    ).fit()


def optuna_worker(seed: int, folder: Path) -> None:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    base, data = split_data(DEMO.train.replace(threads=1))

    def objective(trial: Any) -> float:
        candidate = walk(SPACE, lambda name, domain: suggest(trial, name, domain))
        value = 0.0
        try:
            for epoch, value in trial_epochs(base.replace(**candidate), data):
                report(folder, str(trial.number), epoch, value, candidate)
                trial.report(value, epoch)
                if trial.should_prune():
                    raise optuna.TrialPruned
        except DivergedError as error:
            raise optuna.TrialPruned from error

        return value

    backend = JournalFileBackend(str(folder / "optuna.log"))
    optuna.create_study(
        study_name="search",
        direction="maximize",
        load_if_exists=True,
        storage=optuna.storages.JournalStorage(backend),
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.HyperbandPruner(min_resource=1, max_resource=base.epochs),
    ).optimize(objective)


def search_with_optuna(seed: int, folder: Path) -> None:
    """Run Optuna's TPE and its Hyperband pruner, all at their defaults, two processes on one
    journal file:
    https://optuna.readthedocs.io/en/stable/tutorial/10_key_features/004_distributed.html"""
    spawn = multiprocessing.get_context("spawn")
    workers = []
    for number in range(AT_ONCE):
        # No two workers of any search have the same seed.
        arguments = (AT_ONCE * seed + number, folder)
        workers.append(spawn.Process(target=optuna_worker, args=arguments))

    for worker in workers:
        worker.start()

    for worker in workers:
        worker.join()


def nothing(params: dict[str, Any], **_: Any) -> None:
    """A trial that reports one epoch and does nothing, for benchmarks.search_overhead."""
    import ray.tune

    metrics = EpochMetrics(
        epoch=1,
        train_loss=0.0,
        train_accuracy=0.0,
        validation_loss=None,
        validation_accuracy=0.5,
        lr=0.0,
        images_per_s=0.0,
        seconds=0.0,
    )
    ray.tune.report(EpochReport(metrics, kept_epoch=1).to_dict())


def main(options: Options) -> None:
    folder = Path().absolute()
    if options.peer == "ray":
        search_with_ray(options.seed, folder)
    else:
        search_with_optuna(options.seed, folder)


if __name__ == "__main__":
    command(Options, main)
