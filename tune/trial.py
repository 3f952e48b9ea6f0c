"""One trial of a search: the one training loop, reporting each epoch to Ray Tune."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.tune

from cluster.nodes import check_here
from cluster.storage import StateFile, Storage
from fmnist.config import TrainConfig
from fmnist.data import Split
from fmnist.device import default_device, set_threads
from fmnist.errors import InputError
from fmnist.loop import WORST, DivergedError, train_epochs
from tune.measure import Arrays, from_arrays

METRIC = "validation_accuracy"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a search keeps the state of its trials, and what every node must have."""

    storage: Storage
    run: Path
    versions: dict[str, str]

    def state(self, number: int) -> StateFile:
        return self.storage.state(self.run, "search", f"trial_{number:04}")

    def check(self) -> None:
        """Raise InputError if this node has other versions than the driver, or does not see the storage."""
        check_here(self.versions, self.storage.marker(self.run))


def run_trial(params: dict[str, Any], *, base: TrainConfig, train: Arrays, validation: Arrays, classes: int, place: Place) -> None:
    """Train `base` with a trial's candidate values, or go on where the trial was when it or the whole search died.

    Args:
        params: "trial" holds the trial's "number" and its "candidate", values of TrainConfig's fields.
        place: its state is saved there after each epoch.
    """
    config = base.replace(**params["trial"]["candidate"])
    set_threads(config)
    try:
        place.check()
        _train(config, from_arrays(train), from_arrays(validation), classes, place.state(params["trial"]["number"]))
    except DivergedError as error:
        ray.tune.report({"epoch": config.epochs, METRIC: WORST, "ended": f"diverged: {error}"})
    except InputError as error:  # told, not raised: Ray Tune would try again
        ray.tune.report({"epoch": config.epochs, METRIC: WORST, "ended": f"error: {error}"})


def _train(config: TrainConfig, train: Split, validation: Split, classes: int, file: StateFile) -> None:
    resume = file.load()
    history = tell_again(resume)
    for metrics, state in train_epochs(config, train, validation, classes=classes, device=default_device(), resume=resume):
        history.append(metrics.to_dict() | {"ended": "", "kept_epoch": state.kept_epoch})
        file.save(state.state_dict() | {"history": history})
        ray.tune.report(history[-1])


def tell_again(resume: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Report the epochs that a trial had before it paused or died, the last of which nobody may have heard of; give them."""
    history: list[dict[str, Any]] = resume["history"] if resume else []
    for metrics in history:
        ray.tune.report(metrics | {"again": True})
    return history
