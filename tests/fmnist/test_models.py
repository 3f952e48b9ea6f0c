import pytest
import torch

from fmnist.config import Problem, TrainConfig
from fmnist.errors import InputError
from fmnist.models import MODELS, build_model, count_parameters

NARROW = {"lenet": (), "airnet": (4, 8, 16), "resnet18": (4, 8, 16, 32), "resnet34": (4, 8, 16, 32)}


def narrow(name: str) -> TrainConfig:
    return TrainConfig(model=name, widths=NARROW.get(name, (4, 8, 16)))


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("lenet", 44_426),
        ("airnet", 282_746),
        ("resnet18", 11_172_810),
        ("resnet20", 272_186),
        ("resnet34", 21_280_970),
        ("wideresnet16", 2_748_602),
        ("wideresnet28", 36_478_906),
    ],
)
def test_parameter_counts(model: str, parameters: int) -> None:
    assert count_parameters(build_model(TrainConfig(model=model), Problem(10))) == parameters


def test_wideresnet_is_the_papers() -> None:
    # Zagoruyko and Komodakis give 36.5 M for WRN-28-10 and 2.7 M for WRN-16-4 with three channels in.
    for model, millions in (("wideresnet28", 36.5), ("wideresnet16", 2.7)):
        parameters = count_parameters(build_model(TrainConfig(model=model), Problem(10, channels=3)))
        assert parameters / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize("problem", [Problem(7), Problem(3, channels=3, size=64), Problem(26, size=20)], ids=str)
def test_any_batch_size_channels_and_classes(name: str, problem: Problem) -> None:
    model = build_model(narrow(name), problem).eval()
    for batch in (1, 5):
        pixels = torch.zeros(batch, *problem.image_shape, dtype=torch.uint8)
        assert model(pixels).shape == (batch, problem.classes)


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"lenet"}))
def test_wrong_widths_say_how_many(name: str) -> None:
    with pytest.raises(InputError, match="widths=\\(8, 16\\)"):
        build_model(TrainConfig(model=name, widths=(8, 16)), Problem(10))


def test_images_too_small_are_told() -> None:
    for name in ("lenet", "airnet"):
        with pytest.raises(InputError, match="8×8"):
            build_model(TrainConfig(model=name), Problem(10, size=8))
    with pytest.raises(InputError, match="fixed widths"):
        build_model(TrainConfig(model="lenet", widths=(6,)), Problem(10))


def test_normalisation_is_inside() -> None:
    mean, deviation = torch.tensor([73.0, 60.0, 50.0]).view(3, 1, 1), torch.full((3, 1, 1), 90.0)
    model = build_model(TrainConfig(model="lenet"), Problem(10, channels=3), mean, deviation).eval()
    pixels = torch.randint(0, 256, (3, 3, 28, 28), dtype=torch.uint8)
    by_hand = model.network((pixels.float() - mean) / deviation)
    assert torch.allclose(model(pixels), by_hand)
    assert {"pixel_mean", "pixel_std"} <= set(model.state_dict())
