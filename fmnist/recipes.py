"""Named configs, and what each is for: our own, and every experiment of the five course reports.

`python -m fmnist.train --recipe NAME` trains one; `python -m fmnist.reproduce` runs the reports' and writes our figure beside
theirs, docs/results/reports.md. What a report leaves unstated is chosen once, here, and stands in ASSUMED and in a recipe's
`assumed`.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from fmnist.config import TrainConfig

Report = Literal["A", "B", "C", "D", "E"]
TITLES: dict[Report, str] = {
    "A": "LeNet-5, AlexNet, VGG16 and MyCNN (2023)",
    "B": "A two-conv network and ResNet-18 (2022)",
    "C": "A network in VGG's manner (2021)",
    "D": "Three convolutions, and one factor at a time (2023)",
    "E": "LeNet against ResNets across learning rates (2024)",
}


ASSUMED: dict[Report, str] = {
    "A": "Batch 64, which fits MyCNN's training accuracy, and 128 for AlexNet and VGG16, for speed; SGD's momentum .9. The report "
    "does not say which optimiser its table is of.",
    "B": "Momentum .9; plateau after 3 epochs and stop after 8 without a better loss; dropout .5; batch, flip, pixels and crop as "
    "in its code.",
    "C": "Adam at .001, batch 128, 12 epochs, dropout .25.",
    "D": "Adam, which fits its figures; pixels from 0 to 1.",
    "E": "Xavier-uniform initialisation, which fits its training accuracies: that of the textbook whose way of timing it has.",
}
"""What a report leaves unstated, and we chose for all its recipes."""
DIFFERENCES: dict[str, str] = {
    "a-lenet5-adam": "Adam at .01, ten times its usual rate, moves by several points from epoch to epoch until the rate falls. SGD "
    "gives the report's figure, so its table is probably SGD's.",
    "a-alexnet-adam": "Adam at .01, ten times its usual rate: after that epoch two of three seeds are at chance, as all three of "
    "VGG16 are (a-vgg16-adam); what 19 more would do was not tried.",
    "a-mycnn-sgd": "two of the three seeds lie within .1 of the report's figure; the third never predicts Shirt (F1 0), as all do "
    "under Adam: with softmax twice, a class whose probability was pushed to 0 has no gradient left.",
    "a-mycnn-adam": "Adam at .01 and softmax twice: Shirt is never predicted (F1 0), nor in two of three seeds Pullover or Coat, "
    "since a probability that was pushed to 0 has no gradient left. SGD gives the report's figure.",
    "d-2": "the report gives two digits, so half a point may be rounding; Adam at .01 moves by 1 to 2 points between epochs.",
    "d-6": "the report gives two digits. With 15 epochs in place of 10 it has 91.03 itself.",
    "d-7": "the report gives two digits, so half a point may be rounding.",
    "d-3": "Adam at .1 hardly trains: of three seeds one never leaves 10 %, the others end at 62 and 70 %. The report's "
    "figure is one such draw.",
    "e-lenet-0.1": "the report's test accuracy lies 6 points below its training accuracy (ours: 1.4), which so small a network "
    "does not owe to overfitting. Plain SGD at .1 moves by up to 2.6 points from one epoch to the next: its last was probably a "
    "bad one.",
    "e-resnet18-0.1": "trained alike (95.4 and 95.2 % on the training images), but the report's test accuracy lies 14 points "
    "below, more than overfitting gives. At .1 ours falls by up to 1.4 points from one epoch to the next: its last was probably "
    "a bad one.",
}
"""Why our figure is more than a point from the report's, where it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A config with a name, and, if it comes from a report, what the report says of it."""

    about: str
    config: TrainConfig
    report: Report | None = None
    reported: dict[str, float] = field(default_factory=dict)
    """The report's figures, under the names of `fmnist.reproduce`'s rows; empty for what it named as future work."""
    reported_class_f1: tuple[float, ...] = ()
    assumed: str = ""
    """What we chose for this recipe alone; for all of its report: `ASSUMED`."""
    cpu_epochs: int = 0
    """On a CPU it is trained for so many epochs only, and labelled so; 0 means all."""

    def shortened(self) -> TrainConfig:
        """The config for a CPU: fewer epochs, and as many of them before each step of the learning rate as its share is."""
        if not self.cpu_epochs:
            return self.config
        step = max(round(self.config.step_epochs * self.cpu_epochs / self.config.epochs), 1)
        return self.config.replace(epochs=self.cpu_epochs, step_epochs=step)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensemble:
    """Recipes whose predictions are combined; nothing more is trained."""

    about: str
    members: tuple[str, ...]
    combine: Literal["average", "vote"]
    report: Report


def plain(**changes: Any) -> TrainConfig:
    """A config as the reports train: a constant learning rate, no weight decay, no augmentation, no label smoothing."""
    defaults: dict[str, Any] = {
        "schedule": "constant",
        "warmup": 0.0,
        "weight_decay": 0.0,
        "label_smoothing": 0.0,
        "flip": False,
        "shift": 0,
    }
    return TrainConfig(**(defaults | changes))


def muon(**changes: Any) -> TrainConfig:
    """A config as the fastest of ours train on a CPU; what each part of it gains: docs/results/ablation.md."""
    defaults: dict[str, Any] = {"optimizer": "muon", "lr": 0.012, "weight_decay": 0.1, "validation_images": 0}
    return TrainConfig(**(defaults | changes))


OURS: dict[str, Recipe] = {
    "airnet-quick": Recipe(about="a good classifier in a few minutes on a CPU", config=TrainConfig(epochs=8)),
    "airnet-long": Recipe(
        about="the same network given time: erasing needs epochs to pay", config=TrainConfig(epochs=30, erase=0.5)
    ),
    "resnet18": Recipe(
        about="ResNet-18 with a stem for small images: for a GPU",
        config=TrainConfig(model="resnet18", epochs=20, lr=0.1, erase=0.5),
    ),
    "resnet20": Recipe(
        about="ResNet-20 (272,186 parameters) with random erasing: for a GPU, or an hour's patience",
        config=TrainConfig(model="resnet20", epochs=40, lr=0.2, global_batch_size=256, erase=0.5),
    ),
    "cpu-93": Recipe(
        about="past the best report (93.04 %) in about two minutes on two CPU threads with bf16; trained on all images",
        config=muon(widths=(16, 64, 128), shift=1, epochs=8),
    ),
    "cpu-10min": Recipe(
        about="the best of about ten minutes on two CPU threads with bf16; trained on all images",
        config=muon(widths=(32, 96, 192), shift=1, erase=0.25, cutmix=0.25, label_smoothing=0.2, epochs=19),
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
        config=TrainConfig(model="resnet20", epochs=200, lr=0.2, global_batch_size=256, erase=0.5, ema=0.998, compile=True),
    ),
    "best": Recipe(
        about="meant for the best single model in four minutes of a large GPU; not measured on one yet",
        config=TrainConfig(model="wideresnet28", epochs=40, lr=0.1, global_batch_size=256, erase=0.5, ema=0.998, compile=True),
    ),
}


def _report_a() -> dict[str, Recipe]:
    config = plain(epochs=20, global_batch_size=64, optimizer="momentum", lr=0.01, schedule="step", step_epochs=10)
    adam = {"optimizer": "adam"}
    big: dict[str, Any] = {"global_batch_size": 128}
    rows: dict[str, tuple[str, dict[str, float], dict[str, Any], int]] = {
        "lenet5": ("LeNet-5", {"test_accuracy": 0.8939, "macro_f1": 0.8939, "macro_precision": 0.8939}, {"model": "lenet5"}, 0),
        "alexnet": (
            "AlexNet at 28×28", {"test_accuracy": 0.9162, "macro_f1": 0.9157, "macro_precision": 0.9159, "train_accuracy": 0.97},
            {"model": "alexnet", "init": "he", **big}, 4,
        ),
        "vgg16": ("VGG16 at 28×28, initialised after He", {}, {"model": "vgg16", "init": "he", **big}, 3),
        "mycnn": (
            "MyCNN as published, softmax inside",
            {"test_accuracy": 0.8588, "macro_f1": 0.8527, "macro_precision": 0.8589, "train_accuracy": 0.85},
            {"model": "mycnn"}, 0,
        ),
        "mycnn-fixed": ("MyCNN without the softmax inside", {}, {"model": "mycnn_fixed"}, 0),
    }  # fmt: skip
    assumed = {
        "lenet5": "LeNet-5 as its paper has it: tanh, average pooling.",
        "alexnet": "Strides and poolings that bring 28×28 to 3×3; He's initialisation (the default was at chance after an epoch).",
        "vgg16": "Poolings that round up; the report gave no figure.",
        "mycnn": "Widths 10, 20, 50; dropout .5.",
        "mycnn-fixed": "Widths 10, 20, 50; dropout .5.",
    }
    recipes: dict[str, Recipe] = {}
    for name, (about, reported, changes, cpu_epochs) in rows.items():
        for way, more in (("sgd", {}), ("adam", adam)):
            recipes[f"a-{name}-{way}"] = Recipe(
                about=f"{about}, {'Adam' if way == 'adam' else 'SGD with momentum'}",
                config=config.replace(**changes, **more),
                report="A",
                reported=reported,
                assumed=assumed[name],
                cpu_epochs=min(cpu_epochs, 1) if way == "adam" else cpu_epochs,
            )
    vgg: dict[str, Any] = {"report": "A", "assumed": assumed["vgg16"]}
    recipes["a-vgg16-default-init"] = Recipe(
        about="VGG16 under PyTorch's default initialisation", config=config.replace(model="vgg16", **big), cpu_epochs=1,
        **vgg,
    )  # fmt: skip
    recipes["a-vgg16-bn"] = Recipe(
        about="VGG16 with batch norm, SGD with momentum", config=config.replace(model="vgg16_bn", **big), cpu_epochs=3, **vgg
    )
    recipes["a-lenet5-moved"] = Recipe(
        about="future work: LeNet-5 on images turned (10°), scaled (a tenth) and moved (2 pixels)",
        config=config.replace(model="lenet5", rotate=10.0, scale=0.1, shift=2),
        report="A",
        assumed="How much is turned and moved; SGD.",
    )  # fmt: skip
    return recipes


def _report_b() -> dict[str, Recipe]:
    meant = plain(
        epochs=40, global_batch_size=256, optimizer="nesterov", lr=0.01, schedule="plateau", plateau_epochs=3, early_stopping=8,
        validation_images=12_000, normalisation="mnist", init="xavier", flip=True, model="twoconv",
    )  # fmt: skip
    crop: dict[str, Any] = {"shift": 4}
    erase: dict[str, Any] = {"erase": 0.5, "erase_area": 0.33, "erase_fill": "noise"}
    code = meant.replace(
        epochs=50, optimizer="sgd", schedule="constant", early_stopping=50, watch="accuracy", model="twoconv_published"
    )
    as_code = (
        "Its code's defaults: no momentum, no crop, no erasing, the best of 50 epochs by validation accuracy. Its validation "
        "images were augmented; ours are not."
    )
    cnn = {"test_accuracy": 0.9275, "test_loss": 0.3281}
    resnet = {"test_accuracy": 0.9152, "test_loss": 0.3552}

    def recipe(about: str, config: TrainConfig, assumed: str, cpu_epochs: int, reported: dict[str, float] | None = None) -> Recipe:
        return Recipe(about=about, config=config, report="B", reported=reported or {}, assumed=assumed, cpu_epochs=cpu_epochs)

    return {
        "b-cnn": recipe("two-conv network as the report says: crop and erasing", meant.replace(**crop, **erase), "", 8, cnn),
        "b-cnn-published": recipe("two-conv network as its code does", code, as_code, 8, cnn),
        "b-cnn-crop": recipe("two-conv network, crop alone", meant.replace(**crop), "", 8),
        "b-cnn-erase": recipe("two-conv network, erasing alone", meant.replace(**erase), "", 8),
        "b-cnn-plain": recipe("two-conv network, neither crop nor erasing", meant, "", 8),
        "b-cnn-default-init": recipe(
            "two-conv network, neither, PyTorch's default initialisation", meant.replace(init="pytorch"), "", 8
        ),
        "b-resnet18-published": recipe(
            "ResNet-18 as its code does: Xavier overwrites the ImageNet weights", code.replace(model="resnet18_imagenet"),
            f"{as_code} So nothing of ImageNet is left but batch norm's biases and statistics, which are left out here.", 6, resnet,
        ),
        "b-resnet18": recipe(
            "ResNet-18 as the report says: from ImageNet weights, crop and erasing",
            meant.replace(model="resnet18_imagenet", init="pytorch", weights="imagenet", **crop, **erase), "", 6, resnet,
        ),
        "b-resnet18-scratch": recipe(
            "the same from scratch: where the weights cannot be had",
            meant.replace(model="resnet18_imagenet", init="pytorch", **crop, **erase), "", 6,
        ),
    }  # fmt: skip


def _report_c() -> dict[str, Recipe]:
    config = plain(model="vgg_like", epochs=12, global_batch_size=128, optimizer="adam", lr=0.001, normalisation="unit")
    reported = {"test_accuracy": 0.9304, "test_loss": 0.2591, "train_accuracy": 0.9684}

    def recipe(about: str, reported: dict[str, float], **changes: Any) -> Recipe:
        return Recipe(about=about, config=config.replace(**changes), report="C", reported=reported, cpu_epochs=4)

    return {
        "c-vgg": recipe("the report's network", reported),
        "c-vgg-dropout": recipe("future work: more dropout, .4", {}, dropout=0.4),
        "c-vgg-weighted": recipe("future work: weighted padding", {}, model="vgg_like_weighted"),
    }


GROUPS: dict[str, tuple[dict[str, Any], tuple[float, float, float, float], tuple[float, ...]]] = {
    "1": ({}, (0.91, 0.90, 0.91, 71.3), (0.84, 0.99, 0.86, 0.92, 0.85, 0.97, 0.71, 0.96, 0.97, 0.96)),
    "2": ({"lr": 0.01}, (0.87, 0.87, 0.87, 73.0), (0.83, 0.97, 0.76, 0.87, 0.78, 0.96, 0.63, 0.95, 0.96, 0.96)),
    "3": ({"lr": 0.1}, (0.67, 0.65, 0.67, 75.2), (0.69, 0.76, 0.60, 0.59, 0.58, 0.68, 0.14, 0.75, 0.85, 0.85)),
    "4": ({"weight_decay": 1e-3}, (0.90, 0.90, 0.90, 73.9), (0.84, 0.98, 0.81, 0.91, 0.83, 0.98, 0.72, 0.96, 0.97, 0.97)),
    "5": ({"weight_decay": 1e-2}, (0.85, 0.85, 0.86, 80.5), (0.80, 0.97, 0.72, 0.87, 0.76, 0.95, 0.62, 0.92, 0.96, 0.94)),
    "6": ({"global_batch_size": 64}, (0.90, 0.90, 0.90, 98.9), (0.85, 0.99, 0.82, 0.91, 0.82, 0.98, 0.72, 0.97, 0.98, 0.97)),
    "7": ({"global_batch_size": 256}, (0.90, 0.90, 0.91, 69.4), (0.85, 0.99, 0.85, 0.91, 0.85, 0.97, 0.70, 0.95, 0.97, 0.96)),
    "8": ({"epochs": 5}, (0.90, 0.90, 0.90, 39.0), (0.85, 0.98, 0.84, 0.90, 0.83, 0.98, 0.73, 0.95, 0.98, 0.97)),
    "9": ({"epochs": 15}, (0.91, 0.90, 0.91, 117.2), (0.84, 0.98, 0.86, 0.91, 0.85, 0.98, 0.70, 0.97, 0.98, 0.97)),
}
"""Report D's groups: what differs from group 1; accuracy, macro F1, macro precision, seconds; F1 of each class."""


def _report_d() -> dict[str, Recipe]:
    config = plain(
        model="threeconv", epochs=10, global_batch_size=128, optimizer="adam", lr=0.001, weight_decay=1e-4, normalisation="unit"
    )
    recipes: dict[str, Recipe] = {}
    for group, (changes, (accuracy, f1, precision, seconds), class_f1) in GROUPS.items():
        shown = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in changes.items()) or "control"
        recipes[f"d-{group}"] = Recipe(
            about=f"group {group}: {shown}",
            config=config.replace(**changes),
            report="D",
            reported={"test_accuracy": accuracy, "macro_f1": f1, "macro_precision": precision, "train_s": seconds},
            reported_class_f1=class_f1,
        )
    final = config.replace(epochs=15, global_batch_size=64)
    recipes["d-final"] = Recipe(about="final: 15 epochs, batch 64", config=final, report="D", reported={"test_accuracy": 0.9103})
    recipes["d-augmented"] = Recipe(
        about="future work: augmentation (flip and shift by up to 2)", config=final.replace(flip=True, shift=2), report="D",
        assumed="Which kinds.",
    )  # fmt: skip
    recipes["d-inception"] = Recipe(
        about="future work: Inception blocks", config=config.replace(model="inception"), report="D", cpu_epochs=3,
        assumed="The network, of 427,786 parameters.",
    )  # fmt: skip
    return recipes


RATES: dict[str, dict[float, tuple[float, float, float]]] = {
    "lenet": {0.1: (0.894, 0.835, 50_245), 0.05: (0.882, 0.866, 48_436), 0.01: (0.830, 0.821, 46_412)},
    "resnet18": {0.1: (0.954, 0.812, 19_705), 0.05: (0.962, 0.892, 19_990), 0.01: (0.970, 0.876, 20_480)},
    "resnet34": {0.1: (0.942, 0.840, 11_838), 0.05: (0.949, 0.884, 12_002), 0.01: (0.954, 0.873, 11_866)},
}
"""Report E's networks and learning rates: training accuracy, test accuracy, images/s."""


def _report_e() -> dict[str, Recipe]:
    names = {"lenet": "LeNet", "resnet18": "ResNet-18", "resnet34": "ResNet-34"}
    stem = (
        "The stem is ImageNet's (7×7, stride 2, pooling), on three gray channels: with a 3×3 stem the images/s would be beyond "
        "the report's GPU."
    )
    recipes: dict[str, Recipe] = {}
    for model, rates in RATES.items():
        for lr, (train, test, speed) in rates.items():
            network = model if model == "lenet" else f"{model}_imagenet"
            recipes[f"e-{model}-{lr:g}"] = Recipe(
                about=f"{names[model]}, plain SGD at {lr:g}",
                config=plain(model=network, epochs=10, global_batch_size=256, optimizer="sgd", lr=lr, init="xavier"),
                report="E",
                reported={"test_accuracy": test, "train_accuracy": train, "images_per_s": speed},
                assumed="" if model == "lenet" else stem,
                cpu_epochs=4 if model == "resnet34" else 0,
            )
    return recipes


RECIPES: dict[str, Recipe] = {
    **OURS,
    **_report_a(),
    **_report_b(),
    **_report_c(),
    **_report_d(),
    **_report_e(),
}

COMBINED: tuple[tuple[str, str, tuple[str, ...], Report], ...] = (
    ("d-ensemble", "groups 1, 6, 7 and 9 together", ("d-1", "d-6", "d-7", "d-9"), "D"),
    ("e-ensemble", "LeNet, ResNet-18 and ResNet-34 together", ("e-lenet-0.05", "e-resnet18-0.05", "e-resnet34-0.05"), "E"),
)
WAYS: dict[Literal["average", "vote"], str] = {"average": "averaging", "vote": "voting"}

ENSEMBLES: dict[str, Ensemble] = {
    f"{name}-{combine}": Ensemble(about=f"future work: {about}, by {way}", members=members, combine=combine, report=report)
    for name, about, members, report in COMBINED
    for combine, way in WAYS.items()
}
