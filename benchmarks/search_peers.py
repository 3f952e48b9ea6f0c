"""Searches as the peers' own documents have them, for benchmarks/search.py: each goes on until it is killed.

Same space, data, training loop, two trials at once of a thread each. An epoch of a trial is a line of FOLDER/reports.jsonl.
"""

import json
import math
import multiprocessing
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fmnist.config import TrainConfig
from fmnist.data import Split, find_data, load_info, load_train, split_train
from fmnist.device import default_device, set_threads
from fmnist.loop import DivergedError, train_epochs
from tune.measure import Arrays, from_arrays, to_arrays
from tune.presets import PRESETS
from tune.searcher import suggest
from tune.space import SPACES, walk

REPORTS = "reports.jsonl"
AT_ONCE = 2
DEMO = PRESETS["demo"]
SPACE = SPACES[DEMO.space]


def report(folder: Path, trial: str, epoch: int, value: float, candidate: dict[str, Any]) -> None:
    """A line, written at once and whole: two processes append to the file."""
    line = json.dumps({"time": time.time(), "trial": trial, "epoch": epoch, "value": value, "candidate": candidate}) + "\n"
    descriptor = os.open(folder / REPORTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, line.encode())
    os.close(descriptor)


def load() -> tuple[TrainConfig, Split, Split]:
    folder = find_data()
    base, train, validation = split_train(DEMO.base.replace(threads=1), load_train(folder, load_info(folder)))
    assert validation is not None
    return base, train, validation


def epochs(config: TrainConfig, train: Split, validation: Split) -> Iterator[tuple[int, float]]:
    """Each epoch and its validation accuracy."""
    set_threads(config)
    for metrics, _ in train_epochs(config, train, validation, classes=10, device=default_device()):
        assert metrics.validation_accuracy is not None
        yield metrics.epoch, metrics.validation_accuracy


def ray_trial(params: dict[str, Any], base: TrainConfig, train: Arrays, validation: Arrays, folder: Path) -> None:
    import ray.tune

    candidate = params["candidate"]
    name = ray.tune.get_context().get_trial_id()
    assert name is not None
    for epoch, value in epochs(base.replace(**candidate), from_arrays(train), from_arrays(validation)):
        report(folder, name, epoch, value, candidate)
        ray.tune.report({"validation_accuracy": value})


def search_with_ray(seed: int, folder: Path) -> None:
    """Ray Tune's random search under its ASHA, all at its defaults: https://docs.ray.io/en/latest/tune/api/schedulers.html"""
    import ray
    import ray.tune
    import ray.tune.schedulers

    source = random.Random(seed)

    def choose(name: str, domain: Any) -> Any:
        if isinstance(domain, list):
            return source.choice(domain)
        return math.exp(source.uniform(math.log(domain["low"]), math.log(domain["high"])))

    base, train, validation = load()
    ray.init(address="local", num_cpus=AT_ONCE, include_dashboard=False, log_to_driver=False)
    trial = ray.tune.with_parameters(
        ray_trial, base=base, train=to_arrays(train), validation=to_arrays(validation), folder=folder.absolute()
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
        run_config=ray.tune.RunConfig(storage_path=str(folder.absolute()), verbose=0),
    ).fit()


def optuna_worker(seed: int, folder: Path) -> None:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    base, train, validation = load()

    def objective(trial: Any) -> float:
        candidate = walk(SPACE, lambda name, domain: suggest(trial, name, domain))
        value = 0.0
        try:
            for epoch, value in epochs(base.replace(**candidate), train, validation):
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
    """Optuna's TPE and its Hyperband pruner, all at their defaults, two processes on one journal file:
    https://optuna.readthedocs.io/en/stable/tutorial/10_key_features/004_distributed.html"""
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=optuna_worker, args=(AT_ONCE * seed + number, folder)) for number in range(AT_ONCE)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def nothing(params: dict[str, Any]) -> None:
    """A trial that does nothing, for benchmarks/search_overhead.py."""
    import ray.tune

    ray.tune.report({"epoch": 1, "validation_accuracy": 0.5, "seconds": 0.0, "images_per_s": 0.0, "kept_epoch": 1, "ended": ""})
