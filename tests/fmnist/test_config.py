"""TrainConfig: what it accepts, and what it depends on."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from typing import Any, get_args

import pytest

from fmnist.config import InitName, ModelName, OptimizerName, Problem, ScheduleName, TrainConfig
from fmnist.errors import InputError
from fmnist.models import MODELS
from fmnist.recipes import RECIPES
from fmnist.training.initial_weights import INITS
from fmnist.training.optimizers import OPTIMIZERS
from fmnist.training.schedules import SCHEDULES
from tests.conftest import ROOT


def test_round_trip_through_json() -> None:
    config = TrainConfig(widths=(8, 16, 32), lr=0.07, flip=False, class_weights=(1.0, 2.0))
    text = json.dumps(config.to_dict())
    assert TrainConfig.from_dict(json.loads(text)) == config


@pytest.mark.parametrize(
    ("names", "registry"),
    [
        (ModelName, MODELS),
        (OptimizerName, OPTIMIZERS),
        (ScheduleName, SCHEDULES),
        (InitName, INITS),
    ],
    ids=["models", "optimizers", "schedules", "inits"],
)
def test_registries_have_the_names_of_the_config(names: Any, registry: Iterable[str]) -> None:
    assert sorted(get_args(names)) == sorted(registry)


def test_the_config_imports_errors_alone() -> None:
    script = (
        "import sys, fmnist.config; "
        "print(*sorted(name for name in sys.modules if name.startswith('fmnist')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert done.stdout.split() == ["fmnist", "fmnist.config", "fmnist.errors"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("lr", "fast"), ("epochs", 1.5), ("epochs", True), ("flip", 1), ("widths", ["8"])],
)
def test_values_of_another_type_are_refused(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"TrainConfig: {field}="):
        TrainConfig.from_dict({field: value})


def test_what_is_no_dict_is_refused() -> None:
    with pytest.raises(InputError, match="where its fields should be"):
        TrainConfig.from_dict([])  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("changes", [{"classes": 1}, {"channels": 2}, {"height": 0}, {"width": 0}])
def test_a_problem_is_checked(changes: dict[str, int]) -> None:
    ((field, value),) = changes.items()
    with pytest.raises(InputError, match=f"{field}={value}"):
        Problem(**({"classes": 10} | changes))


def test_the_shape_of_an_image() -> None:
    assert Problem(10).image_shape == (28, 28)
    assert Problem(10, 3, 24, 32).image_shape == (3, 24, 32)


def test_unknown_keys_are_rejected_by_name() -> None:
    with pytest.raises(InputError, match="learning_rate"):
        TrainConfig.from_dict({"learning_rate": 0.1})
    with pytest.raises(InputError, match="batch"):
        TrainConfig().replace(batch=3)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "vgg"),
        ("optimizer", "lion"),
        ("schedule", "never"),
        ("precision", "int8"),
        ("widths", (8, 0, 8)),
        ("epochs", 0),
        ("global_batch_size", 1),
        ("lr", 0.0),
        ("lr", float("nan")),
        ("lr", -0.1),
        ("lr_factor", 1.0),
        ("step_epochs", 0),
        ("plateau_epochs", -1),
        ("early_stopping", -1),
        ("ema", 1.0),
        ("class_weights", "heavy"),
        ("class_weights", (1.0, 0.0)),
        ("momentum", 1.0),
        ("weight_decay", -1e-4),
        ("warmup", 1.5),
        ("label_smoothing", 1.0),
        ("shift", -1),
        ("erase", -0.1),
        ("erase_area", 0.01),
        ("cutmix", 1.1),
        ("early_share", 0.0),
        ("early_epochs", -1),
        ("erase_fill", "black"),
        ("rotate", 181.0),
        ("scale", 1.0),
        ("dropout", 1.0),
        ("init", "zeros"),
        ("normalisation", "imagenet"),
        ("watch", "f1"),
        ("train_images", -1),
        ("validation_images", -1),
        ("seed", -1),
        ("threads", -1),
    ],
)
def test_bad_values_name_field_and_value(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=field) as caught:
        TrainConfig(**{field: value})
    assert str(value) in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "nearest"),
    [
        ("model", "lennet", "lenet"),
        ("optimizer", "nesterof", "nesterov"),
        ("schedule", "cosin", "cosine"),
    ],
)
def test_the_nearest_name_is_suggested(field: str, value: str, nearest: str) -> None:
    with pytest.raises(InputError, match=f"did you mean '{nearest}'"):
        TrainConfig().replace(**{field: value})
    with pytest.raises(InputError, match="did you mean 'lr'"):
        TrainConfig().replace(lrr=1.0)


def test_early_stopping_needs_something_to_watch() -> None:
    with pytest.raises(InputError, match="early_stopping=2"):
        TrainConfig(early_stopping=2, validation_images=0)


def test_recipes_are_checked_configs() -> None:
    assert {"airnet-quick", "e-lenet-0.05", "resnet18"} <= set(RECIPES)
    for recipe in RECIPES.values():
        assert TrainConfig.from_dict(recipe.config.to_dict()) == recipe.config
