"""Networks: their sizes, the images they take, and what is peculiar to each."""

from typing import Any, get_args

import pytest
import torch
from torch import nn

from fmnist.config import ModelName, Problem, TrainConfig
from fmnist.data.dataset import Split, TrainingData
from fmnist.errors import InputError
from fmnist.models import MODELS, build_model, builder_of, count_parameters
from fmnist.models.alexnet import LocalResponseNorm
from fmnist.models.vgg import WeightedPadding
from fmnist.training.inference import compute_logits
from fmnist.training.loop import start_training

FIXED = {
    *("lenet", "lenet5", "mycnn", "mycnn_fixed", "twoconv", "twoconv_published", "threeconv"),
    *("vgg_like", "vgg_like_weighted", "resnet18_imagenet", "resnet34_imagenet"),
}
NARROW = dict.fromkeys(FIXED, ()) | {
    "resnet18": (4, 8, 16, 32),
    "resnet34": (4, 8, 16, 32),
    "alexnet": (4, 8, 8, 8, 4),
    "vgg16": (4, 8, 8, 16, 16),
    "vgg16_bn": (4, 8, 8, 16, 16),
}


def narrow(name: str) -> TrainConfig:
    return TrainConfig(model=name, widths=NARROW.get(name, (4, 8, 16)))


PARAMETERS = {
    "airnet": 282_746,
    "alexnet": 34_044_354,
    "inception": 427_786,
    "lenet": 44_426,
    "lenet5": 61_706,
    "mycnn": 21_840,
    "mycnn_fixed": 21_840,
    "resnet18": 11_172_810,
    "resnet18_imagenet": 11_181_642,
    "resnet20": 272_186,
    "resnet34": 21_280_970,
    "resnet34_imagenet": 21_289_802,
    "threeconv": 688_138,
    "twoconv": 16_841_802,
    "twoconv_published": 16_841_802,
    "vgg16": 33_637_066,
    "vgg16_bn": 33_645_514,
    "vgg_like": 7_001_194,
    "vgg_like_weighted": 7_001_579,
    "wideresnet16": 2_748_602,
    "wideresnet28": 36_478_906,
}


@pytest.mark.parametrize(("model", "parameters"), PARAMETERS.items())
def test_parameter_counts(model: str, parameters: int) -> None:
    built = build_model(TrainConfig(model=model), Problem(10)).eval()
    assert count_parameters(built) == parameters
    assert built(torch.zeros(2, 28, 28, dtype=torch.uint8)).shape == (2, 10)


def test_every_network_of_the_zoo_is_counted() -> None:
    assert set(NARROW) <= set(MODELS)
    assert set(PARAMETERS) == set(MODELS) == set(get_args(ModelName))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_first_line_about_a_network_is_a_whole_one(name: str) -> None:
    """--list-models shows it."""
    lines = (builder_of(name).__doc__ or "").splitlines()
    assert lines[0].endswith(".")


def test_wideresnet_is_the_papers() -> None:
    # Zagoruyko and Komodakis give 36.5 M for WRN-28-10 and 2.7 M for WRN-16-4 with three channels
    # in.
    for model, millions in (("wideresnet28", 36.5), ("wideresnet16", 2.7)):
        network = build_model(TrainConfig(model=model), Problem(10, channels=3))
        assert count_parameters(network) / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize(
    "problem",
    [
        Problem(7),
        Problem(3, 3, 64, 64),
        Problem(26, 1, 20, 20),
        Problem(4, 1, 24, 40),
        Problem(5, 3, 96, 31),
    ],
    ids=str,
)
def test_any_batch_image_size_channels_and_classes(name: str, problem: Problem) -> None:
    model = build_model(narrow(name), problem).eval()
    for batch in (1, 5):
        pixels = torch.zeros(batch, *problem.image_shape, dtype=torch.uint8)
        assert model(pixels).shape == (batch, problem.classes)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_wrong_widths_say_what_is_right(name: str) -> None:
    remedy = "fixed widths" if name in FIXED else "takes"
    with pytest.raises(InputError, match=rf"widths=\(8, 16\).*{remedy}"):
        build_model(TrainConfig(model=name, widths=(8, 16)), Problem(10))


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("airnet", 8),
        ("alexnet", 8),
        ("inception", 3),
        ("lenet", 8),
        ("lenet5", 8),
        ("mycnn", 8),
        ("threeconv", 7),
        ("twoconv", 3),
        ("vgg_like", 3),
    ],
)
def test_images_too_small_on_either_side_are_told(name: str, size: int) -> None:
    for height, width in ((size, size), (size, 64), (64, size)):
        with pytest.raises(InputError, match=f"{height}×{width}.*{name} needs"):
            build_model(TrainConfig(model=name), Problem(10, 1, height, width))


def test_dropout_is_the_networks_own_unless_given() -> None:
    def rates(**changes: float) -> set[float]:
        config = TrainConfig(model="vgg_like").replace(**changes)
        model = build_model(config, Problem(10))
        return {module.p for module in model.modules() if isinstance(module, nn.Dropout)}

    assert rates() == {0.25}
    assert rates(dropout=0.4) == {0.4}

    with pytest.raises(InputError, match="lenet has no dropout"):
        build_model(TrainConfig(model="lenet", dropout=0.4), Problem(10))


def test_mycnn_as_published_is_the_fixed_one_under_softmax() -> None:
    published = build_model(TrainConfig(model="mycnn"), Problem(10)).eval()
    fixed = build_model(TrainConfig(model="mycnn_fixed"), Problem(10)).eval()
    published.load_state_dict(fixed.state_dict())
    pixels = torch.randint(0, 256, (5, 28, 28), dtype=torch.uint8)
    assert torch.allclose(published(pixels), fixed(pixels).softmax(1))

    # Softmax of probabilities: even a certain and correct answer costs -log(e / (e + 9)).
    probabilities, label = torch.eye(10)[:1], torch.zeros(1, dtype=torch.int64)
    certain = nn.functional.cross_entropy(probabilities, label)
    assert certain.item() == pytest.approx(1.4612, abs=1e-4)


def test_vgg16_is_blind_under_the_default_initialisation_and_not_under_hes(train: Split) -> None:
    def spread(init: str) -> float:
        """How much the logits differ from image to image."""
        config = TrainConfig(model="vgg16", widths=(16, 32, 64, 64, 64), init=init)
        batch = Split(train.images[:64], train.labels[:64])
        state = start_training(config, TrainingData(batch, None, 10), torch.device("cpu"))
        return compute_logits(state.model, train.images[:64]).std(0).mean().item()

    assert spread("pytorch") < 1e-3
    assert spread("he") > 0.1


def test_vgg16_keeps_all_five_poolings() -> None:
    network = build_model(TrainConfig(model="vgg16", widths=(4, 4, 4, 4, 4)), Problem(10)).network
    sizes: list[int] = []

    def note_size(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        sizes.append(output.shape[-1])

    for module in network.modules():
        if isinstance(module, nn.MaxPool2d):
            module.register_forward_hook(note_size)
    network(torch.zeros(1, 1, 28, 28))
    assert sizes == [14, 7, 4, 2, 1]


def test_weighted_padding_is_zeros_at_weight_0_and_the_edge_at_1() -> None:
    pad = WeightedPadding(2)
    x = torch.rand(3, 2, 5, 5)
    assert torch.equal(pad(x), nn.ZeroPad2d(1)(x))

    nn.init.ones_(pad.weight)
    assert torch.allclose(pad(x), nn.ReplicationPad2d(1)(x))
    pad(x).sum().backward()
    assert pad.weight.grad is not None
    assert bool((pad.weight.grad != 0).all())


@pytest.mark.parametrize("size", [1, 4, 5])
def test_local_response_norm_in_training_is_pytorchs(size: int) -> None:
    outputs: list[torch.Tensor] = []
    gradients: list[torch.Tensor | None] = []
    for kind in (LocalResponseNorm, nn.LocalResponseNorm):
        random = torch.Generator().manual_seed(0)
        images = torch.randn(2, 7, 3, 3, generator=random).mul(20).requires_grad_()
        output = kind(size, alpha=0.01, beta=0.75, k=2.0)(images)
        output.square().sum().backward()
        outputs.append(output)
        gradients.append(images.grad)
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(*gradients)


def test_gray_is_three_equal_channels_for_imagenets_resnet() -> None:
    network = build_model(TrainConfig(model="resnet18_imagenet"), Problem(10)).network.eval()
    gray = torch.rand(2, 1, 28, 28)
    assert torch.equal(network(gray), network(gray.repeat(1, 3, 1, 1)))


def test_normalisation_is_inside() -> None:
    mean = torch.tensor([73.0, 60.0, 50.0]).view(3, 1, 1)
    deviation = torch.full((3, 1, 1), 90.0)
    model = build_model(TrainConfig(model="lenet"), Problem(10, channels=3), mean, deviation).eval()

    pixels = torch.randint(0, 256, (3, 3, 28, 28), dtype=torch.uint8)
    by_hand = model.network((pixels.float() - mean) / deviation)
    assert torch.allclose(model(pixels), by_hand)
    assert {"pixel_mean", "pixel_std"} <= set(model.state_dict())
