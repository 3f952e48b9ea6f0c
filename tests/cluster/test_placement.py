"""How many workers a job gets, on clusters that are only described."""

import pytest

from cluster.placement import Placement, Resources, place
from fmnist.errors import InputError


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
def test_one_worker_per_gpu_else_one_per_node(
    resources: Resources, workers: str, expected: Placement
) -> None:
    batch = 128 if not expected.min_workers else 0
    if workers == "3":
        batch = 129
    assert place(resources, workers, global_batch_size=batch) == expected


@pytest.mark.parametrize(
    "resources", [Resources((2,)), Resources((8,), 2), Resources((8,), 1, gpus_to_come=1)]
)
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
    with pytest.raises(
        InputError, match="gpus_per_worker=1: the cluster has 8 CPU threads, 0 GPUs; give 0"
    ):
        place(Resources((8,)), "1", 1.0)
    assert place(Resources((8,), 2), "4", 0) == Placement(4, 2)
