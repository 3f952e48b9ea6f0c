"""Fashion-MNIST as the benchmarks take it."""

from functools import cache

from fmnist.config import TrainConfig
from fmnist.data.dataset import Split, TrainingData, load_info, load_test, load_train, split_train
from fmnist.data.info import DataInfo
from fmnist.data.sources import find_data

CLASSES = 10


@cache
def info() -> DataInfo:
    return load_info(find_data())


@cache
def train_images() -> Split:
    """All official training images."""
    return load_train(find_data(), info())


@cache
def test_images() -> Split:
    return load_test(find_data(), info())


def first_images(count: int) -> TrainingData:
    """The first training images, to train on; none are held out."""
    train = train_images()
    return TrainingData(train.first(count), None, CLASSES)


def split_data(config: TrainConfig) -> tuple[TrainConfig, TrainingData]:
    """The images that `config` trains on and those it holds out, and the config with their
    number decided."""
    decided, train, validation = split_train(config, train_images())
    return decided, TrainingData(train, validation, CLASSES)
