"""What a training reports: after each epoch, and about once a second within one.

These are the messages between a training and whoever launched it, in this process or another. They
need no PyTorch, so that a process that only passes them on does not import it.
"""

from dataclasses import asdict, dataclass, fields
from typing import Any, Self

CHARTS = {
    "loss/train": "train_loss",
    "loss/validation": "validation_loss",
    "accuracy/train": "train_accuracy",
    "accuracy/validation": "validation_accuracy",
    "lr": "lr",
    "images_per_s": "images_per_s",
}
"""Charts, and the field of EpochMetrics that each shows."""

WORST_ACCURACY = 0.0
"""The accuracy that a diverged training counts as, where a number is needed."""


class DivergedError(RuntimeError):
    """The training loss is no longer a finite number."""


@dataclass(frozen=True, slots=True)
class EpochMetrics:
    """One epoch, over all workers; accuracies are fractions."""

    epoch: int
    """1 is the first."""
    train_loss: float
    """Mean over the augmented images as they were trained on, label smoothing included."""
    train_accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None
    lr: float
    """Learning rate of the epoch's last step."""
    images_per_s: float
    """Training alone, without validation."""
    seconds: float
    """Training and validation."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Metrics of a dict that may hold more than `to_dict` gives."""
        return cls(**{one.name: values[one.name] for one in fields(cls)})


@dataclass(frozen=True, slots=True)
class EpochReport:
    """An epoch that a training session has saved, or had saved in an earlier session."""

    metrics: EpochMetrics
    kept_epoch: int
    """The epoch whose weights the model would have if the training ended here."""
    replayed: bool = False
    """It was trained in an earlier session, and is told again: nobody may have heard of it."""

    def to_dict(self) -> dict[str, Any]:
        """Flat, as the history in a state file and Ray Tune have it."""
        values = self.metrics.to_dict() | {"kept_epoch": self.kept_epoch}
        # Left out where it is false, as in state files of older versions.
        if self.replayed:
            values["replayed"] = True
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Report of a dict as `to_dict` gives it; older state files lack `kept_epoch`."""
        metrics = EpochMetrics.from_dict(values)
        return cls(
            metrics,
            kept_epoch=values.get("kept_epoch", metrics.epoch),
            replayed=values.get("replayed", False),
        )


@dataclass(frozen=True, slots=True)
class StepReport:
    """Where an epoch stands.

    Sent about once a second: on a cluster each is a message through three processes.
    """

    epoch: int
    step: int
    steps_per_epoch: int
    loss: float
    accuracy: float
    images_per_s: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        return cls(**values)


@dataclass(frozen=True, slots=True)
class TrainingFailed:
    """A training that cannot go on, and would not if it were tried again."""

    epochs: int
    """Epochs that it was to have."""
    reason: str
    diverged: bool = False
    """Its loss is no longer finite; else the config does not fit the data or the machine."""

    @property
    def outcome(self) -> str:
        """The reason as a trial's outcome: "diverged: …" or "error: …"."""
        kind = "diverged" if self.diverged else "error"
        return f"{kind}: {self.reason}"

    def to_dict(self) -> dict[str, Any]:
        """Flat, since Ray Tune flattens what it hands on, and with the keys of every report."""
        return {
            "epoch": self.epochs,
            "validation_accuracy": WORST_ACCURACY,
            "failed": self.reason,
            "diverged": self.diverged,
        }


def parse_report(values: dict[str, Any]) -> EpochReport | TrainingFailed:
    """The message in a dict that a trial reported; Ray adds keys of its own."""
    if "failed" in values:
        return TrainingFailed(values["epoch"], values["failed"], values["diverged"])
    return EpochReport.from_dict(values)
