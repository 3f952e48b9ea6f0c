"""The moving average of the weights."""

from torch import Tensor, nn
from torch.optim.swa_utils import PARAM_LIST, AveragedModel, get_ema_multi_avg_fn

from fmnist.config import TrainConfig


def decay_at(ema: float, updates: int) -> float:
    """Decay of the moving average after that many updates.

    It starts short, so that the average forgets the initial weights however short the run: as
    TensorFlow's ExponentialMovingAverage with num_updates.
    """
    return min(ema, (1 + updates) / (10 + updates))


def build_average(config: TrainConfig, model: nn.Module) -> AveragedModel | None:
    """The exponential moving average of weights and batch norm's statistics.

    Returns:
        None if the config asks for none.
    """
    if not config.ema:
        return None
    average = AveragedModel(model, use_buffers=True)

    def update(averaged: PARAM_LIST, current: PARAM_LIST, _: Tensor | int) -> None:
        # `n_averaged` is on the CPU, unlike the number that is passed: no waiting for a GPU.
        updates = int(average.n_averaged)
        update_with_decay = get_ema_multi_avg_fn(decay_at(config.ema, updates))
        update_with_decay(averaged, current, updates)

    average.multi_avg_fn = update
    return average
