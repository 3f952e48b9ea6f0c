"""Every experiment of the five course reports as a recipe.

`python -m fmnist.reproduce` runs them and writes our figure beside theirs, docs/results/reports.md.
What a report leaves unstated is chosen once, here, and stands in ASSUMED and in a recipe's
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
    "A": (
        "Batch 64, which fits MyCNN's training accuracy, and 128 for AlexNet and VGG16, for speed; "
        "SGD's momentum .9. The report does not say which optimiser its table is of."
    ),
    "B": (
        "Momentum .9; plateau after 3 epochs and stop after 8 without a better loss; dropout .5; "
        "batch, flip, pixels and crop as in its code."
    ),
    "C": "Adam at .001, batch 128, 12 epochs, dropout .25.",
    "D": "Adam, which fits its figures; pixels from 0 to 1.",
    "E": (
        "Xavier-uniform initialisation, which fits its training accuracies: that of the textbook "
        "whose way of timing it has."
    ),
}
"""What a report leaves unstated, and we chose for all its recipes."""
DIFFERENCES: dict[str, str] = {
    "a-lenet5-adam": (
        "Adam at .01, ten times its usual rate, moves by several points from epoch to epoch until "
        "the rate falls. SGD gives the report's figure, so its table is probably SGD's."
    ),
    "a-alexnet-adam": (
        "Adam at .01, ten times its usual rate: after that epoch two of three seeds are at chance, "
        "as all three of VGG16 are (a-vgg16-adam); what 19 more would do was not tried."
    ),
    "a-mycnn-sgd": (
        "two of the three seeds lie within .1 of the report's figure; the third never predicts "
        "Shirt (F1 0), as all do under Adam: with softmax twice, a class whose probability was "
        "pushed to 0 has no gradient left."
    ),
    "a-mycnn-adam": (
        "Adam at .01 and softmax twice: Shirt is never predicted (F1 0), nor in two of three seeds "
        "Pullover or Coat, since a probability that was pushed to 0 has no gradient left. "
        "SGD gives the report's figure."
    ),
    "d-2": (
        "the report gives two digits, so half a point may be rounding; Adam at .01 moves by 1 to 2 "
        "points between epochs."
    ),
    "d-6": "the report gives two digits. With 15 epochs in place of 10 it has 91.03 itself.",
    "d-7": "the report gives two digits, so half a point may be rounding.",
    "d-3": (
        "Adam at .1 hardly trains: of three seeds one never leaves 10 %, the others end at 62 and "
        "70 %. The report's figure is one such draw."
    ),
    "e-lenet-0.1": (
        "the report's test accuracy lies 6 points below its training accuracy (ours: 1.4), which "
        "so small a network does not owe to overfitting. Plain SGD at .1 moves by up to 2.6 points "
        "from one epoch to the next: its last was probably a bad one."
    ),
    "e-resnet18-0.1": (
        "trained alike (95.4 and 95.2 % on the training images), but the report's test accuracy "
        "lies 14 points below, more than overfitting gives. At .1 ours falls by up to 1.4 points "
        "from one epoch to the next: its last was probably a bad one."
    ),
}
"""Why our figure is more than a point from the report's, where it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A config with a name, and, if it comes from a report, what the report says of it."""

    about: str
    config: TrainConfig
    report: Report | None = None
    reported: dict[str, float] = field(default_factory=dict)
    """The report's figures, under the names of `fmnist.reproduce`'s rows; empty for what it
    named as future work."""
    reported_class_f1: tuple[float, ...] = ()
    assumed: str = ""
    """What we chose for this recipe alone; for all of its report: `ASSUMED`."""
    cpu_epochs: int = 0
    """On a CPU it is trained for so many epochs only, and labelled so; 0 means all."""

    def shortened(self) -> TrainConfig:
        """The config for a CPU: fewer epochs, and steps of the learning rate after the same share
        of them."""
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


Experiment = Recipe | Ensemble


def plain(**changes: Any) -> TrainConfig:
    """Config as the reports train: constant learning rate, no weight decay, augmentation or label
    smoothing."""
    defaults: dict[str, Any] = {
        "schedule": "constant",
        "warmup": 0.0,
        "weight_decay": 0.0,
        "label_smoothing": 0.0,
        "flip": False,
        "shift": 0,
    }
    return TrainConfig(**(defaults | changes))


A_VGG_ASSUMED = "Poolings that round up; the report gave no figure."


def _under_both_optimisers(
    name: str,
    about: str,
    config: TrainConfig,
    assumed: str,
    reported: dict[str, float] | None = None,
    cpu_epochs: int = 0,
) -> dict[str, Recipe]:
    """The two recipes of a network of report A: the report names SGD and Adam."""

    def recipe(optimiser: str, config: TrainConfig, cpu_epochs: int) -> Recipe:
        return Recipe(
            about=f"{about}, {optimiser}",
            config=config,
            report="A",
            reported=reported or {},
            assumed=assumed,
            cpu_epochs=cpu_epochs,
        )

    # One epoch is enough to show that Adam does not train the big networks.
    adam_epochs = min(cpu_epochs, 1)
    return {
        f"a-{name}-sgd": recipe("SGD with momentum", config, cpu_epochs),
        f"a-{name}-adam": recipe("Adam", config.replace(optimizer="adam"), adam_epochs),
    }


def _report_a() -> dict[str, Recipe]:
    small = plain(
        epochs=20,
        global_batch_size=64,
        optimizer="momentum",
        lr=0.01,
        schedule="step",
        step_epochs=10,
    )
    big = small.replace(global_batch_size=128)

    return _report_a_classics(small, big) | _report_a_mycnn(small) | _report_a_extras(small, big)


def _report_a_classics(small: TrainConfig, big: TrainConfig) -> dict[str, Recipe]:
    lenet = _under_both_optimisers(
        "lenet5",
        "LeNet-5",
        small.replace(model="lenet5"),
        "LeNet-5 as its paper has it: tanh, average pooling.",
        {"test_accuracy": 0.8939, "macro_f1": 0.8939, "macro_precision": 0.8939},
    )

    alexnet = _under_both_optimisers(
        "alexnet",
        "AlexNet at 28×28",
        big.replace(model="alexnet", init="he"),
        "Strides and poolings that bring 28×28 to 3×3; He's initialisation (the default was at "
        "chance after an epoch).",
        {
            "test_accuracy": 0.9162,
            "macro_f1": 0.9157,
            "macro_precision": 0.9159,
            "train_accuracy": 0.97,
        },
        cpu_epochs=4,
    )

    vgg = _under_both_optimisers(
        "vgg16",
        "VGG16 at 28×28, initialised after He",
        big.replace(model="vgg16", init="he"),
        A_VGG_ASSUMED,
        cpu_epochs=3,
    )

    return lenet | alexnet | vgg


def _report_a_mycnn(small: TrainConfig) -> dict[str, Recipe]:
    widths = "Widths 10, 20, 50; dropout .5."
    published = _under_both_optimisers(
        "mycnn",
        "MyCNN as published, softmax inside",
        small.replace(model="mycnn"),
        widths,
        {
            "test_accuracy": 0.8588,
            "macro_f1": 0.8527,
            "macro_precision": 0.8589,
            "train_accuracy": 0.85,
        },
    )

    # What its authors meant: PyTorch's cross-entropy has a softmax inside already.
    fixed = _under_both_optimisers(
        "mycnn-fixed",
        "MyCNN without the softmax inside",
        small.replace(model="mycnn_fixed"),
        widths,
    )

    return published | fixed


def _report_a_extras(small: TrainConfig, big: TrainConfig) -> dict[str, Recipe]:
    return {
        "a-vgg16-default-init": Recipe(
            about="VGG16 under PyTorch's default initialisation",
            config=big.replace(model="vgg16"),
            report="A",
            assumed=A_VGG_ASSUMED,
            cpu_epochs=1,
        ),
        "a-vgg16-bn": Recipe(
            about="VGG16 with batch norm, SGD with momentum",
            config=big.replace(model="vgg16_bn"),
            report="A",
            assumed=A_VGG_ASSUMED,
            cpu_epochs=3,
        ),
        "a-lenet5-moved": Recipe(
            about=(
                "future work: LeNet-5 on images turned (10°), scaled (a tenth) and moved (2 pixels)"
            ),
            config=small.replace(model="lenet5", rotate=10.0, scale=0.1, shift=2),
            report="A",
            assumed="How much is turned and moved; SGD.",
        ),
    }


B_CODE_DEFAULTS = (
    "Its code's defaults: no momentum, no crop, no erasing, the best of 50 epochs by validation "
    "accuracy. Its validation images were augmented; ours are not."
)
B_CNN_FIGURES = {"test_accuracy": 0.9275, "test_loss": 0.3281}
B_RESNET_FIGURES = {"test_accuracy": 0.9152, "test_loss": 0.3552}
B_CROP: dict[str, Any] = {"shift": 4}
B_ERASE: dict[str, Any] = {"erase": 0.5, "erase_area": 0.33, "erase_fill": "noise"}


def _report_b() -> dict[str, Recipe]:
    as_meant = plain(
        epochs=40,
        global_batch_size=256,
        optimizer="nesterov",
        lr=0.01,
        schedule="plateau",
        plateau_epochs=3,
        early_stopping=8,
        validation_images=12_000,
        normalisation="mnist",
        init="xavier",
        flip=True,
        model="twoconv",
    )

    # Early stopping after as many epochs as there are never stops, but keeps the best of them.
    as_coded = as_meant.replace(
        epochs=50,
        optimizer="sgd",
        schedule="constant",
        early_stopping=50,
        watch="accuracy",
        model="twoconv_published",
    )

    return _report_b_cnns(as_meant, as_coded) | _report_b_resnets(as_meant, as_coded)


def _report_b_cnns(as_meant: TrainConfig, as_coded: TrainConfig) -> dict[str, Recipe]:
    def recipe(about: str, config: TrainConfig, **more: Any) -> Recipe:
        return Recipe(
            about=f"two-conv network{about}", config=config, report="B", cpu_epochs=8, **more
        )

    return {
        "b-cnn": recipe(
            " as the report says: crop and erasing",
            as_meant.replace(**B_CROP, **B_ERASE),
            reported=B_CNN_FIGURES,
        ),
        "b-cnn-published": recipe(
            " as its code does", as_coded, reported=B_CNN_FIGURES, assumed=B_CODE_DEFAULTS
        ),
        "b-cnn-crop": recipe(", crop alone", as_meant.replace(**B_CROP)),
        "b-cnn-erase": recipe(", erasing alone", as_meant.replace(**B_ERASE)),
        "b-cnn-plain": recipe(", neither crop nor erasing", as_meant),
        "b-cnn-default-init": recipe(
            ", neither, PyTorch's default initialisation", as_meant.replace(init="pytorch")
        ),
    }


def _report_b_resnets(as_meant: TrainConfig, as_coded: TrainConfig) -> dict[str, Recipe]:
    from_scratch = as_meant.replace(model="resnet18_imagenet", init="pytorch", **B_CROP, **B_ERASE)
    nothing_left = (
        "So nothing of ImageNet is left but batch norm's biases and statistics, which are left out "
        "here."
    )
    return {
        "b-resnet18-published": Recipe(
            about="ResNet-18 as its code does: Xavier overwrites the ImageNet weights",
            config=as_coded.replace(model="resnet18_imagenet"),
            report="B",
            reported=B_RESNET_FIGURES,
            assumed=f"{B_CODE_DEFAULTS} {nothing_left}",
            cpu_epochs=6,
        ),
        "b-resnet18": Recipe(
            about="ResNet-18 as the report says: from ImageNet weights, crop and erasing",
            config=from_scratch.replace(weights="imagenet"),
            report="B",
            reported=B_RESNET_FIGURES,
            cpu_epochs=6,
        ),
        "b-resnet18-scratch": Recipe(
            about="the same from scratch: where the weights cannot be had",
            config=from_scratch,
            report="B",
            cpu_epochs=6,
        ),
    }


def _report_c() -> dict[str, Recipe]:
    config = plain(
        model="vgg_like",
        epochs=12,
        global_batch_size=128,
        optimizer="adam",
        lr=0.001,
        normalisation="unit",
    )

    return {
        "c-vgg": Recipe(
            about="the report's network",
            config=config,
            report="C",
            reported={"test_accuracy": 0.9304, "test_loss": 0.2591, "train_accuracy": 0.9684},
            cpu_epochs=4,
        ),
        "c-vgg-dropout": Recipe(
            about="future work: more dropout, .4",
            config=config.replace(dropout=0.4),
            report="C",
            cpu_epochs=4,
        ),
        "c-vgg-weighted": Recipe(
            about="future work: weighted padding",
            config=config.replace(model="vgg_like_weighted"),
            report="C",
            cpu_epochs=4,
        ),
    }


@dataclass(frozen=True, slots=True)
class Group:
    """One of report D's groups: what differs from group 1, and the report's figures."""

    changes: dict[str, Any]
    test_accuracy: float
    macro_f1: float
    macro_precision: float
    train_s: float
    class_f1: tuple[float, ...]

    @property
    def about(self) -> str:
        """The changes in words."""
        words: list[str] = []
        for name, value in self.changes.items():
            words.append(f"{name.replace('_', ' ')} {value:g}")

        return ", ".join(words) or "control"


GROUPS: dict[str, Group] = {
    "1": Group(
        {},
        0.91,
        0.90,
        0.91,
        71.3,
        (0.84, 0.99, 0.86, 0.92, 0.85, 0.97, 0.71, 0.96, 0.97, 0.96),
    ),
    "2": Group(
        {"lr": 0.01},
        0.87,
        0.87,
        0.87,
        73.0,
        (0.83, 0.97, 0.76, 0.87, 0.78, 0.96, 0.63, 0.95, 0.96, 0.96),
    ),
    "3": Group(
        {"lr": 0.1},
        0.67,
        0.65,
        0.67,
        75.2,
        (0.69, 0.76, 0.60, 0.59, 0.58, 0.68, 0.14, 0.75, 0.85, 0.85),
    ),
    "4": Group(
        {"weight_decay": 1e-3},
        0.90,
        0.90,
        0.90,
        73.9,
        (0.84, 0.98, 0.81, 0.91, 0.83, 0.98, 0.72, 0.96, 0.97, 0.97),
    ),
    "5": Group(
        {"weight_decay": 1e-2},
        0.85,
        0.85,
        0.86,
        80.5,
        (0.80, 0.97, 0.72, 0.87, 0.76, 0.95, 0.62, 0.92, 0.96, 0.94),
    ),
    "6": Group(
        {"global_batch_size": 64},
        0.90,
        0.90,
        0.90,
        98.9,
        (0.85, 0.99, 0.82, 0.91, 0.82, 0.98, 0.72, 0.97, 0.98, 0.97),
    ),
    "7": Group(
        {"global_batch_size": 256},
        0.90,
        0.90,
        0.91,
        69.4,
        (0.85, 0.99, 0.85, 0.91, 0.85, 0.97, 0.70, 0.95, 0.97, 0.96),
    ),
    "8": Group(
        {"epochs": 5},
        0.90,
        0.90,
        0.90,
        39.0,
        (0.85, 0.98, 0.84, 0.90, 0.83, 0.98, 0.73, 0.95, 0.98, 0.97),
    ),
    "9": Group(
        {"epochs": 15},
        0.91,
        0.90,
        0.91,
        117.2,
        (0.84, 0.98, 0.86, 0.91, 0.85, 0.98, 0.70, 0.97, 0.98, 0.97),
    ),
}
"""Report D's groups by their number."""


def _report_d() -> dict[str, Recipe]:
    control = plain(
        model="threeconv",
        epochs=10,
        global_batch_size=128,
        optimizer="adam",
        lr=0.001,
        weight_decay=1e-4,
        normalisation="unit",
    )

    return _report_d_groups(control) | _report_d_extras(control)


def _report_d_groups(control: TrainConfig) -> dict[str, Recipe]:
    recipes: dict[str, Recipe] = {}
    for number, group in GROUPS.items():
        recipes[f"d-{number}"] = Recipe(
            about=f"group {number}: {group.about}",
            config=control.replace(**group.changes),
            report="D",
            reported={
                "test_accuracy": group.test_accuracy,
                "macro_f1": group.macro_f1,
                "macro_precision": group.macro_precision,
                "train_s": group.train_s,
            },
            reported_class_f1=group.class_f1,
        )

    return recipes


def _report_d_extras(control: TrainConfig) -> dict[str, Recipe]:
    recipes: dict[str, Recipe] = {}
    final = control.replace(epochs=15, global_batch_size=64)
    recipes["d-final"] = Recipe(
        about="final: 15 epochs, batch 64",
        config=final,
        report="D",
        reported={"test_accuracy": 0.9103},
    )

    recipes["d-augmented"] = Recipe(
        about="future work: augmentation (flip and shift by up to 2)",
        config=final.replace(flip=True, shift=2),
        report="D",
        assumed="Which kinds.",
    )

    recipes["d-inception"] = Recipe(
        about="future work: Inception blocks",
        config=control.replace(model="inception"),
        report="D",
        assumed="The network, of 427,786 parameters.",
        cpu_epochs=3,
    )

    return recipes


RATES: dict[str, dict[float, tuple[float, float, float]]] = {
    "lenet": {
        0.1: (0.894, 0.835, 50_245),
        0.05: (0.882, 0.866, 48_436),
        0.01: (0.830, 0.821, 46_412),
    },
    "resnet18": {
        0.1: (0.954, 0.812, 19_705),
        0.05: (0.962, 0.892, 19_990),
        0.01: (0.970, 0.876, 20_480),
    },
    "resnet34": {
        0.1: (0.942, 0.840, 11_838),
        0.05: (0.949, 0.884, 12_002),
        0.01: (0.954, 0.873, 11_866),
    },
}
"""Report E's networks and learning rates: training accuracy, test accuracy, images/s."""


def _report_e() -> dict[str, Recipe]:
    networks = {
        "lenet": ("LeNet", "lenet"),
        "resnet18": ("ResNet-18", "resnet18_imagenet"),
        "resnet34": ("ResNet-34", "resnet34_imagenet"),
    }
    stem = (
        "The stem is ImageNet's (7×7, stride 2, pooling), on three gray channels: with a 3×3 stem "
        "the images/s would be beyond the report's GPU."
    )

    recipes: dict[str, Recipe] = {}
    for name, rates in RATES.items():
        title, model = networks[name]
        # LeNet has no stem, and ResNet-34 alone takes too long for a CPU.
        assumed = "" if name == "lenet" else stem
        cpu_epochs = 4 if name == "resnet34" else 0

        for lr, (train, test, speed) in rates.items():
            config = plain(
                model=model,
                epochs=10,
                global_batch_size=256,
                optimizer="sgd",
                lr=lr,
                init="xavier",
            )
            recipes[f"e-{name}-{lr:g}"] = Recipe(
                about=f"{title}, plain SGD at {lr:g}",
                config=config,
                report="E",
                reported={"test_accuracy": test, "train_accuracy": train, "images_per_s": speed},
                assumed=assumed,
                cpu_epochs=cpu_epochs,
            )

    return recipes


REPORT_RECIPES: dict[str, Recipe] = {
    **_report_a(),
    **_report_b(),
    **_report_c(),
    **_report_d(),
    **_report_e(),
}
"""Every experiment that trains a network, by its name."""


def _ensembles(
    name: str, about: str, members: tuple[str, ...], report: Report
) -> dict[str, Ensemble]:
    """The same members, combined in each way."""
    return {
        f"{name}-average": Ensemble(
            about=f"future work: {about}, by averaging",
            members=members,
            combine="average",
            report=report,
        ),
        f"{name}-vote": Ensemble(
            about=f"future work: {about}, by voting",
            members=members,
            combine="vote",
            report=report,
        ),
    }


ENSEMBLES: dict[str, Ensemble] = {
    **_ensembles("d-ensemble", "groups 1, 6, 7 and 9 together", ("d-1", "d-6", "d-7", "d-9"), "D"),
    **_ensembles(
        "e-ensemble",
        "LeNet, ResNet-18 and ResNet-34 together",
        ("e-lenet-0.05", "e-resnet18-0.05", "e-resnet34-0.05"),
        "E",
    ),
}
"""Every experiment that combines trained networks, by its name."""
EXPERIMENTS: dict[str, Experiment] = REPORT_RECIPES | ENSEMBLES
"""Every experiment of the reports, in the order of the table."""
