from typing import Any, get_args

import pytest

from fmnist.config import ModelName, OptimizerName, ScheduleName, TrainConfig
from fmnist.errors import InputError
from fmnist.models import MODELS
from fmnist.optim import OPTIMIZERS, SCHEDULES
from fmnist.recipes import RECIPES


@pytest.mark.parametrize(
    ("registry", "names"), [(MODELS, ModelName), (OPTIMIZERS, OptimizerName), (SCHEDULES, ScheduleName)], ids=str
)
def test_registries_hold_what_the_config_names(registry: dict[str, Any], names: Any) -> None:
    assert set(registry) == set(get_args(names))


def test_round_trip_through_json() -> None:
    config = TrainConfig(widths=(8, 16, 32), lr=0.07, flip=False)
    assert TrainConfig.from_dict(config.to_dict()) == config
    assert '"lr": 0.07' in config.to_json()


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
        ("momentum", 1.0),
        ("weight_decay", -1e-4),
        ("warmup", 1.5),
        ("label_smoothing", 1.0),
        ("shift", 28),
        ("erase", -0.1),
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


def test_recipes_are_checked_configs() -> None:
    assert {"airnet-quick", "lenet-sgd", "resnet18"} <= set(RECIPES)
    assert all(TrainConfig.from_dict(recipe.to_dict()) == recipe for recipe in RECIPES.values())
