import dataclasses

import numpy as np
import pytest

from export.variants.samples import GOLDEN_PER_CLASS, JUDGED, PER_CLASS, samples
from fmnist.data.dataset import Split
from fmnist.data.sources import NOT_NAMED
from fmnist.training.checkpoint import Checkpoint


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
