"""Draw what augmentation makes of some training images."""

from pathlib import Path

import torch

from fmnist.config import TrainConfig
from fmnist.data.dataset import Split, pixel_statistics
from fmnist.evaluation.plots import plot_augmentations
from fmnist.training.augment import Augmentation, ImageTable

IMAGES = 6
EPOCHS = 9


def show_augmentation(config: TrainConfig, train: Split, path: Path) -> None:
    """Draw the first training images as a PNG: as they are, then as in each of the first epochs."""
    device = torch.device("cpu")
    count = min(IMAGES, len(train))
    originals = train.images[:count]
    # Statistics of all images, as in training: they fill the rectangles that are erased.
    statistics = pixel_statistics(train.images)
    table = ImageTable(originals, config.shift, device)
    index = torch.arange(count)
    height, width = originals.shape[-2:]
    size = (height, width)

    columns = [originals]
    for epoch in range(1, EPOCHS + 1):
        augmentation = Augmentation.draw(config, epoch, count, size, statistics, device)
        columns.append(augmentation.take(table, index))

    plot_augmentations(torch.stack(columns, 1).numpy(), path)
