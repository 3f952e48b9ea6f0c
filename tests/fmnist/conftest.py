"""A short, real training on the small data set, for the tests of what uses a trained network."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from fmnist.config import TrainConfig
from fmnist.data.dataset import TrainingData, load_info, load_train, split_train
from fmnist.data.sources import Source, find_data
from fmnist.training.checkpoint import Checkpoint, save_checkpoint
from fmnist.training.device import Rank
from fmnist.training.loop import train_epochs


@dataclass(frozen=True)
class Trained:
    """A network after a short, real training on the small data set."""

    checkpoint: Checkpoint
    epochs: list[dict[str, Any]]

    def save(self, run: Path) -> Path:
        """Leave it as a run folder."""
        saved = self.checkpoint
        metrics = {
            "validation_accuracy": self.epochs[-1]["validation_accuracy"],
            "epochs": self.epochs,
        }
        save_checkpoint(run / "best", saved.model, saved.config, saved.data, metrics)
        return run


def train_lenet(folder: Path, **changes: Any) -> Trained:
    config = TrainConfig(
        model="lenet",
        epochs=3,
        global_batch_size=100,
        lr=0.1,
        shift=0,
        validation_images=300,
        precision="fp32",
    ).replace(**changes)
    info = load_info(find_data(Source(data=str(folder))))
    config, train, validation = split_train(config, load_train(folder, info))
    data = TrainingData(train, validation, len(info.classes))

    history = list(train_epochs(config, data, Rank(torch.device("cpu"))))
    model = history[-1][1].model.eval()
    epochs = [metrics.to_dict() for metrics, _ in history]
    return Trained(Checkpoint(model, config, info, {}), epochs)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One thread for small batches.

    Threads that wait for one another on a busy machine take many times as long.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained(small_data: Path, one_thread: None) -> tuple[Trained, Trained]:
    """The same network from two seeds, the second trained for an epoch only."""
    return train_lenet(small_data), train_lenet(small_data, seed=1, epochs=1)
