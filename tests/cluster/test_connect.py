from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.connect import Resources
from cluster.job import Placement, place
from fmnist.errors import InputError
from tests.conftest import Outcome


@pytest.mark.parametrize(
    ("resources", "workers", "expected"),
    [
        (Resources(cpus=2, gpus=0, nodes=1), 0, Placement(1, 2, 0)),
        (Resources(cpus=8, gpus=0, nodes=1), 2, Placement(2, 4, 0)),
        (Resources(cpus=16, gpus=0, nodes=2), 0, Placement(1, 8, 0)),
        (Resources(cpus=64, gpus=8, nodes=1), 0, Placement(8, 1, 1)),
        (Resources(cpus=64, gpus=8, nodes=1), 2, Placement(2, 1, 1)),
    ],
)
def test_one_worker_per_gpu_else_one_in_all(resources: Resources, workers: int, expected: Placement) -> None:
    assert place(resources, workers) == expected


@pytest.mark.parametrize("resources", [Resources(cpus=2, gpus=0, nodes=1), Resources(cpus=8, gpus=2, nodes=1)])
def test_more_workers_than_there_is_room_for(resources: Resources) -> None:
    with pytest.raises(InputError, match="workers=3"):
        place(resources, 3)


def test_an_address_where_nothing_answers(call: Callable[..., Outcome], tmp_path: Path) -> None:
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:port"):
        done = call("cluster.train", "--address", address, "--validation-images", 500)
        assert done.code == 2
        assert f"address='{address}'" in done.output
        assert not (tmp_path / "runs").exists()
