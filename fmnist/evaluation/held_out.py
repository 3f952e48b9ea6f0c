"""Images that a checkpoint was not trained on, a sample of those it was, and its logits."""

from pathlib import Path

import numpy as np
from torch import Tensor

from fmnist.data.dataset import SPLIT_SEED, Split, load_info, load_test, load_train, split_train
from fmnist.data.info import DataInfo
from fmnist.data.sources import Source, find_data
from fmnist.errors import check
from fmnist.evaluation import SplitName
from fmnist.evaluation.logits import model_logits
from fmnist.training.checkpoint import Checkpoint
from fmnist.training.device import default_device


def split_logits(checkpoint: Checkpoint, split: Split) -> Tensor:
    """Compute logits (N, classes) float32 on the default device; they are returned on the CPU.

    The checkpoint's model is left on that device.
    """
    model = checkpoint.model.to(default_device())
    return model_logits(model, split.images, len(checkpoint.data.classes))


def held_out_split(checkpoint: Checkpoint, name: SplitName, source: Source) -> Split:
    """Load the split called `name` of the data set that the checkpoint was trained on.

    Raises:
        InputError: the model was trained on that split, or the data is another set.
    """
    folder, info = checkpoint_data(checkpoint, source)
    if name == "test":
        return load_test(folder, info)

    check(
        bool(checkpoint.config.validation_images),
        "split='validation': this model was trained on all training images; use --split test",
    )
    _, _, validation = split_train(checkpoint.config, load_train(folder, info))
    assert validation is not None
    return validation


def training_sample(checkpoint: Checkpoint, count: int, source: Source) -> Split:
    """Load up to `count` of the images that the checkpoint was trained on, without augmentation.

    The sample is always the same.

    Raises:
        InputError: the data is another set.
    """
    official = load_train(*checkpoint_data(checkpoint, source))
    return sample_trained(checkpoint, official, count)


def sample_trained(checkpoint: Checkpoint, official: Split, count: int) -> Split:
    """`training_sample` of the official training set, which the checkpoint was trained on."""
    trained = trained_on(checkpoint, official)
    # The same seed every time, so that two evaluations measure the same sample.
    order = np.random.default_rng(SPLIT_SEED).permutation(len(trained))
    return trained.take(order[:count])


def trained_on(checkpoint: Checkpoint, official: Split) -> Split:
    """The images of the official training set that the checkpoint was trained on."""
    _, train, _ = split_train(checkpoint.config, official)
    return train


def checkpoint_data(checkpoint: Checkpoint, source: Source) -> tuple[Path, DataInfo]:
    """Find the data set that the checkpoint was trained on, and describe it.

    Raises:
        InputError: the data is another set.
    """
    folder = find_data(source, checkpoint.data)
    return folder, load_info(folder, checkpoint.data)
