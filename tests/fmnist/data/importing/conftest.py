"""Fashion-MNIST's own images, to be written in the formats of this field."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fmnist.data.dataset import Split


@dataclass(frozen=True)
class Arrays:
    """Images (N, 28, 28) uint8 and labels (N,) int64 of two splits."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[Any]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[Any]


@pytest.fixture(scope="session")
def fashion_arrays(train: Split, official_test: Split) -> Arrays:
    """300 training and 120 test images of Fashion-MNIST, of all classes."""
    few, few_tests = train.first(300), official_test.first(120)
    return Arrays(
        few.images.tensor().numpy(),
        few.labels.numpy(),
        few_tests.images.tensor().numpy(),
        few_tests.labels.numpy(),
    )


@pytest.fixture(scope="session")
def colours() -> NDArray[np.uint8]:
    """40 smooth colour images, (40, 16, 16, 3)."""
    rows, columns = np.mgrid[0:16, 0:16]
    images: list[NDArray[Any]] = []
    for number in range(40):
        red = 10 * rows + number
        green = 200 - 8 * columns
        blue = 5 * (rows + columns) + 2 * number
        images.append(np.stack([red, green, blue], -1))
    return np.stack(images).astype(np.uint8)
