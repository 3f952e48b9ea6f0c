"""The way of Ray Train's published Fashion-MNIST example, written afresh, for benchmarks.ddp to compare with.

torchvision's data set and transforms image by image, a DataLoader, prepare_data_loader and prepare_model (the example is
python/ray/train/examples/pytorch/torch_fashion_mnist_example.py of ray-project/ray); our LeNet in place of its perceptron, and
the same batch, optimiser and number of images as ours.
"""

import json
import logging
import sys
import time
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from fmnist.config import TrainConfig
from fmnist.data import find_data, load_info, load_train, split_train
from fmnist.models import MODELS


class Images(Dataset[Any]):
    """As torchvision.datasets.FashionMNIST gives them: a PIL image at a time, through the transforms."""

    def __init__(self, split: Any) -> None:
        self.images, self.labels = split.images.numpy(), split.labels.tolist()
        self.transform = transforms.Compose([transforms.ToPILImage(), transforms.ToTensor(), transforms.Normalize(0.286, 0.353)])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def train_worker(loop_config: dict[str, Any]) -> None:
    config = TrainConfig.from_dict(loop_config)
    workers = ray.train.get_context().get_world_size()
    folder = find_data()
    info = load_info(folder)
    _, train, validation = split_train(config, load_train(folder, info))
    size = config.global_batch_size // workers
    loaders = [
        DataLoader(Images(split), batch_size=size, shuffle=shuffle) for split, shuffle in ((train, True), (validation, False))
    ]
    train_loader, validation_loader = (ray.train.torch.prepare_data_loader(loader) for loader in loaders)
    model = ray.train.torch.prepare_model(MODELS[config.model](config, info.problem))
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr)
    loss_of = nn.CrossEntropyLoss()
    for epoch in range(1, config.epochs + 1):
        started = time.perf_counter()
        if workers > 1:
            train_loader.sampler.set_epoch(epoch)  # pyright: ignore
        model.train()
        for images, labels in train_loader:
            loss = loss_of(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        speed = len(train) / (time.perf_counter() - started)
        model.eval()
        correct = 0
        with torch.no_grad():
            for images, labels in validation_loader:
                correct += int((model(images).argmax(1) == labels).sum())
        ray.train.report({"epoch": epoch, "correct": correct})
        if ray.train.get_context().get_world_rank() == 0:
            print(f"epoch {epoch}/{config.epochs}  {speed:,.0f} images/s  {time.perf_counter() - started:.1f} s", flush=True)


def main(config: dict[str, Any], workers: int) -> None:
    ray.init(address="local", include_dashboard=False, logging_level=logging.ERROR)
    scaling = ray.train.ScalingConfig(num_workers=workers, use_gpu=torch.cuda.is_available())
    ray.train.torch.TorchTrainer(train_worker, train_loop_config=config, scaling_config=scaling).fit()


if __name__ == "__main__":
    from benchmarks.ray_example import main as imported  # so that its functions are pickled by name

    imported(json.loads(sys.argv[1]), int(sys.argv[2]))
