"""Run the trials of a search under Ray Tune."""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from cluster.nodes import Requirements, versions
from cluster.ray_compat import HEAD_NODE_RESOURCE_NAME
from cluster.shared_data import share_data
from cluster.worker import Job
from fmnist.errors import InputError
from fmnist.runs.summary import stage
from tune.engine.ddp_trial import run_ddp_trial
from tune.engine.memory_kills import survive_memory_kills
from tune.engine.scheduler import Dealer, Decider, Limit
from tune.engine.trial import TrialStorage, run_trial
from tune.journal import TRIALS
from tune.live import SearchView
from tune.live_table import Screen
from tune.planning.plan import Plan
from tune.plots import plot_search
from tune.setup import Packing, SearchSetup, show_plan
from tune.state import SearchState, TrialRecord, read_trials, winner
from tune.tracking import Tracker
from tune.winner import RETRAIN

TUNE_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Ctrl-C is to end the command, not to end the search and go on to the winner.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}
for name, value in TUNE_SETTINGS.items():
    os.environ.setdefault(name, value)

# Ray Tune reads these settings when it is used, the first of them when it is imported.
import ray  # noqa: E402
import ray.tune  # noqa: E402

MAX_FAILURES = 2
"""Deaths of a trial's process before the trial counts as failed; each costs at most its epoch in
flight."""
DRIVER = "driver"
"""A custom resource of the nodes that are to hold the drivers of DDP trials, such as a head that is
not on spot; without it the head holds them. They take no CPU, which their workers need."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where a search is shown, and what it is copied to."""

    console: Console
    verbose: bool = False
    """Lines in place of the live table."""
    push: Callable[[], None] = lambda: None
    """Copies the run folder to the storage at once; OSError if that does not answer."""
    tracker: Tracker | None = None


def search(
    run: Path, setup: SearchSetup, around: Surroundings, price_per_hour: float = 0.0
) -> TrialRecord:
    """Run the trials that are not done yet; give the winner.

    Raises:
        InputError: no trial gave a result.
    """
    if not (run / RETRAIN).exists():  # once the winner is chosen, the search is closed
        state = setup.state(run)
        with stage(run, "search") as found:
            packing = setup.pack(around.console)
            plan = setup.plan(packing, around.console, len(state.ended))
            show_plan(setup, plan, str(run), price_per_hour, around.console)
            found["plan_s"] = {
                "search": round(plan.search_s, 1),
                "retrain": round(plan.retrain_s, 1),
            }
            found["files"] = {"trials": TRIALS, "report": "report.html"}
            run_trials(run, setup, packing, state, plan, around)
            reason = state.over()
            if reason:
                around.console.print(f"the search ends: {reason}")

    done = read_trials(run / TRIALS)
    best = winner(done)
    if best is None:
        reasons = "; ".join(sorted({record.outcome for record in done}))
        reasons = reasons or "no trial started within the time budget"
        raise InputError(f"no trial gave a result ({reasons}); see {run / TRIALS}")
    plot_search(done, run / "figures/search.png")
    return best


def run_trials(
    run: Path,
    setup: SearchSetup,
    packing: Packing,
    state: SearchState,
    plan: Plan,
    around: Surroundings,
) -> None:
    """Let Ray Tune run the trials that the state deals out, until there are no more."""
    # Workers have another working directory, so the path is absolute.
    requirements = Requirements(versions(), setup.storage.marker(run))
    storage = TrialStorage(setup.storage, run.absolute(), requirements)

    def forget(number: int) -> None:
        # The state of a trial that is done takes room and does no harm.
        with contextlib.suppress(OSError):
            around.push()  # its line in the journal comes first
            storage.state(number).remove()

    view = SearchView(
        run,
        state,
        plan,
        Screen(
            around.console,
            live=around.console.is_terminal and not around.verbose,
            gpus=bool(setup.resources.gpus_ever),
        ),
        forget=forget,
        tracker=around.tracker,
    )
    tune_config = ray.tune.TuneConfig(
        search_alg=Dealer(state),
        scheduler=Decider(state),
        num_samples=-1,
        max_concurrent_trials=packing.at_once,
        reuse_actors=setup.trial_placement is None,
        trial_dirname_creator=_trial_folder,
    )
    run_config = ray.tune.RunConfig(
        name="search",
        storage_path=str(run.absolute()),
        stop=Limit(state),
        callbacks=[view],
        verbose=2 if around.verbose else 0,
        failure_config=ray.tune.FailureConfig(max_failures=MAX_FAILURES),
    )
    trainable = _trainable(setup, packing, storage)
    tuner = ray.tune.Tuner(trainable, tune_config=tune_config, run_config=run_config)
    survive_memory_kills()
    with view:
        tuner.fit()


def _trial_folder(trial: Any) -> str:
    params = trial.config["trial"]
    return f"trial_{params['number']:04}_{params['after']}"


def _trainable(setup: SearchSetup, packing: Packing, storage: TrialStorage) -> Any:
    """What Ray Tune runs for each trial, and what that takes."""
    if setup.trial_placement is not None:
        return _ddp_trainable(setup, storage)
    data = setup.task.data
    assert data.validation is not None, "a search compares trials by validation images"
    trial = ray.tune.with_parameters(
        run_trial,
        base=setup.base,
        data=share_data(data),
        storage=storage,
    )
    resources = {kind.lower(): amount for kind, amount in packing.share.items()}
    return ray.tune.with_resources(trial, resources)


def _ddp_trainable(setup: SearchSetup, storage: TrialStorage) -> Any:
    data = setup.task.data
    assert data.validation is not None, "a search compares trials by validation images"
    job = Job(
        config=setup.base,
        data=share_data(data),
        state=storage.state(0),
        requirements=storage.requirements,
        progress=None,
    )
    trial = ray.tune.with_parameters(
        run_ddp_trial,
        base=setup.base,
        job=job,
        placement=setup.trial_placement,
        storage=storage,
    )
    driver: dict[str, float] = {HEAD_NODE_RESOURCE_NAME: 0.001}
    if DRIVER in ray.cluster_resources():
        driver = {DRIVER: 1.0}
    return ray.tune.with_resources(trial, ray.tune.PlacementGroupFactory([driver]))
