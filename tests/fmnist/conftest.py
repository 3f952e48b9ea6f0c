from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from fmnist.checkpoint import Checkpoint, save_checkpoint
from fmnist.config import TrainConfig
from fmnist.data import Source, find_data, load_info, load_train, split_train
from fmnist.loop import train_epochs


@dataclass(frozen=True)
class Trained:
    """A network after a short, real training on the small data set."""

    checkpoint: Checkpoint
    epochs: list[dict[str, Any]]

    def save(self, run: Path) -> Path:
        """Leave it as a run folder."""
        accuracy = self.epochs[-1]["validation_accuracy"]
        saved = self.checkpoint
        save_checkpoint(
            run / "best", saved.model, saved.config, saved.data, {"validation_accuracy": accuracy, "epochs": self.epochs}
        )
        return run


def train_lenet(folder: Path, **changes: Any) -> Trained:
    config = TrainConfig(
        model="lenet", epochs=3, global_batch_size=100, lr=0.1, shift=0, validation_images=300, precision="fp32"
    ).replace(**changes)
    info = load_info(find_data(Source(data=str(folder))))
    config, train, validation = split_train(config, load_train(folder, info))
    device = torch.device("cpu")
    history = list(train_epochs(config, train, validation, classes=len(info.classes), device=device))
    return Trained(Checkpoint(history[-1][1].model.eval(), config, info, {}), [metrics.to_dict() for metrics, _ in history])


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For small batches: threads that wait for one another on a busy machine take many times as long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained(small_data: Path, one_thread: None) -> tuple[Trained, Trained]:
    """The same network from two seeds, the second trained for an epoch only."""
    return train_lenet(small_data), train_lenet(small_data, seed=1, epochs=1)
