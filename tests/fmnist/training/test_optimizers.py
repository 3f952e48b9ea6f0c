"""Each optimiser and schedule is held against PyTorch's own."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Muon, Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    OneCycleLR,
    ReduceLROnPlateau,
    StepLR,
)
from torch.optim.swa_utils import AveragedModel

import fmnist.training.optimizers
from fmnist.config import Problem, TrainConfig
from fmnist.data.dataset import Split
from fmnist.models import Classifier, build_model
from fmnist.training.averaging import build_average, decay_at
from fmnist.training.optimizers import OPTIMIZERS, build_optimizers, orthogonalise
from fmnist.training.schedules import lr_at

pytestmark = pytest.mark.usefixtures("one_thread")

EPOCHS, STEPS = 10, 5
"""Length of the curves below."""


def pytorch_curve(scheduler_type: Any, per_epoch: bool = False, **arguments: Any) -> list[float]:
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=0.4)
    scheduler = scheduler_type(optimizer, **arguments)
    curve: list[float] = []
    for step in range(EPOCHS * STEPS):
        curve.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if not per_epoch or (step + 1) % STEPS == 0:
            scheduler.step()
    return curve


def our_curve(**changes: Any) -> list[float]:
    config = TrainConfig(lr=0.4, epochs=EPOCHS).replace(**changes)
    return [lr_at(config, step, STEPS) for step in range(EPOCHS * STEPS)]


def test_constant() -> None:
    ours = our_curve(schedule="constant", warmup=0.0)
    assert ours == pytest.approx(pytorch_curve(ConstantLR, factor=1.0))


def test_step() -> None:
    ours = our_curve(schedule="step", warmup=0.0, step_epochs=3, lr_factor=0.2)
    assert ours == pytest.approx(pytorch_curve(StepLR, per_epoch=True, step_size=3, gamma=0.2))


def test_cosine() -> None:
    ours = our_curve(schedule="cosine", warmup=0.0)
    assert ours == pytest.approx(pytorch_curve(CosineAnnealingLR, T_max=50))


def test_onecycle() -> None:
    # PyTorch's peak is at step .1 · 50 - 1 and it ends at the last step; ours has one step more on
    # either side.
    theirs = pytorch_curve(
        OneCycleLR,
        total_steps=51,
        max_lr=0.4,
        pct_start=6 / 51,
        div_factor=6,
        anneal_strategy="linear",
        final_div_factor=1e9,
    )
    assert our_curve(schedule="onecycle", warmup=0.1) == pytest.approx(theirs[:50], abs=1e-6)


@pytest.mark.parametrize("patience", [0, 1, 3])
def test_plateau(patience: int) -> None:
    losses = [1.0, 0.9, 0.95, 0.91, 0.9, 0.899999, 0.5]
    losses += [0.6, 0.6, 0.6, 0.6, 0.6, 0.4, 0.7, 0.8, 0.9, 0.9, 0.9]
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=0.4)
    scheduler = ReduceLROnPlateau(optimizer, factor=0.5, patience=patience)
    config = TrainConfig(
        lr=0.4, epochs=40, schedule="plateau", warmup=0.0, lr_factor=0.5, plateau_epochs=patience
    )

    for epoch in range(1, len(losses) + 1):
        scheduler.step(losses[epoch - 1])
        ours = lr_at(config, epoch * STEPS, STEPS, losses[:epoch])
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"]), epoch


def test_warmup_rises_to_the_peak_and_never_steps_at_zero() -> None:
    curve = our_curve(schedule="constant", warmup=0.2)
    assert curve[:10] == sorted(curve[:10])
    assert curve[0] == pytest.approx(0.4 / 11)
    assert curve[10:] == [0.4] * 40
    assert min(our_curve(schedule="onecycle")) > 0


def weights_after(optimizers: list[Optimizer], model: nn.Module, batch: Split) -> list[Tensor]:
    """The model's weights after five steps on one batch."""
    for _ in range(5):
        nn.functional.cross_entropy(model(batch.images.tensor()), batch.labels).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    return [parameter.detach().clone() for parameter in model.parameters()]


def lenet(config: TrainConfig) -> Classifier:
    """A network that begins with the same weights each time."""
    torch.manual_seed(0)
    mean, deviation = torch.full((1, 1, 1), 73.0), torch.full((1, 1, 1), 90.0)
    return build_model(config, Problem(10), mean, deviation)


PYTORCHS: dict[str, Callable[[Any], Optimizer]] = {
    "sgd": lambda groups: SGD(groups, lr=0.01),
    "momentum": lambda groups: SGD(groups, lr=0.01, momentum=0.8),
    "nesterov": lambda groups: SGD(groups, lr=0.01, momentum=0.8, nesterov=True),
    "adam": lambda groups: Adam(groups, lr=0.01),
    "adamw": lambda groups: AdamW(groups, lr=0.01),
}


@pytest.mark.parametrize("name", sorted(PYTORCHS))
def test_updates_are_pytorchs(name: str, train: Split) -> None:
    config = TrainConfig(model="lenet", optimizer=name, lr=0.01, momentum=0.8, weight_decay=0.03)
    batch = Split(train.images[:64], train.labels[:64])
    model = lenet(config)
    ours = weights_after(build_optimizers(config, model), model, batch)

    model = lenet(config)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    groups = [
        {"params": matrices, "weight_decay": 0.03},
        {"params": vectors, "weight_decay": 0.0},
    ]
    theirs = weights_after([PYTORCHS[name](groups)], model, batch)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


class Scale(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.float() / 255


def two_layers() -> nn.Sequential:
    torch.manual_seed(0)
    hidden, head = nn.Linear(784, 32, bias=False), nn.Linear(32, 10, bias=False)
    return nn.Sequential(Scale(), nn.Flatten(), hidden, nn.ReLU(), head)


def test_muon_is_pytorchs_on_matrices(train: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    # PyTorch's rounds to bfloat16 everywhere.
    monkeypatch.setattr(fmnist.training.optimizers, "has_bfloat16", lambda device: True)
    batch = Split(train.images[:64], train.labels[:64])
    config = TrainConfig(optimizer="muon", lr=0.01, momentum=0.8, weight_decay=0.03)
    model = two_layers()
    ours = weights_after(build_optimizers(config, model), model, batch)

    model = two_layers()
    hidden, head = model.parameters()
    muon = Muon([hidden], lr=0.01, momentum=0.8, weight_decay=0.03, adjust_lr_fn="match_rms_adamw")
    adamw = AdamW([head], lr=0.01, weight_decay=0.03)
    theirs = weights_after([muon, adamw], model, batch)
    for one, other in zip(ours, theirs, strict=True):
        # Both round to bfloat16, at an lr · scale of .056.
        assert torch.allclose(one, other, atol=1e-3)
        assert (one - other).abs().mean() < 1e-4


@pytest.mark.parametrize("bfloat16", [True, False])
@pytest.mark.parametrize("shape", [(64, 32 * 9), (200, 50)])
def test_orthogonalised_has_singular_values_near_one(
    shape: tuple[int, int], bfloat16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fmnist.training.optimizers, "has_bfloat16", lambda device: bfloat16)
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
    assert values.min() > 0.5
    assert values.max() < 1.35


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_every_optimizer_learns(name: str, train: Split) -> None:
    lr = 0.1 if name in ("sgd", "momentum", "nesterov") else 0.002
    config = TrainConfig(model="lenet", optimizer=name, lr=lr)
    model = lenet(config)
    optimizers = build_optimizers(config, model)

    losses: list[float] = []
    for _ in range(60):
        loss = nn.functional.cross_entropy(model(train.images[:64]), train.labels[:64])
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(math.log(10), abs=0.3)
    assert losses[-1] < 0.8 * losses[0]


def parameter_ids(optimizer: Optimizer) -> set[int]:
    groups = [group["params"] for group in optimizer.param_groups]
    return {id(parameter) for group in groups for parameter in group}


def test_muon_takes_kernels_and_leaves_the_head_to_adamw() -> None:
    model = build_model(TrainConfig(model="airnet"), Problem(10))
    muon, adamw = build_optimizers(TrainConfig(optimizer="muon"), model)

    kernels: set[int] = set()
    for name, parameter in model.named_parameters():
        if "conv" in name or name == "network.stem.0.weight":
            kernels.add(id(parameter))
    assert parameter_ids(muon) == kernels

    rest = parameter_ids(adamw)
    assert kernels.isdisjoint(rest)
    assert len(kernels) + len(rest) == len(list(model.parameters()))


def test_biases_and_norms_have_no_weight_decay() -> None:
    config = TrainConfig(weight_decay=0.01)
    (optimizer,) = build_optimizers(config, build_model(config, Problem(10)))
    for group in optimizer.param_groups:
        matrices = {parameter.ndim > 1 for parameter in group["params"]}
        assert len(matrices) == 1
        assert group["weight_decay"] == (0.01 if matrices == {True} else 0.0)


def test_average_is_the_exponential_one_and_forgets_its_beginning() -> None:
    model = nn.Linear(1, 1, bias=False)
    average = build_average(TrainConfig(ema=0.5), model)
    assert isinstance(average, AveragedModel)
    assert build_average(TrainConfig(), model) is None

    expected = 0.0
    for number in range(20):
        value = 1000.0 if number == 0 else float(number)
        with torch.no_grad():
            model.weight.fill_(value)
        average.update_parameters(model)
        decay = min(0.5, (1 + number) / (10 + number))
        expected = value if number == 0 else decay * expected + (1 - decay) * value
    assert next(average.module.parameters()).item() == pytest.approx(expected)
    assert expected < 20, "the first weights are no part of it any more"

    assert decay_at(0.999, 100) == pytest.approx(101 / 110)
    assert decay_at(0.999, 100_000) == 0.999
