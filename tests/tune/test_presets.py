import dataclasses
import json
from typing import Any

import pytest

from fmnist.config import TrainConfig
from fmnist.errors import InputError
from tune.presets import PRESETS, Scheduler, SearchConfig
from tune.rules.asha import Asha
from tune.rules.full_length import FullLength
from tune.rules.median import MedianStopping

OLD_SEARCH: dict[str, Any] = {
    "space": "quick",
    "searcher": "random",
    "scheduler": "asha",
    "trials": 14,
    "grace_epochs": 1,
    "reduction_factor": 3,
    "concurrent_trials": 0,
    "gpus_per_trial": 0.25,
    "workers_per_trial": 0,
    "time_budget": 4,
    "max_epochs_total": 0,
    "target_accuracy": 0.0,
    "warm_start": "",
    "search_seed": 0,
    "retrain_epochs": 6,
    "space_values": {"lr": [0.1]},
    "first": [],
}
"""The search in a config.json that an earlier version wrote."""


def test_a_config_is_read_as_it_was_written() -> None:
    for config in (*PRESETS.values(), SearchConfig(time_budget_min=1.5, target_accuracy=0.9)):
        written = json.loads(json.dumps(config.to_dict()))

        assert "train" not in written
        assert SearchConfig.from_dict(written, config.train) == config


def test_a_config_of_an_earlier_version_is_read() -> None:
    train = TrainConfig(epochs=6)
    expected = SearchConfig(
        searcher="random",
        scheduler="asha",
        trials=14,
        time_budget_min=4,
        retrain_epochs=6,
        train=train,
    )

    assert SearchConfig.from_dict(OLD_SEARCH, train) == expected
    assert SearchConfig.renamed_keys(OLD_SEARCH)["time_budget_min"] == 4
    assert OLD_SEARCH["time_budget"] == 4, "it is copied"


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"time": 1}, "no field 'time'"), ({"trials": "many"}, "trials='many'")],
)
def test_a_damaged_config_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        SearchConfig.from_dict(OLD_SEARCH | changes, TrainConfig())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trials": 0}, "trials=0: it must be at least 1"),
        ({"grace_epochs": 0}, "grace_epochs=0: it must be at least 1"),
        ({"reduction_factor": 1}, "reduction_factor=1: it must be at least 2"),
        ({"concurrent_trials": -1}, "concurrent_trials=-1: it must be at least 0"),
        ({"workers_per_trial": -1}, "workers_per_trial=-1"),
        ({"time_budget_min": -0.1}, "time_budget_min=-0.1"),
        ({"max_epochs_total": -1}, "max_epochs_total=-1"),
        ({"search_seed": -1}, "search_seed=-1"),
        ({"retrain_epochs": -1}, "retrain_epochs=-1"),
        ({"target_accuracy": 92.0}, "target_accuracy=92.0: it must be a fraction"),
        ({"gpus_per_trial": 1.5}, "gpus_per_trial=1.5: it must be from 0 to 1"),
        ({"searcher": "tpee"}, "did you mean 'tpe'"),
        ({"scheduler": "ashaa"}, "did you mean 'asha'"),
        ({"train": TrainConfig(validation_images=0)}, "train.validation_images=0"),
    ],
)
def test_values_out_of_range_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        SearchConfig(**changes)


@pytest.mark.parametrize(
    ("scheduler", "kind", "rungs"),
    [
        ("asha", Asha, [2, 8]),
        ("promotion", Asha, [2, 8]),
        ("median", MedianStopping, []),
        ("none", FullLength, []),
    ],
)
def test_the_scheduler_decides_on_the_rule(
    scheduler: Scheduler, kind: type, rungs: list[int]
) -> None:
    rule = SearchConfig(scheduler=scheduler, grace_epochs=2, reduction_factor=4).rule(9)

    assert type(rule) is kind
    assert rule.rungs == rungs

    # Both forms of ASHA are one class.
    if isinstance(rule, Asha):
        assert rule.promote == (scheduler == "promotion")
    if isinstance(rule, MedianStopping):
        assert rule.grace_epochs == 2


def test_every_flag_stands_under_a_topic() -> None:
    for field in dataclasses.fields(SearchConfig):
        assert field.name == "train" or field.metadata["topic"], field.name
