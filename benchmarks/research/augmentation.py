"""Other draws of an epoch's augmentation, in place of the Augmentation that the loop draws."""

import dataclasses
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

import fmnist.training.loop
from benchmarks.research.networks import max_pool
from fmnist.config import TrainConfig
from fmnist.training.augment import FLIP, Augmentation, ImageTable, generator

ERASE_SHARE = 0.85
"""Share of the epochs that erase."""
SMALL_SHARE, SMALL_SIZE = 0.6, 20
"""Share of the epochs with small images, and their pixels."""
MIXUP = 7
"""Stream of random numbers; those below are the product's."""


def drawn_by(draw: Callable[..., Any]) -> AbstractContextManager[Any]:
    """The loop draws its augmentation by a function, which takes what `Augmentation.draw` takes."""
    return patch.object(fmnist.training.loop, "Augmentation", SimpleNamespace(draw=draw))


def _draw_random_flip(config: TrainConfig, epoch: int, count: int, *rest: Any) -> Augmentation:
    """Each image is mirrored, or not, anew in every epoch."""
    drawn = Augmentation.draw(config, epoch, count, *rest)
    mirrored = torch.rand(count, generator=generator(config.seed, FLIP, epoch)) < 0.5
    flip = mirrored.byte().mul(255).view(-1, 1, 1, 1).to(drawn.fill.device)
    return dataclasses.replace(drawn, flip=flip)


def _draw_erasing_until(config: TrainConfig, epoch: int, *rest: Any) -> Augmentation:
    """No erasing in the last epochs."""
    if epoch > ERASE_SHARE * config.epochs:
        config = config.replace(erase=0.0)
    return Augmentation.draw(config, epoch, *rest)


@dataclasses.dataclass(frozen=True)
class Growing:
    """Small images in the first epochs."""

    drawn: Augmentation
    small: bool

    @classmethod
    def draw(cls, config: TrainConfig, epoch: int, *rest: Any) -> "Growing":
        drawn = Augmentation.draw(config, epoch, *rest)
        return cls(drawn, small=epoch <= SMALL_SHARE * config.epochs)

    def take(self, table: ImageTable, index: Tensor) -> Tensor:
        images = self.drawn.take(table, index)
        if not self.small:
            return images
        size = (SMALL_SIZE, SMALL_SIZE)
        planes = F.interpolate(images.unsqueeze(1), size=size, mode="bilinear", antialias=True)
        return planes.squeeze(1)

    def needed(self, index: Tensor) -> Tensor:
        return self.drawn.needed(index)

    def targets(self, labels: Tensor, index: Tensor, classes: int) -> Tensor:
        return self.drawn.targets(labels, index, classes)


@dataclasses.dataclass
class Mixup:
    """Half of the batches are mixed with themselves, turned by one image, and the targets with
    them (Zhang et al., 2018).

    There is no CutMix then.
    """

    drawn: Augmentation
    batch: int
    random: torch.Generator
    kept: list[float] = dataclasses.field(default_factory=list[float])
    """Share of its own image in each batch of the last `take`."""

    @classmethod
    def draw(cls, config: TrainConfig, epoch: int, *rest: Any) -> "Mixup":
        drawn = Augmentation.draw(config.replace(cutmix=0.0), epoch, *rest)
        return cls(drawn, config.global_batch_size, generator(config.seed, MIXUP, epoch))

    def take(self, table: ImageTable, index: Tensor) -> Tensor:
        batches = self.drawn.take(table, index).split(self.batch)
        self.kept = [self._draw_share() for _ in batches]
        # The loop asks for several batches at once; each is mixed within itself.
        mixed = [self._mix(images, kept) for images, kept in zip(batches, self.kept, strict=True)]
        return torch.cat(mixed).round().byte()

    def needed(self, index: Tensor) -> Tensor:
        return self.drawn.needed(index)

    def targets(self, labels: Tensor, index: Tensor, classes: int) -> Tensor:
        """Called after `take` of the same images."""
        own = self.drawn.targets(labels, index, classes)
        batches = F.one_hot(own, classes).float().split(self.batch)
        pairs = zip(batches, self.kept, strict=True)
        return torch.cat([self._mix(targets, kept) for targets, kept in pairs])

    def _draw_share(self) -> float:
        mixed, share = torch.rand(2, generator=self.random).tolist()
        return share if mixed < 0.5 else 1.0

    @staticmethod
    def _mix(values: Tensor, kept: float) -> Tensor:
        return kept * values.float() + (1 - kept) * values.roll(1, 0).float()


@contextmanager
def growing() -> Generator[None]:
    # airnet's own pool wants a map of one size.
    with max_pool(), drawn_by(Growing.draw):
        yield


random_flip = partial(drawn_by, _draw_random_flip)
erasing_until = partial(drawn_by, _draw_erasing_until)
mixup = partial(drawn_by, Mixup.draw)
