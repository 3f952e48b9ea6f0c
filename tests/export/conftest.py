from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from export.bundle.writer import Bundled, write_bundle
from export.graph.conversion import to_onnx
from export.variants.gate import Variant
from export.variants.int8 import calibration_indices
from fmnist.config import TrainConfig
from fmnist.data.dataset import Split, TrainingData
from fmnist.data.info import DataInfo
from fmnist.training.checkpoint import Checkpoint, save_checkpoint
from fmnist.training.device import Rank, default_device
from fmnist.training.loop import train_epochs


def train_checkpoint(config: TrainConfig, images: Split, info: DataInfo) -> Checkpoint:
    data = TrainingData(images, None, len(info.classes))
    *_, (_, state) = train_epochs(config, data, Rank(default_device()))
    return Checkpoint(state.model.cpu().eval(), state.config, info, {"versions": {}})


@pytest.fixture(scope="session")
def checkpoint(train: Split, info: DataInfo) -> Checkpoint:
    """A small airnet after one short epoch: its batch norms and weights are no longer those of a
    fresh net."""
    config = TrainConfig(widths=(8, 16, 32), epochs=1, train_images=4000, precision="fp32")
    few = Split(train.images[:4000], train.labels[:4000])
    return train_checkpoint(config, few, info)


@pytest.fixture(scope="session")
def lenet(train: Split, info: DataInfo) -> Checkpoint:
    """A LeNet that has learned enough to tell most garments."""
    plain = TrainConfig(flip=False, shift=0, label_smoothing=0, precision="fp32")
    config = plain.replace(
        model="lenet", optimizer="adamw", lr=0.003, epochs=2, global_batch_size=64
    )
    few = Split(train.images[:10_000], train.labels[:10_000])
    return train_checkpoint(config, few, info)


@pytest.fixture
def run(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    """The run folder runs/r with a trained model, not yet exported."""
    folder = tmp_path / "runs/r"
    save_run(folder, checkpoint)
    return folder


def save_run(folder: Path, checkpoint: Checkpoint) -> None:
    """Leave what a training leaves."""
    save_checkpoint(folder / "best", checkpoint.model, checkpoint.config, checkpoint.data, {})
    (folder / "config.json").write_bytes((folder / "best/config.json").read_bytes())


@pytest.fixture(scope="session")
def golden(train: Split) -> Split:
    return train.take(calibration_indices(train.labels.numpy(), 2))


@pytest.fixture(scope="session")
def make_bundle(golden: Split) -> Callable[..., Path]:
    """Writes the bundle of some checkpoints; gives the path of its float32 graph."""

    def make(
        folder: Path, *members: Checkpoint, flips: bool = False, variants: Sequence[Variant] = ()
    ) -> Path:
        samples = golden
        problem = members[0].data.problem
        if problem.image_shape != golden.images.shape[1:]:
            source = np.random.default_rng(0)
            pixels = source.integers(0, 256, (4, *problem.image_shape), np.uint8)
            labels = torch.arange(4) % problem.classes
            samples = Split(torch.from_numpy(pixels), labels)
        runs = ["s"] * len(members)
        bundled = Bundled(to_onnx(members, flips), members, runs, flips, samples)
        return write_bundle(folder, bundled, variants)

    return make
