"""The measuring itself needs Ray; the search's own test does it."""

import pytest

from fmnist.config import TrainConfig
from tune.planning.probe import MOST_TRIALS, Speeds, gpu_share, speed_of


@pytest.mark.parametrize(
    ("peak_gb", "total_gb", "trials"),
    [
        (0.0001, 80, MOST_TRIALS),
        (6, 80, 11),
        (20, 80, 3),
        (30, 80, 2),
        (60, 80, 1),
        (200, 80, 1),
        (3, 16, 4),
        (0.3, 8, 7),
    ],
)
def test_trials_are_packed_by_memory(peak_gb: float, total_gb: float, trials: int) -> None:
    share = gpu_share(int(peak_gb * 1e9), int(total_gb * 1e9))

    assert int(1 / share) == trials
    assert trials * share <= 1
    assert trials == 1 or trials * (peak_gb + 0.7) <= total_gb


def test_a_network_that_was_not_measured_has_the_median_speed() -> None:
    speeds = {"airnet 8": 100.0, "lenet": 400.0, "mycnn": 300.0}

    assert speed_of(speeds, TrainConfig(model="lenet")) == 400.0
    assert speed_of(speeds, TrainConfig(model="resnet18")) == 300.0


@pytest.mark.parametrize(("cpus", "job_start_s"), [(1, 40.0), (3, 15.0), (8, 5.0), (0, 40.0)])
def test_trials_that_are_ddp_jobs_share_the_work(cpus: int, job_start_s: float) -> None:
    one = Speeds(trial={"lenet": 100.0}, alone={"lenet": 150.0}, start_s=5.0)
    several = one.shared_by(workers=2, cpus=cpus)

    assert several.trial == {"lenet": 200.0}
    assert several.alone == one.alone
    assert several.start_s == 5.0
    assert several.trial_start_s == job_start_s
