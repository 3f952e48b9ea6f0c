"""Augmentation: what it does to single images, and that batches change nothing about it."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from fmnist.config import TrainConfig
from fmnist.data.dataset import Split
from fmnist.training.augment import Augmentation, ImageTable

CPU = torch.device("cpu")
OFF = TrainConfig(flip=False, shift=0, erase=0.0)
STATISTICS = (torch.full((1, 1, 1), 73.0), torch.full((1, 1, 1), 90.0))
"""Mean and deviation of the pixels."""


def draw(
    config: TrainConfig, count: int = 4000, *, epoch: int = 1, size: tuple[int, int] = (28, 28)
) -> Augmentation:
    return Augmentation.draw(config, epoch, count, size, STATISTICS, CPU)


def augmented(config: TrainConfig, images: Tensor, index: Tensor | None = None) -> Tensor:
    numbers = torch.arange(len(images)) if index is None else index
    return draw(config, len(images)).take(ImageTable(images, config.shift, CPU), numbers)


def test_off_changes_nothing(train: Split) -> None:
    images = train.images[:64]
    assert torch.equal(augmented(OFF, images), images)
    assert torch.equal(augmented(OFF, images, torch.tensor([5, 3])), images[[5, 3]])


def test_flip_mirrors_half_and_the_other_half_in_the_next_epoch(train: Split) -> None:
    images = train.images[:4000]
    config = OFF.replace(flip=True)
    flipped = augmented(config, images)
    mirrored = (flipped == images.flip(2)).flatten(1).all(1)
    kept = (flipped == images).flatten(1).all(1)
    assert bool((mirrored | kept).all())
    assert mirrored.float().mean().item() == pytest.approx(0.5, abs=0.05)

    first, second, third = (draw(config, epoch=epoch).flip for epoch in (1, 2, 3))
    assert first is not None
    assert second is not None
    assert third is not None
    assert torch.equal(first, ~second)
    assert torch.equal(first, third)


def test_shift_moves_whole_pixels_and_brings_in_background() -> None:
    config = OFF.replace(shift=2)
    images = torch.full((500, 28, 28), 9, dtype=torch.uint8)
    images[:, 10, 12] = 200
    moved = augmented(config, images)
    shift = draw(config, 500).shift
    assert shift is not None

    seen: set[tuple[int, int]] = set()
    for image, (rows, columns) in zip(moved, shift.tolist(), strict=True):
        assert image[10 + rows, 12 + columns] == 200
        assert int((image == 0).sum()) == 28 * 28 - (28 - abs(rows)) * (28 - abs(columns))
        seen.add((rows, columns))
    assert len(seen) == 25


def slowly(
    image: NDArray[np.uint8],
    flip: bool,
    shift: tuple[int, int],
    erased: NDArray[np.bool_],
    fill: int,
) -> NDArray[np.uint8]:
    """One image, pixel by pixel: moved, then mirrored, then erased."""
    size = len(image)
    result = np.zeros_like(image)
    for row in range(size):
        for column in range(size):
            mirrored = size - 1 - column if flip else column
            from_row = row - shift[0]
            from_column = mirrored - shift[1]
            if 0 <= from_row < size and 0 <= from_column < size:
                result[row, column] = image[from_row, from_column]
            if erased[row, column]:
                result[row, column] = fill
    return result


def test_a_batch_is_augmented_as_image_by_image(train: Split) -> None:
    config = OFF.replace(flip=True, shift=3, erase=0.5, cutmix=0.5)
    images = train.images[:200]
    drawn = draw(config, 200)
    assert drawn.flip is not None
    assert drawn.shift is not None
    assert drawn.erase is not None
    assert drawn.mix is not None

    flip = drawn.flip.flatten().bool().tolist()
    erased = drawn.erase.inside(torch.arange(200)).bool().numpy()
    alone: list[NDArray[np.uint8]] = []
    for number, image in enumerate(images.numpy()):
        rows, columns = drawn.shift[number].tolist()
        fill = int(drawn.fill)
        alone.append(slowly(image, flip[number], (rows, columns), erased[number], fill))

    squares = drawn.mix.square.inside(torch.arange(200)).bool().numpy()
    mixed: list[NDArray[np.uint8]] = []
    for image, other, square in zip(alone, drawn.mix.other.tolist(), squares, strict=True):
        mixed.append(np.where(square, alone[other], image))
    batch = drawn.take(ImageTable(images, 3, CPU), torch.arange(200))
    assert torch.equal(batch, torch.from_numpy(np.stack(mixed)))


def test_cutmix_takes_of_each_label_as_much_as_of_its_pixels() -> None:
    """Image i is all i's, so that its pixels tell whose they are."""
    images = torch.arange(200, dtype=torch.uint8).view(-1, 1, 1).expand(-1, 28, 28)
    config = OFF.replace(cutmix=0.5)
    index = torch.randperm(200)
    drawn = draw(config, 200)
    mixed = drawn.take(ImageTable(images.contiguous(), 0, CPU), index)
    targets = drawn.targets(torch.arange(200), index, 200)

    shares = torch.stack([torch.bincount(image.flatten(), minlength=200) / 784 for image in mixed])
    torch.testing.assert_close(targets, shares)
    changed = (mixed != index.byte().view(-1, 1, 1)).flatten(1).any(1)
    assert changed.float().mean().item() == pytest.approx(0.5, abs=0.1)

    others = draw(config.replace(seed=1), 200).mix
    assert drawn.mix is not None
    assert others is not None
    assert not torch.equal(drawn.mix.other, others.other)


@pytest.mark.parametrize("shift", [0, 1, 5])
def test_colour_images_of_another_size_move_like_their_planes(shift: int) -> None:
    config = OFF.replace(shift=shift, flip=True, erase=0.5, cutmix=0.5)
    size = (20, 12)
    images = torch.randint(0, 256, (60, 3, *size), dtype=torch.uint8)
    mean, deviation = STATISTICS
    colour = (mean.expand(3, 1, 1), deviation.expand(3, 1, 1))
    together = Augmentation.draw(config, 1, 60, size, colour, CPU)
    moved = together.take(ImageTable(images, shift, CPU), torch.arange(60))

    for channel in range(3):
        alone = draw(config, 60, size=size)
        plane = alone.take(ImageTable(images[:, channel], shift, CPU), torch.arange(60))
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
    images = train.images[:4000]
    index = torch.randperm(4000)[:256]
    config = TrainConfig(erase=0.5, cutmix=0.5)

    together = augmented(config, images, index)
    assert torch.equal(together[::2], augmented(config, images, index[::2]))
    assert torch.equal(together[1::2], augmented(config, images, index[1::2]))


def test_epochs_and_seeds_differ() -> None:
    first = draw(TrainConfig())
    for other in (draw(TrainConfig(), epoch=2), draw(TrainConfig(seed=1))):
        for kind in ("flip", "shift"):
            assert not torch.equal(getattr(first, kind), getattr(other, kind))


def test_erased_area_is_bounded_and_noise_differs_by_image_and_pixel() -> None:
    config = OFF.replace(erase=1.0, erase_area=0.1, erase_fill="noise")
    erased = augmented(config, torch.zeros(2000, 28, 28, dtype=torch.uint8))
    areas = (erased > 0).flatten(1).sum(1) / 784
    assert areas.max() < 0.13

    noise = draw(config, 2000).fill.float()
    assert noise.shape == (2000, 1, 28, 28)
    assert not torch.equal(noise[0], noise[1])
    # A normal distribution of mean 73 and deviation 90, cut off at 0 and 255.
    normal = (73 + 90 * torch.randn(1_000_000)).clamp(0, 255)
    assert noise.mean().item() == pytest.approx(normal.mean().item(), rel=0.02)
    assert noise.std().item() == pytest.approx(normal.std().item(), rel=0.02)


def bar(count: int) -> Tensor:
    """A bright upright bar, 4 pixels wide and 16 high, in the middle."""
    images = torch.zeros(count, 28, 28, dtype=torch.uint8)
    images[:, 6:22, 12:16] = 200
    return images


def test_rotation_turns_about_the_centre_by_at_most_so_much() -> None:
    turned = augmented(OFF.replace(rotate=45.0), bar(500)).float()
    place = torch.arange(28.0) - 13.5
    mass = turned.sum((1, 2))
    assert mass.std() / mass.mean() < 0.03

    in_rows, in_columns = turned.sum(2), turned.sum(1)
    centre_row = (in_rows * place).sum(1) / mass
    centre_column = (in_columns * place).sum(1) / mass
    assert centre_row.abs().max() < 0.3
    assert centre_column.abs().max() < 0.3

    # The angle of the longer axis, from upright, by the moments of second order.
    along_rows = (in_rows * place**2).sum(1) / mass
    along_columns = (in_columns * place**2).sum(1) / mass
    covariance = (turned * place.view(-1, 1) * place).sum((1, 2)) / mass
    angle = torch.rad2deg(0.5 * torch.atan2(2 * covariance, along_rows - along_columns))
    assert angle.abs().max() < 46
    assert angle.abs().max() > 40
    assert angle.mean().abs() < 4
    assert (angle > 0).float().mean().item() == pytest.approx(0.5, abs=0.1)


def test_scale_changes_areas_by_the_square() -> None:
    scaled = augmented(OFF.replace(scale=0.2), bar(500)).float()
    factors = scaled.sum((1, 2)) / bar(1).float().sum()
    assert factors.min().item() == pytest.approx(0.64, abs=0.04)
    assert factors.max().item() == pytest.approx(1.44, abs=0.06)


def test_turned_images_are_alike_in_any_batch_and_in_colour(train: Split) -> None:
    images = train.images[:200]
    config = TrainConfig(rotate=15.0, scale=0.1, shift=2)
    index = torch.randperm(200)[:64]
    together = augmented(config, images, index)
    assert torch.equal(together[::2], augmented(config, images, index[::2]))

    colour = augmented(config, images.unsqueeze(1).repeat(1, 3, 1, 1), index)
    assert torch.equal(colour[:, 1], together)
