"""The way of Ray Train's published Fashion-MNIST example, written afresh, for benchmarks.ddp to
compare with.

torchvision's data set and transforms image by image, a DataLoader, prepare_data_loader and
prepare_model (the example is python/ray/train/examples/pytorch/torch_fashion_mnist_example.py of
ray-project/ray); our LeNet in place of its perceptron, and the same batch, optimiser and number of
images as ours.
"""

import json
import logging
import time
from dataclasses import dataclass
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.images import info, split_data
from fmnist.cli import command
from fmnist.config import TrainConfig
from fmnist.data.dataset import Split
from fmnist.models import builder_of


@dataclass(frozen=True, kw_only=True)
class Options:
    """Train in the way of Ray Train's published example."""

    config: str
    """TrainConfig as JSON."""
    workers: int = 1


class Images(Dataset[Any]):
    """Images as torchvision.datasets.FashionMNIST gives them: PIL images, one at a time, through
    the transforms."""

    def __init__(self, split: Split) -> None:
        self.images = split.images.tensor().numpy()
        self.labels: list[int] = split.labels.tolist()
        self.transform = transforms.Compose(
            [transforms.ToPILImage(), transforms.ToTensor(), transforms.Normalize(0.286, 0.353)]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def loader(split: Split, batch: int, shuffle: bool) -> Any:
    plain = DataLoader(Images(split), batch_size=batch, shuffle=shuffle)
    return ray.train.torch.prepare_data_loader(plain)


def train_epoch(model: nn.Module, optimizer: torch.optim.Optimizer, batches: Any) -> None:
    loss_of = nn.CrossEntropyLoss()
    model.train()
    for images, labels in batches:
        loss = loss_of(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def correct_answers(model: nn.Module, batches: Any) -> int:
    model.eval()
    correct = 0
    with torch.no_grad():
        for images, labels in batches:
            correct += int((model(images).argmax(1) == labels).sum())
    return correct


def train_worker(loop_config: dict[str, Any]) -> None:
    config, data = split_data(TrainConfig.from_dict(loop_config))
    assert data.validation is not None
    context = ray.train.get_context()
    workers = context.get_world_size()
    # The global batch is the same as ours, whatever the number of workers.
    batch = config.global_batch_size // workers
    train_batches = loader(data.train, batch, shuffle=True)
    validation_batches = loader(data.validation, batch, shuffle=False)

    network = builder_of(config.model)(config, info().problem)
    model = ray.train.torch.prepare_model(network)
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr)
    for epoch in range(1, config.epochs + 1):
        started = time.perf_counter()
        if workers > 1:
            train_batches.sampler.set_epoch(epoch)
        train_epoch(model, optimizer, train_batches)
        speed = len(data.train) / (time.perf_counter() - started)

        correct = correct_answers(model, validation_batches)
        ray.train.report({"epoch": epoch, "correct": correct})
        if context.get_world_rank() == 0:
            seconds = time.perf_counter() - started
            print(
                f"epoch {epoch}/{config.epochs}  {speed:,.0f} images/s  {seconds:.1f} s",
                flush=True,
            )


def main(options: Options) -> None:
    # Ray pickles a function by its module's name, and this module is __main__ here.
    from benchmarks import ray_example

    ray.init(address="local", include_dashboard=False, logging_level=logging.ERROR)
    scaling = ray.train.ScalingConfig(
        num_workers=options.workers, use_gpu=torch.cuda.is_available()
    )
    ray.train.torch.TorchTrainer(
        ray_example.train_worker,
        train_loop_config=json.loads(options.config),
        scaling_config=scaling,
    ).fit()


if __name__ == "__main__":
    command(Options, main)
