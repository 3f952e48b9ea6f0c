import onnx
import pytest

from export.graph.conversion import to_onnx
from export.variants.int8 import calibration_indices
from fmnist.data.dataset import Split
from fmnist.data.images import Images
from fmnist.training.checkpoint import Checkpoint


@pytest.fixture(scope="session")
def model(lenet: Checkpoint) -> onnx.ModelProto:
    return to_onnx([lenet])


@pytest.fixture(scope="session")
def calibration(train: Split) -> Images:
    return train.images.take(calibration_indices(train.labels.numpy(), 8))


@pytest.fixture(scope="session")
def judge(train: Split) -> Split:
    return Split(train.images[-1500:], train.labels[-1500:])
