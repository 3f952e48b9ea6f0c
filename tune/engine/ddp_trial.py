"""A trial that is a DDP job: Ray Train inside Ray Tune."""

import dataclasses
import tempfile
import time
from typing import Any

import ray.tune
from ray.train.torch import TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback

from cluster.job import MAX_FAILURES, make_trainer
from cluster.placement import Placement
from cluster.ray_compat import get_session
from cluster.storage import StateFile
from cluster.worker import Job
from fmnist.config import TrainConfig
from fmnist.training.metrics import EpochReport
from tune.engine.trial import TrialStorage

DRAIN_S = 60.0


def run_ddp_trial(
    params: dict[str, Any],
    *,
    base: TrainConfig,
    job: Job,
    placement: Placement,
    storage: TrialStorage,
) -> None:
    """Run a trial as tune.engine.trial.run_trial does, on several workers.

    Ray Train starts the workers anew when one dies, and Ray Tune this driver of theirs.
    """
    config = base.replace(**params["trial"]["candidate"])
    storage.requirements.check_here()
    state = storage.state(params["trial"]["number"])
    _replay_reports(state)

    job = dataclasses.replace(job, config=config, state=state)
    callbacks = [TuneReportCallback()]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        make_trainer(job, placement, folder, callbacks, TorchTrainer, MAX_FAILURES).fit()
    _drain_reports()


def _replay_reports(state: StateFile) -> None:
    """Report the epochs of earlier sessions again: nobody may have heard of the last one."""
    saved = state.load()
    if saved is None:
        return
    for values in saved["history"]:
        report = EpochReport.from_dict(values)
        ray.tune.report(dataclasses.replace(report, replayed=True).to_dict())


def _drain_reports() -> None:
    """Wait until Ray Tune has fetched every report.

    If the trial's function returned while one is queued, Ray Tune and the end of its thread would
    wait for each other.
    """
    queue = get_session()._get_or_create_inter_actor_queue()  # pyright: ignore
    deadline = time.monotonic() + DRAIN_S
    while not queue.empty() and time.monotonic() < deadline:
        time.sleep(0.05)
