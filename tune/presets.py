"""SearchConfig, and a preset for each kind of machine."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self, get_args

from fmnist.cli import Topics
from fmnist.config import TrainConfig, topic
from fmnist.errors import check, check_fields, one_of
from tune.rules import Rule
from tune.rules.asha import Asha
from tune.rules.full_length import FullLength
from tune.rules.median import MedianStopping

Searcher = Literal["random", "grid", "tpe"]
Scheduler = Literal["asha", "promotion", "median", "none"]

RENAMED_KEYS = {"time_budget": "time_budget_min"}
"""Keys in config.json of searches that an earlier version started, and their names now."""
BESIDE_THE_FIELDS = ("space_values", "first")
"""Keys that config.json adds to a search's own fields: its space, and candidates of an earlier
search."""


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How to search.

    Raises:
        InputError: a value is out of range.
    """

    # Space
    space: str = topic("space", "quick")
    """Which values may be tried: a name of --list-spaces, or a TOML file of your own
    (CONTRIBUTING.md shows one)."""
    searcher: Searcher = topic("space", "tpe")
    """How candidates are chosen from the space: tpe (Optuna's estimator, which learns from the
    trials so far), random (a Sobol sequence), or grid (each of a space of lists once, shuffled)."""
    trials: int = topic("space", 20)
    """Number of candidates."""
    warm_start: str = topic("space", "")
    """Run folder of an earlier search: the best third of its trials that lie in the space come
    first, at most half of all."""
    search_seed: int = topic("space", 0)
    """Seed of the candidates."""

    # Stopping
    scheduler: Scheduler = topic("stopping", "promotion")
    """How long a trial trains: promotion (ASHA: all pause at a rung, and go on when they prove to
    be among its best), asha (stopped at a rung unless among its best so far), median (stopped below
    the median of the others), or none (all in full)."""
    grace_epochs: int = topic("stopping", 1)
    """Grace period, which is also the first rung: no trial is stopped before this epoch."""
    reduction_factor: int = topic("stopping", 3)
    """At each rung the best 1 in this many go on; the next rung is this many times later."""

    # Budget
    time_budget_min: float = topic("budget", 0.0)
    """Minutes from the start of the first trial, earlier sessions included, after which the search
    ends; 0 means no limit."""
    max_epochs_total: int = topic("budget", 0)
    """Epochs, of all trials together, after which the search ends; 0 means no limit."""
    target_accuracy: float = topic("budget", 0.0)
    """Validation accuracy, a fraction, at which the search ends; 0 means none."""

    # Resources
    concurrent_trials: int = topic("resources", 0)
    """Trials that run at once; 0 means as many as fit."""
    gpus_per_trial: float = topic("resources", 0.25)
    """Share of a GPU that a trial takes; 0 measures how much memory the networks take, and packs as
    many trials as fit. On a cluster without GPUs each trial takes one CPU thread."""
    workers_per_trial: int = topic("resources", 0)
    """Make each trial a DDP job of this many workers, for networks or data that one GPU is too slow
    for; 0 makes it one process."""

    # Winner
    retrain_epochs: int = topic("winner", 0)
    """Epochs of the winner's final training on all training images; 0 means those of the search."""

    train: Annotated[TrainConfig, Topics("train.")] = field(default_factory=TrainConfig)
    """What all trials share; the fields of the space have other values in each trial."""

    def __post_init__(self) -> None:
        one_of("searcher", self.searcher, get_args(Searcher))
        one_of("scheduler", self.scheduler, get_args(Scheduler))

        self._check_at_least(2, "reduction_factor")
        self._check_at_least(1, "trials", "grace_epochs")
        self._check_at_least(0, "concurrent_trials", "workers_per_trial", "time_budget_min")
        self._check_at_least(0, "max_epochs_total", "search_seed", "retrain_epochs")

        target, share = self.target_accuracy, self.gpus_per_trial
        check(
            0 <= target <= 1,
            f"target_accuracy={target}: it must be a fraction from 0 to 1, such as 0.92",
        )
        check(0 <= share <= 1, f"gpus_per_trial={share}: it must be from 0 to 1")
        check(
            self.train.validation_images != 0,
            "train.validation_images=0: a search chooses by validation images; hold some out",
        )

    def _check_at_least(self, low: int, *fields: str) -> None:
        for name in fields:
            value = getattr(self, name)
            check(value >= low, f"{name}={value}: it must be at least {low}")

    def rule(self, epochs: int) -> Rule:
        """Return what decides how long a trial of `epochs` trains."""
        match self.scheduler:
            case "none":
                return FullLength()
            case "median":
                return MedianStopping(self.grace_epochs)
            case "asha":
                return Asha(self.grace_epochs, self.reduction_factor, epochs)
            case "promotion":
                return Asha(self.grace_epochs, self.reduction_factor, epochs, promote=True)

    def to_dict(self) -> dict[str, Any]:
        """Fields as JSON types, without `train`, which stands beside them in config.json."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        del values["train"]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any], train: TrainConfig) -> Self:
        """Config of what config.json says of a search, of this version or an earlier one.

        Raises:
            InputError: a key is unknown, or a value is of another type or out of range.
        """
        fields = cls.renamed_keys(values)
        for name in BESIDE_THE_FIELDS:
            fields.pop(name, None)

        check_fields(cls.__name__, fields, cls)
        return cls(**fields, train=train)

    @staticmethod
    def renamed_keys(values: dict[str, Any]) -> dict[str, Any]:
        """Copy what config.json says of a search, each key under its present name."""
        return {RENAMED_KEYS.get(name, name): value for name, value in values.items()}


PRESETS: dict[str, SearchConfig] = {
    # Minutes on two CPU threads: short runs on 10,000 images.
    "demo": SearchConfig(
        space="quick",
        trials=14,
        time_budget_min=4,
        retrain_epochs=6,
        train=TrainConfig(epochs=6, train_images=10_000),
    ),
    # Some hours on a laptop's CPU.
    "laptop": SearchConfig(
        space="standard",
        trials=40,
        retrain_epochs=20,
        train=TrainConfig(epochs=9),
    ),
    # An hour on one GPU.
    "gpu": SearchConfig(
        space="wide",
        trials=100,
        retrain_epochs=27,
        train=TrainConfig(epochs=27),
    ),
}
