"""What a search tries, on which data, and on what: decided once, before anything starts."""

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from cluster.placement import Placement, Resources, place
from cluster.shared_data import where_shared
from cluster.storage import Storage
from fmnist.config import TrainConfig
from fmnist.data.dataset import Split, TrainingData, load_train, split_train
from fmnist.data.info import DataInfo
from fmnist.data.sources import Source
from fmnist.errors import check
from fmnist.models import build_model
from fmnist.runs.files import read_json
from fmnist.runs.run_folder import CONFIG, find_run, saved_config
from fmnist.training.checkpoint import describe, open_data
from tune.journal import JOURNAL, TRIALS, Journal, read_events
from tune.planning.plan import Machine, Plan, labelled, make_plan, plan_lines
from tune.planning.probe import measure, pack
from tune.presets import SearchConfig
from tune.searchers import build_searcher
from tune.searchers.sobol import candidates
from tune.space import Space, candidate_of, load_space
from tune.state import Candidate, Limits, Propose, SearchState, read_trials

MAY_CHANGE = ("time_budget_min", "max_epochs_total", "target_accuracy")
"""Fields of a search that a resumed one may change: with more time it goes on."""
MEASURED_NETWORKS = 8
"""Networks of a space that a plan measures; it takes the others to be like them."""


@dataclass(frozen=True, slots=True)
class SearchTask:
    """What a search tries, and on which data."""

    config: SearchConfig
    """Its number of validation images is decided."""
    space: Space
    first: list[Candidate]
    """Candidates of an earlier search that come first."""
    propose: Propose
    drawn: list[Candidate]
    """Candidates of a random search in the same space; the plan is made by them."""
    train: Split
    """The whole official training set, for the winner."""
    data: TrainingData
    """What the trials train on and are compared by."""
    folder: Path
    """Where the data set lies."""
    info: DataInfo

    def describe(self) -> dict[str, Any]:
        """What config.json says of the search."""
        search = self.config.to_dict() | {"space_values": self.space, "first": self.first}
        return {"search": search} | describe(self.config.train, self.info)


def make_task(
    search: SearchConfig, source: Source, resumed: Path | None, storage: Storage
) -> SearchTask:
    """Load the data and the space, and draw candidates.

    Args:
        resumed: the run that goes on, if one does.

    Raises:
        InputError: the data cannot be had, a network of the space cannot be built, or the run was
            started with another configuration.
    """
    known = (saved_config(resumed) or {}).get("search", {})
    space = _space_of(search, known)
    folder, info = open_data(source, resumed)
    train = load_train(folder, info)
    base, training, validation = split_train(search.train, train)
    assert validation is not None, "SearchConfig holds some out"
    config = dataclasses.replace(search, train=base)

    # As the run began: the earlier run may be gone, or have grown since.
    first = known.get("first")
    if first is None:
        first = warm_candidates(config, space, storage)

    drawn = candidates(space, config.trials, config.search_seed)
    _check_networks(base, drawn, info)
    task = SearchTask(
        config=config,
        space=space,
        first=first,
        propose=build_searcher(config.searcher, space, config.trials, config.search_seed, first),
        drawn=drawn,
        train=train,
        data=TrainingData(training, validation, len(info.classes)),
        folder=folder,
        info=info,
    )
    if resumed is not None:
        check_same(resumed / CONFIG, task.describe())
    return task


def _space_of(search: SearchConfig, known: dict[str, Any]) -> Space:
    """The space that is named; for a resumed run on another machine, the one it began with."""
    name = search.space
    is_file = name.endswith(".toml")
    if is_file and name == known.get("space") and not Path(name).exists():
        return known["space_values"]
    return load_space(name, search.train)


def _check_networks(base: TrainConfig, drawn: list[Candidate], info: DataInfo) -> None:
    """Build each network of the space once: one that cannot be is told before anything starts."""
    networks: dict[str, TrainConfig] = {}
    for candidate in drawn:
        config = base.replace(**candidate)
        networks.setdefault(config.network_name, config)
    for config in networks.values():
        build_model(config, info.problem)


def warm_candidates(config: SearchConfig, space: Space, storage: Storage) -> list[Candidate]:
    """The best third of an earlier search's trials that lie in the space, the best first.

    At most half of all trials. They run anew: their accuracy there, on other data or in other
    epochs, does not count here.

    Raises:
        InputError: no such run, or none of its trials lies in the space.
    """
    if not config.warm_start:
        return []
    earlier = read_trials(find_run(config.warm_start, storage.runs) / TRIALS)
    usable = [trial for trial in earlier if trial.curve and not trial.failed]
    usable.sort(key=lambda trial: (len(trial.curve), trial.accuracy), reverse=True)

    different: list[Candidate] = []
    for trial in usable:
        candidate = candidate_of(space, trial.config)
        if candidate is not None and candidate not in different:
            different.append(candidate)
    check(
        bool(different),
        f"warm_start={config.warm_start!r}: none of its {len(earlier)} trials lies in the space "
        f"{config.space!r}",
    )
    best_third = math.ceil(len(different) / 3)
    half_of_all = max(config.trials // 2, 1)
    return different[: min(best_third, half_of_all)]


def check_same(path: Path, mine: dict[str, Any]) -> None:
    """Raise InputError unless a run, if it has a config, was started with the same one."""
    if not path.exists():
        return
    saved = read_json(path)
    plain = json.loads(json.dumps(mine))  # tuples become lists, as in the file
    saved["search"] = SearchConfig.renamed_keys(saved["search"])
    for part in ("search", "train", "data"):
        for key, value in plain[part].items():
            before = saved[part].get(key)
            check(
                before == value or key in MAY_CHANGE,
                f"{key}={value!r}: {path.parent} was started with {before!r}; "
                "resume with that, or choose another --name",
            )


@dataclass(frozen=True, slots=True)
class Packing:
    """What each trial takes, and how many run at once."""

    share: dict[str, float]
    """What a trial, or each worker of a DDP trial, takes, as Ray names it."""
    at_once: int


@dataclass(frozen=True, slots=True)
class SearchSetup:
    """A search on a cluster."""

    task: SearchTask
    resources: Resources
    storage: Storage

    @property
    def config(self) -> SearchConfig:
        return self.task.config

    @property
    def base(self) -> TrainConfig:
        """What every trial shares: on a CPU one thread each, unless the config says more."""
        base = self.config.train
        if self.resources.gpus_ever:
            return base
        return base.replace(threads=base.threads or 1)

    @property
    def trial_placement(self) -> Placement | None:
        """Placement of a trial that is a DDP job; None where a trial is one process.

        Raises:
            InputError: the cluster has no room for one, or a batch of the space cannot be shared.
        """
        workers = self.config.workers_per_trial
        if not workers:
            return None
        for config in (self.base, *self._configs(self.task.drawn)):
            place(self.resources, str(workers), global_batch_size=config.global_batch_size)

        placement = place(self.resources, str(workers))
        if self.resources.gpus_ever:
            return placement
        return dataclasses.replace(placement, cpus_per_worker=self.base.threads)

    def _configs(self, drawn: list[Candidate]) -> list[TrainConfig]:
        base = self.base
        return [base.replace(**candidate) for candidate in drawn]

    def pack(self, console: Console) -> Packing:
        """Decide what a trial takes; where the config says so, by measuring GPU memory.

        Raises:
            InputError: not even one trial fits.
        """
        placement = self.trial_placement
        share: dict[str, float] = {"CPU": self.base.threads or 1}
        if placement is not None:
            share = placement.share
        elif self.resources.gpus_ever:
            share["GPU"] = self.config.gpus_per_trial or self._measured_gpu_share(console)

        fitting = self._fitting(share) // (self.config.workers_per_trial or 1)
        check(
            fitting >= 1,
            f"train.threads={self.base.threads}: the cluster has {self.resources}, and a trial "
            f"takes {share}",
        )
        return Packing(share, min(self.config.concurrent_trials or fitting, fitting))

    def _fitting(self, share: dict[str, float]) -> int:
        """How many such shares the cluster has."""
        if "GPU" in share:
            return int(self.resources.gpus_ever / share["GPU"])
        threads = int(share["CPU"])
        return sum(cpus // threads for cpus in self.resources.node_cpus)

    def _measured_gpu_share(self, console: Console) -> float:
        configs = self._configs(self.task.drawn)
        configs.sort(key=lambda config: config.global_batch_size)
        largest = _one_per_network(configs)  # each with the largest batch it may have
        with console.status("measuring the GPU memory of each network"):
            return pack(largest, self.task.data)

    def plan(self, packing: Packing, console: Console, ended: int = 0) -> Plan:
        """Measure a few batches of each network, and estimate the search.

        Args:
            ended: trials of an earlier session that will not go on.

        Raises:
            InputError: no network can be trained.
        """
        config, data = self.config, self.task.data
        configs = self._configs(self.task.drawn[ended:] or self.task.drawn[-1:])
        placement = place(self.resources)
        processes = packing.at_once * (config.workers_per_trial or 1)
        with console.status("measuring a few batches of each network for the plan"):
            speeds = measure(
                _one_per_network(configs), data, processes, packing.share, placement.share
            )
        if config.workers_per_trial:
            speeds = speeds.shared_by(config.workers_per_trial, self.resources.cpus)
        machine = Machine(self.resources, packing.at_once, placement.workers)
        return make_plan(config, configs, len(data.train), len(self.task.train), speeds, machine)

    def state(self, run: Path) -> SearchState:
        """State of the search in a run folder: as new, or as its journal tells."""
        config = self.config
        limits = Limits(
            seconds=60 * config.time_budget_min,
            epochs=config.max_epochs_total,
            accuracy=config.target_accuracy,
        )
        path = run / JOURNAL
        return SearchState(
            config.rule(self.base.epochs),
            self.task.propose,
            self.base,
            limits=limits,
            journal=Journal(path),
            events=read_events(path),
        )


def _one_per_network(configs: list[TrainConfig]) -> list[TrainConfig]:
    """The last config of each network, of the first few networks."""
    networks: dict[str, TrainConfig] = {}
    for config in configs:
        networks[config.network_name] = config
    return list(networks.values())[:MEASURED_NETWORKS]


def show_plan(
    setup: SearchSetup, plan: Plan, title: str, price_per_hour: float, console: Console
) -> None:
    """Print the plan in words."""
    console.print(f"[bold]{title}[/]")
    budget = setup.config.time_budget_min
    where = labelled("data", where_shared(setup.task.data))
    for line in (*where, *plan_lines(plan, setup.resources, price_per_hour, budget)):
        console.print(f"  {line}")
