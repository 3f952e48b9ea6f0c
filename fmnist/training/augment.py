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
from fmnist.data.dataset import Statistics
from fmnist.data.images import batch_within

ORDER, AUGMENTATION, DROPOUT, AFFINE, NOISE, FLIP, MIX = range(7)
"""Streams of random numbers: one per use, so that none shifts another."""

ALL_BITS = 255
"""Bytes of 255 choose by bitwise arithmetic, at a fraction of the cost of choosing by booleans."""
MAX_ASPECT = 10 / 3
"""Height by width of an erased rectangle, at most; at least it is the inverse."""

NOISE_BYTES = 2**26
"""Noise that is drawn for an epoch: enough for each image of Fashion-MNIST to have its own."""

Size = tuple[int, int]
"""Height and width in pixels."""


def generator(*key: int) -> torch.Generator:
    """A CPU generator seeded by all of `key`, such as (seed, stream, epoch)."""
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


class ImageTable:
    """Training images on their device, padded with background.

    With the padding a shifted image is one run of memory.

    Args:
        images: (N, H, W) or (N, C, H, W) uint8.
        margin: the largest shift, in pixels.
        numbers: (N,) int64, each image's number in the training set, in rising order; None where
            the table holds the whole set.
    """

    def __init__(
        self, images: Tensor, margin: int, device: torch.device, numbers: Tensor | None = None
    ) -> None:
        self.numbers = None if numbers is None else numbers.to(device)
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
            index: (B,) int64, each image's number in the training set.
            shift: (B, 2) int64, rows and columns; what comes in from outside is background (0).

        Returns:
            (B, H, W) or (B, C, H, W).
        """
        if self.numbers is not None:
            index = torch.searchsorted(self.numbers, index)
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
    erase: "Boxes | None"
    """The rectangles that are erased."""
    fill: Tensor
    """(C, 1, 1) uint8, the erased pixels' value; or (M, C, H, W) uint8, noise of which image i
    takes number i modulo M."""
    mix: "Mix | None"

    @classmethod
    def draw(
        cls,
        config: TrainConfig,
        epoch: int,
        count: int,
        size: Size,
        statistics: Statistics,
        device: torch.device,
    ) -> "Augmentation":
        """Draw one epoch's augmentation of `count` images.

        Args:
            size: height and width in pixels.
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
            affine = _affine(config, epoch, count, size).to(device)

        erase: Boxes | None = None
        if config.erase:
            erase = _rectangles(uniform[:, 3:8], config, size).to(device)

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
        inside = self.mix.square.inside(index)
        if images.ndim == 4:
            inside = inside.unsqueeze(1)
        return _choose(inside, others, images)

    def needed(self, index: Tensor) -> Tensor:
        """Numbers of the images that `take` reads for a batch, in rising order."""
        if self.mix is not None:
            index = torch.cat((index, self.mix.other.index_select(0, index)))
        return index.unique()

    def targets(self, labels: Tensor, index: Tensor, classes: int) -> Tensor:
        """The targets of the batch that `take` makes.

        Args:
            labels: (N,) int64, of the whole training set.

        Returns:
            (B,) int64; with CutMix (B, classes) float32, each image's share of its pixels.
        """
        own = labels.index_select(0, index)
        if self.mix is None:
            return own
        others = labels.index_select(0, self.mix.other.index_select(0, index))
        kept = self.mix.kept.index_select(0, index)
        return F.one_hot(others, classes).float().lerp(F.one_hot(own, classes).float(), kept)

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
            inside = self.erase.inside(index).unsqueeze(1)
            fill = self.fill
            if fill.ndim == 4:
                fill = fill.index_select(0, index % len(fill))
            planes = _choose(inside, fill.expand_as(planes), planes)
        return planes.view_as(images)


@dataclass(frozen=True, slots=True)
class Mix:
    """CutMix (Yun et al., 2019): a rectangle of each of N images comes from another image.

    It has the image's aspect ratio and lies wholly inside. Each image has its own, where the paper
    has one for a batch.
    """

    other: Tensor
    """(N,) int64, the number of the image that the rectangle comes from."""
    square: "Boxes"
    kept: Tensor
    """(N, 1) float32: share of pixels outside of it."""

    @classmethod
    def draw(
        cls, config: TrainConfig, epoch: int, count: int, size: Size, device: torch.device
    ) -> "Mix":
        """Draw one epoch's rectangles of `count` images."""
        random = generator(config.seed, MIX, epoch)
        uniform = torch.rand(count, 4, generator=random)  # whether, area, top, left
        mixed = uniform[:, 0] < config.cutmix
        height = (uniform[:, 1].sqrt() * size[0]).round() * mixed
        width = (uniform[:, 1].sqrt() * size[1]).round() * mixed
        kept = 1 - (height / size[0] * (width / size[1])).unsqueeze(1)
        square = Boxes.place(height, width, uniform[:, 2:], size)
        other = torch.randperm(count, generator=random)
        return cls(other.to(device), square.to(device), kept.to(device))


@dataclass(frozen=True, slots=True)
class Boxes:
    """A rectangle in each of N images. Masks are made for a batch at a time."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    """(N,) float32 each, whole numbers; a height of 0 is no rectangle."""
    size: Size
    """Of the images."""

    @classmethod
    def place(cls, height: Tensor, width: Tensor, uniform: Tensor, size: Size) -> "Boxes":
        """Put rectangles of so many pixels at random places.

        Args:
            height, width: (N,) float32, whole numbers.
            uniform: (N, 2) in 0 to 1: top, left.
        """
        top = (uniform[:, 0] * (size[0] - height + 1)).floor()
        left = (uniform[:, 1] * (size[1] - width + 1)).floor()
        return cls(top, left, height, width, size)

    def to(self, device: torch.device) -> "Boxes":
        sides = (self.top, self.left, self.height, self.width)
        return Boxes(*(side.to(device) for side in sides), size=self.size)

    def inside(self, index: Tensor) -> Tensor:
        """Masks of the images with these numbers: (B, H, W) uint8, 255 inside the rectangle."""
        rows = self._covered(self.top, self.height, self.size[0], index)
        columns = self._covered(self.left, self.width, self.size[1], index)
        return rows.unsqueeze(2) & columns.unsqueeze(1)

    @staticmethod
    def _covered(start: Tensor, length: Tensor, size: int, index: Tensor) -> Tensor:
        """Bytes of 255 where a side of `size` pixels is covered, (B, size)."""
        first = start.index_select(0, index)[:, None]
        after = first + length.index_select(0, index)[:, None]
        place = torch.arange(size, device=index.device)
        return ((place >= first) & (place < after)).byte().mul_(ALL_BITS)


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


def _affine(config: TrainConfig, epoch: int, count: int, size: Size) -> Tensor:
    """Draw for each image a rotation about its centre and a factor of enlargement.

    Returns:
        (N, 2, 3): where an output pixel comes from.
    """
    random = generator(config.seed, AFFINE, epoch)
    uniform = 2 * torch.rand(count, 2, generator=random) - 1
    angle = torch.deg2rad(config.rotate * uniform[:, 0])
    cosine, sine = angle.cos(), angle.sin()
    zero = torch.zeros_like(sine)
    # Coordinates go from -1 to 1 on both sides, however long they are.
    height, width = size
    across, down = -sine * (height / width), sine * (width / height)
    turn = torch.stack((cosine, across, zero, down, cosine, zero), 1).view(-1, 2, 3)
    return turn / (1 + config.scale * uniform[:, 1]).view(-1, 1, 1)


def _fill(
    config: TrainConfig, epoch: int, count: int, size: Size, statistics: Statistics
) -> Tensor:
    """What erased pixels become: `Augmentation.fill`."""
    mean, deviation = statistics
    if not config.erase or config.erase_fill != "noise":
        return mean.round().byte()
    random = generator(config.seed, NOISE, epoch)
    # More would be as large as the images themselves.
    count = batch_within(count, NOISE_BYTES, len(mean) * size[0] * size[1])
    normal = torch.randn(count, len(mean), *size, generator=random)
    return normal.mul_(deviation).add_(mean).clamp_(0, 255).byte()


def _rectangles(uniform: Tensor, config: TrainConfig, size: Size) -> Boxes:
    """Place random erasing's rectangles (Zhong et al., 2017), of aspect ratio .3 to 3.3.

    Args:
        uniform: (N, 5) in 0 to 1: whether, area, aspect, top, left.
    """
    spread = config.erase_area - SMALLEST_ERASED_AREA
    area = (SMALLEST_ERASED_AREA + spread * uniform[:, 1]) * size[0] * size[1]
    aspect = torch.exp((2 * uniform[:, 2] - 1) * np.log(MAX_ASPECT))
    height = (area * aspect).sqrt().round().clamp(1, size[0])
    width = (area / aspect).sqrt().round().clamp(1, size[1])

    # A rectangle without height erases nothing.
    erased = uniform[:, 0] < config.erase
    return Boxes.place(height * erased, width, uniform[:, 3:], size)
