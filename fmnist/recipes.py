"""Named configs. Each says what it is for; what it reached stands in docs/results."""

from fmnist.config import TrainConfig

RECIPES: dict[str, TrainConfig] = {
    # A good classifier in a few minutes on a CPU.
    "airnet-quick": TrainConfig(epochs=8),
    # The same network given time: erasing needs epochs to pay.
    "airnet-long": TrainConfig(epochs=30, erase=0.5),
    # Report E's network and training, at the best of its three learning rates.
    "lenet-sgd": TrainConfig(
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
    # ResNet-18 with a 28×28 stem: for a GPU.
    "resnet18": TrainConfig(model="resnet18", epochs=20, lr=0.1, erase=0.5),
}
