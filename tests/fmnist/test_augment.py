import pytest
import torch

from fmnist.augment import Augmentation
from fmnist.config import TrainConfig
from fmnist.data import Split

CPU = torch.device("cpu")
OFF = TrainConfig(flip=False, shift=0, erase=0.0)


def draw(config: TrainConfig, count: int = 4000) -> Augmentation:
    return Augmentation.draw(config, 1, count, 28, 73, CPU)


def test_off_changes_nothing(train: Split) -> None:
    images, index = train.images[:64], torch.arange(64)
    assert torch.equal(draw(OFF).apply(images, index), images)


def test_flip_mirrors_half(train: Split) -> None:
    images = train.images[:4000]
    flipped = draw(OFF.replace(flip=True)).apply(images, torch.arange(4000))
    mirrored = torch.tensor([torch.equal(a, b.flip(1)) for a, b in zip(flipped, images, strict=True)])
    kept = torch.tensor([torch.equal(a, b) for a, b in zip(flipped, images, strict=True)])
    assert bool((mirrored | kept).all())
    assert mirrored.float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_shift_moves_whole_pixels_and_brings_in_background() -> None:
    augmentation = draw(OFF.replace(shift=2), 500)
    images = torch.full((500, 28, 28), 9, dtype=torch.uint8)
    images[:, 10, 12] = 200
    moved = augmentation.apply(images, torch.arange(500))
    assert augmentation.shift is not None
    seen = set()
    for image, (rows, columns) in zip(moved, augmentation.shift.tolist(), strict=True):
        assert image[10 + rows, 12 + columns] == 200
        assert int((image == 0).sum()) == 28 * 28 - (28 - abs(rows)) * (28 - abs(columns))
        seen.add((rows, columns))
    assert len(seen) == 25


def test_erase_fills_a_rectangle_of_the_papers_size() -> None:
    augmentation = draw(OFF.replace(erase=0.5))
    erased = augmentation.apply(torch.zeros(4000, 28, 28, dtype=torch.uint8), torch.arange(4000)) == 73
    areas = erased.flatten(1).sum(1) / 784
    hit = areas > 0
    assert hit.float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert areas[hit].min() > 0.01
    assert areas[hit].max() < 0.45
    for mask in erased[hit][:200]:
        rows, columns = mask.any(1), mask.any(0)
        assert int(mask.sum()) == int(rows.sum()) * int(columns.sum())


def test_an_image_is_augmented_alike_in_any_batch(train: Split) -> None:
    augmentation = draw(TrainConfig(erase=0.5))
    index = torch.randperm(4000)[:256]
    together = augmentation.apply(train.images[index], index)
    halves = [augmentation.apply(train.images[part], part) for part in (index[::2], index[1::2])]
    assert torch.equal(together[::2], halves[0])
    assert torch.equal(together[1::2], halves[1])


def test_epochs_and_seeds_differ() -> None:
    first = draw(TrainConfig()).flip
    assert first is not None
    for other in (
        Augmentation.draw(TrainConfig(), 2, 4000, 28, 73, CPU).flip,
        Augmentation.draw(TrainConfig(seed=1), 1, 4000, 28, 73, CPU).flip,
    ):
        assert other is not None
        assert not torch.equal(first, other)
