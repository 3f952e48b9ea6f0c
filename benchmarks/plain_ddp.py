"""What torchrun starts for benchmarks.ddp: the same loop under plain DDP, without Ray.

`python -m torch.distributed.run --nproc-per-node 2 -m benchmarks.plain_ddp '{"model": "lenet", "validation_images": 5000}'`
"""

import gc
import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from fmnist.checkpoint import save_checkpoint
from fmnist.config import TrainConfig
from fmnist.data import find_data, load_info, load_train, split_train
from fmnist.device import default_device, set_threads
from fmnist.loop import train_epochs
from fmnist.progress import epoch_line


def main(config: TrainConfig, keep: Path | None = None) -> None:
    """Args: keep: where rank 0 leaves the checkpoint; None leaves none."""
    device = default_device()
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    set_threads(config)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    if world_size > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    train(config, device, rank, world_size, keep)
    if world_size > 1:
        gc.collect()  # a DDP module that outlives its process group makes gloo abort at the end, now and then
        dist.destroy_process_group()


def train(config: TrainConfig, device: torch.device, rank: int, world_size: int, keep: Path | None) -> None:
    folder = find_data()
    info = load_info(folder)
    config, training, validation = split_train(config, load_train(folder, info))
    for metrics, state in train_epochs(config, training, validation, classes=10, device=device, rank=rank, world_size=world_size):
        if rank == 0:
            print(epoch_line(metrics, config.epochs, world_size), flush=True)
            if keep is not None and state.finished:
                save_checkpoint(keep, state.model, state.config, info, {"epochs": []})


if __name__ == "__main__":
    main(TrainConfig.from_dict(json.loads(sys.argv[1])), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
