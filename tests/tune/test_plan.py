"""The plan is fed speeds; only the measuring itself needs Ray, and the search's own test does that."""

import random
import statistics

import pytest

from cluster.connect import Resources
from fmnist.config import TrainConfig
from tune.plan import MOST_TRIALS, Speeds, gpu_share, guess, make_plan, plan_lines
from tune.presets import SearchConfig

SEARCH = SearchConfig(trials=30, base=TrainConfig(epochs=9, validation_images=500))


def test_nobody_stops_without_rungs_and_time_is_shared_out() -> None:
    search = SearchConfig(grace_epochs=9, base=TrainConfig(epochs=9))
    seconds, epochs = guess(search, [10.0] * 8, 1, 9, 2, random.Random(0))
    assert epochs == 72
    assert seconds == pytest.approx(8 * 9 * 10 / 2, rel=0.02)


def test_halving_saves_most_of_the_epochs() -> None:
    epochs = [guess(SEARCH, [10.0] * 30, 1, 9, 2, random.Random(seed))[1] for seed in range(10)]
    assert 30 < statistics.median(epochs) < 0.6 * 30 * 9


def test_early_epochs_on_a_share_of_the_images_take_less() -> None:
    search = SearchConfig(scheduler="none", base=TrainConfig(epochs=4, early_epochs=2, early_share=0.5))
    seconds, epochs = guess(search, [10.0] * 8, 0.5, 4, 1, random.Random(0), start_s=0.0)
    assert epochs == 32
    assert seconds == pytest.approx(8 * (2 * 5 + 2 * 10))


@pytest.mark.parametrize(
    ("peak_gb", "total_gb", "trials"),
    [(0.0001, 80, MOST_TRIALS), (6, 80, 11), (20, 80, 3), (30, 80, 2), (60, 80, 1), (200, 80, 1), (3, 16, 4), (0.3, 8, 7)],
)
def test_trials_are_packed_by_memory(peak_gb: float, total_gb: float, trials: int) -> None:
    share = gpu_share(int(peak_gb * 1e9), int(total_gb * 1e9))
    assert int(1 / share) == trials
    assert trials * share <= 1
    assert trials == 1 or trials * (peak_gb + 0.7) <= total_gb


def plan_for(trials: int, **changes: float) -> list[str]:
    configs = [SEARCH.base.replace(model="lenet" if number % 2 else "airnet") for number in range(trials)]
    speeds = Speeds({("airnet", ()): 1000.0, ("lenet", ()): 10000.0}, {("airnet", ()): 2000.0, ("lenet", ()): 15000.0}, 5.0)
    resources = Resources((2, 1, 1))
    plan = make_plan(SEARCH, configs, 10000, 60000, speeds, 4, 1, resources)
    assert plan.worst_epochs == trials * 9
    assert trials <= plan.expected_epochs <= trials * 9
    return plan_lines(plan, resources, changes.get("price", 0.0), 0.0)


def test_the_plan_says_what_is_going_to_happen() -> None:
    lines = plan_for(30, price=4.0)
    text = "\n".join(lines)
    for words in (
        "30 of up to 9 epochs on 10,000 images; rungs at 1, 3",
        "4, on 3 nodes, 4 CPU threads, 0 GPUs",
        "270 if no trial",
    ):
        assert words in text
    minutes = float(text.split("minutes      about ")[1].split(":")[0])
    money = float(text.split("money        about ")[1].split(",")[0])
    assert money == pytest.approx(minutes / 60 * 4 * 3, abs=0.05)
    assert minutes > 4.5  # the winner alone: 9 epochs of 60,000 images at 2,000 a second
    assert "money" not in "\n".join(plan_for(30))
