"""SearchConfig, and a preset for each kind of machine."""

from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro

from fmnist.config import TrainConfig
from fmnist.errors import check


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How to search.

    Raises:
        InputError: a value is out of range.
    """

    space: str = "quick"
    """Which values may be tried: a name in --list-spaces, or a TOML file of your own (CONTRIBUTING.md shows one)."""
    trials: int = 20
    """Candidates drawn from the space."""
    grace_epochs: int = 1
    """The first rung: no trial is stopped before this epoch."""
    reduction_factor: int = 3
    """At each rung the best 1 in this many go on; the next rung is this many times later."""
    concurrent_trials: int = 0
    """Trials at once; 0 means as many as fit."""
    gpus_per_trial: float = 0.25
    """Share of a GPU that a trial takes; on a cluster without GPUs each trial takes one CPU thread."""
    workers_per_trial: int = 0
    """Make each trial a DDP job of so many workers, for networks or data that one GPU is too slow for; 0 makes it one process."""
    time_budget_s: float = 0.0
    """Seconds after which the search ends with what it has; 0 means no limit."""
    search_seed: int = 0
    """Seed of the candidates drawn."""
    retrain_epochs: int = 0
    """Epochs of the winner's final training on all training images; 0 means those of the search."""
    base: Annotated[TrainConfig, tyro.conf.arg(name="base")] = field(default_factory=TrainConfig)
    """What every trial shares; the space's fields are drawn anew for each trial."""

    def __post_init__(self) -> None:
        check(self.reduction_factor >= 2, f"reduction_factor={self.reduction_factor}: it must be at least 2")
        for name in ("trials", "grace_epochs"):
            check(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: it must be at least 1")
        for name in ("concurrent_trials", "workers_per_trial", "time_budget_s", "search_seed", "retrain_epochs"):
            check(getattr(self, name) >= 0, f"{name}={getattr(self, name)}: it must be at least 0")
        check(0 < self.gpus_per_trial <= 1, f"gpus_per_trial={self.gpus_per_trial}: it must be above 0 and at most 1")
        check(self.base.validation_images != 0, "base.validation_images=0: a search chooses by validation images; hold some out")

    def to_dict(self) -> dict[str, Any]:
        """JSON types only, without `base`, which stands beside it in config.json."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "base"}


PRESETS: dict[str, SearchConfig] = {
    # Minutes on two CPU threads: short runs on a fifth of the images.
    "demo": SearchConfig(
        space="quick",
        trials=14,
        time_budget_s=240,
        retrain_epochs=6,
        base=TrainConfig(epochs=6, train_images=10000),
    ),
    # Some hours on a laptop's CPU.
    "laptop": SearchConfig(space="standard", trials=40, retrain_epochs=20, base=TrainConfig(epochs=9)),
    # An hour on one GPU.
    "gpu": SearchConfig(space="wide", trials=100, retrain_epochs=27, base=TrainConfig(epochs=27)),
}
