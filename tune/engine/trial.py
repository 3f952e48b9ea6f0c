"""One trial of a search: the one training session, reporting each epoch to Ray Tune."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.tune

from cluster.nodes import Requirements
from cluster.shared_data import SharedData
from cluster.storage import StateFile, Storage
from fmnist.config import TrainConfig
from fmnist.errors import InputError
from fmnist.training.device import Rank, default_device, set_threads
from fmnist.training.metrics import DivergedError, TrainingFailed
from fmnist.training.session import TrainingResult, run_session


@dataclass(frozen=True, slots=True)
class TrialStorage:
    """Where a search keeps the state of its trials, and what every node must have."""

    storage: Storage
    run: Path
    requirements: Requirements

    def state(self, number: int) -> StateFile:
        return self.storage.state(self.run, "search", f"trial_{number:04}")


def run_trial(
    params: dict[str, Any],
    *,
    base: TrainConfig,
    data: SharedData,
    storage: TrialStorage,
) -> None:
    """Train `base` with a trial's candidate values, or go on where the trial was interrupted.

    Args:
        params: "trial" holds the trial's "number" and its "candidate", values of TrainConfig's
            fields.
        storage: the state is saved there after each epoch.
    """
    config = base.replace(**params["trial"]["candidate"])
    set_threads(config)
    store = storage.state(params["trial"]["number"])
    try:
        storage.requirements.check_here()
        for event in run_session(config, data.open(), Rank(default_device()), store):
            # Epochs of earlier sessions are reported too: nobody may have heard of the last one.
            if not isinstance(event, TrainingResult):
                ray.tune.report(event.to_dict())
    except DivergedError as error:
        ray.tune.report(TrainingFailed(config.epochs, str(error), diverged=True).to_dict())
    except InputError as error:  # reported, not raised: Ray Tune would try again
        ray.tune.report(TrainingFailed(config.epochs, str(error)).to_dict())
