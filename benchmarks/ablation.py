"""`python -m benchmarks.ablation`: what each lever of training gains, and what it costs, on validation images alone.

Every lever is one change to the base, trained with the same seeds; the gain is the mean difference, seed by seed, in validation
accuracy after the last epoch. The cost is the time of an epoch over that of the base's, from short epochs in turns, on the idle
machine. Levers that are no option of TrainConfig live here, as entries of the registries or in place of a part of the loop, until
one pays. Goes on where it stopped. Writes docs/results/ablation.md, and a JSON for each base.
"""

import dataclasses
import hashlib
import multiprocessing
import signal
import statistics
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

import fmnist.loop
from benchmarks.pages import unmeasured
from fmnist.augment import FLIP, Augmentation, ImageTable, generator
from fmnist.checkpoint import load_state, save_state
from fmnist.cli import command
from fmnist.config import Problem, TrainConfig
from fmnist.data import Split, find_data, load_info, load_train, pixel_statistics, split_train
from fmnist.device import cpu_threads, default_device, hardware, resolve, set_threads
from fmnist.errors import check, one_of
from fmnist.loop import TrainState, start_training, train_epochs
from fmnist.models import MODELS, Classifier
from fmnist.models.airnet import AirNet, build_airnet
from fmnist.optim import OPTIMIZERS, Parameters, grouped
from fmnist.recipes import RECIPES, muon
from fmnist.run import RUNS, environment, read_json, write_atomic, write_json

RESULTS = Path("docs/results")
HELD_OUT = 10_000
BASES = {
    "short": TrainConfig(epochs=8, validation_images=HELD_OUT),
    "narrow": TrainConfig(widths=(8, 32, 64), epochs=6, validation_images=HELD_OUT),
    "cpu-93": RECIPES["cpu-93"].config.replace(validation_images=HELD_OUT),
    "long": muon(widths=(16, 64, 128), epochs=16, erase=0.5, validation_images=HELD_OUT),
    "wide": muon(widths=(32, 96, 192), epochs=16, erase=0.5, validation_images=HELD_OUT),
    "ten": muon(widths=(32, 96, 192), epochs=19, erase=0.25, shift=1, validation_images=HELD_OUT),
    "cpu-10min": RECIPES["cpu-10min"].config.replace(validation_images=HELD_OUT),
    "small": RECIPES["small"].config.replace(validation_images=HELD_OUT),
}
"""What is changed: a short run with Nesterov's momentum, a shorter one of a narrower network, for a CPU without bf16, the recipe
cpu-93, a longer run with Muon, the same on a wider network, ten minutes' worth on two CPU threads, the recipe that came of it, and
the recipe small, which wants a GPU."""
NESTEROV = ("short", "narrow")
MUON = ("cpu-93", "long")
WIDE_ENOUGH = ("short", "cpu-93", "long", "wide", "ten", "cpu-10min", "small")
ROWS = {base: RESULTS / f"ablation_{base}.json" for base in BASES}
TEACHERS = RUNS / "ablation"
TURNS, TURN_STEPS = 5, 4
"""Of the costs: epochs of so many steps."""
Job = tuple[str, str, int]
"""Base, lever, seed."""
Patch = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Lever:
    """One change to a base."""

    about: str
    changes: dict[str, Any] = field(default_factory=dict)
    bases: tuple[str, ...] = ()
    """Those that it changes; all if empty."""
    patch: Patch = nullcontext
    """In place while it trains: what no option of TrainConfig does."""


class RandomFlip(Augmentation):
    """Each image is mirrored, or not, anew in every epoch."""

    @classmethod
    def draw(
        cls, config: TrainConfig, epoch: int, count: int, size: int, mean: Tensor, deviation: Tensor, device: torch.device
    ) -> Augmentation:
        drawn = Augmentation.draw(config, epoch, count, size, mean, deviation, device)
        flip = torch.rand(count, generator=generator(config.seed, FLIP, epoch)) < 0.5
        return dataclasses.replace(drawn, flip=flip.byte().mul(255).view(-1, 1, 1, 1).to(device))


class ErasingUntil(Augmentation):
    """No erasing in the last 15 % of the epochs."""

    @classmethod
    def draw(
        cls, config: TrainConfig, epoch: int, count: int, size: int, mean: Tensor, deviation: Tensor, device: torch.device
    ) -> Augmentation:
        late = epoch > 0.85 * config.epochs
        return Augmentation.draw(config.replace(erase=0.0) if late else config, epoch, count, size, mean, deviation, device)


class Growing(Augmentation):
    """Images of 20×20 in the first 60 % of the epochs."""

    __slots__ = ("small",)
    small: bool

    @classmethod
    def draw(
        cls, config: TrainConfig, epoch: int, count: int, size: int, mean: Tensor, deviation: Tensor, device: torch.device
    ) -> Augmentation:
        drawn = Augmentation.draw(config, epoch, count, size, mean, deviation, device)
        grown = cls(*(getattr(drawn, part.name) for part in dataclasses.fields(drawn)))
        object.__setattr__(grown, "small", epoch <= 0.6 * config.epochs)
        return grown

    def take(self, table: ImageTable, index: Tensor) -> Tensor:
        images = Augmentation.take(self, table, index)
        if not self.small:
            return images
        return F.interpolate(images.unsqueeze(1), size=(20, 20), mode="bilinear", antialias=True).squeeze(1)


@contextmanager
def instead(name: str, other: Any) -> Generator[None]:
    """`fmnist.loop` has `other` in place of what it calls `name`."""
    before = getattr(fmnist.loop, name)
    setattr(fmnist.loop, name, other)
    try:
        yield
    finally:
        setattr(fmnist.loop, name, before)


def loss_instead(loss: type[nn.CrossEntropyLoss]) -> AbstractContextManager[None]:
    """`fmnist.loop` has another loss."""
    return instead("nn", SimpleNamespace(**vars(nn) | {"CrossEntropyLoss": loss}))


def whitening_start(config: TrainConfig, train: Split, classes: int, device: torch.device) -> TrainState:
    """The stem's filters are the directions of the images' 3×3 patches, scaled to equal variance, each with both signs; they stay
    (Page, 2018; cifar10-airbench)."""
    state = start_training(config, train, classes, device)
    stem = cast(nn.Conv2d, cast(AirNet, state.trained.network).stem[0])
    mean, deviation = (each.to(device) for each in pixel_statistics(train.images))
    images = (train.images[:5000].to(device).unsqueeze(1).float() - mean) / deviation
    patches = F.unfold(images, 3).transpose(1, 2).flatten(0, 1)
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (vectors / (values + 1e-2).sqrt()).T.reshape(-1, 1, 3, 3)
    with torch.no_grad():
        stem.weight.copy_(torch.cat((filters, -filters)))
    return state


def _whitened(config: TrainConfig, problem: Problem) -> nn.Module:
    network = cast(AirNet, build_airnet(config, problem))
    patches = 9 * problem.channels
    stem = nn.Conv2d(problem.channels, 2 * patches, 3)
    stem.weight.requires_grad = False
    network.stem[0] = stem
    first = network.blocks[0].conv1
    network.blocks[0].conv1 = nn.Conv2d(2 * patches, cast(nn.Conv2d, first).out_channels, 3, padding=1, bias=False)
    return network


def _with_activation(kind: type[nn.Module]) -> Callable[[TrainConfig, Problem], nn.Module]:
    def build(config: TrainConfig, problem: Problem) -> nn.Module:
        network = build_airnet(config, problem)
        for module in list(network.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.GELU):
                    setattr(module, name, kind())
        return network

    return build


def _with_norm(momentum: float) -> Callable[[TrainConfig, Problem], nn.Module]:
    def build(config: TrainConfig, problem: Problem) -> nn.Module:
        network = build_airnet(config, problem)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = momentum
        return network

    return build


class Residual(nn.Module):
    """A block of airnet, and a third convolution around which its input is carried (cifar10-airbench96)."""

    def __init__(self, block: nn.Module, channels: int) -> None:
        super().__init__()
        self.block = block
        self.conv, self.norm = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(x)
        return x + F.gelu(self.norm(self.conv(x)))


def _residual(config: TrainConfig, problem: Problem) -> nn.Module:
    network = cast(AirNet, build_airnet(config, problem))
    widths = config.widths or (24, 64, 128)
    network.blocks = nn.Sequential(*(Residual(block, width) for block, width in zip(network.blocks, widths, strict=True)))
    return network


class GlobalMax(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.amax((2, 3), keepdim=True)


class GlobalMean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)


def _with_pool(kind: type[nn.Module]) -> Callable[[TrainConfig, Problem], nn.Module]:
    def build(config: TrainConfig, problem: Problem) -> nn.Module:
        network = cast(AirNet, build_airnet(config, problem))
        network.pool = cast(Any, kind())
        return network

    return build


class Lookahead(SGD):
    """Every five steps the weights go half of the way from where they last were (Zhang et al., 2019)."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().step()
        self.steps = getattr(self, "steps", 0) + 1
        for group in self.param_groups:
            for parameter in group["params"]:
                slow = self.state[parameter].setdefault("slow", parameter.detach().clone())
                if self.steps % 5 == 0:
                    slow.lerp_(parameter, 0.5)
                    parameter.copy_(slow)


def _lookahead(parameters: Parameters, config: TrainConfig) -> list[Optimizer]:
    return [Lookahead(grouped(parameters, config), config.lr, config.momentum, nesterov=True)]


def _unfused(parameters: Parameters, config: TrainConfig) -> list[Optimizer]:
    return [SGD(grouped(parameters, config), config.lr, config.momentum, nesterov=True, fused=False, foreach=False)]


def _fast_biases(parameters: Parameters, config: TrainConfig) -> list[Optimizer]:
    """Batch norm's shifts and scales learn 16 times as fast, by their gradients, since all follow one rate."""
    for parameter in parameters:
        if parameter.ndim == 1:
            parameter.register_hook(lambda gradient: 16 * gradient)
    return OPTIMIZERS["nesterov"](parameters, config)


class MomentumSAM(SGD):
    """Gradients are taken a step `RADIUS` uphill along the momentum (Becker et al., 2024, arXiv:2401.12033): sharpness-aware
    minimisation without its second pass. The step shrinks with the rate, so that the weights which are kept stand on the ground."""

    RADIUS = 0.3

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        for parameter in parameters:
            if (uphill := self.state[parameter].pop("uphill", None)) is not None:
                parameter.sub_(uphill)
        super().step()
        momenta = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
        radius = self.RADIUS * self.param_groups[0]["lr"] / self.defaults["lr"]
        length = torch.stack([momentum.norm() for momentum in momenta]).norm().clamp(min=1e-12)
        for parameter, momentum in zip(parameters, momenta, strict=True):
            self.state[parameter]["uphill"] = momentum * (radius / length)
            parameter.add_(self.state[parameter]["uphill"])


def _momentum_sam(parameters: Parameters, config: TrainConfig) -> list[Optimizer]:
    return [MomentumSAM(grouped(parameters, config), config.lr, config.momentum, nesterov=True)]


class Mixup:
    """Half of the batches are mixed with themselves, turned by one image, and the loss with them (Zhang et al., 2018)."""

    def __init__(self) -> None:
        self.kept = 1.0

    def mixed(self, images: Tensor) -> Tensor:
        self.kept = 1.0 if torch.rand(()).item() < 0.5 else torch.rand(()).item()
        return (self.kept * images.float() + (1 - self.kept) * images.roll(1, 0).float()).round().byte()

    @contextmanager
    def patch(self) -> Generator[None]:
        """In place of what the loop asks for batches and for a loss."""
        prepared, mixing = fmnist.loop._prepared, self  # pyright: ignore[reportPrivateUsage]

        def batches(*arguments: Any) -> Generator[tuple[Tensor, Tensor]]:
            for images, labels in prepared(*arguments):
                yield mixing.mixed(images), labels

        class Loss(nn.CrossEntropyLoss):
            def forward(self, input: Tensor, target: Tensor) -> Tensor:  # noqa: A002
                mine, theirs = super().forward(input, target), super().forward(input, target.roll(1, 0))
                return mixing.kept * mine + (1 - mixing.kept) * theirs

        with instead("_prepared", batches), loss_instead(Loss):
            yield


class Pruning:
    """InfoBatch (Qin et al., 2024): half of the images that are easier than the mean are left out, others each epoch, and the
    rest of those count twice; in the last eighth of the epochs none is left out."""

    def __init__(self) -> None:
        self.losses: Tensor | None = None
        self.late = False
        self.index, self.weights = torch.empty(0), torch.empty(0)

    @contextmanager
    def patch(self) -> Generator[None]:
        """In place of what the loop asks for batches and for a loss."""
        prepared, pruning = fmnist.loop._prepared, self  # pyright: ignore[reportPrivateUsage]

        class Dated(Augmentation):
            @classmethod
            def draw(
                cls, config: TrainConfig, epoch: int, count: int, size: int, mean: Tensor, deviation: Tensor, device: torch.device
            ) -> Augmentation:
                if epoch == 1:
                    pruning.losses = None
                pruning.late = epoch > 0.875 * config.epochs
                return Augmentation.draw(config, epoch, count, size, mean, deviation, device)

        def batches(
            table: ImageTable, labels: Tensor, augmentation: Augmentation, every: Tensor
        ) -> Generator[tuple[Tensor, Tensor]]:
            index, size = every.flatten(), every.shape[1]
            weights = torch.ones(len(index), device=index.device)
            if pruning.losses is None:
                pruning.losses = torch.full((len(labels),), torch.inf, device=labels.device)
            elif not pruning.late:
                losses = pruning.losses[index]
                easy = losses < losses[losses.isfinite()].mean()
                kept = ~(easy & (torch.rand(len(index)).to(index.device) < 0.5))
                weights = (1 + easy.float())[kept]
                index = index[kept][: int(kept.sum()) // size * size]
            mine = zip(index.split(size), weights.split(size), strict=False)
            for pruning.index, pruning.weights in mine:
                yield from prepared(table, labels, augmentation, pruning.index.view(1, -1))

        class Loss(nn.CrossEntropyLoss):
            def forward(self, input: Tensor, target: Tensor) -> Tensor:  # noqa: A002
                losses = F.cross_entropy(input, target, reduction="none", label_smoothing=self.label_smoothing)
                assert pruning.losses is not None
                pruning.losses[pruning.index] = losses.detach().float()
                return (losses * pruning.weights).sum()

        with instead("_prepared", batches), loss_instead(Loss), instead("Augmentation", Dated):
            yield


class Distillation:
    """Three quarters of the loss are the divergence from what a teacher says of the same augmented images (Hinton et al., 2015;
    the patience of Beyer et al., 2022). The teacher is trained once and kept in `TEACHERS`; its own training is no part of the
    cost."""

    SHARE, TEMPERATURE = 0.75, 2.0

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.teacher: Classifier | None = None
        self.images = torch.empty(0)

    def trained(self, train: Split) -> Classifier:
        """The teacher, trained on the same images as the student; goes on where it stopped."""
        device = default_device()
        state = start_training(self.config, train, 10, device)
        digest = hashlib.sha256(f"{len(train)} {state.config.to_dict()}".encode()).hexdigest()[:16]
        path = TEACHERS / f"{digest}.pt"
        if path.exists():
            state.load_state_dict(load_state(path))
        config, known = state.config, state.state_dict()
        for _, state in train_epochs(config, train, classes=10, device=device, resume=known):
            save_state(path, state.state_dict())
        return state.model.eval()

    @contextmanager
    def patch(self) -> Generator[None]:
        """In place of what the loop starts from, and asks for batches and for a loss."""
        prepared, start, distillation = fmnist.loop._prepared, start_training, self  # pyright: ignore[reportPrivateUsage]

        def started(config: TrainConfig, train: Split, classes: int, device: torch.device) -> TrainState:
            with instead("start_training", start), instead("_prepared", prepared), instead("nn", nn):
                distillation.teacher = distillation.teacher or distillation.trained(train)
            return start(config, train, classes, device)

        def batches(*arguments: Any) -> Generator[tuple[Tensor, Tensor]]:
            for distillation.images, labels in prepared(*arguments):
                yield distillation.images, labels

        class Loss(nn.CrossEntropyLoss):
            def forward(self, input: Tensor, target: Tensor) -> Tensor:  # noqa: A002
                assert distillation.teacher is not None
                with torch.no_grad():
                    taught = distillation.teacher(distillation.images).float()
                heat = distillation.TEMPERATURE
                soft, theirs = F.log_softmax(input / heat, 1), F.log_softmax(taught / heat, 1)
                apart = heat**2 * F.kl_div(soft, theirs, reduction="sum", log_target=True)
                return distillation.SHARE * apart + (1 - distillation.SHARE) * super().forward(input, target)

        with instead("start_training", started), instead("_prepared", batches), loss_instead(Loss):
            yield


def _strided(config: TrainConfig, problem: Problem) -> nn.Module:
    network = cast(AirNet, build_airnet(config, problem))
    first = network.blocks[0]
    conv = cast(nn.Conv2d, first.conv1)
    first.conv1 = nn.Conv2d(conv.in_channels, conv.out_channels, 3, stride=2, padding=1, bias=False)
    first.pool = cast(Any, nn.Identity())
    return network


NETWORKS: dict[str, Callable[[TrainConfig, Problem], nn.Module]] = {
    "airnet-whitened": _whitened,
    "airnet-silu": _with_activation(nn.SiLU),
    "airnet-relu": _with_activation(nn.ReLU),
    "airnet-norm": _with_norm(0.4),
    "airnet-residual": _residual,
    "airnet-strided": _strided,
    "airnet-max": _with_pool(GlobalMax),
    "airnet-mean": _with_pool(GlobalMean),
}

LEVERS: dict[str, Lever] = {
    "batch 256": Lever("half the batch", {"global_batch_size": 256, "lr": 0.15}, NESTEROV),
    "batch 1024": Lever("twice the batch", {"global_batch_size": 1024, "lr": 0.6}, NESTEROV),
    "lr .15": Lever("half the rate", {"lr": 0.15}, NESTEROV),
    "lr .6": Lever("twice the rate", {"lr": 0.6}, NESTEROV),
    "decay 1e-4": Lever("a fifth of the weight decay", {"weight_decay": 1e-4}, NESTEROV),
    "decay 1e-3": Lever("twice the weight decay", {"weight_decay": 1e-3}, NESTEROV),
    "muon": Lever("Muon", {"optimizer": "muon", "lr": 0.012, "weight_decay": 0.1}, NESTEROV),
    "lookahead": Lever("lookahead", {"optimizer": "lookahead"}, NESTEROV),
    "fast biases": Lever("batch norm's shifts 16 times as fast", {"optimizer": "fast-biases"}, NESTEROV),
    "sam": Lever("momentum SAM", {"optimizer": "momentum-sam"}, NESTEROV),
    "unfused": Lever(
        "the optimiser's operations one by one: the same arithmetic, so its gain is noise", {"optimizer": "unfused"}, NESTEROV
    ),
    "16/64/128": Lever("a first block of 16", {"widths": (16, 64, 128)}, NESTEROV),
    "16/32/64": Lever("a wider first block", {"widths": (16, 32, 64)}, ("narrow",)),
    "8/32/128": Lever("a wider last block", {"widths": (8, 32, 128)}, ("narrow",)),
    "nesterov": Lever("Nesterov's momentum for Muon", {"optimizer": "nesterov", "lr": 0.3, "weight_decay": 5e-4}, MUON),
    "muon, 256": Lever("half the batch", {"global_batch_size": 256, "lr": 0.008}, MUON),
    "muon, 1024": Lever("twice the batch", {"global_batch_size": 1024, "lr": 0.017}, MUON),
    "lr .006": Lever("half the rate", {"lr": 0.006}, MUON),
    "lr .024": Lever("twice the rate", {"lr": 0.024}, MUON),
    "decay .03": Lever("a third of the weight decay", {"weight_decay": 0.03}, MUON),
    "decay .3": Lever("three times the weight decay", {"weight_decay": 0.3}, MUON),
    "no erase": Lever("no erasing", {"erase": 0.0}, ("long", "wide")),
    "momentum .85": Lever("less momentum", {"momentum": 0.85}),
    "cosine": Lever("the rate falls by a cosine", {"schedule": "cosine"}),
    "warmup .25": Lever("a longer warm-up", {"warmup": 0.25}),
    "no shift": Lever("no shift", {"shift": 0}),
    "shift 1": Lever("shift by one pixel", {"shift": 1}, ("short", "narrow", "long", "wide", "small")),
    "shift 2": Lever("shift by two pixels", {"shift": 2}, ("cpu-93", "ten", "cpu-10min")),
    "no flip": Lever("no flip", {"flip": False}),
    "random flip": Lever("flip drawn anew in each epoch", patch=lambda: instead("Augmentation", RandomFlip)),
    "erase .25": Lever("erase in a quarter of the images", {"erase": 0.25}),
    "erase .25, shift 1": Lever("less of both", {"erase": 0.25, "shift": 1}, ("long", "wide")),
    "erase .5, then not": Lever(
        "erase in half of the images until 85 % of the run", {"erase": 0.5}, patch=lambda: instead("Augmentation", ErasingUntil)
    ),
    "growing": Lever("20×20 pixels in 60 % of the epochs", {"model": "airnet-max"}, patch=lambda: instead("Augmentation", Growing)),
    "smoothing .05": Lever("half the label smoothing", {"label_smoothing": 0.05}),
    "smoothing .2": Lever("twice the label smoothing", {"label_smoothing": 0.2}),
    "ema .99": Lever("an average of the weights", {"ema": 0.99}),
    "ema .998": Lever("a slower average", {"ema": 0.998}),
    "mixup": Lever("mixup in half of the batches", patch=Mixup().patch),
    "cutmix": Lever("CutMix in half of the images", {"cutmix": 0.5}),
    "cutmix .25": Lever("CutMix in a quarter of the images", {"cutmix": 0.25}),
    "cutmix, ema .99": Lever("CutMix, and an average of the weights", {"cutmix": 0.5, "ema": 0.99}, ("ten",)),
    "cutmix .25, smoothing .2": Lever(
        "CutMix in a quarter, and twice the label smoothing", {"cutmix": 0.25, "label_smoothing": 0.2}, ("ten",)
    ),
    "cutmix, smoothing .2": Lever("CutMix, and twice the label smoothing", {"cutmix": 0.5, "label_smoothing": 0.2}, ("ten",)),
    "pruning": Lever("InfoBatch: half of the easy images left out", patch=Pruning().patch),
    "distilled": Lever("taught by airnet 32/96/192, 16 epochs", {}, WIDE_ENOUGH, Distillation(BASES["wide"]).patch),
    "distilled from short": Lever("taught by airnet 24/64/128, 8 epochs", {}, ("narrow",), Distillation(BASES["short"]).patch),
    "distilled from best": Lever(
        "taught by the recipe best", patch=Distillation(RECIPES["best"].config.replace(validation_images=HELD_OUT)).patch
    ),
    "adamw": Lever("AdamW", {"optimizer": "adamw", "lr": 0.004, "weight_decay": 0.05}),
    "whitening": Lever(
        "a fixed first layer that whitens 3×3 patches",
        {"model": "airnet-whitened"},
        patch=lambda: instead("start_training", whitening_start),
    ),
    "SiLU": Lever("SiLU for GELU", {"model": "airnet-silu"}),
    "ReLU": Lever("ReLU for GELU", {"model": "airnet-relu"}),
    "ReLU, 22 epochs": Lever("ReLU for GELU, and as many epochs as that gives", {"model": "airnet-relu", "epochs": 22}, ("ten",)),
    "norm momentum .4": Lever("batch norm's statistics follow faster", {"model": "airnet-norm"}),
    "mean pool": Lever("the mean over the last map", {"model": "airnet-mean"}),
    "residual": Lever("a third convolution in each block, with a shortcut", {"model": "airnet-residual"}),
    "strided": Lever("a stride in place of the first pooling", {"model": "airnet-strided"}),
    "24/64/128": Lever("a wider first block", {"widths": (24, 64, 128)}, ("long",)),
    "32/64/128": Lever("a first block of 32", {"widths": (32, 64, 128)}, WIDE_ENOUGH),
    "24/64/256": Lever("a wider last block", {"widths": (24, 64, 256)}, WIDE_ENOUGH),
    "32/96/192": Lever("wider", {"widths": (32, 96, 192)}, WIDE_ENOUGH),
    "fp32": Lever("float32", {"precision": "fp32"}),
    "contiguous": Lever("NCHW", {"channels_last": False}),
    "compiled": Lever("torch.compile", {"compile": True}),
}


@contextmanager
def experimental() -> Generator[None]:
    """The registries have this module's networks and optimisers."""
    optimizers: dict[str, Callable[[Parameters, TrainConfig], list[Optimizer]]] = {
        "lookahead": _lookahead,
        "fast-biases": _fast_biases,
        "unfused": _unfused,
        "momentum-sam": _momentum_sam,
    }
    MODELS.update(NETWORKS)
    OPTIMIZERS.update(optimizers)
    try:
        yield
    finally:
        for registry, names in ((MODELS, NETWORKS), (OPTIMIZERS, optimizers)):
            for name in names:
                del registry[name]


@cache
def images() -> Split:
    folder = find_data()
    return load_train(folder, load_info(folder))


def start_worker(threads: int) -> None:
    """A process that trains; Ctrl-C is the parent's to take."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_threads(TrainConfig(threads=threads))


def accuracy_of(base: str, name: str, seed: int) -> float:
    """On the validation images, after the last epoch."""
    lever, device = EVERY[name], default_device()
    with experimental(), lever.patch():
        config, training, held_out = split_train(BASES[base].replace(seed=seed, **lever.changes), images())
        *_, (metrics, _) = train_epochs(config, training, held_out, classes=10, device=device)
    return cast(float, metrics.validation_accuracy)


def cost_of(base: TrainConfig, lever: Lever) -> float:
    """Time of an epoch over that of the base's: the mean of turns, since epochs may differ."""
    speeds: list[list[float]] = []
    device, train, changed = default_device(), images(), base.replace(**lever.changes)
    few = Split(train.images[: 1024 * TURN_STEPS], train.labels[: 1024 * TURN_STEPS])
    ours = train_epochs(base.replace(epochs=TURNS + 1), few, classes=10, device=device)
    with lever.patch():  # a generator begins when it is asked: both begin here, and what is patched stays in theirs
        theirs = train_epochs(changed.replace(epochs=TURNS + 1), few, classes=10, device=device)
        first = next(theirs)
    rest = [first]
    for metrics, _ in ours:
        with lever.patch():
            turn = rest.pop() if rest else next(theirs)
        speeds.append([metrics.images_per_s, turn[0].images_per_s])
    return statistics.mean(mine / other for mine, other in speeds[1:])


EVERY = {"base": Lever("the base"), **LEVERS}
ALL = tuple(name for name in LEVERS if name != "distilled from best")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Train the base with each lever changed.

    Example: python -m benchmarks.ablation --levers muon "shift 1" --seeds 5
    """

    base: str = "short"
    """short (8 epochs, Nesterov), narrow (6 epochs of a narrower network), cpu-93 (that recipe), long (16 epochs, Muon, erasing),
    wide (long, wider), ten (wider, for ten minutes on two CPU threads), cpu-10min (that recipe) or small (that one, on a GPU)."""
    levers: tuple[str, ...] = ALL
    """By default all but "distilled from best", whose teacher takes days on a CPU."""
    seeds: int = 3
    workers: int = 1
    """Processes that train at a time, and share the CPU's threads; costs are measured afterwards, one by one."""

    def __post_init__(self) -> None:
        check(self.seeds >= 1, f"seeds={self.seeds}: it must be at least 1")
        check(1 <= self.workers <= cpu_threads(), f"workers={self.workers}: from 1 to {cpu_threads()}, this machine's threads")
        one_of("base", self.base, BASES)
        for name in self.levers:
            one_of("levers", name, LEVERS)
            bases = LEVERS[name].bases or (self.base,)
            check(self.base in bases or self.levers == ALL, f"levers={name!r}: it changes {' and '.join(bases)}, not {self.base}")


def trained(jobs: Sequence[Job], workers: int) -> Generator[tuple[Job, float]]:
    """Each job's accuracy, as they end."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, start_worker, (cpu_threads() // workers,)) as pool:
        futures = {pool.submit(accuracy_of, *job): job for job in jobs}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def page() -> str:
    """Of all bases that have rows."""
    lines = [
        "# What each lever gains and costs",
        "",
        "`python -m benchmarks.ablation --base …`. Each is one change to the base, trained with the same",
        f"seeds; accuracies are of {HELD_OUT:,} validation images after the last epoch, never of the test set. Gain: mean",
        "difference to the base in points, seed by seed, ± its standard error; of one seed, its noise is 1.4 times the base's",
        "deviation over seeds. Cost: time of an epoch over the base's, from short epochs in turns.",
    ]
    for name, path in ROWS.items():
        lines += section(name, read_json(path)) if path.exists() else []
    if not ROWS["small"].exists():
        lines += unmeasured({"small": "make gpu PART=10", "small, taught by the recipe best": "make gpu PART=11"})
    return "\n".join([*lines, ""])


def section(name: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The table of one base."""
    base, plain = BASES[name], {row["seed"]: row["accuracy"] for row in rows if row["lever"] == "base"}
    if not plain:
        return []
    network = f"{base.model} {'/'.join(map(str, base.widths))}".strip()
    deviation = f" ± {100 * statistics.stdev(plain.values()):.2f}" if len(plain) > 1 else ""
    versions = ", ".join(f"{name} {version}" for name, version in rows[0]["versions"].items())
    mixed = f", CutMix in {base.cutmix:.0%}" if base.cutmix else ""
    lines = [
        "",
        f"## {name}: {network}, {base.optimizer}, {base.epochs} epochs, shift {base.shift}, erasing in {base.erase:.0%}{mixed}",
        "",
        f"The base reaches {100 * statistics.mean(plain.values()):.2f}{deviation} % (seeds: {len(plain)}). {rows[0]['machine']},",
        f"{rows[0]['precision']}; {versions}.",
        "",
        *(line for note in dict.fromkeys(row["note"] for row in rows if "note" in row) for line in (note, "")),
        "| lever | what | seeds | accuracy, % | gain | cost |",
        "|---|---|---:|---:|---:|---:|",
    ]
    table: list[tuple[float, str]] = []
    for lever, what in LEVERS.items():
        found = [row for row in rows if row["lever"] == lever and row["seed"] in plain]
        if not found:
            continue
        gains = [100 * (row["accuracy"] - plain[row["seed"]]) for row in found]
        error = f" ± {statistics.stdev(gains) / len(gains) ** 0.5:.2f}" if len(gains) > 1 else ""
        accuracy = 100 * statistics.mean(row["accuracy"] for row in found)
        cost = next((f"{row['cost']:.2f}" for row in found if row["cost"] is not None), "–")
        cells = (lever, what.about, len(found), f"{accuracy:.2f}", f"{statistics.mean(gains):+.2f}{error}", cost)
        table.append((-statistics.mean(gains), f"| {' | '.join(map(str, cells))} |"))
    return [*lines, *(line for _, line in sorted(table))]


def main(options: Options) -> None:
    console = Console(highlight=False, soft_wrap=True)
    base, path = BASES[options.base], ROWS[options.base]
    rows: list[dict[str, Any]] = read_json(path) if path.exists() else []
    precision = resolve(base, default_device()).precision
    others = {row["precision"] for row in rows} - {precision}
    check(
        not others,
        f"base={options.base!r}: {path} is in {', '.join(others)}, and here it would train in {precision}: "
        "their differences would not be the lever's; go on where it trains alike, or move that file away",
    )
    known = {(row["lever"], row["seed"]) for row in rows}
    same = [name for name in options.levers if LEVERS[name].changes == {"precision": precision}]  # changes nothing here
    mine = [name for name in options.levers if name not in same and options.base in (LEVERS[name].bases or BASES)]
    every = [(name, seed) for seed in range(options.seeds) for name in ("base", *mine)]
    left = [(options.base, *each) for each in every if each not in known]

    def keep() -> None:
        write_json(path, rows)
        write_atomic(RESULTS / "ablation.md", page())

    with Progress(console=console) as progress:
        for (_, lever, seed), accuracy in progress.track(trained(left, options.workers), len(left), description="levers"):
            row = {"lever": lever, "seed": seed, "accuracy": accuracy, "cost": None, "precision": precision}
            versions = {name: environment()["versions"].get(name) for name in ("python", "torch")}
            rows.append(row | {"machine": hardware(), "versions": versions})
            console.print(f"{lever}, seed {seed}: {accuracy:.2%}")
            keep()
        set_threads(TrainConfig())
        unpriced = [row for row in rows if row["lever"] in mine and row["seed"] == 0 and row["cost"] is None]
        with experimental():
            for row in progress.track(unpriced, description="costs"):
                row["cost"] = round(cost_of(base, LEVERS[row["lever"]]), 2)
                keep()
    keep()
    console.print(page())


if __name__ == "__main__":
    command(Options, main)
