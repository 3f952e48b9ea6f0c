"""The same loop under plain DDP, without Ray: torchrun starts it for benchmarks.ddp.

python -m torch.distributed.run --nproc-per-node 2 -m benchmarks.plain_ddp --config '{…}'
"""

import gc
import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from benchmarks.images import info, split_data
from fmnist.cli import command
from fmnist.config import TrainConfig
from fmnist.training.checkpoint import save_checkpoint
from fmnist.training.device import Rank, default_device, set_threads
from fmnist.training.loop import train_epochs
from fmnist.training.progress import epoch_line


@dataclass(frozen=True, kw_only=True)
class Options:
    """Train under torchrun, which tells each process its rank."""

    config: str
    """TrainConfig as JSON."""
    checkpoint: Path | None = None
    """Folder in which rank 0 leaves the checkpoint; by default there is none."""


def train(config: TrainConfig, rank: Rank, checkpoint: Path | None) -> None:
    config, data = split_data(config)
    for metrics, state in train_epochs(config, data, rank):
        if rank.rank == 0:
            print(epoch_line(metrics, config.epochs), flush=True)
            if checkpoint is not None and state.finished:
                save_checkpoint(checkpoint, state.model, state.config, info(), {"epochs": []})


def main(options: Options) -> None:
    config = TrainConfig.from_dict(json.loads(options.config))
    world_size = int(os.environ["WORLD_SIZE"])
    device = default_device()
    set_threads(config)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)

    if world_size > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    train(config, Rank(device, int(os.environ["RANK"]), world_size), options.checkpoint)
    if world_size > 1:
        # A DDP module that outlives its process group makes gloo abort at the end, now and then.
        gc.collect()
        dist.destroy_process_group()


if __name__ == "__main__":
    command(Options, main)
