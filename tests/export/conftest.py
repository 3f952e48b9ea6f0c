from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from export.bundle import Bundled, write_bundle
from export.graph import to_onnx
from export.quantize import Variant, calibration_indices
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


@pytest.fixture(scope="session")
def lenet(train: Split, info: DataInfo) -> Checkpoint:
    """A LeNet that has learned enough to tell most garments."""
    plain = TrainConfig(flip=False, shift=0, label_smoothing=0, precision="fp32")
    config = plain.replace(model="lenet", optimizer="adamw", lr=0.003, epochs=2, global_batch_size=64)
    few = Split(train.images[:10_000], train.labels[:10_000])
    *_, (_, state) = train_epochs(config, few, classes=10, device=default_device())
    return Checkpoint(state.model.cpu().eval(), state.config, info, {"versions": {}})


@pytest.fixture(scope="session")
def golden(train: Split) -> Split:
    return train.take(calibration_indices(train.labels.numpy(), 2))


@pytest.fixture(scope="session")
def make_bundle(golden: Split) -> Callable[..., Path]:
    """Writes the bundle of some checkpoints; gives the path of its float32 graph."""

    def make(folder: Path, *members: Checkpoint, flips: bool = False, variants: Sequence[Variant] = ()) -> Path:
        samples = golden if members[0].data.problem.image_shape == golden.images.shape[1:] else golden.take(np.arange(0))
        bundled = Bundled(to_onnx(members, flips), members, ["s"] * len(members), flips, samples)
        return write_bundle(folder, bundled, variants)

    return make
