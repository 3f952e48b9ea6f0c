"""SearchConfig, and a preset for each kind of machine."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

import tyro

from fmnist.config import TrainConfig
from fmnist.errors import check, one_of
from tune.asha import Asha, FullLength, MedianStopping, Rule

Searcher = Literal["random", "grid", "tpe"]
Scheduler = Literal["asha", "promotion", "median", "none"]


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How to search.

    Raises:
        InputError: a value is out of range.
    """

    space: str = "quick"
    """Which values may be tried: a name in --list-spaces, or a TOML file of your own (CONTRIBUTING.md shows one)."""
    searcher: Searcher = "tpe"
    """Which of them come: tpe (Optuna's estimator, which learns from the trials so far), random (a Sobol sequence), or grid (each
    of a space of lists once, shuffled)."""
    scheduler: Scheduler = "promotion"
    """How long a trial trains: promotion (ASHA: all pause at a rung, and go on when they prove to be among its best), asha (stopped
    at a rung unless among its best so far), median (stopped below the median of the others), or none (all in full)."""
    trials: int = 20
    """Candidates drawn from the space."""
    grace_epochs: int = 1
    """The first rung: no trial is stopped before this epoch."""
    reduction_factor: int = 3
    """At each rung the best 1 in this many go on; the next rung is this many times later."""
    concurrent_trials: int = 0
    """Trials at once; 0 means as many as fit."""
    gpus_per_trial: float = 0.25
    """Share of a GPU that a trial takes; 0 measures what memory the networks take, and packs as many trials as fit. On a cluster
    without GPUs each trial takes one CPU thread."""
    workers_per_trial: int = 0
    """Make each trial a DDP job of so many workers, for networks or data that one GPU is too slow for; 0 makes it one process."""
    time_budget: float = 0.0
    """Minutes from the start of the first trial, earlier sessions included, after which the search ends; 0 means no limit."""
    max_epochs_total: int = 0
    """Epochs, of all trials together, after which the search ends; 0 means no limit."""
    target_accuracy: float = 0.0
    """Validation accuracy, a fraction, at which the search ends; 0 means none."""
    warm_start: str = ""
    """Run folder of an earlier search: the best third of its trials that lie in the space come first, at most half of all."""
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
        for name in ("concurrent_trials", "workers_per_trial", "time_budget", "max_epochs_total", "search_seed", "retrain_epochs"):
            check(getattr(self, name) >= 0, f"{name}={getattr(self, name)}: it must be at least 0")
        one_of("searcher", self.searcher, get_args(Searcher))
        one_of("scheduler", self.scheduler, get_args(Scheduler))
        check(0 <= self.target_accuracy <= 1, f"target_accuracy={self.target_accuracy}: a fraction, from 0 to 1, such as 0.92")
        check(0 <= self.gpus_per_trial <= 1, f"gpus_per_trial={self.gpus_per_trial}: it must be from 0 to 1")
        check(self.base.validation_images != 0, "base.validation_images=0: a search chooses by validation images; hold some out")

    def rule(self, epochs: int) -> Rule:
        """What decides how long a trial of `epochs` trains."""
        if self.scheduler == "none":
            return FullLength()
        if self.scheduler == "median":
            return MedianStopping(self.grace_epochs)
        return Asha(self.grace_epochs, self.reduction_factor, epochs, promote=self.scheduler == "promotion")

    def to_dict(self) -> dict[str, Any]:
        """JSON types only, without `base`, which stands beside it in config.json."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "base"}


PRESETS: dict[str, SearchConfig] = {
    # Minutes on two CPU threads: short runs on a fifth of the images.
    "demo": SearchConfig(
        space="quick",
        trials=14,
        time_budget=4,
        retrain_epochs=6,
        base=TrainConfig(epochs=6, train_images=10000),
    ),
    # Some hours on a laptop's CPU.
    "laptop": SearchConfig(space="standard", trials=40, retrain_epochs=20, base=TrainConfig(epochs=9)),
    # An hour on one GPU.
    "gpu": SearchConfig(space="wide", trials=100, retrain_epochs=27, base=TrainConfig(epochs=27)),
}
