"""A trial that is a DDP job: Ray Train inside Ray Tune."""

import dataclasses
import tempfile
import time
from typing import Any

from ray.train.torch import TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback

from cluster.job import MAX_FAILURES, Placement, make_trainer
from cluster.ray_compat import get_session
from cluster.worker import Job
from fmnist.config import TrainConfig
from tune.trial import Place, tell_again

DRAIN_S = 60.0


def run_ddp_trial(params: dict[str, Any], *, base: TrainConfig, job: Job, placement: Placement, place: Place) -> None:
    """As tune.trial.run_trial, on several workers; Ray Train starts them anew when one dies, and Ray Tune this driver of theirs."""
    config = base.replace(**params["trial"]["candidate"])
    place.check()
    file = place.state(params["trial"]["number"])
    tell_again(file.load())
    job = dataclasses.replace(job, config=config, state=file)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        make_trainer(job, placement, folder, [TuneReportCallback()], TorchTrainer, MAX_FAILURES).fit()
    # This function must not return while a report is queued: Ray Tune and the end of its thread would wait for each other.
    queue = get_session()._get_or_create_inter_actor_queue()  # pyright: ignore
    deadline = time.monotonic() + DRAIN_S
    while not queue.empty() and time.monotonic() < deadline:
        time.sleep(0.05)
