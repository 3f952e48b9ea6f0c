"""The plan is fed speeds that were never measured."""

import dataclasses
import random
import statistics

import pytest

from cluster.placement import Resources
from fmnist.config import TrainConfig
from tune.planning.plan import LINE_COLUMNS, Machine, Plan, TrialCosts, guess, make_plan, plan_lines
from tune.planning.probe import Speeds
from tune.presets import SearchConfig

SEARCH = SearchConfig(trials=30, train=TrainConfig(epochs=9, validation_images=500))
RESOURCES = Resources((2, 1, 1))


def test_nobody_stops_without_rungs_and_time_is_shared_out() -> None:
    search = SearchConfig(grace_epochs=9, train=TrainConfig(epochs=9))
    played = guess(search, TrialCosts(9, [10.0] * 8), 2, random.Random(0))
    assert played.epochs == 72
    assert played.seconds == pytest.approx(8 * 9 * 10 / 2, rel=0.02)


def test_halving_saves_most_of_the_epochs() -> None:
    costs = TrialCosts(9, [10.0] * 30)
    epochs = [guess(SEARCH, costs, 2, random.Random(seed)).epochs for seed in range(10)]
    assert 30 < statistics.median(epochs) < 0.6 * 30 * 9


def test_early_epochs_on_a_share_of_the_images_take_less() -> None:
    search = SearchConfig(scheduler="none", train=TrainConfig(epochs=4))
    costs = TrialCosts(4, [10.0] * 8, early_epochs=2, early_cost=0.5, start_s=0.0)
    played = guess(search, costs, 1, random.Random(0))
    assert played.epochs == 32
    assert played.seconds == pytest.approx(8 * (2 * 5 + 2 * 10))


def plan_of(search: SearchConfig, trials: int) -> Plan:
    configs: list[TrainConfig] = []
    for number in range(trials):
        model = "lenet" if number % 2 else "airnet"
        configs.append(search.train.replace(model=model))

    speeds = Speeds(
        trial={"airnet": 1000.0, "lenet": 10000.0},
        alone={"airnet": 2000.0, "lenet": 15000.0},
        start_s=5.0,
    )
    return make_plan(search, configs, 10_000, 60_000, speeds, Machine(RESOURCES, 4, 1))


def test_the_plan_says_what_is_going_to_happen() -> None:
    plan = plan_of(SEARCH, 30)

    assert plan.worst_epochs == 30 * 9
    assert 30 <= plan.expected_epochs <= 30 * 9
    # The winner's training alone: 9 epochs of 60,000 images at 2,000 a second.
    assert plan.minutes > 4.5

    text = "\n".join(plan_lines(plan, RESOURCES, 4.0, 0.0))
    for words in (
        "30 of up to 9 epochs on 10,000 images; rungs at 1, 3",
        "4, on 3 nodes, 4 CPU threads, 0 GPUs",
        "270 if no trial",
        "airnet 1,000\n",
        "lenet 10,000\n",
        f"minutes      about {plan.minutes:.1f}: search",
        f"money        about {plan.minutes / 60 * 4 * 3:.2f}, at 4 an hour for each of 3 nodes",
    ):
        assert words in text

    assert "time budget" not in text
    assert "money" not in "\n".join(plan_lines(plan, RESOURCES, 0.0, 0.0))


def test_the_winner_has_its_own_epochs_and_workers() -> None:
    plan = plan_of(SEARCH, 30)
    retrain_s = plan.retrain_s
    start_s = 5.0 * 2  # Ray Train's 8 processes on 4 CPU threads.
    assert retrain_s == pytest.approx(start_s + 9 * 60_000 / 2000)

    longer = plan_of(dataclasses.replace(SEARCH, retrain_epochs=18), 30)
    assert longer.retrain_s - start_s == pytest.approx(2 * (retrain_s - start_s))


def test_the_time_budget_bounds_the_search() -> None:
    limited = plan_of(dataclasses.replace(SEARCH, time_budget_min=0.5), 30)
    assert limited.search_s == 30.0

    text = "\n".join(plan_lines(limited, RESOURCES, 0.0, 0.5))
    assert "search 0.5 (at most 0.5, the time budget)" in text


def test_early_epochs_are_planned_and_named() -> None:
    train = SEARCH.train.replace(early_epochs=3, early_share=0.5)
    plan = plan_of(dataclasses.replace(SEARCH, scheduler="none", train=train), 8)
    whole = plan_of(dataclasses.replace(SEARCH, scheduler="none"), 8)
    assert 0.8 < plan.search_s / whole.search_s < 0.9, "a third of the epochs take half the time"
    assert plan.early == "epochs to 3 on 50% of them, others each time"

    lines = plan_lines(plan, RESOURCES, 0.0, 0.0)
    assert lines[1].startswith("images       epochs to 3 on 50% of them")


def test_every_line_is_whole_at_80_columns() -> None:
    plan = Plan(
        trials=100_000,
        rungs=[3**power for power in range(12)],
        at_once=1000,
        epochs=200_000,
        images=55_000,
        early="epochs to 2 on 40% of them, others each time",
        worst_epochs=2_000_000_000,
        expected_epochs=123_456_789.0,
        search_s=6e7,
        retrain_s=3e7,
        speeds={"resnet18_imagenet 64-128-256-512": 1234.5, "lenet": 10.0},
    )
    resources = Resources((64,) * 1000, gpus=8000, gpus_to_come=4000)
    lines = plan_lines(plan, resources, 123.45, 1e6)

    assert all(len(line) <= LINE_COLUMNS for line in lines)
    assert "             resnet18_imagenet 64-128-256-512 1,234" in lines
    assert all(line[12] == " " and line[13] != " " for line in lines)
