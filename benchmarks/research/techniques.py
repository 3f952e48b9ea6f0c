"""The bases, and every technique that is tried on them."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from benchmarks.research import augmentation, networks, optimizers
from benchmarks.research.distillation import Distillation
from fmnist.config import TrainConfig
from fmnist.recipes import RECIPES, muon

HELD_OUT = 10_000


def _recipe(name: str) -> TrainConfig:
    return RECIPES[name].config.replace(validation_images=HELD_OUT)


BASES = {
    "short": TrainConfig(epochs=8, validation_images=HELD_OUT),
    "narrow": TrainConfig(widths=(8, 32, 64), epochs=6, validation_images=HELD_OUT),
    "cpu-93": _recipe("cpu-93"),
    "long": muon(widths=(16, 64, 128), epochs=16, erase=0.5, validation_images=HELD_OUT),
    "wide": muon(widths=(32, 96, 192), epochs=16, erase=0.5, validation_images=HELD_OUT),
    "ten": muon(widths=(32, 96, 192), epochs=19, erase=0.25, shift=1, validation_images=HELD_OUT),
    "cpu-10min": _recipe("cpu-10min"),
    "small": _recipe("small"),
}
"""Configs that are changed: a short run with Nesterov's momentum, a shorter one of a narrower
network, for a CPU without bf16, the recipe cpu-93, a longer run with Muon, the same on a wider
network, ten minutes' worth on two CPU threads, the recipe that came of it, and the recipe small,
which wants a GPU."""
NESTEROV = ("short", "narrow")
MUON = ("cpu-93", "long")
ERASING = ("long", "wide")
AIRNET = tuple(name for name, config in BASES.items() if config.model == "airnet")
WIDE_ENOUGH = ("short", "cpu-93", "long", "wide", "ten", "cpu-10min", "small")
SHIFT_2 = ("short", "narrow", "long", "wide", "small")
SHIFT_1 = ("cpu-93", "ten", "cpu-10min")

Hook = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True, slots=True)
class Technique:
    """One change to a base."""

    about: str
    bases: tuple[str, ...] = tuple(BASES)
    """Bases that it changes."""
    changes: dict[str, Any] = field(default_factory=dict[str, Any])
    """Values of TrainConfig's fields."""
    hook: Hook = nullcontext
    """In place while it trains: does what no option of TrainConfig does."""


def _set(about: str, bases: tuple[str, ...] = tuple(BASES), **changes: Any) -> Technique:
    """A technique that is some options of TrainConfig."""
    return Technique(about, bases, changes)


OPTIONS = {
    "batch 256": _set("half the batch", NESTEROV, global_batch_size=256, lr=0.15),
    "batch 1024": _set("twice the batch", NESTEROV, global_batch_size=1024, lr=0.6),
    "lr .15": _set("half the rate", NESTEROV, lr=0.15),
    "lr .6": _set("twice the rate", NESTEROV, lr=0.6),
    "decay 1e-4": _set("a fifth of the weight decay", NESTEROV, weight_decay=1e-4),
    "decay 1e-3": _set("twice the weight decay", NESTEROV, weight_decay=1e-3),
    "muon": _set("Muon", NESTEROV, optimizer="muon", lr=0.012, weight_decay=0.1),
    "16/64/128": _set("a first block of 16", NESTEROV, widths=(16, 64, 128)),
    "16/32/64": _set("a wider first block", ("narrow",), widths=(16, 32, 64)),
    "8/32/128": _set("a wider last block", ("narrow",), widths=(8, 32, 128)),
    "nesterov": _set(
        "Nesterov's momentum for Muon", MUON, optimizer="nesterov", lr=0.3, weight_decay=5e-4
    ),
    "muon, 256": _set("half the batch", MUON, global_batch_size=256, lr=0.008),
    "muon, 1024": _set("twice the batch", MUON, global_batch_size=1024, lr=0.017),
    "lr .006": _set("half the rate", MUON, lr=0.006),
    "lr .024": _set("twice the rate", MUON, lr=0.024),
    "decay .03": _set("a third of the weight decay", MUON, weight_decay=0.03),
    "decay .3": _set("three times the weight decay", MUON, weight_decay=0.3),
    "no erase": _set("no erasing", ERASING, erase=0.0),
    "momentum .85": _set("less momentum", momentum=0.85),
    "cosine": _set("the rate falls by a cosine", schedule="cosine"),
    "warmup .25": _set("a longer warm-up", warmup=0.25),
    "no shift": _set("no shift", shift=0),
    "shift 1": _set("shift by one pixel", SHIFT_2, shift=1),
    "shift 2": _set("shift by two pixels", SHIFT_1, shift=2),
    "no flip": _set("no flip", flip=False),
    "erase .25": _set("erase in a quarter of the images", erase=0.25),
    "erase .25, shift 1": _set("less of both", ERASING, erase=0.25, shift=1),
    "smoothing .05": _set("half the label smoothing", label_smoothing=0.05),
    "smoothing .2": _set("twice the label smoothing", label_smoothing=0.2),
    "ema .99": _set("an average of the weights", ema=0.99),
    "ema .998": _set("a slower average", ema=0.998),
    "cutmix": _set("CutMix in half of the images", cutmix=0.5),
    "cutmix .25": _set("CutMix in a quarter of the images", cutmix=0.25),
    "cutmix, ema .99": _set(
        "CutMix, and an average of the weights", ("ten",), cutmix=0.5, ema=0.99
    ),
    "cutmix .25, smoothing .2": _set(
        "CutMix in a quarter, and twice the label smoothing",
        ("ten",),
        cutmix=0.25,
        label_smoothing=0.2,
    ),
    "cutmix, smoothing .2": _set(
        "CutMix, and twice the label smoothing", ("ten",), cutmix=0.5, label_smoothing=0.2
    ),
    "adamw": _set("AdamW", optimizer="adamw", lr=0.004, weight_decay=0.05),
    "24/64/128": _set("a wider first block", ("long",), widths=(24, 64, 128)),
    "32/64/128": _set("a first block of 32", WIDE_ENOUGH, widths=(32, 64, 128)),
    "24/64/256": _set("a wider last block", WIDE_ENOUGH, widths=(24, 64, 256)),
    "32/96/192": _set("wider", WIDE_ENOUGH, widths=(32, 96, 192)),
    "fp32": _set("float32", precision="fp32"),
    "contiguous": _set("NCHW", channels_last=False),
    "compiled": _set("torch.compile", compile=True),
}

HOOKED = {
    "lookahead": Technique("lookahead", NESTEROV, hook=optimizers.lookahead),
    "fast biases": Technique(
        "batch norm's shifts 16 times as fast", NESTEROV, hook=optimizers.fast_biases
    ),
    "sam": Technique("momentum SAM", NESTEROV, hook=optimizers.momentum_sam),
    "unfused": Technique(
        "the optimiser's operations one by one: the same arithmetic, so its gain is noise",
        NESTEROV,
        hook=optimizers.unfused,
    ),
    "random flip": Technique("flip drawn anew in each epoch", hook=augmentation.random_flip),
    "erase .5, then not": Technique(
        "erase in half of the images until 85 % of the run",
        changes={"erase": 0.5},
        hook=augmentation.erasing_until,
    ),
    "growing": Technique("20×20 pixels in 60 % of the epochs", hook=augmentation.growing),
    "mixup": Technique("mixup in half of the batches", hook=augmentation.mixup),
    "distilled": Technique(
        "taught by airnet 32/96/192, 16 epochs", WIDE_ENOUGH, hook=Distillation(BASES["wide"])
    ),
    "distilled from short": Technique(
        "taught by airnet 24/64/128, 8 epochs", ("narrow",), hook=Distillation(BASES["short"])
    ),
    "distilled from best": Technique(
        "taught by the recipe best", hook=Distillation(_recipe("best"))
    ),
    "whitening": Technique(
        "a fixed first layer that whitens 3×3 patches", AIRNET, hook=networks.whitening
    ),
    "SiLU": Technique("SiLU for GELU", AIRNET, hook=networks.silu),
    "ReLU": Technique("ReLU for GELU", AIRNET, hook=networks.relu),
    "ReLU, 22 epochs": Technique(
        "ReLU for GELU, and as many epochs as that gives",
        ("ten",),
        {"epochs": 22},
        hook=networks.relu,
    ),
    "norm momentum .4": Technique(
        "batch norm's statistics follow faster", AIRNET, hook=lambda: networks.norm_momentum(0.4)
    ),
    "mean pool": Technique("the mean over the last map", AIRNET, hook=networks.mean_pool),
    "residual": Technique(
        "a third convolution in each block, with a shortcut", AIRNET, hook=networks.residual
    ),
    "strided": Technique("a stride in place of the first pooling", AIRNET, hook=networks.strided),
}

TECHNIQUES: dict[str, Technique] = OPTIONS | HOOKED
REMOVED = {"pruning": "InfoBatch: half of the easy images left out"}
"""Techniques that were measured, and whose code is gone."""
