"""Images/s of a training, measured on a few batches before an expensive start."""

from fmnist.config import TrainConfig
from fmnist.data.dataset import TrainingData
from fmnist.training.device import Rank
from fmnist.training.loop import train_epochs

MEASURE_S = 0.5
MIN_STEPS, MAX_STEPS = 3, 60
TINY_LR = 1e-6
"""So small that no network diverges while it is measured."""


def measure_speed(config: TrainConfig, data: TrainingData, rank: Rank) -> float:
    """Images/s of training `config`.

    One batch warms up, one is timed, then as many as fit in about half a second.
    """
    batch = config.global_batch_size
    # A share of the early epochs' images would be no measure of a whole epoch.
    measured = config.replace(epochs=1, early_epochs=0, lr=TINY_LR)

    def seconds(steps: int) -> float:
        images = steps * batch
        few = TrainingData(data.train.first(images), None, data.classes, data.known_statistics)
        metrics, _ = next(train_epochs(measured, few, rank))
        return images / metrics.images_per_s

    # The first step allocates memory and chooses kernels.
    seconds(1)
    one_step_s = max(seconds(1), 1e-4)
    fitting = max(len(data.train) // batch, 1)
    steps = min(max(round(MEASURE_S / one_step_s), MIN_STEPS), MAX_STEPS, fitting)
    return steps * batch / seconds(steps)
