from typing import Any

import pytest

from fmnist.config import TrainConfig
from fmnist.errors import InputError
from fmnist.recipes import RECIPES


def test_round_trip_through_json() -> None:
    config = TrainConfig(widths=(8, 16, 32), lr=0.07, flip=False, class_weights=(1.0, 2.0))
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
    [("model", "lennet", "lenet"), ("optimizer", "nesterof", "nesterov"), ("schedule", "cosin", "cosine")],
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
