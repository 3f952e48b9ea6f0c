import math
from pathlib import Path

import pytest

from fmnist.config import Problem, TrainConfig
from fmnist.errors import InputError
from fmnist.models import build_model
from tune.presets import PRESETS
from tune.space import SPACES, candidate_of, candidates, grid, load_space


@pytest.mark.parametrize("name", ["quick", "standard", "wide"])
def test_every_candidate_builds(name: str) -> None:
    drawn = candidates(load_space(name, TrainConfig()), 60, seed=1)
    for candidate in drawn:
        build_model(TrainConfig().replace(**candidate), Problem(10))
        low, high = (0.02, 0.4) if candidate["optimizer"] == "nesterov" else (0.001, 0.01)
        assert low <= candidate["lr"] <= high
    for field in ("model", "optimizer", "schedule", "global_batch_size", "lr", "weight_decay", "shift", "erase"):
        assert len({candidate[field] for candidate in drawn}) > 1, f"{field} is never varied"


def test_presets_name_spaces_that_are_there() -> None:
    assert {preset.space for preset in PRESETS.values()} <= set(SPACES)


def test_the_seed_decides() -> None:
    space = SPACES["quick"]
    assert candidates(space, 8, seed=3) == candidates(space, 8, seed=3)
    assert candidates(space, 8, seed=3)[:4] == candidates(space, 4, seed=3)
    assert candidates(space, 8, seed=3) != candidates(space, 8, seed=4)


def test_ranges_are_uniform_in_the_logarithm_and_without_gaps() -> None:
    drawn = candidates({"lr": {"low": 0.001, "high": 0.1}}, 64, seed=0)
    places = sorted(int(32 * math.log(one["lr"] / 0.001) / math.log(100)) for one in drawn)
    assert len(set(places)) >= 31  # independent draws leave four of 32 parts empty


def test_no_candidate_comes_twice() -> None:
    space = {"lr": [0.1, 0.2], "shift": [0, 1, 2]}
    assert len(candidates(space, 100, seed=0)) == 6
    assert len(candidates(space, 4, seed=0)) == 4


def test_a_grid_has_each_candidate_once_shuffled() -> None:
    drawn = grid(SPACES["report-d"], seed=0)
    assert len(drawn) == 27
    assert len({(c["lr"], c["global_batch_size"], c["weight_decay"]) for c in drawn}) == 27
    assert [c["lr"] for c in drawn] != sorted(c["lr"] for c in drawn)
    assert grid(SPACES["report-d"], seed=0) == drawn != grid(SPACES["report-d"], seed=1)
    by = {"model": ["lenet", "airnet"], "widths": {"by": "model", "lenet": [[]], "airnet": [[8, 16, 32], [16, 32, 64]]}}
    assert len(grid(by, seed=0)) == 3
    with pytest.raises(InputError, match="searcher='grid': lr has a range"):
        grid({"lr": {"low": 0.1, "high": 0.2}}, seed=0)


def test_which_configs_lie_in_a_space() -> None:
    space = SPACES["quick"]
    candidate = candidates(space, 1, seed=0)[0]
    config = TrainConfig().replace(**candidate)
    assert candidate_of(space, config) == candidate
    assert candidate_of(space, config.replace(lr=0.5)) is None
    assert candidate_of(space, config.replace(model="mycnn", widths=())) is None


OWN = """
model = ["lenet", "airnet"]
optimizer = ["muon"]
lr = { low = 0.001, high = 0.02 }

[widths]
by = "model"
lenet = [[]]
airnet = [[8, 16, 32], [16, 32, 64]]
"""


def write(folder: Path, text: str) -> str:
    path = folder / "space.toml"
    path.write_text(text)
    return str(path)


def test_a_space_of_ones_own(tmp_path: Path) -> None:
    drawn = candidates(load_space(write(tmp_path, OWN), TrainConfig()), 40, seed=0)
    assert {candidate["model"] for candidate in drawn} == {"lenet", "airnet"}
    for candidate in drawn:
        assert 0.001 <= candidate["lr"] <= 0.02
        assert (candidate["widths"] == []) == (candidate["model"] == "lenet")
        build_model(TrainConfig().replace(**candidate), Problem(10))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("learning_rate = [0.1]", "no field 'learning_rate'"),
        ("lrr = [0.1]", "did you mean 'lr'"),
        ("lr = [0.1, -1.0]", "lr=-1.0: it must be a finite number above 0"),
        ("lr = { low = 0.1, high = 0.01 }", "a range is"),
        ("lr = 0.1", "give a list of values"),
        ('lr = ["fast"]', "'fast' is a str, but lr is a float"),
        ('model = ["lenet", "airnett"]', "did you mean 'airnet'"),
        ('lr = { by = "model", lenet = [0.1] }', "by='model' must be a field that stands before it"),
        ('model = ["lenet", "airnet"]\nlr = { by = "model", lenet = [0.1] }', "nothing for model='airnet'"),
        ("", "it is empty"),
        ("lr = [", "cannot be read"),
    ],
)
def test_what_is_wrong_with_a_space_is_told(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        load_space(write(tmp_path, text), TrainConfig())


def test_unknown_spaces() -> None:
    with pytest.raises(InputError, match="did you mean 'quick'"):
        load_space("quik", TrainConfig())
    with pytest.raises(InputError, match="cannot be read"):
        load_space("none.toml", TrainConfig())
