"""The driver's side of a job: its messages, and what it makes of deaths."""

import io
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from rich.console import Console

from cluster.job import MAX_FAILURES, Watch, root_cause
from cluster.messages import (
    JobFailed,
    Message,
    Notice,
    WorkersDied,
    WorkersStarted,
    decode,
    encode,
)
from cluster.placement import Placement
from fmnist.errors import FailedError, InputError
from fmnist.training.metrics import EpochMetrics, EpochReport, StepReport
from fmnist.training.progress import TrainingBar
from fmnist.training.tensorboard import Board

METRICS = EpochMetrics(
    epoch=1,
    train_loss=1.0,
    train_accuracy=0.5,
    validation_loss=1.0,
    validation_accuracy=0.5,
    lr=0.1,
    images_per_s=1.0,
    seconds=1.0,
)
STARTED, DIED = WorkersStarted(0, 2), WorkersDied("worker 1 died: gone")


@pytest.mark.parametrize(
    "message",
    [
        STARTED,
        DIED,
        Notice("reading: the storage does not answer"),
        JobFailed("lr is too high", bad_input=True),
        StepReport(1, 2, 3, 0.5, 0.25, 1000.0),
        EpochReport(METRICS, kept_epoch=1),
    ],
)
def test_messages_travel_as_plain_values(message: Message) -> None:
    values = encode(message)
    assert all(isinstance(value, str | int | float | bool) for value in values.values())
    assert decode(values) == message


def listen(folder: Path, messages: list[Message]) -> str:
    """What a job's driver prints; raises what the job ends with."""
    queue: SimpleQueue[Any] = SimpleQueue()
    for message in messages:
        queue.put(encode(message))
    screen, over = io.StringIO(), threading.Event()
    over.set()
    with Board(folder) as board:
        bar = TrainingBar(3, "lenet", Console(file=screen, width=200))
        watch = Watch(queue, bar, board, Placement(2))  # pyright: ignore[reportArgumentType]
        try:
            watch.wait_for(lambda: None, over.set)
        except Exception as error:
            error.add_note(screen.getvalue())
            raise
    return screen.getvalue()


def test_workers_may_die_often_but_not_within_an_epoch(tmp_path: Path) -> None:
    epoch = EpochReport(METRICS, kept_epoch=1)
    survived: list[Message] = [*[STARTED, DIED] * MAX_FAILURES, STARTED, epoch]
    messages = [*survived * 3, *[STARTED, DIED] * (MAX_FAILURES + 1)]
    words = "workers died 4 times within one epoch; last: worker 1 died: gone"
    with pytest.raises(FailedError, match=words) as failed:
        listen(tmp_path, messages)
    printed = failed.value.__notes__[0]
    assert printed.count("worker 1 died: gone; starting workers anew") == 4 * MAX_FAILURES


def test_what_the_user_can_mend_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lenet: lr is too high"):
        listen(tmp_path, [STARTED, JobFailed("lr is too high", bad_input=True)])
    with pytest.raises(FailedError, match="the disk is full"):
        listen(tmp_path, [STARTED, JobFailed("the disk is full", bad_input=False)])


def test_a_notice_is_printed_as_it_is(tmp_path: Path) -> None:
    assert "[bold] is no markup here" in listen(tmp_path, [Notice("[bold] is no markup here")])


def test_a_lost_peer_is_not_the_cause() -> None:
    errors: dict[int, Exception] = {
        0: RuntimeError("[gloo] Connection closed by peer"),
    }
    assert root_cause(errors) == "worker 0 lost another one"
    assert root_cause({1: RuntimeError("first\nlast line")}) == "worker 1: last line"
