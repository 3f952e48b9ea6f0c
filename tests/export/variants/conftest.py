import numpy as np
import onnx
import pytest

from export.graph.conversion import to_onnx
from export.variants.int8 import calibration_indices
from fmnist.data.dataset import Split
from fmnist.training.checkpoint import Checkpoint


@pytest.fixture(scope="session")
def model(lenet: Checkpoint) -> onnx.ModelProto:
    return to_onnx([lenet])


@pytest.fixture(scope="session")
def calibration(train: Split) -> np.ndarray:
    return train.images[calibration_indices(train.labels.numpy(), 8)].numpy()


@pytest.fixture(scope="session")
def judge(train: Split) -> Split:
    return Split(train.images[-1500:], train.labels[-1500:])
