"""`python -m tune.search`: search with ASHA, retrain the winner under Ray Train on all training images, test it once."""

import contextlib
import dataclasses
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from cluster.connect import Resources, cluster
from cluster.job import Placement, fit, place
from cluster.nodes import check_nodes, versions
from cluster.ray_compat import HEAD_NODE_RESOURCE_NAME
from cluster.storage import Storage, open_storage
from cluster.worker import Job
from fmnist.board import FOLDER as BOARD
from fmnist.checkpoint import Checkpoint, describe, open_data, save_checkpoint
from fmnist.cli import chosen, command, resumed_config, value_of
from fmnist.config import TrainConfig
from fmnist.data import NOT_NAMED, DataInfo, Source, Split, load_test, load_train, split_train
from fmnist.device import default_device
from fmnist.errors import InputError, check
from fmnist.evaluate import PREDICTIONS, classification_metrics, logits_of, save_predictions
from fmnist.listing import list_models, show
from fmnist.lock import hold
from fmnist.models import build_model
from fmnist.plots import plot_confusion, plot_curves
from fmnist.run import find_run, is_complete, open_run, read_json, write_json
from fmnist.summary import SUMMARY, read_summary, stage
from tune.ddp import run_ddp_trial
from tune.journal import JOURNAL, TRIALS, Journal, read_events
from tune.live import SearchView
from tune.measure import to_arrays
from tune.plan import Plan, make_plan, measure, network_of, pack, plan_lines
from tune.presets import PRESETS, SearchConfig
from tune.report import plot_search, write_report
from tune.scheduler import Dealer, Decider, Limit
from tune.searcher import build_searcher
from tune.space import Space, candidate_of, candidates, list_spaces, load_space
from tune.state import Candidate, Limits, Propose, SearchState, TrialRecord, read_trials, winner
from tune.survive import survive_memory_kills
from tune.tracking import Tracker, check_uri, connect, uri_of
from tune.trial import Place, run_trial

for name, value in {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is to end the command, not to end the search and go on to the winner
}.items():
    os.environ.setdefault(name, value)

import ray.tune  # noqa: E402  # after the settings that it reads

RETRAIN = "retrain"
DEVICE_PRESET = {"cuda": "gpu", "cpu": "laptop"}
MAX_FAILURES = 2
"""Times that a trial's process may die before the trial counts as failed; each costs at most its epoch in flight."""
DRIVER = "driver"
"""A custom resource of the nodes that are to hold the drivers of DDP trials, such as a head that is not on spot; else the head is.
They take no CPU, which their workers need."""
MAY_CHANGE = ("time_budget", "max_epochs_total", "target_accuracy")
"""Of a search that is resumed: with more time it goes on."""
MEASURED_NETWORKS = 8
"""A plan measures so many of a space's networks, and takes the others to be like them."""


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """Search for the best config with ASHA under Ray Tune; retrain the winner under Ray Train; test it once.

    Bare, it takes the preset for the device found: laptop on a CPU (hours), gpu on a GPU. Example of a few minutes on a CPU:
    python -m tune.search --preset demo
    """

    preset: str | None = None
    """demo, laptop or gpu: its values are the defaults of the flags below."""
    name: str | None = None
    """Name of the run folder, runs/NAME; by default the time."""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Go on with runs/NAME, or with the newest run: no trial that is done runs again."""
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show the plan, measured on a few batches, and stop."""
    price_per_hour: float = 0.0
    """Price of an hour of each node, in any currency: the plan then says what the search will cost."""
    verbose: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Let Ray say what it does, and print a line per trial in place of the live table."""
    list_spaces: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show the built-in search spaces, and stop."""
    list_models: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show the networks, and stop."""
    source: Annotated[Source, tyro.conf.arg(name="")] = NOT_NAMED
    address: str | None = None
    """Ray cluster to join: auto or HOST:6379, on one of its nodes; by default one is started on this machine."""
    storage: str | None = None
    """Where the run folder is kept: a folder that all nodes share, or s3://BUCKET/PREFIX; by default runs/, for one machine."""
    mlflow: str | None = None
    """Track the search in MLflow too: sqlite (the file mlflow.db beside the runs), or http://HOST:PORT of a server."""
    search: Annotated[SearchConfig, tyro.conf.arg(name="")] = field(default_factory=SearchConfig)

    def __post_init__(self) -> None:
        check_uri(self.mlflow)
        check(self.price_per_hour >= 0, f"price_per_hour={self.price_per_hour}: it must be at least 0")


def main(options: SearchOptions) -> None:
    if show({list_spaces: options.list_spaces, list_models: options.list_models}):
        return
    console = Console(highlight=False, soft_wrap=True)
    storage = open_storage(options.storage)
    resumed = storage.run_to_resume(options.name) if options.resume else None
    if is_complete(resumed):
        console.print(f"{resumed} is complete: nothing to do; see python -m fmnist.summary {resumed}")
        return
    started = resumed / "config.json" if resumed else None
    known = read_json(started).get("search", {}) if started and started.exists() else {}
    name = options.search.space
    left_behind = name.endswith(".toml") and name == known.get("space") and not Path(name).exists()  # on another machine
    space = known["space_values"] if left_behind else load_space(name, options.search.base)
    folder, info = open_data(options.source, resumed)
    train = load_train(folder, info)
    base, training, validation = split_train(options.search.base, train)
    assert validation is not None, "SearchConfig holds some out"
    config = dataclasses.replace(options.search, base=base)
    # As it began: the earlier run may be gone or have grown since.
    first = warm_candidates(config, space, storage) if known.get("first") is None else known["first"]
    propose = build_searcher(config.searcher, space, config.trials, config.search_seed, first)
    drawn = candidates(space, config.trials, config.search_seed)
    for different in {network_of(one): one for one in (base.replace(**candidate) for candidate in drawn)}.values():
        build_model(different, info.problem)  # a network that cannot be is told before anything starts
    mine = {"search": config.to_dict() | {"space_values": space, "first": first}, **describe(base, info)}
    if resumed:
        hold(resumed)
        _check_same(resumed / "config.json", mine)
    uri = uri_of(options.mlflow, resumed, storage.runs)
    tracking = None if uri is None or options.dry_run else (*connect(uri), uri)
    with cluster(options.address, verbose=options.verbose, dashboard=config.workers_per_trial > 0) as resources:
        if options.address is not None:
            check_nodes(storage)
        job = SearchJob(config, propose, drawn, train, training, validation, info, resources, console, storage, options.verbose)
        if options.dry_run:
            show_plan(job, job.plan(), "plan", options.price_per_hour)
            return
        run = open_run(resumed.name if resumed else options.name, resume=options.resume, runs=storage.runs)
        with storage.mirrored(run, console.print) as job.push:
            write_json(run / "config.json", mine)
            job.tracker = tracking and Tracker(*tracking, run, mine["search"], console)
            best = search(run, job, options.price_per_hour)
            write_report(run)
            retrain(run, job, best, load_test(folder, info))
            report = write_report(run)
            if job.tracker:
                job.tracker.end(read_summary(run), report)
    accuracy = read_json(run / SUMMARY)["test_accuracy"]
    console.print(
        f"test accuracy {accuracy:.2%}; saved in {run / 'best'}, explained in {report}; next: python -m export.to_onnx {run}"
    )


@dataclass(slots=True)
class SearchJob:
    """A search to be run: what is tried, on which data, on what."""

    config: SearchConfig
    """Its base has the number of validation images decided."""
    propose: Propose
    drawn: list[Candidate]
    """Candidates of a random search in the same space, which the plan is made by."""
    train: Split
    """The whole official training set, for the winner."""
    training: Split
    validation: Split
    info: DataInfo
    resources: Resources
    console: Console
    storage: Storage
    verbose: bool = False
    push: Callable[[], None] = lambda: None
    """Copies the run folder to the storage at once; OSError if that does not answer."""
    tracker: Tracker | None = None
    packed: float = 1.0
    """Share of a GPU that a trial takes by its memory, once measured."""

    @property
    def base(self) -> TrainConfig:
        """What every trial shares: on a CPU one thread each, unless the config says more."""
        on_cpu = not self.resources.gpus_ever
        return self.config.base.replace(threads=self.config.base.threads or 1) if on_cpu else self.config.base

    @property
    def share(self) -> dict[str, float]:
        """What a trial, or each worker of a DDP trial, takes, as Ray names it."""
        if self.trial_placement:
            return self.trial_placement.share
        gpu = {"GPU": self.config.gpus_per_trial or self.packed} if self.resources.gpus_ever else {}
        return {"CPU": self.base.threads or 1} | gpu

    @property
    def trial_placement(self) -> Placement | None:
        """Of a trial that is a DDP job. Raises InputError if the cluster has no room for one, or the batch cannot be shared."""
        if not (workers := self.config.workers_per_trial):
            return None
        for config in [self.base, *(self.base.replace(**candidate) for candidate in self.drawn)]:
            place(self.resources, str(workers), global_batch_size=config.global_batch_size)
        placed = place(self.resources, str(workers))
        return placed if self.resources.gpus_ever else dataclasses.replace(placed, cpus_per_worker=self.base.threads)

    @property
    def at_once(self) -> int:
        """Raises InputError if not even one trial fits."""
        resources, share = self.resources, self.share
        gpus = share.get("GPU")
        fitting = int(resources.gpus_ever / gpus) if gpus else sum(cpus // int(share["CPU"]) for cpus in resources.node_cpus)
        fitting //= self.config.workers_per_trial or 1
        check(fitting >= 1, f"base.threads={self.base.threads}: the cluster has {resources}, and a trial takes {share}")
        return min(self.config.concurrent_trials or fitting, fitting)

    def plan(self, ended: int = 0) -> Plan:
        """Measure a few batches of each network, and estimate. Raises InputError if none can be trained.

        Args:
            ended: trials of an earlier session that will not go on.
        """
        configs = [self.base.replace(**candidate) for candidate in self.drawn[ended:] or self.drawn[-1:]]
        networks = list({network_of(config): config for config in configs}.values())[:MEASURED_NETWORKS]
        placement = place(self.resources)
        if self.resources.gpus_ever and not self.config.gpus_per_trial and not self.config.workers_per_trial:
            with self.console.status("measuring the GPU memory of each network"):
                by_batch = sorted(configs, key=lambda config: config.global_batch_size)
                largest = list({network_of(config): config for config in by_batch}.values())[:MEASURED_NETWORKS]
                self.packed = pack(largest, self.training, len(self.info.classes))
        together = self.at_once * (self.config.workers_per_trial or 1)
        with self.console.status("measuring a few batches of each network for the plan"):
            speeds = measure(networks, self.training, len(self.info.classes), together, self.share, placement.share)
        if self.config.workers_per_trial:
            speeds = speeds.shared_by(self.config.workers_per_trial, self.resources.cpus)
        return make_plan(
            self.config, configs, len(self.training), len(self.train), speeds, self.at_once, placement.workers, self.resources
        )

    def state(self, run: Path) -> SearchState:
        """Of the search in a run folder: as new, or as its journal tells."""
        path, config = run / JOURNAL, self.config
        limits = Limits(seconds=60 * config.time_budget, epochs=config.max_epochs_total, accuracy=config.target_accuracy)
        events, rule = read_events(path), config.rule(self.base.epochs)
        return SearchState(rule, self.propose, self.base, limits=limits, journal=Journal(path), events=events)


def show_plan(job: SearchJob, plan: Plan, title: str, price_per_hour: float) -> None:
    lines = plan_lines(plan, job.resources, price_per_hour, job.config.time_budget)
    job.console.print("\n".join((f"[bold]{title}[/]", *(f"  {line}" for line in lines))))


def search(run: Path, job: SearchJob, price_per_hour: float = 0.0) -> TrialRecord:
    """Run the trials that are not done yet; give the winner.

    Raises:
        InputError: no trial gave a result.
    """
    if not (run / RETRAIN).exists():  # once the winner is chosen, the search is closed
        state = job.state(run)
        with stage(run, "search") as found:
            plan = job.plan(len(state.ended))
            show_plan(job, plan, str(run), price_per_hour)
            found["plan_s"] = {"search": round(plan.search_s, 1), "retrain": round(plan.retrain_s, 1)}
            place = Place(job.storage, run.absolute(), versions())  # workers have another working directory
            run_trials(run, job, state, plan, place, _trainable(job, place))
            if reason := state.over():
                job.console.print(f"the search ends: {reason}")
    done = read_trials(run / TRIALS)
    best = winner(done)
    if best is None:
        reasons = "; ".join(sorted({record.outcome for record in done})) or "no trial started within the time budget"
        raise InputError(f"no trial gave a result ({reasons}); see {run / TRIALS}")
    plot_search(done, run / "figures/search.png")
    return best


def run_trials(run: Path, job: SearchJob, state: SearchState, plan: Plan, place: Place, trainable: Any) -> None:
    """Let Ray Tune run the trials that the state deals out, each a call of `trainable`, until there are no more."""
    live = job.console.is_terminal and not job.verbose

    def forget(number: int) -> None:
        with contextlib.suppress(OSError):  # what is left of a trial that is done takes room, and does no harm
            job.push()  # its line in the journal
            place.state(number).remove()

    gpus = bool(job.resources.gpus_ever)
    view = SearchView(run, state, plan, job.console, live=live, forget=forget, gpus=gpus, tracker=job.tracker)
    tuner = ray.tune.Tuner(
        trainable,
        tune_config=ray.tune.TuneConfig(
            search_alg=Dealer(state),
            scheduler=Decider(state),
            num_samples=-1,
            max_concurrent_trials=job.at_once,
            reuse_actors=job.trial_placement is None,
            trial_dirname_creator=lambda trial: "trial_{number:04}_{after}".format(**trial.config["trial"]),
        ),
        run_config=ray.tune.RunConfig(
            name="search",
            storage_path=str(run.absolute()),
            stop=Limit(state),
            callbacks=[view],
            verbose=2 if job.verbose else 0,
            failure_config=ray.tune.FailureConfig(max_failures=MAX_FAILURES),
        ),
    )
    survive_memory_kills()
    with view:
        tuner.fit()


def _trainable(job: SearchJob, place: Place) -> Any:
    """What Ray Tune runs for each trial, and what that takes."""
    classes = len(job.info.classes)
    if placement := job.trial_placement:
        splits = ray.put(job.training), ray.put(job.validation)
        ddp = Job(job.base, classes, *splits, place.state(0), place.versions, job.storage.marker(place.run), None)
        driver = {DRIVER: 1.0} if DRIVER in ray.cluster_resources() else {HEAD_NODE_RESOURCE_NAME: 0.001}
        trial = ray.tune.with_parameters(run_ddp_trial, base=job.base, job=ddp, placement=placement, place=place)
        return ray.tune.with_resources(trial, ray.tune.PlacementGroupFactory([driver]))
    splits = {"train": to_arrays(job.training), "validation": to_arrays(job.validation)}
    trial = ray.tune.with_parameters(run_trial, base=job.base, classes=classes, place=place, **splits)
    return ray.tune.with_resources(trial, {kind.lower(): amount for kind, amount in job.share.items()})


def retrain(run: Path, job: SearchJob, best: TrialRecord, test: Split) -> None:
    """Train the winner on all training images under Ray Train, its schedule frozen; test it once; save it to best/."""
    config, info = job.config, job.info
    epochs = config.retrain_epochs or (best.kept_epoch if best.config.early_stopping else best.config.epochs)
    final = best.config.replace(
        train_images=0, validation_images=0, early_stopping=0, early_epochs=0, epochs=epochs, threads=config.base.threads
    )
    placement = place(job.resources, global_batch_size=final.global_batch_size)
    write_json(run / RETRAIN / "config.json", final.to_dict())
    job.console.print(
        f"winner: trial {best.number}, validation {best.accuracy:.2%}; retrained on all {len(job.train):,} images by {placement}"
    )
    with stage(run, "retrain") as found:
        trained = fit(
            final,
            job.train,
            None,
            classes=len(info.classes),
            placement=placement,
            state=job.storage.state(run, RETRAIN),
            seen=job.storage.marker(run),
            board=run / BOARD / "winner",
            title="winner",
            console=job.console,
        )
        logits = logits_of(Checkpoint(trained.model, trained.config, info, {}), test, default_device()).cpu()
        metrics = classification_metrics(logits, test.labels)
        save_predictions(run / "best" / PREDICTIONS, logits, test)
        plot_curves({"winner": trained.history}, run / "figures/training.png")
        plot_confusion(metrics["confusion"], info.classes, run / "figures/confusion.png")
        record = {"validation_accuracy": best.accuracy, "trial": best.number, "test": metrics, "epochs": trained.history}
        found |= {
            "validation_accuracy": best.accuracy,
            "trial_images": len(job.training),
            "test_accuracy": metrics["accuracy"],
            "test_images": metrics["images"],
            "config": trained.config.to_dict(),
        }
    # After the summary: the weights say that the run is complete, so nothing may be missing once they are there.
    save_checkpoint(run / "best", trained.model.cpu(), trained.config, info, record)


def warm_candidates(config: SearchConfig, space: Space, storage: Storage) -> list[Candidate]:
    """The best third of an earlier search's trials that lie in the space, the best first; at most half of all to be tried.

    They run anew: what they reached there, on other data or in other epochs, is no measure here.

    Raises:
        InputError: no such run, or none of its trials lies in the space.
    """
    if not config.warm_start:
        return []
    earlier = read_trials(find_run(config.warm_start, storage.runs) / TRIALS)
    ranked = sorted((trial for trial in earlier if trial.curve and not trial.failed), key=lambda t: (len(t.curve), t.accuracy))
    inside = [candidate for trial in reversed(ranked) if (candidate := candidate_of(space, trial.config)) is not None]
    check(bool(inside), f"warm_start={config.warm_start!r}: none of its {len(earlier)} trials lies in the space {config.space!r}")
    different = [candidate for number, candidate in enumerate(inside) if candidate not in inside[:number]]
    return different[: min(math.ceil(len(different) / 3), max(config.trials // 2, 1))]


def _check_same(path: Path, mine: dict[str, Any]) -> None:
    """Raise InputError unless the run to be resumed, if there is one, was started with the same configuration."""
    if not path.exists():
        return
    saved = read_json(path)
    for part in ("search", "train", "data"):
        for key, value in json.loads(json.dumps(mine[part])).items():
            if key in MAY_CHANGE:
                continue
            was = saved[part].get(key)
            check(
                was == value, f"{key}={value!r}: {path.parent} was started with {was!r}; resume with that, or choose another --name"
            )


def default_options() -> SearchOptions:
    """The preset, or what the run to be resumed was started with."""
    if (saved := resumed_config("--preset", lambda name: open_storage(value_of("--storage")).run_to_resume(name))) is None:
        return SearchOptions(search=chosen("--preset", PRESETS, DEVICE_PRESET[default_device().type]))
    check("search" in saved, "--resume: the newest run is no search; name one with --name")
    values = {key: value for key, value in saved["search"].items() if key not in ("space_values", "first")}
    return SearchOptions(search=SearchConfig(**values, base=TrainConfig.from_dict(saved["train"])))


if __name__ == "__main__":
    command(SearchOptions, main, default_options)
