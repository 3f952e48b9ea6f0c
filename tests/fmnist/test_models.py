import pytest
import torch

from fmnist.config import TrainConfig
from fmnist.errors import InputError
from fmnist.models import MODELS, build_model, count_parameters


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (TrainConfig(model="lenet"), 44_426),
        (TrainConfig(model="airnet"), 282_746),
        (TrainConfig(model="resnet18"), 11_172_810),
    ],
    ids=lambda value: getattr(value, "model", str(value)),
)
def test_parameter_counts(config: TrainConfig, parameters: int) -> None:
    assert count_parameters(build_model(config, classes=10)) == parameters


@pytest.mark.parametrize("name", sorted(MODELS))
def test_any_batch_and_any_number_of_classes(name: str) -> None:
    widths = {"resnet18": (4, 8, 16, 32), "airnet": (4, 8, 16)}.get(name, ())
    model = build_model(TrainConfig.from_dict({"model": name, "widths": widths}), classes=7).eval()
    for batch in (1, 5):
        assert model(torch.zeros(batch, 28, 28, dtype=torch.uint8)).shape == (batch, 7)


@pytest.mark.parametrize(("model", "widths"), [("lenet", (6,)), ("airnet", (8, 16)), ("resnet18", (8, 16, 32))])
def test_wrong_widths_say_how_many(model: str, widths: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="widths"):
        build_model(TrainConfig.from_dict({"model": model, "widths": widths}), classes=10)


def test_normalisation_is_inside() -> None:
    model = build_model(TrainConfig(model="lenet"), classes=10, pixel_mean=73.0, pixel_std=90.0).eval()
    pixels = torch.randint(0, 256, (3, 28, 28), dtype=torch.uint8)
    by_hand = model.network((pixels[:, None].float() - 73.0) / 90.0)
    assert torch.allclose(model(pixels), by_hand)
    assert {"pixel_mean", "pixel_std"} <= set(model.state_dict())
