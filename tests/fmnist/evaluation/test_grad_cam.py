import pytest
import torch
from torch import Tensor, nn

from fmnist.config import Problem, TrainConfig
from fmnist.data.dataset import Split, TrainingData
from fmnist.evaluation.grad_cam import grad_cam
from fmnist.models import MODELS, Classifier, build_model
from fmnist.training.device import Rank
from fmnist.training.loop import train_epochs

SIZE = 28
PATCH = 8
FAR = SIZE - PATCH
CORNERS = ((0, 0), (0, FAR), (FAR, 0), (FAR, FAR))
"""Row and column of the mark's upper left pixel."""


@pytest.mark.parametrize(("model", "channels"), [*((model, 1) for model in MODELS), ("airnet", 3)])
def test_every_network_has_a_map_of_0_to_1(model: str, channels: int) -> None:
    torch.manual_seed(0)
    problem = Problem(4, channels, SIZE, SIZE)
    config = TrainConfig.from_dict({"model": model})
    network = build_model(config, problem, *statistics(channels)).train()
    pixels = torch.randint(0, 256, (2, *problem.image_shape), dtype=torch.uint8)

    heat = grad_cam(network, pixels)
    assert heat.shape == (2, SIZE, SIZE)
    assert heat.isfinite().all()
    assert heat.min() >= 0
    assert heat.max() <= 1
    assert network.training
    assert all(parameter.grad is None for parameter in network.parameters())


def statistics(channels: int) -> tuple[Tensor, Tensor]:
    """Mean and deviation of pixels."""
    return torch.full((channels, 1, 1), 127.0), torch.full((channels, 1, 1), 70.0)


def noise(count: int, source: torch.Generator) -> Tensor:
    return torch.randint(0, 90, (count, SIZE, SIZE), dtype=torch.uint8, generator=source)


def plant(image: Tensor, label: int, corner: int) -> None:
    """Put a class's mark into a corner: horizontal stripes for class 1, vertical ones for class 2,
    nothing for class 0."""
    stripes = torch.zeros(PATCH, PATCH, dtype=torch.uint8)
    stripes[::2] = 255
    row, column = CORNERS[corner]
    place = image[row : row + PATCH, column : column + PATCH]
    if label == 1:
        place.copy_(stripes)
    elif label == 2:
        place.copy_(stripes.T)


@pytest.fixture(scope="module")
def stripes_model(one_thread: None) -> Classifier:
    """A network trained on images with at most one mark, in any corner."""
    source = torch.Generator().manual_seed(0)
    images = noise(512, source)
    labels = torch.randint(0, 3, (512,), generator=source)
    corners = torch.randint(0, 4, (512,), generator=source)
    for image, label, corner in zip(images, labels.tolist(), corners.tolist(), strict=True):
        plant(image, label, corner)

    config = TrainConfig(
        model="resnet20",
        widths=(8, 8, 8),
        epochs=5,
        global_batch_size=32,
        lr=0.1,
        shift=0,
        flip=False,
        precision="fp32",
    )
    data = TrainingData(Split(images, labels), None, classes=3)
    *_, (metrics, state) = train_epochs(config, data, Rank(torch.device("cpu")))
    assert metrics.train_accuracy > 0.95
    return state.model


def test_each_class_has_its_highest_where_its_mark_was_planted(stripes_model: Classifier) -> None:
    """In images with both marks, in two corners."""
    source = torch.Generator().manual_seed(1)
    images = noise(40, source)
    corners = torch.stack([torch.randperm(4, generator=source)[:2] for _ in images])  # (N, 2)
    for image, (first, second) in zip(images, corners.tolist(), strict=True):
        plant(image, 1, first)
        plant(image, 2, second)

    half = SIZE // 2
    for label in (1, 2):
        heat = grad_cam(stripes_model, images, torch.full((40,), label))
        # (N, 4): the highest value of each quarter, in the order of CORNERS.
        quarters = heat.view(-1, 2, half, 2, half).amax((2, 4)).flatten(1)
        hits = quarters.argmax(1) == corners[:, label - 1]
        assert hits.float().mean() > 0.9


def test_by_default_the_map_is_that_of_the_class_predicted(stripes_model: Classifier) -> None:
    images = noise(4, torch.Generator().manual_seed(2))
    for corner, image in enumerate(images):
        plant(image, 2, corner)
    expected = grad_cam(stripes_model, images, torch.full((4,), 2))
    assert torch.equal(grad_cam(stripes_model, images), expected)


def test_no_evidence_is_a_map_of_zeros() -> None:
    network = build_model(TrainConfig(model="airnet"), Problem(4), *statistics(1))
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    nn.init.zeros_(layers[-1].weight)
    pixels = torch.full((2, SIZE, SIZE), 9, dtype=torch.uint8)
    assert torch.equal(grad_cam(network, pixels), torch.zeros(2, SIZE, SIZE))
