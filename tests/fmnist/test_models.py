import pytest
import torch
from torch import nn

from fmnist.config import Problem, TrainConfig
from fmnist.data import Split
from fmnist.errors import InputError
from fmnist.evaluate import compute_logits
from fmnist.loop import start_training
from fmnist.models import MODELS, build_model, count_parameters
from fmnist.models.alexnet import LocalResponseNorm
from fmnist.models.vgg import WeightedPadding

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


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("airnet", 282_746),
        ("alexnet", 34_044_354),
        ("inception", 427_786),
        ("lenet", 44_426),
        ("lenet5", 61_706),
        ("mycnn", 21_840),
        ("mycnn_fixed", 21_840),
        ("resnet18_imagenet", 11_181_642),
        ("resnet34_imagenet", 21_289_802),
        ("threeconv", 688_138),
        ("twoconv", 16_841_802),
        ("twoconv_published", 16_841_802),
        ("vgg16", 33_637_066),
        ("vgg16_bn", 33_645_514),
        ("vgg_like", 7_001_194),
        ("vgg_like_weighted", 7_001_579),
        ("resnet18", 11_172_810),
        ("resnet20", 272_186),
        ("resnet34", 21_280_970),
        ("wideresnet16", 2_748_602),
        ("wideresnet28", 36_478_906),
    ],
)
def test_parameter_counts(model: str, parameters: int) -> None:
    built = build_model(TrainConfig(model=model), Problem(10)).eval()
    assert count_parameters(built) == parameters
    assert built(torch.zeros(2, 28, 28, dtype=torch.uint8)).shape == (2, 10)


def test_every_network_of_the_zoo_is_counted() -> None:
    assert set(NARROW) <= set(MODELS)
    counted = test_parameter_counts.pytestmark[0].args[1]  # pyright: ignore[reportFunctionMemberAccess]
    assert {model for model, _ in counted} == set(MODELS)


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


@pytest.mark.parametrize("name", sorted(MODELS))
def test_wrong_widths_say_what_is_right(name: str) -> None:
    with pytest.raises(InputError, match=r"widths=\(8, 16\).*" + ("fixed widths" if name in FIXED else "takes")):
        build_model(TrainConfig(model=name, widths=(8, 16)), Problem(10))


def test_images_too_small_are_told() -> None:
    for name, size in {"lenet": 8, "lenet5": 8, "airnet": 8, "mycnn": 8, "alexnet": 8, "threeconv": 7, "twoconv": 3}.items():
        with pytest.raises(InputError, match=f"{size}×{size}.*{name} needs"):
            build_model(TrainConfig(model=name), Problem(10, size=size))


def test_dropout_is_the_networks_own_unless_given() -> None:
    def rates(**changes: float) -> set[float]:
        model = build_model(TrainConfig(model="vgg_like", **changes), Problem(10))  # pyright: ignore[reportArgumentType]
        return {module.p for module in model.modules() if isinstance(module, nn.Dropout)}

    assert rates() == {0.25}
    assert rates(dropout=0.4) == {0.4}
    with pytest.raises(InputError, match="lenet has no dropout"):
        build_model(TrainConfig(model="lenet", dropout=0.4), Problem(10))


def test_mycnn_as_published_is_the_fixed_one_under_softmax() -> None:
    published, fixed = (build_model(TrainConfig(model=name), Problem(10)).eval() for name in ("mycnn", "mycnn_fixed"))
    published.load_state_dict(fixed.state_dict())
    pixels = torch.randint(0, 256, (5, 28, 28), dtype=torch.uint8)
    assert torch.allclose(published(pixels), fixed(pixels).softmax(1))
    # Softmax of probabilities: even a certain and correct answer costs -log(e / (e + 9)).
    certain = torch.nn.functional.cross_entropy(torch.eye(10)[:1], torch.zeros(1, dtype=torch.int64))
    assert certain.item() == pytest.approx(1.4612, abs=1e-4)


def test_vgg16_is_blind_under_the_default_initialisation_and_not_under_hes(train: Split) -> None:
    def spread(init: str) -> float:
        """How much the logits differ from image to image."""
        config = TrainConfig(model="vgg16", widths=(16, 32, 64, 64, 64), init=init)
        state = start_training(config, Split(train.images[:64], train.labels[:64]), 10, torch.device("cpu"))
        return compute_logits(state.model, train.images[:64]).std(0).mean().item()

    assert spread("pytorch") < 1e-3
    assert spread("he") > 0.1


def test_vgg16_keeps_all_five_poolings() -> None:
    network = build_model(TrainConfig(model="vgg16", widths=(4, 4, 4, 4, 4)), Problem(10)).network
    sizes: list[int] = []
    for module in network.modules():
        if isinstance(module, nn.MaxPool2d):
            module.register_forward_hook(lambda _module, _inputs, output: sizes.append(output.shape[-1]))
    network(torch.zeros(1, 1, 28, 28))
    assert sizes == [14, 7, 4, 2, 1]


def test_weighted_padding_is_zeros_at_weight_0_and_the_edge_at_1() -> None:
    pad, x = WeightedPadding(2), torch.rand(3, 2, 5, 5)
    assert torch.equal(pad(x), nn.ZeroPad2d(1)(x))
    nn.init.ones_(pad.weight)
    assert torch.allclose(pad(x), nn.ReplicationPad2d(1)(x))
    pad(x).sum().backward()
    assert pad.weight.grad is not None
    assert bool((pad.weight.grad != 0).all())


@pytest.mark.parametrize("size", [1, 4, 5])
def test_local_response_norm_in_training_is_pytorchs(size: int) -> None:
    inputs = [torch.randn(2, 7, 3, 3, generator=torch.manual_seed(0)).mul(20).requires_grad_() for _ in range(2)]
    ours, theirs = (kind(size, alpha=0.01, beta=0.75, k=2.0) for kind in (LocalResponseNorm, nn.LocalResponseNorm))
    outputs = [norm(images) for norm, images in zip((ours, theirs), inputs, strict=True)]
    for output in outputs:
        output.square().sum().backward()
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)


def test_gray_is_three_equal_channels_for_imagenets_resnet() -> None:
    network = build_model(TrainConfig(model="resnet18_imagenet"), Problem(10)).network.eval()
    gray = torch.rand(2, 1, 28, 28)
    assert torch.equal(network(gray), network(gray.repeat(1, 3, 1, 1)))


def test_normalisation_is_inside() -> None:
    mean, deviation = torch.tensor([73.0, 60.0, 50.0]).view(3, 1, 1), torch.full((3, 1, 1), 90.0)
    model = build_model(TrainConfig(model="lenet"), Problem(10, channels=3), mean, deviation).eval()
    pixels = torch.randint(0, 256, (3, 3, 28, 28), dtype=torch.uint8)
    by_hand = model.network((pixels.float() - mean) / deviation)
    assert torch.allclose(model(pixels), by_hand)
    assert {"pixel_mean", "pixel_std"} <= set(model.state_dict())
