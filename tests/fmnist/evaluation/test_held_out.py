from pathlib import Path

import pytest
import torch

from fmnist.config import TrainConfig
from fmnist.data.dataset import image_hashes, load_info, load_train, split_train
from fmnist.data.sources import Source
from fmnist.errors import InputError
from fmnist.evaluation.held_out import held_out_split, training_sample
from fmnist.models import build_model
from fmnist.training.checkpoint import Checkpoint


def checkpoint(folder: Path, validation_images: int) -> Checkpoint:
    """An untrained network, as if it had been trained on the data in `folder`."""
    config = TrainConfig(model="lenet", validation_images=validation_images)
    info = load_info(folder)
    return Checkpoint(build_model(config, info.problem), config, info, {})


def test_images_trained_on_are_refused(data_folder: Path) -> None:
    source = Source(data=str(data_folder))
    trained_on_all = checkpoint(data_folder, 0)
    with pytest.raises(InputError, match="trained on all"):
        held_out_split(trained_on_all, "validation", source)
    assert len(held_out_split(checkpoint(data_folder, 5000), "validation", source)) == 5000
    assert len(held_out_split(trained_on_all, "test", source)) == 10000


def test_another_data_set_is_refused(data_folder: Path, small_data: Path) -> None:
    with pytest.raises(InputError, match="another set"):
        held_out_split(checkpoint(data_folder, 0), "test", Source(data=str(small_data)))


def test_training_sample_is_of_the_images_trained_on(small_data: Path) -> None:
    source = Source(data=str(small_data))
    saved = checkpoint(small_data, 300)
    sample = training_sample(saved, 500, source)
    assert len(sample) == 500
    again = training_sample(saved, 500, source)
    assert torch.equal(sample.images.tensor(), again.images.tensor())

    _, train, _ = split_train(saved.config, load_train(small_data, saved.data))
    trained_on = set(image_hashes(train.images))
    assert all(digest in trained_on for digest in image_hashes(sample.images))
