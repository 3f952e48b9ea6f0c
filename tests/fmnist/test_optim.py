import math

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR

from fmnist.config import TrainConfig
from fmnist.data import Split
from fmnist.models import build_model
from fmnist.optim import OPTIMIZERS, build_optimizer, lr_at


def pytorch_curve(scheduler_type: type, **arguments: float) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.4)
    scheduler = scheduler_type(optimizer, **arguments)
    curve: list[float] = []
    for _ in range(50):
        curve.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return curve


def our_curve(**changes: object) -> list[float]:
    config = TrainConfig(lr=0.4).replace(**changes)
    return [lr_at(config, step, 50) for step in range(50)]


def test_cosine_is_pytorchs() -> None:
    assert our_curve(schedule="cosine", warmup=0.0) == pytest.approx(pytorch_curve(CosineAnnealingLR, T_max=50))


def test_onecycle_falls_in_a_straight_line() -> None:
    expected = pytorch_curve(LinearLR, start_factor=1.0, end_factor=1e-12, total_iters=50)
    assert our_curve(schedule="onecycle", warmup=0.0) == pytest.approx(expected, abs=1e-9)


def test_warmup_rises_to_the_peak_and_never_steps_at_zero() -> None:
    curve = our_curve(schedule="constant", warmup=0.2)
    assert curve[:10] == sorted(curve[:10])
    assert curve[0] == pytest.approx(0.4 / 11)
    assert curve[10:] == [0.4] * 40
    assert min(our_curve(schedule="onecycle")) > 0


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_every_optimizer_learns(name: str, train: Split) -> None:
    torch.manual_seed(0)
    config = TrainConfig.from_dict({"model": "lenet", "optimizer": name, "lr": 0.002 if name.startswith("adam") else 0.1})
    model = build_model(config, classes=10, pixel_mean=73.0, pixel_std=90.0)
    optimizer = build_optimizer(config, model)
    losses = []
    for _ in range(60):
        loss = nn.functional.cross_entropy(model(train.images[:64]), train.labels[:64])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(math.log(10), abs=0.3)
    assert losses[-1] < 0.8 * losses[0]


def test_optimizers_are_pytorchs_own() -> None:
    model = build_model(TrainConfig(model="lenet"), classes=10)
    settings = {name: build_optimizer(TrainConfig.from_dict({"optimizer": name}), model).defaults for name in OPTIMIZERS}
    assert (settings["sgd"]["momentum"], settings["momentum"]["momentum"], settings["nesterov"]["momentum"]) == (0, 0.9, 0.9)
    assert (settings["momentum"]["nesterov"], settings["nesterov"]["nesterov"]) == (False, True)


def test_biases_and_norms_have_no_weight_decay() -> None:
    optimizer = build_optimizer(TrainConfig(weight_decay=0.01), build_model(TrainConfig(), classes=10))
    for group in optimizer.param_groups:
        assert group["weight_decay"] == (0.01 if group["params"][0].ndim > 1 else 0.0)
        assert len({parameter.ndim > 1 for parameter in group["params"]}) == 1
