"""Batched augmentation of uint8 images on their device, keyed by (seed, epoch, sample).

The random numbers of an epoch are drawn at once, one row per training image, so what happens to an image depends on
neither its place in the batch nor the number of workers nor the device. `python -m fmnist.train --show-augmentation FILE` draws it.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fmnist.config import TrainConfig

ORDER, AUGMENTATION, DROPOUT, AFFINE, NOISE, FLIP, MIX = range(7)
"""Streams of random numbers: one per use, so that none shifts another."""


def generator(*key: int) -> torch.Generator:
    """A CPU generator seeded by all of `key`, such as (seed, stream, epoch)."""
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


class ImageTable:
    """The training images on their device, padded with background, so that a shifted image is one run of memory.

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
        planes = images if images.ndim == 4 else images.unsqueeze(1)
        count, channels, height, width = planes.shape
        self.padded = (channels, height + 2 * margin, width + 2 * margin)
        self.length = channels * self.padded[1] * self.padded[2]
        tail = 2 * margin * (self.padded[2] + 1)  # the last image, shifted furthest, runs past its own end
        memory = torch.zeros(count * self.length + tail, dtype=torch.uint8, device=device)
        inner = memory[: count * self.length].view(count, *self.padded)[..., margin : margin + height, margin : margin + width]
        inner.copy_(planes)
        # Row i starts at element i: rows overlap, and copying one is copying a run of bytes.
        self.rows = memory.as_strided(((count - 1) * self.length + tail + 1, self.length), (1, 1))

    def take(self, index: Tensor, shift: Tensor | None) -> Tensor:
        """Images (B, H, W) or (B, C, H, W), each moved by its (rows, columns); what comes in from outside is background (0)."""
        if not self.margin:
            return self.rows.index_select(0, index).view(-1, *self.shape)
        start = index * self.length + self.margin * (self.padded[2] + 1)
        if shift is not None:
            start = start - shift[:, 0] * self.padded[2] - shift[:, 1]
        moved = self.rows.index_select(0, start).view(-1, *self.padded)[..., : self.shape[-2], : self.shape[-1]]
        return moved.contiguous().view(-1, *self.shape)  # what follows is much faster on whole rows


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What happens to each of N training images in one epoch; None where a kind is switched off.

    Bytes of 255 choose by bitwise arithmetic, which costs a fraction of what selecting by booleans does.
    """

    flip: Tensor | None  # (N, 1, 1, 1) uint8: 255 where the image is mirrored
    shift: Tensor | None  # (N, 2) int64, rows and columns
    affine: Tensor | None  # (N, 2, 3) float32: rotation and scale, as affine_grid takes them
    erase: tuple[Tensor, Tensor] | None  # (N, H, 1) and (N, 1, W) uint8: 255 in the rows and columns that are erased
    fill: Tensor  # (C, 1, 1) uint8: the erased pixels' value; or (N, C, H, W) uint8, one for each pixel
    mix: "Mix | None"

    @classmethod
    def draw(
        cls, config: TrainConfig, epoch: int, count: int, size: int, mean: Tensor, deviation: Tensor, device: torch.device
    ) -> "Augmentation":
        """Draw one epoch's augmentation of `count` square images of `size` pixels.

        Args:
            mean, deviation: of the training pixels, (C, 1, 1) in 0 to 255: what erased pixels are filled with.
        """
        uniform = torch.rand(count, 8, generator=generator(config.seed, AUGMENTATION, epoch))  # column 0 is free
        flip = _mirrored(config, epoch, count).to(device) if config.flip else None
        shift = (uniform[:, 1:3] * (2 * config.shift + 1)).long() - config.shift if config.shift else None
        erase = _rectangles(uniform[:, 3:8], config, size) if config.erase else None
        affine = _affine(config, epoch, count) if config.rotate or config.scale else None
        fill = mean.round()
        if config.erase and config.erase_fill == "noise":
            normal = torch.randn(count, len(mean), size, size, generator=generator(config.seed, NOISE, epoch))
            fill = normal.mul_(deviation).add_(mean).clamp_(0, 255)
        return cls(
            flip,
            None if shift is None else shift.to(device),
            None if affine is None else affine.to(device),
            None if erase is None else (erase[0].to(device), erase[1].to(device)),
            fill.byte().to(device),
            Mix.draw(config, epoch, count, size, device) if config.cutmix else None,
        )

    def take(self, table: ImageTable, index: Tensor) -> Tensor:
        """A batch of augmented images.

        Args:
            table: the training images, with a margin of the config's shift.
            index: (B,) int64, each image's number in the training set.
        """
        images = self._own(table, index)
        if self.mix is None:
            return images
        others = self._own(table, self.mix.other.index_select(0, index))
        inside = self.mix.rows.index_select(0, index) & self.mix.columns.index_select(0, index)
        return _choose(inside if images.ndim == 3 else inside.unsqueeze(1), others, images)

    def targets(self, every: Tensor, index: Tensor) -> Tensor:
        """What the batch of `take` shows.

        Args:
            every: the labels, (N,) int64; with CutMix (N, classes) float32, of which each image takes as much as its pixels.
        """
        own = every.index_select(0, index)
        if self.mix is None:
            return own
        others = every.index_select(0, self.mix.other.index_select(0, index))
        return others.lerp(own, self.mix.kept.index_select(0, index))

    def _own(self, table: ImageTable, index: Tensor) -> Tensor:
        """The augmented images, not mixed yet."""
        images = table.take(index, None if self.shift is None else self.shift.index_select(0, index))
        planes = images if images.ndim == 4 else images.unsqueeze(1)
        if self.flip is not None:
            planes = _choose(self.flip.index_select(0, index), planes.flip(3), planes)
        if self.affine is not None:
            grid = F.affine_grid(self.affine.index_select(0, index), list(planes.shape), align_corners=False)
            planes = F.grid_sample(planes.float(), grid, align_corners=False).round_().byte()
        if self.erase is not None:
            rows, columns = (side.index_select(0, index) for side in self.erase)
            fill = self.fill if self.fill.ndim == 3 else self.fill.index_select(0, index)
            planes = _choose((rows & columns).unsqueeze(1), fill.expand_as(planes), planes)
        return planes.view_as(images)


@dataclass(frozen=True, slots=True)
class Mix:
    """CutMix (Yun et al., 2019): a square of each of N images comes from another one. It lies wholly inside, and each image has its
    own, where the paper has one for a batch."""

    other: Tensor  # (N,) int64
    rows: Tensor  # (N, size, 1) uint8: 255 in the rows of the square
    columns: Tensor  # (N, 1, size) uint8
    kept: Tensor  # (N, 1) float32: share of pixels outside of it

    @classmethod
    def draw(cls, config: TrainConfig, epoch: int, count: int, size: int, device: torch.device) -> "Mix":
        random = generator(config.seed, MIX, epoch)
        uniform = torch.rand(count, 4, generator=random)  # whether, area, top, left
        side = (uniform[:, 1].sqrt() * size).round() * (uniform[:, 0] < config.cutmix)
        rows, columns = _boxes(side, side, uniform[:, 2:], size)
        kept = 1 - (side / size).square().unsqueeze(1)
        return cls(*(each.to(device) for each in (torch.randperm(count, generator=random), rows, columns, kept)))


def _choose(mask: Tensor, chosen: Tensor, other: Tensor) -> Tensor:
    """`chosen` where the bytes of `mask` are 255, `other` where they are 0."""
    return torch.bitwise_xor(chosen, other).bitwise_and_(mask).bitwise_xor_(other)


def _mirrored(config: TrainConfig, epoch: int, count: int) -> Tensor:
    """Half of the images, and in the next epoch the other half: so every view of each is seen as often as the other
    (cifar10-airbench, Jordan, 2024, section 3.6). (N, 1, 1, 1), bytes of 255."""
    odd = torch.rand(count, generator=generator(config.seed, FLIP)) < 0.5
    return (odd ^ (epoch % 2 == 0)).byte().mul(255).view(-1, 1, 1, 1)


def _affine(config: TrainConfig, epoch: int, count: int) -> Tensor:
    """For each image a rotation about its centre and a factor of enlargement, (N, 2, 3): where an output pixel comes from."""
    uniform = 2 * torch.rand(count, 2, generator=generator(config.seed, AFFINE, epoch)) - 1
    angle = torch.deg2rad(config.rotate * uniform[:, 0])
    cosine, sine = angle.cos(), angle.sin()
    turn = torch.stack((cosine, -sine, torch.zeros_like(sine), sine, cosine, torch.zeros_like(sine)), 1).view(-1, 2, 3)
    return turn / (1 + config.scale * uniform[:, 1]).view(-1, 1, 1)


def _rectangles(uniform: Tensor, config: TrainConfig, size: int) -> tuple[Tensor, Tensor]:
    """Random erasing's rectangles (Zhong et al., 2017): aspect ratio .3 to 3.3.

    Args:
        uniform: (N, 5) in 0 to 1: whether, area, aspect, top, left.

    Returns:
        the rows (N, size, 1) and the columns (N, 1, size) that are erased, as bytes of 255.
    """
    area = (0.02 + (config.erase_area - 0.02) * uniform[:, 1]) * size * size
    aspect = torch.exp((2 * uniform[:, 2] - 1) * np.log(10 / 3))
    height = (area * aspect).sqrt().round().clamp(1, size)
    width = (area / aspect).sqrt().round().clamp(1, size)
    height = height * (uniform[:, 0] < config.erase)
    return _boxes(height, width, uniform[:, 3:], size)


def _boxes(height: Tensor, width: Tensor, uniform: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Rectangles of so many pixels at random places: rows (N, size, 1) and columns (N, 1, size), bytes of 255.

    Args:
        uniform: (N, 2) in 0 to 1: top, left.
    """
    top = (uniform[:, 0] * (size - height + 1)).floor()
    left = (uniform[:, 1] * (size - width + 1)).floor()
    place = torch.arange(size)
    rows = (place >= top[:, None]) & (place < (top + height)[:, None])
    columns = (place >= left[:, None]) & (place < (left + width)[:, None])
    return rows.byte().mul(255).unsqueeze(2), columns.byte().mul(255).unsqueeze(1)
