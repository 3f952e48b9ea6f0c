import pytest
import torch
from torch import Tensor

from fmnist.augment import Augmentation, ImageTable
from fmnist.config import TrainConfig
from fmnist.data import Split

CPU = torch.device("cpu")
OFF = TrainConfig(flip=False, shift=0, erase=0.0)
FILL = torch.full((1, 1, 1), 73, dtype=torch.uint8)


def draw(config: TrainConfig, count: int = 4000) -> Augmentation:
    return Augmentation.draw(config, 1, count, 28, FILL)


def augmented(config: TrainConfig, images: Tensor, index: Tensor | None = None) -> Tensor:
    numbers = torch.arange(len(images)) if index is None else index
    return draw(config, len(images)).take(ImageTable(images, config.shift, CPU), numbers)


def test_off_changes_nothing(train: Split) -> None:
    images = train.images[:64]
    assert torch.equal(augmented(OFF, images), images)
    assert torch.equal(augmented(OFF, images, torch.tensor([5, 3])), images[[5, 3]])


def test_flip_mirrors_half(train: Split) -> None:
    images = train.images[:4000]
    flipped = augmented(OFF.replace(flip=True), images)
    mirrored = torch.tensor([torch.equal(a, b.flip(1)) for a, b in zip(flipped, images, strict=True)])
    kept = torch.tensor([torch.equal(a, b) for a, b in zip(flipped, images, strict=True)])
    assert bool((mirrored | kept).all())
    assert mirrored.float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_shift_moves_whole_pixels_and_brings_in_background() -> None:
    config = OFF.replace(shift=2)
    images = torch.full((500, 28, 28), 9, dtype=torch.uint8)
    images[:, 10, 12] = 200
    moved, shift = augmented(config, images), draw(config, 500).shift
    assert shift is not None
    seen = set()
    for image, (rows, columns) in zip(moved, shift.tolist(), strict=True):
        assert image[10 + rows, 12 + columns] == 200
        assert int((image == 0).sum()) == 28 * 28 - (28 - abs(rows)) * (28 - abs(columns))
        seen.add((rows, columns))
    assert len(seen) == 25


@pytest.mark.parametrize("shift", [0, 1, 5])
def test_colour_images_of_another_size_move_like_their_planes(shift: int) -> None:
    config = OFF.replace(shift=shift, flip=True, erase=0.5)
    images = torch.randint(0, 256, (60, 3, 20, 20), dtype=torch.uint8)
    together = Augmentation.draw(config, 1, 60, 20, FILL.expand(3, 1, 1))
    moved = together.take(ImageTable(images, shift, CPU), torch.arange(60))
    for channel in range(3):
        plane = Augmentation.draw(config, 1, 60, 20, FILL).take(ImageTable(images[:, channel], shift, CPU), torch.arange(60))
        assert torch.equal(moved[:, channel], plane)


def test_erase_fills_a_rectangle_of_the_papers_size() -> None:
    erased = augmented(OFF.replace(erase=0.5), torch.zeros(4000, 28, 28, dtype=torch.uint8)) == 73
    areas = erased.flatten(1).sum(1) / 784
    hit = areas > 0
    assert hit.float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert areas[hit].min() > 0.01
    assert areas[hit].max() < 0.45
    for mask in erased[hit][:200]:
        rows, columns = mask.any(1), mask.any(0)
        assert int(mask.sum()) == int(rows.sum()) * int(columns.sum())


def test_an_image_is_augmented_alike_in_any_batch(train: Split) -> None:
    images, index = train.images[:4000], torch.randperm(4000)[:256]
    config = TrainConfig(erase=0.5)
    together = augmented(config, images, index)
    halves = [augmented(config, images, part) for part in (index[::2], index[1::2])]
    assert torch.equal(together[::2], halves[0])
    assert torch.equal(together[1::2], halves[1])


def test_epochs_and_seeds_differ() -> None:
    first = draw(TrainConfig()).flip
    assert first is not None
    for other in (
        Augmentation.draw(TrainConfig(), 2, 4000, 28, FILL).flip,
        Augmentation.draw(TrainConfig(seed=1), 1, 4000, 28, FILL).flip,
    ):
        assert other is not None
        assert not torch.equal(first, other)
