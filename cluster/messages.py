"""Messages from the workers of a DDP job, and from Ray Train's controller, to the driver.

They travel through a queue as plain dicts: the queue's own process then need not import PyTorch.
"""

from dataclasses import asdict, dataclass
from typing import Any, Self

from fmnist.training.metrics import EpochReport, StepReport


class _Plain:
    """A message whose fields are plain values."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)  # pyright: ignore[reportArgumentType]  # every subclass is a dataclass

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        return cls(**values)


@dataclass(frozen=True)
class WorkersStarted(_Plain):
    """All workers are up and begin to train."""

    epochs_done: int
    workers: int


@dataclass(frozen=True)
class WorkersDied(_Plain):
    """One or more workers died; Ray Train starts all of them anew."""

    reason: str


@dataclass(frozen=True)
class Notice(_Plain):
    """A line for the console."""

    line: str


@dataclass(frozen=True)
class JobFailed(_Plain):
    """The job cannot go on, and would not if it were tried again."""

    reason: str
    bad_input: bool
    """The user's input is at fault; else a machine, a disk or a network is."""


Message = WorkersStarted | WorkersDied | Notice | JobFailed | StepReport | EpochReport
MESSAGES: dict[str, type[Message]] = {
    "started": WorkersStarted,
    "died": WorkersDied,
    "notice": Notice,
    "failed": JobFailed,
    "step": StepReport,
    "epoch": EpochReport,
}


def encode(message: Message) -> dict[str, Any]:
    """A message as a dict of plain values."""
    for kind, message_type in MESSAGES.items():
        if isinstance(message, message_type):
            return {"kind": kind} | message.to_dict()
    raise TypeError(f"{message!r} is no message")


def decode(values: dict[str, Any]) -> Message:
    """The message that `encode` made a dict of."""
    fields = dict(values)
    message_type = MESSAGES[fields.pop("kind")]
    return message_type.from_dict(fields)
