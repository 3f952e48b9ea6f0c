import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from export.variants.samples import GOLDEN_PER_CLASS, JUDGED, PER_CLASS, samples
from fmnist.config import TrainConfig
from fmnist.data.dataset import Split, load_info
from fmnist.data.sources import NOT_NAMED
from fmnist.models import build_model
from fmnist.training.checkpoint import Checkpoint
from tests.fmnist.imported import write_imported


@pytest.mark.parametrize("validation_images", [5000, 0])
def test_no_image_serves_twice(validation_images: int, checkpoint: Checkpoint) -> None:
    config = checkpoint.config.replace(validation_images=validation_images)
    checkpoint = dataclasses.replace(checkpoint, config=config)
    golden, calibration, judge = samples(checkpoint, NOT_NAMED)
    assert len(golden) == 10 * GOLDEN_PER_CLASS
    assert np.bincount(calibration.labels).tolist() == [PER_CLASS] * 10
    assert len(judge) <= JUDGED

    def pictures(split: Split) -> set[bytes]:
        return {image.tobytes() for image in split.images.tensor().numpy()}

    assert not pictures(golden) & pictures(calibration)
    fitted = pictures(golden) | pictures(calibration)
    # The set itself holds a few images twice.
    assert len(fitted & pictures(judge)) <= 1


def test_many_classes_of_two_images_each_leave_some_to_judge_by(tmp_path: Path) -> None:
    """Trained on all images: two a class are as many as the golden samples would take."""
    classes = 300
    pixels = np.random.default_rng(0).integers(0, 256, (3 * classes, 12, 12), np.uint8)
    splits = ["train"] * (2 * classes) + ["test"] * classes
    names = [f"class {number}" for number in range(classes)]
    labels = np.arange(3 * classes) % classes
    info = load_info(write_imported(tmp_path / "own", pixels, labels, splits, names))
    config = TrainConfig(widths=(4, 4, 4), validation_images=0)
    many = Checkpoint(build_model(config, info.problem), config, info, {})

    golden, calibration, judge = samples(many, NOT_NAMED)
    assert (len(golden), len(calibration)) == (150, 150)
    assert len(judge) == 300
    rows = torch.cat([split.images.rows for split in (golden, calibration, judge)])
    assert len(rows.unique()) == 600
