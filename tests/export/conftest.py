import pytest

from fmnist.checkpoint import Checkpoint
from fmnist.config import TrainConfig
from fmnist.data import DataInfo, Split
from fmnist.device import default_device
from fmnist.loop import train_epochs


@pytest.fixture(scope="session")
def checkpoint(train: Split, info: DataInfo) -> Checkpoint:
    """A small airnet after one short epoch: its batch norms and weights are no longer those of a fresh net."""
    config = TrainConfig(widths=(8, 16, 32), epochs=1, train_images=4000, precision="fp32")
    few = Split(train.images[:4000], train.labels[:4000])
    *_, (_, state) = train_epochs(config, few, classes=10, device=default_device())
    return Checkpoint(state.model.cpu().eval(), state.config, info, {"versions": {}})
