"""The one training loop, for every launcher: a plain process, a Ray Train worker, a search trial."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from fmnist.augment import DROPOUT, ORDER, Augmentation, ImageTable, generator
from fmnist.config import TrainConfig
from fmnist.data import Split, pixel_statistics
from fmnist.device import autocast, resolve
from fmnist.errors import InputError, check, first_line
from fmnist.evaluate import compute_logits
from fmnist.initial import initialise
from fmnist.models import Classifier, build_model
from fmnist.norm import synchronise_batch_norm
from fmnist.optim import build_average, build_optimizers, improves, lr_at, set_lr

REPORT_EVERY_S = 1.0
PREPARED_IMAGES = 2048
"""Batches are augmented a few at once, up to so many images: starting an operation costs as much as a few hundred images do."""


WORST = 0.0
"""The accuracy that a diverged training counts as, where a number is needed."""


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
    """Where an epoch stands; given to `on_step` about once a second: on a cluster each is a message through three processes."""

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
    trained: Classifier
    """The weights that the optimisers step."""
    optimizers: list[Optimizer]
    average: AveragedModel | None
    """The moving average of the weights, if the config asks for one."""
    epoch: int = 0
    """Epochs done."""
    losses: list[float] = field(default_factory=list)
    """What is watched after each epoch, the less the better: the loss, or the share of errors if the config watches accuracy; of
    the validation images, or of the training images if none are held out."""
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    """Of the best epoch, on the CPU; kept for early stopping alone."""

    @property
    def model(self) -> Classifier:
        """What is evaluated and exported: the averaged weights where there are any, else those trained."""
        return self.trained if self.average is None else cast(Classifier, self.average.module)

    @property
    def best_epoch(self) -> int:
        """The last epoch that improved on all before it."""
        best = 0
        for epoch, loss in enumerate(self.losses, start=1):
            if best == 0 or improves(loss, self.losses[best - 1]):
                best = epoch
        return best

    @property
    def kept_epoch(self) -> int:
        """The epoch whose weights the training ends with."""
        return self.best_epoch if self.config.early_stopping else self.epoch

    @property
    def finished(self) -> bool:
        waited = self.epoch - self.best_epoch
        return self.epoch >= self.config.epochs or 0 < self.config.early_stopping <= waited

    def state_dict(self) -> dict[str, Any]:
        """All that `train_epochs(resume=…)` needs. Random numbers are keyed by (seed, epoch), so none are saved."""
        return {
            "config": self.config.to_dict(),
            "model": self.trained.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "average": None if self.average is None else self.average.state_dict(),
            "epoch": self.epoch,
            "losses": self.losses,
            "best_weights": self.best_weights,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises InputError if the state is that of another config, or is none."""
        try:
            theirs = TrainConfig.from_dict(state["config"]).to_dict()
            mine = self.config.to_dict()
            different = [f"{key} {theirs[key]!r} became {mine[key]!r}" for key in mine if theirs[key] != mine[key]]
            check(not different, f"resume: the saved training has another config ({'; '.join(different)}); start a new run for it")
            self.trained.load_state_dict(state["model"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            self.epoch, self.losses, self.best_weights = state["epoch"], state["losses"], state["best_weights"]
        except InputError:
            raise
        except Exception as error:  # a damaged state may lack, or hold, anything
            raise InputError(f"resume: the saved training is damaged ({first_line(error)}); start a new run") from error

    def end_epoch(self, loss: float, accuracy: float) -> None:
        """Count an epoch whose watched loss and accuracy are known; at the end, take up the weights of the epoch that is kept."""
        self.epoch += 1
        self.losses.append(loss if self.config.watch == "loss" else 1 - accuracy)
        if not self.config.early_stopping:
            return
        if self.best_epoch == self.epoch:
            self.best_weights = {name: tensor.cpu().clone() for name, tensor in self.model.state_dict().items()}
        elif self.finished:
            self.model.load_state_dict(self.best_weights)


def final_weights(state: dict[str, Any]) -> dict[str, Tensor]:
    """What a finished training's `state_dict()` has for its model, without the optimisers: their import takes seconds."""
    if state["average"] is None:
        return state["model"]
    prefix = "module."
    return {name.removeprefix(prefix): value for name, value in state["average"].items() if name.startswith(prefix)}


def check_batches(config: TrainConfig, train: Split, world_size: int = 1) -> None:
    """Raise InputError unless whole global batches can be made of the images and shared among the workers, and shifts fit."""
    batch, images, size = config.global_batch_size, len(train), train.images.shape[-1]
    check(batch % world_size == 0, f"global_batch_size={batch}: it must be a multiple of the {world_size} workers")
    check(batch <= images, f"global_batch_size={batch}: more than the {images:,} training images; take fewer")
    check(config.shift < size, f"shift={config.shift}: it must be below the images' {size} pixels; 1 to 3 helps")


def start_training(config: TrainConfig, train: Split, classes: int, device: torch.device) -> TrainState:
    """Fresh weights and optimisers for `config`, on `device`."""
    config = resolve(config, device)
    torch.manual_seed(config.seed)
    model = build_model(config, train.problem(classes), *normalisation(config, train.images))
    initialise(model.network, config)
    model = model.to(device)
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return TrainState(config, model, build_optimizers(config, model), build_average(config, model))


def normalisation(config: TrainConfig, images: Tensor) -> tuple[Tensor, Tensor]:
    """What is taken from the pixels (0 to 255) of each channel, and what they are then divided by, (channels, 1, 1) both."""
    mean, deviation = pixel_statistics(images)
    known = {"unit": (0.0, 1.0), "mnist": (0.1307, 0.3081)}
    if config.normalisation == "standard":
        return mean, deviation
    zero, one = known[config.normalisation]
    return torch.full_like(mean, 255 * zero), torch.full_like(deviation, 255 * one)


def class_weights(config: TrainConfig, labels: Tensor, classes: int) -> Tensor | None:
    """Weights (classes,) float32 whose mean over the training images is 1, so that they do not change the learning rate."""
    if config.class_weights == "equal":
        return None
    counts = torch.bincount(labels, minlength=classes).float()
    weights = 1 / counts.clamp(min=1) if config.class_weights == "balanced" else counts.new_tensor(config.class_weights)
    return weights * counts.sum() / (weights * counts).sum()


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

    With world_size above 1 the caller has set up torch.distributed; ranks share every global batch and yield the same metrics.

    Args:
        train: images on the CPU; moved to the device once.
        validation: evaluated after each epoch, in training precision.
        classes: how many there are.
        resume: an earlier `TrainState.state_dict()` of the same config; on a CPU the end is bit for bit the undisturbed one.

    Raises:
        InputError: the batch does not fit the images or the workers, or `resume` is of another config.
        DivergedError: the loss is not finite.
    """
    check_batches(config, train, world_size)
    state = start_training(config, train, classes, device)
    if resume is not None:
        state.load_state_dict(resume)
    network = _distributed(state, device, world_size)
    table, labels = ImageTable(train.images, config.shift, device), train.labels.to(device)
    loss_of = nn.CrossEntropyLoss(class_weights(config, labels, classes), reduction="sum", label_smoothing=config.label_smoothing)
    targets = F.one_hot(labels, classes).float() if config.cutmix else labels
    statistics = pixel_statistics(train.images)
    held_out = _shard(validation, rank, world_size, device)
    while not state.finished:
        started = time.perf_counter()
        epoch = state.epoch + 1
        augmentation = Augmentation.draw(config, epoch, len(train), table.shape[-1], *statistics, device)
        loss, accuracy, lr = _train_one_epoch(
            state, network, table, targets, augmentation, loss_of, epoch, rank, world_size, on_step
        )
        trained = time.perf_counter()
        count = steps_of(config, epoch, len(train)) * config.global_batch_size
        validation_loss, validation_accuracy = _validate(state, held_out, world_size)
        state.end_epoch(*((loss, accuracy) if validation_loss is None else (validation_loss, cast(float, validation_accuracy))))
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
    network: nn.Module = state.trained
    if world_size > 1:
        if state.config.sync_batch_norm:
            synchronise_batch_norm(state.trained)
        network = DistributedDataParallel(network, device_ids=[device] if device.type == "cuda" else None)
    if not state.config.compile:
        return network
    captured = device.type == "cuda" and world_size == 1  # forward and backward as CUDA graphs: one launch each
    return torch.compile(network, mode="reduce-overhead" if captured else "default")  # pyright: ignore[reportReturnType]


def steps_of(config: TrainConfig, epoch: int, images: int) -> int:
    """Optimiser steps of an epoch."""
    steps = images // config.global_batch_size
    return max(round(steps * config.early_share), 1) if epoch <= config.early_epochs else steps


def _train_one_epoch(
    state: TrainState,
    network: nn.Module,
    table: ImageTable,
    targets: Tensor,
    augmentation: Augmentation,
    loss_of: nn.CrossEntropyLoss,
    epoch: int,
    rank: int,
    world_size: int,
    on_step: Callable[[StepReport], None] | None,
) -> tuple[float, float, float]:
    """Mean loss, accuracy and last learning rate of one epoch over all ranks. Raises DivergedError if the loss is not finite."""
    config, device, images = state.config, targets.device, len(targets)
    full, steps = images // config.global_batch_size, steps_of(config, epoch, images)
    order = torch.randperm(images, generator=generator(config.seed, ORDER, epoch))
    batches = order[: steps * config.global_batch_size].view(steps, -1)[:, rank::world_size].to(device)
    torch.manual_seed(generator(config.seed, DROPOUT, epoch, rank).initial_seed())
    totals = torch.zeros(2, device=device)  # summed loss, correct answers
    started = reported = time.perf_counter()
    lr = config.lr
    network.train()
    for step, (pixels, target) in enumerate(_prepared(table, targets, augmentation, batches)):
        lr = lr_at(config, (epoch - 1) * full + step * full / steps, full, state.losses)
        set_lr(state.optimizers, lr)
        if config.compile:
            torch.compiler.cudagraph_mark_step_begin()
        with autocast(config, device):
            logits = network(pixels).float()
            loss = loss_of(logits, target)
        (loss / len(target)).backward()
        for optimizer in state.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if state.average is not None:
            state.average.update_parameters(state.trained)
        label = target if target.ndim == 1 else target.argmax(1)  # of a mixed image, its larger part's
        totals += torch.stack((loss.detach(), (logits.argmax(1) == label).sum()))
        now = time.perf_counter()
        if on_step is not None and now - reported >= REPORT_EVERY_S:
            reported = now
            seen = (step + 1) * len(target)
            mean_loss, accuracy = (totals / seen).tolist()
            on_step(StepReport(epoch, step + 1, steps, mean_loss, accuracy, seen * world_size / (now - started)))
    if world_size > 1:
        dist.all_reduce(totals)
    loss_sum, correct = totals.tolist()
    seen = batches.numel() * world_size
    loss = loss_sum / seen
    if not math.isfinite(loss):
        raise DivergedError(f"epoch {epoch}: the training loss is {loss}; lower lr={config.lr} or lengthen warmup={config.warmup}")
    return loss, correct / seen, lr


def _prepared(table: ImageTable, targets: Tensor, augmentation: Augmentation, batches: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Augmented images and targets of each batch; `batches` (steps, B) holds their numbers in the training set."""
    size = batches.shape[1]
    for several in batches.split(max(PREPARED_IMAGES // size, 1)):
        index = several.flatten()
        yield from zip(augmentation.take(table, index).split(size), augmentation.targets(targets, index).split(size), strict=True)


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
