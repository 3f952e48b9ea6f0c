"""The one training loop, for every launcher: a plain process, a Ray Train worker, a search trial."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from fmnist.augment import DROPOUT, ORDER, Augmentation, generator
from fmnist.config import TrainConfig
from fmnist.data import Split, pixel_statistics
from fmnist.device import autocast, resolve
from fmnist.errors import check
from fmnist.evaluate import compute_logits
from fmnist.models import Classifier, build_model
from fmnist.optim import build_optimizer, lr_at, set_lr

REPORT_EVERY_S = 0.25


class DivergedError(RuntimeError):
    """The training loss is no longer a finite number."""


@dataclass(frozen=True, slots=True)
class EpochMetrics:
    """One epoch, over all workers; accuracies are fractions."""

    epoch: int
    """1 is the first."""
    train_loss: float
    """Mean over the augmented images as they were trained on, label smoothing included."""
    train_accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None
    lr: float
    """Of the epoch's last step."""
    images_per_s: float
    """Training alone, without validation."""
    seconds: float
    """Training and validation."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class StepReport:
    """Where an epoch stands; given to `on_step` a few times a second."""

    epoch: int
    step: int
    steps_per_epoch: int
    loss: float
    accuracy: float
    images_per_s: float


@dataclass(slots=True)
class TrainState:
    """What a training is made of after an epoch."""

    config: TrainConfig
    """As trained: what was `auto` is resolved."""
    model: Classifier
    optimizer: Optimizer
    epoch: int
    """Epochs done."""

    def state_dict(self) -> dict[str, Any]:
        """All that `train_epochs(resume=…)` needs. Random numbers are keyed by (seed, epoch), so none are saved."""
        return {
            "config": self.config.to_dict(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises InputError if the state is that of another config."""
        mine, theirs = self.config.to_dict(), state["config"]
        different = [f"{key} {theirs.get(key)!r} became {mine[key]!r}" for key in mine if theirs.get(key) != mine[key]]
        check(not different, f"resume: the saved training has another config ({'; '.join(different)}); start a new run for it")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch = state["epoch"]


def check_batches(config: TrainConfig, images: int, world_size: int = 1) -> None:
    """Raise InputError unless whole global batches can be made of `images` and shared among the workers."""
    batch = config.global_batch_size
    check(batch % world_size == 0, f"global_batch_size={batch}: it must be a multiple of the {world_size} workers")
    check(batch <= images, f"global_batch_size={batch}: more than the {images:,} training images; take fewer")


def start_training(config: TrainConfig, train: Split, classes: int, device: torch.device) -> TrainState:
    """Fresh weights and optimiser for `config`, on `device`."""
    config = resolve(config, device)
    torch.manual_seed(config.seed)
    mean, std = pixel_statistics(train.images)
    model = build_model(config, classes=classes, pixel_mean=mean, pixel_std=std).to(device)
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return TrainState(config, model, build_optimizer(config, model), epoch=0)


def train_epochs(
    config: TrainConfig,
    train: Split,
    validation: Split | None = None,
    *,
    classes: int,
    device: torch.device,
    rank: int = 0,
    world_size: int = 1,
    on_step: Callable[[StepReport], None] | None = None,
    resume: dict[str, Any] | None = None,
) -> Iterator[tuple[EpochMetrics, TrainState]]:
    """Train, and yield after each epoch.

    With world_size above 1 the caller has set up torch.distributed; each rank takes its share of every global batch,
    and every rank yields the same metrics.

    Args:
        train: images on the CPU; moved to the device once.
        validation: evaluated after each epoch, in training precision.
        classes: how many there are.
        resume: an earlier `TrainState.state_dict()` of the same config; on a CPU the result is bit for bit that of an
            undisturbed run.

    Raises:
        InputError: the batch does not fit the images or the workers, or `resume` is of another config.
        DivergedError: the loss is not finite.
    """
    check_batches(config, len(train), world_size)
    state = start_training(config, train, classes, device)
    if resume is not None:
        state.load_state_dict(resume)
    network = _distributed(state, device, world_size)
    images, labels = train.images.to(device), train.labels.to(device)
    held_out = _shard(validation, rank, world_size, device)
    for epoch in range(state.epoch + 1, config.epochs + 1):
        started = time.perf_counter()
        loss, accuracy, lr = _train_one_epoch(state, network, images, labels, epoch, rank, world_size, on_step)
        trained = time.perf_counter()
        count = len(train) // config.global_batch_size * config.global_batch_size
        if not math.isfinite(loss):
            raise DivergedError(
                f"epoch {epoch}: the training loss is {loss}; lower lr={config.lr} or lengthen warmup={config.warmup}"
            )
        validation_loss, validation_accuracy = _validate(state, held_out, world_size)
        state.epoch = epoch
        yield (
            EpochMetrics(
                epoch=epoch,
                train_loss=loss,
                train_accuracy=accuracy,
                validation_loss=validation_loss,
                validation_accuracy=validation_accuracy,
                lr=lr,
                images_per_s=count / (trained - started),
                seconds=time.perf_counter() - started,
            ),
            state,
        )


def _distributed(state: TrainState, device: torch.device, world_size: int) -> nn.Module:
    """The network as it is stepped: under DDP if there are other ranks, compiled if the config says so."""
    network: nn.Module = state.model
    if world_size > 1:
        network = DistributedDataParallel(network, device_ids=[device] if device.type == "cuda" else None)
    return torch.compile(network) if state.config.compile else network  # pyright: ignore[reportReturnType]


def _train_one_epoch(
    state: TrainState,
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    epoch: int,
    rank: int,
    world_size: int,
    on_step: Callable[[StepReport], None] | None,
) -> tuple[float, float, float]:
    """Mean loss, accuracy and last learning rate of one epoch over all ranks."""
    config, device = state.config, images.device
    steps = len(images) // config.global_batch_size
    order = torch.randperm(len(images), generator=generator(config.seed, ORDER, epoch))
    batches = order[: steps * config.global_batch_size].view(steps, -1)[:, rank::world_size].to(device)
    fill = round(state.model.pixel_mean.item())
    augmentation = Augmentation.draw(config, epoch, len(images), images.shape[-1], fill, device)
    torch.manual_seed(generator(config.seed, DROPOUT, epoch, rank).initial_seed())
    totals = torch.zeros(2, device=device)  # summed loss, correct answers
    started = reported = time.perf_counter()
    lr = config.lr
    network.train()
    for step, index in enumerate(batches):
        lr = lr_at(config, (epoch - 1) * steps + step, config.epochs * steps)
        set_lr(state.optimizer, lr)
        target = labels[index]
        with autocast(config, device):
            logits = network(augmentation.apply(images[index], index)).float()
            loss = F.cross_entropy(logits, target, label_smoothing=config.label_smoothing)
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        state.optimizer.step()
        totals += torch.stack((loss.detach() * len(index), (logits.argmax(1) == target).sum()))
        now = time.perf_counter()
        if on_step is not None and now - reported >= REPORT_EVERY_S:
            reported = now
            seen = (step + 1) * len(index)
            mean_loss, accuracy = (totals / seen).tolist()
            on_step(StepReport(epoch, step + 1, steps, mean_loss, accuracy, seen * world_size / (now - started)))
    if world_size > 1:
        dist.all_reduce(totals)
    loss_sum, correct = totals.tolist()
    return loss_sum / batches.numel() / world_size, correct / batches.numel() / world_size, lr


def _shard(split: Split | None, rank: int, world_size: int, device: torch.device) -> Split | None:
    if split is None:
        return None
    return Split(split.images[rank::world_size].to(device), split.labels[rank::world_size].to(device))


def _validate(state: TrainState, split: Split | None, world_size: int) -> tuple[float | None, float | None]:
    """Mean cross-entropy and accuracy over all ranks' shards."""
    if split is None:
        return None, None
    with autocast(state.config, split.images.device):
        logits = compute_logits(state.model, split.images)
    totals = torch.stack((
        F.cross_entropy(logits, split.labels, reduction="sum"),
        (logits.argmax(1) == split.labels).sum(),
        torch.tensor(len(split), device=logits.device),
    ))  # fmt: skip
    if world_size > 1:
        dist.all_reduce(totals)
    loss, correct, count = totals.tolist()
    return loss / count, correct / count
