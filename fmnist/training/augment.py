"""Batched augmentation of uint8 images on their device, keyed by (seed, epoch, sample).

The random numbers of an epoch are drawn at once, one row per training image, so what happens to an
image depends on neither its place in the batch nor the number of workers nor the device. `python -m
fmnist.train --show-augmentation FILE` draws it.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fmnist.config import SMALLEST_ERASED_AREA, TrainConfig

ORDER, AUGMENTATION, DROPOUT, AFFINE, NOISE, FLIP, MIX = range(7)
"""Streams of random numbers: one per use, so that none shifts another."""

ALL_BITS = 255
"""Bytes of 255 choose by bitwise arithmetic, at a fraction of the cost of choosing by booleans."""
MAX_ASPECT = 10 / 3
"""Height by width of an erased rectangle, at most; at least it is the inverse."""

Statistics = tuple[Tensor, Tensor]
"""Mean and deviation of the training pixels, (C, 1, 1) each in 0 to 255."""


def generator(*key: int) -> torch.Generator:
    """A CPU generator seeded by all of `key`, such as (seed, stream, epoch)."""
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


class ImageTable:
    """The training images on their device, padded with background.

    With the padding a shifted image is one run of memory.

    Args:
        images: (N, H, W) or (N, C, H, W) uint8.
        margin: the largest shift, in pixels.
    """

    def __init__(self, images: Tensor, margin: int, device: torch.device) -> None:
        self.shape = images.shape[1:]
        self.margin = margin
        if not margin:
            self.rows = images.flatten(1).to(device)
            return

        planes = _planes(images)
        count, channels, height, width = planes.shape
        self.padded = (channels, height + 2 * margin, width + 2 * margin)
        self.length = channels * self.padded[1] * self.padded[2]
        # The last image, shifted furthest, runs past its own end.
        tail = 2 * margin * (self.padded[2] + 1)
        memory = torch.zeros(count * self.length + tail, dtype=torch.uint8, device=device)

        padded = memory[: count * self.length].view(count, *self.padded)
        inner = padded[..., margin : margin + height, margin : margin + width]
        inner.copy_(planes)

        # Row i starts at element i: rows overlap, and copying one is copying a run of bytes.
        starts = (count - 1) * self.length + tail + 1
        self.rows = memory.as_strided((starts, self.length), (1, 1))

    def take(self, index: Tensor, shift: Tensor | None) -> Tensor:
        """Copy images, each moved by its shift.

        Args:
            index: (B,) int64, each image's number.
            shift: (B, 2) int64, rows and columns; what comes in from outside is background (0).

        Returns:
            (B, H, W) or (B, C, H, W).
        """
        if not self.margin:
            return self.rows.index_select(0, index).view(-1, *self.shape)

        row_length = self.padded[2]
        start = index * self.length + self.margin * (row_length + 1)
        if shift is not None:
            start = start - shift[:, 0] * row_length - shift[:, 1]

        height, width = self.shape[-2:]
        padded = self.rows.index_select(0, start).view(-1, *self.padded)
        # What follows is much faster on whole rows.
        return padded[..., :height, :width].contiguous().view(-1, *self.shape)


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What happens to each of N training images in one epoch; None where a kind is switched off."""

    flip: Tensor | None
    """(N, 1, 1, 1) uint8: 255 where the image is mirrored."""
    shift: Tensor | None
    """(N, 2) int64, rows and columns."""
    affine: Tensor | None
    """(N, 2, 3) float32: rotation and scale, as affine_grid takes them."""
    erase: tuple[Tensor, Tensor] | None
    """(N, H, 1) and (N, 1, W) uint8: 255 in the rows and in the columns that are erased."""
    fill: Tensor
    """(C, 1, 1) uint8, the erased pixels' value; or (N, C, H, W) uint8, one for each pixel."""
    mix: "Mix | None"

    @classmethod
    def draw(
        cls,
        config: TrainConfig,
        epoch: int,
        count: int,
        size: int,
        statistics: Statistics,
        device: torch.device,
    ) -> "Augmentation":
        """Draw one epoch's augmentation of `count` square images of `size` pixels.

        Args:
            statistics: of the training pixels; erased pixels are filled with them.
        """
        # Column 0 is free; to leave it out would change all others.
        uniform = torch.rand(count, 8, generator=generator(config.seed, AUGMENTATION, epoch))
        flip: Tensor | None = None
        if config.flip:
            flip = _mirrored(config, epoch, count).to(device)

        shift: Tensor | None = None
        if config.shift:
            shifts = (uniform[:, 1:3] * (2 * config.shift + 1)).long() - config.shift
            shift = shifts.to(device)

        affine: Tensor | None = None
        if config.rotate or config.scale:
            affine = _affine(config, epoch, count).to(device)

        erase: tuple[Tensor, Tensor] | None = None
        if config.erase:
            rows, columns = _rectangles(uniform[:, 3:8], config, size)
            erase = (rows.to(device), columns.to(device))

        fill = _fill(config, epoch, count, size, statistics).to(device)
        mix = Mix.draw(config, epoch, count, size, device) if config.cutmix else None
        return cls(flip, shift, affine, erase, fill, mix)

    def take(self, table: ImageTable, index: Tensor) -> Tensor:
        """Make a batch of augmented images.

        Args:
            table: the training images, with a margin of the config's shift.
            index: (B,) int64, each image's number in the training set.

        Returns:
            (B, H, W) or (B, C, H, W) uint8.
        """
        images = self._unmixed(table, index)
        if self.mix is None:
            return images

        others = self._unmixed(table, self.mix.other.index_select(0, index))
        inside = self.mix.rows.index_select(0, index) & self.mix.columns.index_select(0, index)
        if images.ndim == 4:
            inside = inside.unsqueeze(1)
        return _choose(inside, others, images)

    def targets(self, every: Tensor, index: Tensor) -> Tensor:
        """The targets of the batch that `take` makes.

        Args:
            every: the labels, (N,) int64; with CutMix (N, classes) float32, of which each image
                takes as much as its pixels.
        """
        own = every.index_select(0, index)
        if self.mix is None:
            return own
        others = every.index_select(0, self.mix.other.index_select(0, index))
        return others.lerp(own, self.mix.kept.index_select(0, index))

    def _unmixed(self, table: ImageTable, index: Tensor) -> Tensor:
        """The augmented images before CutMix."""
        shift = None if self.shift is None else self.shift.index_select(0, index)
        images = table.take(index, shift)
        planes = _planes(images)
        if self.flip is not None:
            planes = _choose(self.flip.index_select(0, index), planes.flip(3), planes)

        if self.affine is not None:
            affine = self.affine.index_select(0, index)
            grid = F.affine_grid(affine, list(planes.shape), align_corners=False)
            planes = F.grid_sample(planes.float(), grid, align_corners=False).round_().byte()

        if self.erase is not None:
            rows = self.erase[0].index_select(0, index)
            columns = self.erase[1].index_select(0, index)
            inside = (rows & columns).unsqueeze(1)
            one_value = self.fill.ndim == 3
            fill = self.fill if one_value else self.fill.index_select(0, index)
            planes = _choose(inside, fill.expand_as(planes), planes)
        return planes.view_as(images)


@dataclass(frozen=True, slots=True)
class Mix:
    """CutMix (Yun et al., 2019): a square of each of N images comes from another image.

    It lies wholly inside, and each image has its own, where the paper has one for a batch.
    """

    other: Tensor
    """(N,) int64, the number of the image that the square comes from."""
    rows: Tensor
    """(N, size, 1) uint8: 255 in the rows of the square."""
    columns: Tensor
    """(N, 1, size) uint8: 255 in its columns."""
    kept: Tensor
    """(N, 1) float32: share of pixels outside of it."""

    @classmethod
    def draw(
        cls, config: TrainConfig, epoch: int, count: int, size: int, device: torch.device
    ) -> "Mix":
        """Draw one epoch's squares of `count` images of `size` pixels."""
        random = generator(config.seed, MIX, epoch)
        uniform = torch.rand(count, 4, generator=random)  # whether, area, top, left
        mixed = uniform[:, 0] < config.cutmix
        side = (uniform[:, 1].sqrt() * size).round() * mixed
        rows, columns = _boxes(side, side, uniform[:, 2:], size)
        kept = 1 - (side / size).square().unsqueeze(1)
        other = torch.randperm(count, generator=random)
        return cls(other.to(device), rows.to(device), columns.to(device), kept.to(device))


def _planes(images: Tensor) -> Tensor:
    """Images (N, H, W) or (N, C, H, W) as (N, C, H, W)."""
    return images if images.ndim == 4 else images.unsqueeze(1)


def _choose(mask: Tensor, chosen: Tensor, other: Tensor) -> Tensor:
    """`chosen` where the bytes of `mask` are 255, `other` where they are 0."""
    return torch.bitwise_xor(chosen, other).bitwise_and_(mask).bitwise_xor_(other)


def _mirrored(config: TrainConfig, epoch: int, count: int) -> Tensor:
    """Choose half of the images, and in the next epoch the other half.

    So both views of an image are seen equally often (cifar10-airbench, Jordan, 2024, section 3.6).

    Returns:
        (N, 1, 1, 1), bytes of 255.
    """
    in_odd_epochs = torch.rand(count, generator=generator(config.seed, FLIP)) < 0.5
    mirrored = in_odd_epochs ^ (epoch % 2 == 0)
    return mirrored.byte().mul(ALL_BITS).view(-1, 1, 1, 1)


def _affine(config: TrainConfig, epoch: int, count: int) -> Tensor:
    """Draw for each image a rotation about its centre and a factor of enlargement.

    Returns:
        (N, 2, 3): where an output pixel comes from.
    """
    random = generator(config.seed, AFFINE, epoch)
    uniform = 2 * torch.rand(count, 2, generator=random) - 1
    angle = torch.deg2rad(config.rotate * uniform[:, 0])
    cosine, sine = angle.cos(), angle.sin()
    zero = torch.zeros_like(sine)
    turn = torch.stack((cosine, -sine, zero, sine, cosine, zero), 1).view(-1, 2, 3)
    return turn / (1 + config.scale * uniform[:, 1]).view(-1, 1, 1)


def _fill(config: TrainConfig, epoch: int, count: int, size: int, statistics: Statistics) -> Tensor:
    """What erased pixels become: `Augmentation.fill`."""
    mean, deviation = statistics
    if not config.erase or config.erase_fill != "noise":
        return mean.round().byte()
    random = generator(config.seed, NOISE, epoch)
    normal = torch.randn(count, len(mean), size, size, generator=random)
    return normal.mul_(deviation).add_(mean).clamp_(0, 255).byte()


def _rectangles(uniform: Tensor, config: TrainConfig, size: int) -> tuple[Tensor, Tensor]:
    """Place random erasing's rectangles (Zhong et al., 2017), of aspect ratio .3 to 3.3.

    Args:
        uniform: (N, 5) in 0 to 1: whether, area, aspect, top, left.

    Returns:
        the rows (N, size, 1) and the columns (N, 1, size) that are erased, as bytes of 255.
    """
    spread = config.erase_area - SMALLEST_ERASED_AREA
    area = (SMALLEST_ERASED_AREA + spread * uniform[:, 1]) * size * size
    aspect = torch.exp((2 * uniform[:, 2] - 1) * np.log(MAX_ASPECT))
    height = (area * aspect).sqrt().round().clamp(1, size)
    width = (area / aspect).sqrt().round().clamp(1, size)

    # A rectangle without height erases nothing.
    erased = uniform[:, 0] < config.erase
    return _boxes(height * erased, width, uniform[:, 3:], size)


def _boxes(height: Tensor, width: Tensor, uniform: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Put rectangles of so many pixels at random places.

    Args:
        height, width: (N,) float32, whole numbers.
        uniform: (N, 2) in 0 to 1: top, left.

    Returns:
        rows (N, size, 1) and columns (N, 1, size), bytes of 255.
    """
    top = (uniform[:, 0] * (size - height + 1)).floor()
    left = (uniform[:, 1] * (size - width + 1)).floor()
    place = torch.arange(size)
    rows = (place >= top[:, None]) & (place < (top + height)[:, None])
    columns = (place >= left[:, None]) & (place < (left + width)[:, None])
    return rows.byte().mul(ALL_BITS).unsqueeze(2), columns.byte().mul(ALL_BITS).unsqueeze(1)
