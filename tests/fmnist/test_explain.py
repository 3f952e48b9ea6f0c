from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from fmnist.config import Problem, TrainConfig
from fmnist.data import Split
from fmnist.explain import grad_cam
from fmnist.loop import train_epochs
from fmnist.models import MODELS, Classifier, build_model

SIZE, PATCH = 28, 8
CORNERS = ((0, 0), (0, SIZE - PATCH), (SIZE - PATCH, 0), (SIZE - PATCH, SIZE - PATCH))


@pytest.mark.parametrize(("model", "channels"), [*((model, 1) for model in MODELS), ("airnet", 3)])
def test_every_network_has_a_map_of_0_to_1(model: str, channels: int) -> None:
    torch.manual_seed(0)
    problem = Problem(4, channels, SIZE)
    network = build_model(TrainConfig(model=model), problem, *statistics(channels)).train()
    pixels = torch.randint(0, 256, (2, *problem.image_shape), dtype=torch.uint8)
    heat = grad_cam(network, pixels)
    assert heat.shape == (2, SIZE, SIZE)
    assert heat.isfinite().all()
    assert heat.min() >= 0
    assert heat.max() <= 1
    assert network.training
    assert all(parameter.grad is None for parameter in network.parameters())


def statistics(channels: int) -> tuple[Tensor, Tensor]:
    return torch.full((channels, 1, 1), 127.0), torch.full((channels, 1, 1), 70.0)


def noise(count: int, source: torch.Generator) -> Tensor:
    return torch.randint(0, 90, (count, SIZE, SIZE), dtype=torch.uint8, generator=source)


def plant(image: Tensor, label: int, corner: int) -> None:
    """Put class 1's mark, lying stripes, or class 2's, standing ones, into a corner; class 0 has none."""
    stripes = torch.zeros(PATCH, PATCH, dtype=torch.uint8)
    stripes[::2] = 255
    row, column = CORNERS[corner]
    if label:
        image[row : row + PATCH, column : column + PATCH] = stripes if label == 1 else stripes.T


@pytest.fixture(scope="module")
def stripes_model(one_thread: None) -> Classifier:
    """Trained on images with one mark at most, in any corner."""
    source = torch.Generator().manual_seed(0)
    images = noise(512, source)
    labels, corners = (torch.randint(0, high, (512,), generator=source) for high in (3, 4))
    for image, label, corner in zip(images, labels.tolist(), corners.tolist(), strict=True):
        plant(image, label, corner)
    config = TrainConfig(
        model="resnet20", widths=(8, 8, 8), epochs=5, global_batch_size=32, lr=0.1, shift=0, flip=False, precision="fp32"
    )
    *_, (metrics, state) = train_epochs(config, Split(images, labels), classes=3, device=torch.device("cpu"))
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
        quarters = heat.view(-1, 2, half, 2, half).amax((2, 4)).flatten(1)  # (N, 4): the highest of each quarter
        assert (quarters.argmax(1) == corners[:, label - 1]).float().mean() > 0.9


def test_by_default_the_map_is_that_of_the_class_predicted(stripes_model: Classifier) -> None:
    images = noise(4, torch.Generator().manual_seed(2))
    for image, corner in zip(images, range(4), strict=True):
        plant(image, 2, corner)
    assert torch.equal(grad_cam(stripes_model, images), grad_cam(stripes_model, images, torch.full((4,), 2)))


def test_no_evidence_is_a_map_of_zeros() -> None:
    network = build_model(TrainConfig(model="airnet"), Problem(4), *statistics(1))
    head = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    nn.init.zeros_(head.weight)
    assert torch.equal(grad_cam(network, torch.full((2, SIZE, SIZE), 9, dtype=torch.uint8)), torch.zeros(2, SIZE, SIZE))


def test_command(call: Callable[..., Any], trained: Any, tmp_path: Path) -> None:
    run = trained[0].save(tmp_path / "runs/first")
    picture = run / "figures/grad_cam.png"
    assert call("fmnist.explain", "first", "--per-class", 2).code == 0
    with Image.open(picture) as image:
        classes = image.size
    drawn = Image.new("RGB", (80, 60), "white")
    drawn.paste("navy", (20, 10, 50, 50))
    drawn.save(tmp_path / "drawn.png")
    assert call("fmnist.explain", "first", "--images", "drawn.png", "drawn.png").code == 0
    with Image.open(picture) as image:
        assert image.height < classes[1]
    (tmp_path / "words.png").write_text("no picture")
    for words, said in (
        (("first", "--images", "words.png"), "words.png"),
        (("first", "--images", "missing.png"), "missing.png"),
        (("first", "--per-class", "0"), "per_class=0"),
        (("nowhere",), "no such folder"),
    ):
        ended = call("fmnist.explain", *words)
        assert ended.code == 2
        assert said in ended.output
        assert ended.output.count("\n") == 1
