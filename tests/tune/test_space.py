import io
import tomllib
from pathlib import Path

import pytest
from rich.console import Console

from fmnist.config import Problem, TrainConfig
from fmnist.errors import InputError
from fmnist.models import build_model
from tune.presets import PRESETS
from tune.searchers.sobol import candidates
from tune.space import SPACES, candidate_of, list_spaces, load_space, walk

RATES = {"nesterov": (0.02, 0.4), "adamw": (0.001, 0.01)}


@pytest.mark.parametrize("name", ["quick", "standard", "wide"])
def test_every_candidate_builds(name: str) -> None:
    drawn = candidates(load_space(name, TrainConfig()), 60, seed=1)
    for candidate in drawn:
        build_model(TrainConfig().replace(**candidate), Problem(10))
        low, high = RATES[candidate["optimizer"]]
        assert low <= candidate["lr"] <= high

    for field in drawn[0]:
        values = {str(candidate[field]) for candidate in drawn}
        assert len(values) > 1, f"{field} is never varied"


def test_presets_name_spaces_that_are_there() -> None:
    assert {preset.space for preset in PRESETS.values()} <= set(SPACES)


def test_which_configs_lie_in_a_space() -> None:
    space = SPACES["quick"]
    (candidate,) = candidates(space, 1, seed=0)
    config = TrainConfig().replace(**candidate)

    assert candidate_of(space, config) == candidate
    assert candidate_of(space, config.replace(lr=0.5)) is None
    assert candidate_of(space, config.replace(shift=0)) is None
    assert candidate_of(space, config.replace(model="mycnn", widths=())) is None


def test_the_ends_of_a_range_lie_in_it() -> None:
    space = {"lr": {"low": 0.02, "high": 0.4}}
    for lr, inside in ((0.02, True), (0.4, True), (0.0199, False), (0.401, False)):
        assert (candidate_of(space, TrainConfig(lr=lr)) is not None) == inside


def test_a_domain_has_a_name_of_its_own_for_each_case() -> None:
    space = {
        "optimizer": ["adamw"],
        "lr": {"by": "optimizer", "adamw": [0.1], "sgd": [0.2]},
        "shift": {"by": "optimizer", "adamw": {"by": "lr", "0.1": [1]}},
    }
    names: list[str] = []

    def choose_first(name: str, domain: list[object]) -> object:
        names.append(name)
        return domain[0]

    assert walk(space, choose_first) == {"optimizer": "adamw", "lr": 0.1, "shift": 1}
    assert names == ["optimizer", "lr, optimizer=adamw", "shift, optimizer=adamw, lr=0.1"]


OWN = """
model = ["lenet", "airnet"]
optimizer = ["muon"]
lr = { low = 0.001, high = 0.02 }

[widths]
by = "model"
lenet = [[]]
airnet = [[8, 16, 32], [16, 32, 64]]
"""


def write_space(folder: Path, text: str) -> str:
    path = folder / "space.toml"
    path.write_text(text)
    return str(path)


def test_a_space_of_ones_own(tmp_path: Path) -> None:
    drawn = candidates(load_space(write_space(tmp_path, OWN), TrainConfig()), 40, seed=0)

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
        ("lr = { low = 0.1, high = 0.1 }", "a range is"),
        ("lr = { low = 0.0, high = 0.1 }", "a range is"),
        ("lr = { low = 0.1 }", "a range is"),
        ('lr = { low = 0.1, high = "1" }', "a range is"),
        ("lr = { low = 0.1, high = 0.2, step = 0.1 }", "a range is"),
        ("momentum = { low = 0.5, high = 1.5 }", "momentum=1.5: it must be from 0"),
        ("lr = 0.1", "give a list of values"),
        ("lr = []", "give a list of values"),
        ('lr = ["fast"]', "'fast' is a str, but lr is a float"),
        ('model = ["lenet", "airnett"]', "did you mean 'airnet'"),
        (
            'lr = { by = "model", lenet = [0.1] }',
            "by='model' must be a field that stands before it",
        ),
        (
            'model = ["lenet", "airnet"]\nlr = { by = "model", lenet = [0.1] }',
            "nothing for model='airnet'",
        ),
        ("", "it is empty"),
        ("lr = [", "cannot be read"),
    ],
)
def test_what_is_wrong_with_a_space_is_said(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        load_space(write_space(tmp_path, text), TrainConfig())


@pytest.mark.parametrize(
    "text",
    [
        "lr = [1, 0.5]",
        "lr = { low = 1, high = 2 }",
        "widths = [[8, 16, 32]]",
        'class_weights = ["equal", "balanced"]',
        "validation_images = [1000]",
    ],
)
def test_a_value_may_have_the_type_that_toml_has_for_it(text: str, tmp_path: Path) -> None:
    name = write_space(tmp_path, text)
    assert load_space(name, TrainConfig()) == tomllib.loads(text)


def test_unknown_spaces() -> None:
    with pytest.raises(InputError, match="did you mean 'quick'"):
        load_space("quik", TrainConfig())
    with pytest.raises(InputError, match="cannot be read"):
        load_space("none.toml", TrainConfig())


def test_the_list_is_whole_at_80_columns() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    list_spaces(console)

    text = console.export_text()
    assert "…" not in text
    for words in ("--space report-e", "0.02 to 0.4", "resnet18_imagenet", "128-256-512", "–"):
        assert words in text
