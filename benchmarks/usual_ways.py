"""Training as most tutorials and the reports do it: torchvision's data set, a DataLoader, and a
plain loop or Lightning's Trainer.
"""

import logging
import os
import time
import warnings
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.utils.data import DataLoader

from benchmarks.images import test_images, train_images
from fmnist.data.idx import write_idx
from fmnist.models import Classifier

WORKERS = 2
WARM_UP = 4
"""Batches that do not count: processes start, buffers fill."""


def write_idx_files(folder: Path) -> None:
    """Write the data set where torchvision looks for it."""
    raw = folder / "FashionMNIST/raw"
    for prefix, split in (("train", train_images()), ("t10k", test_images())):
        write_idx(raw / f"{prefix}-images-idx3-ubyte", split.images.tensor().numpy())
        write_idx(raw / f"{prefix}-labels-idx1-ubyte", split.labels.byte().numpy())


def usual_loader(folder: Path, batch: int) -> Any:
    """torchvision's data set as most tutorials load it, from the files of `write_idx_files`."""
    # Here: a second to import.
    from torchvision import transforms
    from torchvision.datasets import FashionMNIST

    normalise = transforms.Normalize((0.2860,), (0.3530,))
    each = transforms.Compose([transforms.ToTensor(), normalise])
    data = FashionMNIST(str(folder), train=True, transform=each)

    return DataLoader(
        data, batch, shuffle=True, num_workers=WORKERS, drop_last=True, persistent_workers=False
    )


def plain_loop_speed(
    network: nn.Module, optimizer: Optimizer, loader: Any, steps: int, device: torch.device
) -> float:
    """Images/s of a plain fp32 loop over the loader, as the reports have it."""
    network.train()
    started = 0.0
    seen = 0
    for number, (images, labels) in enumerate(islice(loader, WARM_UP + steps)):
        # The clock starts after the warm-up.
        if number == WARM_UP:
            started = time.perf_counter()
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        loss.item()  # The reports sum it up, so they wait for it at each step.
        if number >= WARM_UP:
            seen += len(labels)

    return seen / (time.perf_counter() - started)


def lightning_speed(model: Classifier, loader: Any, steps: int, precision: str, lr: float) -> float:
    """Images/s of Lightning's Trainer over the loader, with neither logger nor progress bar nor
    checkpoints."""
    # Else a warning whenever the loader forks.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import pytorch_lightning as pl  # Here: seconds to import.

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    times: list[float] = []

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = model.network

        def training_step(  # pyright: ignore[reportIncompatibleMethodOverride]
            self, batch: tuple[Tensor, Tensor], batch_idx: int
        ) -> Tensor:
            images, labels = batch
            return F.cross_entropy(self.network(images), labels)

        def configure_optimizers(self) -> Optimizer:
            return SGD(self.parameters(), lr)

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            times.append(time.perf_counter())

    with warnings.catch_warnings():
        # Advice on workers, loggers and the like.
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(
            max_steps=WARM_UP + steps,
            max_epochs=-1,
            precision="bf16-mixed" if precision == "bf16" else "32-true",
            accelerator="auto",
            devices=1,
            logger=False,
            enable_progress_bar=False,
            enable_checkpointing=False,
            enable_model_summary=False,
        )
        trainer.fit(Module(), loader)

    seconds = times[-1] - times[WARM_UP - 1]
    return loader.batch_size * (len(times) - WARM_UP) / seconds
