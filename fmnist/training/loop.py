"""The one training loop of every launcher: a plain process, a Ray Train worker, a search trial."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fmnist.config import TrainConfig
from fmnist.data.dataset import Split, Statistics, TrainingData
from fmnist.data.images import Images, batch_within
from fmnist.errors import check
from fmnist.models import build_model
from fmnist.training.augment import DROPOUT, ORDER, Augmentation, generator
from fmnist.training.averaging import build_average
from fmnist.training.device import Rank, autocast, resolve
from fmnist.training.feed import Feed, fits, make_feed
from fmnist.training.inference import compute_logits
from fmnist.training.initial_weights import initialise
from fmnist.training.loss import smoothed_cross_entropy
from fmnist.training.metrics import DivergedError, EpochMetrics, StepReport
from fmnist.training.optimizers import build_optimizers, set_lr
from fmnist.training.schedules import lr_at
from fmnist.training.state import TrainState
from fmnist.training.sync_batch_norm import synchronise_batch_norm

REPORT_EVERY_S = 1.0
PREPARED_IMAGES = 2048
"""Images that are augmented at once, over several batches: starting an operation costs as much as a
few hundred images do."""
PREPARED_BYTES = 2**25
"""Bytes of pixels in those, at most: rotating them takes ten times as much."""
NORMALISATIONS = {"unit": (0.0, 1.0), "mnist": (0.1307, 0.3081)}
"""Mean and deviation of pixels from 0 to 1 that do not depend on the training images."""

OnStep = Callable[[StepReport], None]


def check_batches(config: TrainConfig, train: Split, world_size: int = 1) -> None:
    """Raise InputError unless the images fill a global batch that the workers can share."""
    batch, images, size = config.global_batch_size, len(train), min(train.images.shape[-2:])
    check(
        batch % world_size == 0,
        f"global_batch_size={batch}: it must be a multiple of the {world_size} workers",
    )
    check(
        batch <= images,
        f"global_batch_size={batch}: more than the {images:,} training images; take fewer",
    )
    check(
        config.shift < size,
        f"shift={config.shift}: it must be below the images' {size} pixels; 1 to 3 helps",
    )


def start_training(config: TrainConfig, data: TrainingData, device: torch.device) -> TrainState:
    """Fresh weights and optimisers for `config`, on `device`."""
    config = resolve(config, device)
    # On the CPU, so that a network begins with the same weights on every device.
    torch.manual_seed(config.seed)

    mean, deviation = normalisation(config, data.statistics)
    model = build_model(config, data.problem, mean, deviation)
    initialise(model.network, config)
    model = model.to(device)
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    optimizers = build_optimizers(config, model)
    return TrainState(config, model, optimizers, build_average(config, model))


def normalisation(config: TrainConfig, statistics: Statistics) -> Statistics:
    """Mean to subtract from the pixels (0 to 255) and deviation to divide by.

    Args:
        statistics: of the training images.

    Returns:
        two tensors of (channels, 1, 1) float32.
    """
    mean, deviation = statistics
    if config.normalisation == "standard":
        return mean, deviation
    fixed_mean, fixed_deviation = NORMALISATIONS[config.normalisation]
    return (
        torch.full_like(mean, 255 * fixed_mean),
        torch.full_like(deviation, 255 * fixed_deviation),
    )


def class_weights(config: TrainConfig, labels: Tensor, classes: int) -> Tensor | None:
    """Weight of each class in the loss, (classes,) float32; None where all are equal.

    Their mean over the training images is 1, so that they do not change the learning rate.
    """
    if config.class_weights == "equal":
        return None
    counts = torch.bincount(labels, minlength=classes).float()
    if config.class_weights == "balanced":
        weights = 1 / counts.clamp(min=1)
    else:
        weights = counts.new_tensor(config.class_weights)
    return weights * counts.sum() / (weights * counts).sum()


def train_epochs(
    config: TrainConfig,
    data: TrainingData,
    rank: Rank,
    *,
    on_step: OnStep | None = None,
    resume: dict[str, Any] | None = None,
) -> Iterator[tuple[EpochMetrics, TrainState]]:
    """Train, and yield after each epoch.

    With several ranks the caller has set up torch.distributed; they share every global batch and
    yield the same metrics.

    Args:
        data: images on the CPU or in files; they are moved to a GPU that has room for them, and
            read batch by batch otherwise, with the same result. The validation images, if any, are
            evaluated after each epoch, in training precision.
        rank: where this process computes, and which share of each batch.
        on_step: called about once a second.
        resume: an earlier `TrainState.state_dict()` of the same config; on a CPU the end is bit for
            bit the undisturbed one.

    Raises:
        InputError: the batch does not fit the images or the workers, or `resume` is of another
            config.
        DivergedError: the loss is not finite.
    """
    check_batches(config, data.train, rank.world_size)
    # Once: they may take a pass over all images.
    data = dataclasses.replace(data, known_statistics=data.statistics)
    state = start_training(config, data, rank.device)
    if resume is not None:
        state.load_state_dict(resume)

    loop = _Loop.prepare(state, data, rank, on_step)
    while not state.finished:
        started = time.perf_counter()
        trained = loop.train_epoch(state.epoch + 1)
        trained_s = time.perf_counter() - started

        # Without validation images the training's own loss is watched.
        validation = _validate(state, loop.held_out, rank)
        watched = validation or (trained.loss, trained.accuracy)
        state.end_epoch(*watched)
        validation_loss, validation_accuracy = validation or (None, None)
        yield (
            EpochMetrics(
                epoch=state.epoch,
                train_loss=trained.loss,
                train_accuracy=trained.accuracy,
                validation_loss=validation_loss,
                validation_accuracy=validation_accuracy,
                lr=trained.lr,
                images_per_s=trained.images / trained_s,
                seconds=time.perf_counter() - started,
            ),
            state,
        )


def steps_in_epoch(config: TrainConfig, epoch: int, images: int) -> int:
    """Optimiser steps of an epoch."""
    steps = images // config.global_batch_size
    if epoch > config.early_epochs:
        return steps
    return max(round(steps * config.early_share), 1)


@dataclass(frozen=True, slots=True)
class _TrainedEpoch:
    """One epoch's training, over all ranks."""

    loss: float
    accuracy: float
    lr: float
    images: int


@dataclass(frozen=True, slots=True)
class _Loop:
    """What every epoch of a training uses."""

    state: TrainState
    network: nn.Module
    """The network as it is stepped: under DDP, compiled, or plain."""
    feed: Feed
    labels: Tensor  # (N,) int64
    size: tuple[int, int]
    """Height and width of the images."""
    statistics: Statistics
    classes: int
    weights: Tensor | None
    """Of the classes in the loss, (classes,) float32."""
    held_out: Split | None
    """This rank's share of the validation images, on its device."""
    rank: Rank
    on_step: OnStep | None

    @classmethod
    def prepare(
        cls, state: TrainState, data: TrainingData, rank: Rank, on_step: OnStep | None
    ) -> "_Loop":
        """Move the data to the device and wrap the network."""
        config, device = state.config, rank.device
        labels = data.train.labels.to(device)
        height, width = data.train.images.shape[-2:]
        return cls(
            state=state,
            network=_wrap(state, rank),
            feed=make_feed(data.train.images, config.shift, device),
            labels=labels,
            size=(height, width),
            statistics=data.statistics,
            classes=data.classes,
            weights=class_weights(config, labels, data.classes),
            held_out=_share(data.validation, rank),
            rank=rank,
            on_step=on_step,
        )

    def train_epoch(self, epoch: int) -> _TrainedEpoch:
        """Train one epoch. Raises DivergedError if the loss is not finite."""
        state, config, rank = self.state, self.state.config, self.rank
        images = len(self.labels)
        full_steps = images // config.global_batch_size
        steps = steps_in_epoch(config, epoch, images)
        batches = self._batches(epoch, steps)
        progress = _Progress(epoch, steps, rank, self.on_step)
        # Keyed by the epoch, so that a resumed training drops the same units.
        torch.manual_seed(generator(config.seed, DROPOUT, epoch, rank.rank).initial_seed())

        lr = config.lr
        self.network.train()
        for step, (pixels, target) in enumerate(self._augmented(epoch, batches)):
            # The schedule goes by epochs: in a shortened one each step counts for several.
            done = (epoch - 1) * full_steps + step * full_steps / steps
            lr = lr_at(config, done, full_steps, state.losses)
            set_lr(state.optimizers, lr)
            logits, loss = self._step(pixels, target)
            progress.count(logits, loss, target)

        mean_loss, accuracy = progress.over_all_ranks()
        if not math.isfinite(mean_loss):
            raise DivergedError(
                f"epoch {epoch}: the training loss is {mean_loss}; "
                f"lower lr={config.lr} or lengthen warmup={config.warmup}"
            )
        return _TrainedEpoch(mean_loss, accuracy, lr, steps * config.global_batch_size)

    def _batches(self, epoch: int, steps: int) -> Tensor:
        """Numbers of the images in this rank's share of each batch, (steps, B) int64."""
        config, rank = self.state.config, self.rank
        # The same order on every rank; each takes every n-th image of a batch.
        order = torch.randperm(len(self.labels), generator=generator(config.seed, ORDER, epoch))
        batches = order[: steps * config.global_batch_size].view(steps, -1)
        return batches[:, rank.rank :: rank.world_size].to(rank.device)

    def _augmented(self, epoch: int, batches: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Augmented images and targets of each batch; several batches are augmented at once."""
        augmentation = Augmentation.draw(
            self.state.config,
            epoch,
            len(self.labels),
            self.size,
            self.statistics,
            self.rank.device,
        )
        size = batches.shape[1]
        image_bytes = len(self.statistics[0]) * self.size[0] * self.size[1]
        prepared = batch_within(PREPARED_IMAGES, PREPARED_BYTES, image_bytes)
        parts = [several.flatten() for several in batches.split(max(prepared // size, 1))]
        for index, images in zip(parts, self.feed.augmented(augmentation, parts), strict=True):
            targets = augmentation.targets(self.labels, index, self.classes)
            yield from zip(images.split(size), targets.split(size), strict=True)

    def _step(self, pixels: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """One optimiser step; the logits (B, classes) and the summed loss."""
        state = self.state
        if state.config.compile:
            torch.compiler.cudagraph_mark_step_begin()
        with autocast(state.config, self.rank.device):
            logits = self.network(pixels).float()
            smoothing = state.config.label_smoothing
            loss = smoothed_cross_entropy(logits, target, self.weights, smoothing)

        (loss / len(target)).backward()
        for optimizer in state.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if state.average is not None:
            state.average.update_parameters(state.trained)
        return logits, loss


class _Progress:
    """Counts loss and correct answers of an epoch, and reports them now and then."""

    def __init__(self, epoch: int, steps: int, rank: Rank, on_step: OnStep | None) -> None:
        self.epoch, self.steps, self.rank, self.on_step = epoch, steps, rank, on_step
        self.totals = torch.zeros(2, device=rank.device)  # summed loss, correct answers
        self.step = 0
        self.images = 0
        self.started = self.reported = time.perf_counter()

    def count(self, logits: Tensor, loss: Tensor, target: Tensor) -> None:
        """Take a step's logits (B, classes), summed loss and targets."""
        # A mixed image counts as its larger part's class.
        label = target if target.ndim == 1 else target.argmax(1)
        # On the device: reading a number would wait for it.
        self.totals += torch.stack((loss.detach(), (logits.argmax(1) == label).sum()))
        self.step += 1
        self.images += len(target)

        now = time.perf_counter()
        if self.on_step is not None and now - self.reported >= REPORT_EVERY_S:
            self.reported = now
            self.on_step(self._report(now))

    def _report(self, now: float) -> StepReport:
        # This rank's share stands for all: to sum over ranks would make them wait.
        mean_loss, accuracy = (self.totals / self.images).tolist()
        images_per_s = self.images * self.rank.world_size / (now - self.started)
        return StepReport(self.epoch, self.step, self.steps, mean_loss, accuracy, images_per_s)

    def over_all_ranks(self) -> tuple[float, float]:
        """Mean loss and accuracy over all ranks."""
        if self.rank.world_size > 1:
            dist.all_reduce(self.totals)
        loss_sum, correct = self.totals.tolist()
        images = self.images * self.rank.world_size
        return loss_sum / images, correct / images


def _wrap(state: TrainState, rank: Rank) -> nn.Module:
    """The network as it is stepped: under DDP with other ranks, compiled if the config says so."""
    network: nn.Module = state.trained
    on_gpu = rank.device.type == "cuda"
    if rank.world_size > 1:
        if state.config.sync_batch_norm:
            synchronise_batch_norm(state.trained)
        network = DistributedDataParallel(network, device_ids=[rank.device] if on_gpu else None)
    if not state.config.compile:
        return network

    # Forward and backward as CUDA graphs: one launch each.
    captured = on_gpu and rank.world_size == 1
    mode = "reduce-overhead" if captured else "default"
    return torch.compile(network, mode=mode)  # pyright: ignore[reportReturnType]


def _share(split: Split | None, rank: Rank) -> Split | None:
    """This rank's share of a split; on its device where there is room."""
    if split is None:
        return None
    share = split.take(slice(rank.rank, None, rank.world_size))
    if not fits(share.images.nbytes, rank.device):
        return share
    return Split(Images(share.images.tensor().to(rank.device)), share.labels)


def _validate(state: TrainState, split: Split | None, rank: Rank) -> tuple[float, float] | None:
    """Mean cross-entropy and accuracy over all ranks' shares; None without validation images."""
    if split is None:
        return None
    with autocast(state.config, rank.device):
        logits = compute_logits(state.model, split.images)

    loss_sum = F.cross_entropy(logits, split.labels, reduction="sum")
    correct = (logits.argmax(1) == split.labels).sum()
    totals = torch.stack((loss_sum, correct, torch.tensor(len(split)))).to(rank.device)
    if rank.world_size > 1:
        dist.all_reduce(totals)
    loss, right, count = cast(list[float], totals.tolist())
    return loss / count, right / count
