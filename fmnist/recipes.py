"""Named configs, and what each is for. What it reached stands in docs/results."""

from dataclasses import dataclass

from fmnist.config import TrainConfig


@dataclass(frozen=True, slots=True)
class Recipe:
    """A config with a name."""

    about: str
    config: TrainConfig


RECIPES: dict[str, Recipe] = {
    "airnet-quick": Recipe("a good classifier in a few minutes on a CPU", TrainConfig(epochs=8)),
    "airnet-long": Recipe("the same network given time: erasing needs epochs to pay", TrainConfig(epochs=30, erase=0.5)),
    "lenet-sgd": Recipe(
        "report E's network and training, at the best of its three learning rates",
        TrainConfig(
            model="lenet",
            epochs=10,
            global_batch_size=256,
            optimizer="sgd",
            lr=0.05,
            weight_decay=0.0,
            schedule="constant",
            warmup=0.0,
            label_smoothing=0.0,
            flip=False,
            shift=0,
        ),
    ),
    "resnet18": Recipe(
        "ResNet-18 with a stem for small images: for a GPU", TrainConfig(model="resnet18", epochs=20, lr=0.1, erase=0.5)
    ),
    "resnet20": Recipe(
        "ResNet-20 (272,186 parameters) with random erasing: for a GPU, or an hour's patience",
        TrainConfig(model="resnet20", epochs=40, lr=0.2, global_batch_size=256, erase=0.5),
    ),
}
