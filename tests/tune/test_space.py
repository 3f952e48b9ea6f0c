import random
from typing import get_args

import pytest

from fmnist.config import TrainConfig
from fmnist.errors import InputError
from fmnist.models import build_model
from tune.presets import PRESETS, PresetName, SpaceName
from tune.space import SPACES, candidates, sample


def test_registries_hold_what_the_configs_name() -> None:
    assert set(SPACES) == set(get_args(SpaceName))
    assert set(PRESETS) == set(get_args(PresetName))


@pytest.mark.parametrize("name", sorted(SPACES))
def test_every_candidate_builds(name: str) -> None:
    drawn = candidates(SPACES[name], 60, seed=1)
    for candidate in drawn:
        build_model(TrainConfig().replace(**candidate), classes=10)
        low, high = (0.02, 0.4) if candidate["optimizer"] == "nesterov" else (0.001, 0.01)
        assert low <= candidate["lr"] <= high
    for field in ("model", "optimizer", "schedule", "global_batch_size", "lr", "weight_decay", "shift", "erase"):
        assert len({candidate[field] for candidate in drawn}) > 1, f"{field} is never varied"


def test_the_seed_decides() -> None:
    space = SPACES["quick"]
    assert candidates(space, 8, seed=3) == candidates(space, 8, seed=3)
    assert candidates(space, 8, seed=3)[:4] == candidates(space, 4, seed=3)
    assert candidates(space, 8, seed=3) != candidates(space, 8, seed=4)


def test_ranges_are_uniform_in_the_logarithm() -> None:
    source = random.Random(0)
    values = [sample({"lr": {"low": 0.001, "high": 0.1}}, source)["lr"] for _ in range(4000)]
    assert sum(value < 0.01 for value in values) / 4000 == pytest.approx(0.5, abs=0.03)


def test_unknown_fields_are_named() -> None:
    with pytest.raises(InputError, match="learning_rate"):
        sample({"learning_rate": [1]}, random.Random(0))
