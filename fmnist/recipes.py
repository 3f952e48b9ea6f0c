"""Named configs, and what each is for: our own, and those of the course reports."""

from typing import Any

from fmnist.config import TrainConfig
from fmnist.errors import one_of
from fmnist.reports.recipes import REPORT_RECIPES, Recipe


def muon(**changes: Any) -> TrainConfig:
    """Config as the fastest of ours train on a CPU; docs/results/ablation.md has what each part
    gains."""
    defaults: dict[str, Any] = {
        "optimizer": "muon",
        "lr": 0.012,
        "weight_decay": 0.1,
        "validation_images": 0,
    }
    return TrainConfig(**(defaults | changes))


OURS: dict[str, Recipe] = {
    "airnet-quick": Recipe(
        about="a good classifier in a few minutes on a CPU", config=TrainConfig(epochs=8)
    ),
    "airnet-long": Recipe(
        about="the same network given time: erasing needs epochs to pay",
        config=TrainConfig(epochs=30, erase=0.5),
    ),
    "resnet18": Recipe(
        about="ResNet-18 with a stem for small images: for a GPU",
        config=TrainConfig(model="resnet18", epochs=20, lr=0.1, erase=0.5),
    ),
    "resnet20": Recipe(
        about=(
            "ResNet-20 (272,186 parameters) with random erasing: for a GPU, or an hour on a CPU"
        ),
        config=TrainConfig(model="resnet20", epochs=40, lr=0.2, global_batch_size=256, erase=0.5),
    ),
    "cpu-93": Recipe(
        about=(
            "past the best report (93.04 %) in about two minutes on two CPU threads with bf16; "
            "trained on all images"
        ),
        config=muon(widths=(16, 64, 128), shift=1, epochs=8),
    ),
    "cpu-10min": Recipe(
        about="the best of about ten minutes on two CPU threads with bf16; trained on all images",
        config=muon(
            widths=(32, 96, 192), shift=1, erase=0.25, cutmix=0.25, label_smoothing=0.2, epochs=19
        ),
    ),
    "gpu-94": Recipe(
        about="meant for 94 % in the fewest seconds on a GPU; not measured on one yet",
        config=muon(widths=(32, 96, 192), shift=1, epochs=10, compile=True),
    ),
    "gpu-95": Recipe(
        about="meant for 95 % in the fewest seconds on a GPU; not measured on one yet",
        config=muon(widths=(48, 128, 256), shift=1, erase=0.25, epochs=20, compile=True),
    ),
    "small": Recipe(
        about="meant for the best of at most 300,000 parameters, on a GPU; not measured on one yet",
        config=TrainConfig(
            model="resnet20",
            epochs=200,
            lr=0.2,
            global_batch_size=256,
            erase=0.5,
            ema=0.998,
            compile=True,
        ),
    ),
    "best": Recipe(
        about=(
            "meant for the best single model in four minutes of a large GPU; "
            "not measured on one yet"
        ),
        config=TrainConfig(
            model="wideresnet28",
            epochs=40,
            lr=0.1,
            global_batch_size=256,
            erase=0.5,
            ema=0.998,
            compile=True,
        ),
    ),
}

RECIPES: dict[str, Recipe] = OURS | REPORT_RECIPES
"""Every recipe by its name."""


def recipe_config(name: str) -> TrainConfig:
    """The config of the recipe `name`. Raises InputError on an unknown name."""
    one_of("--recipe", name, RECIPES)
    return RECIPES[name].config
