"""Batched augmentation of uint8 images on their device, keyed by (seed, epoch, sample).

The random numbers of an epoch are drawn at once, one row per training image, so what happens to an image depends on
neither its place in the batch nor the number of workers nor the device.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fmnist.config import TrainConfig

ORDER, AUGMENTATION, DROPOUT = range(3)
"""Streams of random numbers: one per use, so that none shifts another."""


def generator(*key: int) -> torch.Generator:
    """A CPU generator seeded by all of `key`, such as (seed, stream, epoch)."""
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What happens to each of N training images in one epoch; None where a kind is switched off."""

    flip: Tensor | None  # (N,) bool
    shift: Tensor | None  # (N, 2) int64, rows and columns
    erase: Tensor | None  # (N, 4) int64: top, bottom, left, right; empty where the image is spared
    fill: int

    @classmethod
    def draw(cls, config: TrainConfig, epoch: int, count: int, size: int, fill: int, device: torch.device) -> "Augmentation":
        """Draw one epoch's augmentation of `count` square images of `size` pixels; `fill` is the erased pixels' value."""
        source = generator(config.seed, AUGMENTATION, epoch)
        uniform = torch.rand(count, 8, generator=source)
        flip = uniform[:, 0] < 0.5 if config.flip else None
        shift = (uniform[:, 1:3] * (2 * config.shift + 1)).long() - config.shift if config.shift else None
        erase = _rectangles(uniform[:, 3:8], config.erase, size) if config.erase else None
        return cls(*(None if part is None else part.to(device) for part in (flip, shift, erase)), fill=fill)

    def apply(self, images: Tensor, index: Tensor) -> Tensor:
        """Augment a batch.

        Args:
            images: (B, H, W) uint8.
            index: (B,) int64, each image's number in the training set.
        """
        if self.flip is not None or self.shift is not None:
            images = _move(images, _at(self.flip, index), _at(self.shift, index))
        if self.erase is not None:
            images = images.masked_fill(_inside(self.erase[index], *images.shape[1:]), self.fill)
        return images


def _at(values: Tensor | None, index: Tensor) -> Tensor | None:
    return None if values is None else values[index]


def _rectangles(uniform: Tensor, probability: float, size: int) -> Tensor:
    """Random erasing's rectangles (Zhong et al., 2017): area .02 to .4 of the image, aspect ratio .3 to 3.3.

    Args:
        uniform: (N, 5) in 0 to 1: whether, area, aspect, top, left.
    """
    area = (0.02 + 0.38 * uniform[:, 1]) * size * size
    aspect = torch.exp((2 * uniform[:, 2] - 1) * np.log(10 / 3))
    height = (area * aspect).sqrt().round().clamp(1, size)
    width = (area / aspect).sqrt().round().clamp(1, size)
    height = height * (uniform[:, 0] < probability)
    top = (uniform[:, 3] * (size - height + 1)).floor()
    left = (uniform[:, 4] * (size - width + 1)).floor()
    return torch.stack((top, top + height, left, left + width), 1).long()


def _move(images: Tensor, flip: Tensor | None, shift: Tensor | None) -> Tensor:
    """Mirror and translate in one gather; what comes in from outside is background (0)."""
    batch, height, width = images.shape
    rows = torch.arange(height, device=images.device).expand(batch, height)
    columns = torch.arange(width, device=images.device).expand(batch, width)
    if flip is not None:
        columns = torch.where(flip[:, None], width - 1 - columns, columns)
    if shift is None:
        return images.gather(2, columns[:, None, :].expand(-1, height, -1))
    # Row and column 0 of the padded image are background: an index that falls outside is sent there.
    rows = rows - shift[:, :1] + 1
    columns = columns - shift[:, 1:] + 1
    rows = rows * ((rows > 0) & (rows <= height))
    columns = columns * ((columns > 0) & (columns <= width))
    padded = torch.nn.functional.pad(images, (1, 0, 1, 0)).flatten(1)  # (B, (H + 1) * (W + 1))
    index = rows[:, :, None] * (width + 1) + columns[:, None, :]
    return padded.gather(1, index.flatten(1)).view(batch, height, width)


def _inside(rectangles: Tensor, height: int, width: int) -> Tensor:
    rows = torch.arange(height, device=rectangles.device)
    columns = torch.arange(width, device=rectangles.device)
    top, bottom, left, right = (side[:, None] for side in rectangles.unbind(1))
    inside_rows = (rows >= top) & (rows < bottom)  # (B, H)
    inside_columns = (columns >= left) & (columns < right)  # (B, W)
    return inside_rows[:, :, None] & inside_columns[:, None, :]
