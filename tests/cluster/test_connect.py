import io
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from rich.console import Console

from cluster.connect import Resources
from cluster.job import MAX_FAILURES, Placement, Watch, place
from fmnist.board import Board
from fmnist.errors import FailedError, InputError
from fmnist.loop import EpochMetrics
from fmnist.progress import TrainingBar
from tests.conftest import Outcome


@pytest.mark.parametrize(
    ("resources", "workers", "expected"),
    [
        (Resources((2,)), "", Placement(1, 2)),
        (Resources((8,)), "2", Placement(2, 4)),
        (Resources((8, 8)), "", Placement(2, 8)),
        (Resources((0, 8, 8)), "", Placement(2, 8)),  # a head that only steers
        (Resources((8, 8)), "3", Placement(3, 4)),
        (Resources((8, 2)), "", Placement(2, 4)),  # both on the large one
        (Resources((8, 8, 8)), "", Placement(2, 8)),  # three do not share 128 images evenly
        (Resources((2, 2)), "1:4", Placement(4, 1, 0, 1)),
        (Resources((2,)), "1:4", Placement(4, 1, 0, 1)),  # as many as there is room for now
        (Resources((64,), 8), "", Placement(8, 1, 1)),
        (Resources((64,), 8), "2", Placement(2, 1, 1)),
        (Resources((4,), 0, gpus_to_come=8), "2", Placement(2, 1, 1)),
        (Resources((4,), 0, gpus_to_come=8), "", Placement(1, 1, 1)),
        (Resources((4, 16), 1, gpus_to_come=7), "1:8", Placement(8, 1, 1, 1)),
    ],
)
def test_one_worker_per_gpu_else_one_per_node(resources: Resources, workers: str, expected: Placement) -> None:
    batch = 128 if not expected.min_workers else 0
    if workers == "3":
        batch = 129
    assert place(resources, workers, global_batch_size=batch) == expected


@pytest.mark.parametrize("resources", [Resources((2,)), Resources((8,), 2), Resources((8,), 1, gpus_to_come=1)])
def test_more_workers_than_there_will_ever_be_room_for(resources: Resources) -> None:
    for workers in ("3", "3:4"):
        with pytest.raises(InputError, match=f"workers={workers}: the cluster has"):
            place(resources, workers)


@pytest.mark.parametrize(
    ("workers", "gpus", "words"),
    [
        ("two", None, "workers='two': give a number, or MIN:MAX"),
        ("4:2", None, "workers='4:2'"),
        ("0:2", None, "workers='0:2'"),
        ("-1", None, "workers='-1'"),
        ("2", 0.5, "NCCL refuses two workers on one GPU"),
        ("1", 2.0, "gpus_per_worker=2: a worker computes on one GPU at most"),
        ("3", None, "global_batch_size=128: it must be a multiple of the 3 workers"),
        ("1:4", None, "global_batch_size=128: it must be a multiple of the 3 workers"),
    ],
)
def test_workers_that_cannot_be(workers: str, gpus: float | None, words: str) -> None:
    with pytest.raises(InputError) as raised:
        place(Resources((64,), 8), workers, gpus, global_batch_size=128)
    assert words in str(raised.value)


def test_gpus_asked_for_where_there_are_none() -> None:
    with pytest.raises(InputError, match="gpus_per_worker=1: the cluster has 8 CPU threads, 0 GPUs; give 0"):
        place(Resources((8,)), "1", 1.0)
    assert place(Resources((8,), 2), "4", 0) == Placement(4, 2)


def test_workers_may_die_often_but_not_within_an_epoch(tmp_path: Path) -> None:
    start, died = ("start", {"epochs_done": 0, "workers": 2}), ("died", "worker 1 died: gone")
    metrics = EpochMetrics(
        epoch=1,
        train_loss=1.0,
        train_accuracy=0.5,
        validation_loss=1.0,
        validation_accuracy=0.5,
        lr=0.1,
        images_per_s=1.0,
        seconds=1.0,
    )
    epoch = ("epoch", metrics.to_dict())
    told: SimpleQueue[Any] = SimpleQueue()
    for said in ([start, died] * MAX_FAILURES + [start, epoch]) * 3 + [start, died] * (MAX_FAILURES + 1):
        told.put(said)
    screen, over = io.StringIO(), threading.Event()
    with Board(tmp_path) as board:
        bar = TrainingBar(3, "lenet", Console(file=screen, width=200))
        watch = Watch(told, bar, board, Placement(2))  # pyright: ignore[reportArgumentType]
        with pytest.raises(FailedError, match="workers died 4 times within one epoch; last: worker 1 died: gone"):
            watch.wait_for(over.wait, over.set)
    assert screen.getvalue().count("worker 1 died: gone; starting workers anew") == 4 * MAX_FAILURES


def test_an_address_where_nothing_answers(call: Callable[..., Outcome], tmp_path: Path) -> None:
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:port"):
        done = call("cluster.train", "--address", address, "--validation-images", 500)
        assert done.code == 2
        assert f"address='{address}'" in done.output
        assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("storage", "words"),
    [
        ("/proc/nothing", "storage='/proc/nothing': it cannot be written to"),
        ("gs://bucket/runs", "storage='gs://bucket/runs': gs:// is not known; give a folder, or s3://BUCKET/PREFIX"),
        ("s3://", "storage='s3://': it names no bucket"),
    ],
)
def test_a_storage_that_cannot_be(call: Callable[..., Outcome], tmp_path: Path, storage: str, words: str) -> None:
    for module in ("cluster.train", "tune.search"):
        done = call(module, "--storage", storage)
        assert done.code == 2
        assert words in done.output
        assert not (tmp_path / "runs").exists()
