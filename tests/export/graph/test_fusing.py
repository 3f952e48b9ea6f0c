"""What is fused gives the answers of what PyTorch's exporter left."""

from collections import Counter
from typing import cast

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from export.client import INPUT, OUTPUTS
from export.graph.conversion import exported
from export.graph.fusing import fuse
from export.session import open_session
from fmnist.config import Problem, TrainConfig
from fmnist.data.info import DataInfo
from fmnist.models import build_model
from fmnist.training.checkpoint import Checkpoint


def made(config: TrainConfig, channels: int = 1, negative: bool = False) -> Checkpoint:
    """A network whose batch norms have seen something."""
    torch.manual_seed(config.seed)
    info = DataInfo("made", tuple("abcdefghij"), {}, channels=channels)
    mean = torch.tensor((73.0, 80.0, 90.0)[:channels]).view(-1, 1, 1)
    std = torch.tensor((90.0, 60.0, 70.0)[:channels]).view(-1, 1, 1)
    model = build_model(config, Problem(10, channels), mean, std)

    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            if negative:
                nn.init.constant_(module.weight[:1], -0.7)
    return Checkpoint(model.eval(), config, info, {"versions": {}})


def kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def logits(model: onnx.ModelProto, shape: tuple[int, ...]) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (16, *shape), np.uint8)
    session = open_session(model.SerializeToString(), "cpu")
    return cast(np.ndarray, session.run([OUTPUTS[0]], {INPUT: pixels})[0])


def both(*members: Checkpoint, flips: bool = False) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """As exported and fused, after a look that they answer alike."""
    before = exported(members, flips)
    after = fuse(before)
    onnx.checker.check_model(after, full_check=True)

    shape = members[0].data.problem.image_shape
    expected = logits(before, shape)
    difference = np.abs(logits(after, shape) - expected).max()
    assert difference < 1e-5 + 1e-5 * np.abs(expected).max()
    assert len(after.graph.node) < len(before.graph.node)
    return before, after


@pytest.mark.parametrize("channels", [1, 3])
def test_batch_norm_behind_a_pool_and_the_normalisation_go_into_convolutions(channels: int) -> None:
    before, after = both(made(TrainConfig(widths=(4, 6, 8)), channels))
    assert kinds(before)["BatchNormalization"] == 3
    assert not {"BatchNormalization", "Sub", "Div"} & set(kinds(after))
    assert kinds(after)["Conv"] == kinds(before)["Conv"]


def test_a_negative_scale_stays_behind_its_pool() -> None:
    _, after = both(made(TrainConfig(widths=(4, 6, 8)), negative=True))
    assert kinds(after)["BatchNormalization"] == 3


@pytest.mark.parametrize("channels", [1, 3])
def test_where_zeros_are_padded_the_mean_is_still_taken_off(channels: int) -> None:
    before, after = both(made(TrainConfig(model="resnet20", widths=(4, 4, 4)), channels))
    assert (kinds(before)["Sub"], kinds(before)["Div"]) == (1, 1)
    assert (kinds(after)["Sub"], kinds(after)["Div"]) == (1, 0)


def test_an_ensemble_of_views_is_one_pass_of_each_member() -> None:
    first = made(TrainConfig(widths=(4, 6, 8)))
    second = made(TrainConfig(widths=(6, 6, 8), seed=1))
    _, after = both(first, second, flips=True)
    alone = [kinds(both(member)[1])["Conv"] for member in (first, second)]
    assert kinds(after)["Conv"] == sum(alone)
    assert not {"BatchNormalization", "Sub", "Div"} & set(kinds(after))


def test_weights_too_small_for_a_fast_cpu_are_none() -> None:
    checkpoint = made(TrainConfig(model="lenet"))
    with torch.no_grad():
        for weights in checkpoint.model.parameters():
            weights.view(-1)[::2] *= 1e-40
    checkpoint.model.to(torch.float32)

    model = exported([checkpoint])
    values = [onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    floats = np.concatenate([value.ravel() for value in values if value.dtype == np.float32])
    assert (floats == 0).sum() > 20_000
    assert not ((floats != 0) & (np.abs(floats) < np.finfo(np.float32).tiny)).any()
