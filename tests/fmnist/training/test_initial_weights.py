"""Initial weights: rules, and files made here."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import resnet18

from fmnist.config import Problem, TrainConfig
from fmnist.errors import InputError
from fmnist.models import build_model
from fmnist.training.initial_weights import initialise
from tests.conftest import Outcome

RESNET = TrainConfig(model="resnet18_imagenet")
IMAGENET = ("--model", "resnet18_imagenet", "--global-batch-size", 64)


def fresh(config: TrainConfig) -> nn.Module:
    torch.manual_seed(0)
    network = build_model(config, Problem(10)).network
    initialise(network, config)
    return network


@pytest.mark.parametrize(
    ("init", "expected"),
    [
        ("xavier", lambda fan_in, fan_out: (2 / (fan_in + fan_out)) ** 0.5),
        ("he", lambda fan_in, fan_out: (2 / fan_in) ** 0.5),
        ("normal", lambda fan_in, fan_out: 0.01),
        ("pytorch", lambda fan_in, fan_out: (1 / (3 * fan_in)) ** 0.5),
    ],
)
def test_deviation_of_each_rule(init: str, expected: Callable[[int, int], float]) -> None:
    network = fresh(TrainConfig(model="twoconv", init=init))

    linear = next(module for module in network.modules() if isinstance(module, nn.Linear))
    assert linear.weight.std().item() == pytest.approx(expected(4096, 4096), rel=0.01)

    norm = next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    deviation = 0.01 if init == "xavier" else 0.0
    assert norm.weight.std().item() == pytest.approx(deviation, abs=0.004)


def test_weights_of_a_file_are_taken_up_and_the_head_starts_afresh(tmp_path: Path) -> None:
    """The file is made here: torchvision's network with random weights, for 1,000 classes."""
    made = resnet18(num_classes=1000)
    torch.save(made.state_dict(), tmp_path / "weights.pth")

    network = fresh(RESNET.replace(weights=str(tmp_path / "weights.pth")))
    loaded = network.state_dict()
    for name, tensor in made.state_dict().items():
        assert name.startswith("fc.") or torch.equal(loaded[f"resnet.{name}"], tensor)

    assert loaded["resnet.fc.weight"].shape == (10, 512)
    plain = fresh(RESNET).state_dict()
    assert torch.equal(loaded["resnet.fc.weight"], plain["resnet.fc.weight"])


def test_a_checkpoints_own_file_serves(tmp_path: Path) -> None:
    model = build_model(TrainConfig(model="lenet"), Problem(26))
    save_file(model.state_dict(), tmp_path / "model.safetensors")

    network = fresh(TrainConfig(model="lenet", weights=str(tmp_path / "model.safetensors")))
    loaded = network.state_dict()
    name = "features.0.weight"
    assert torch.equal(loaded[name], model.network.state_dict()[name])
    assert loaded["head.4.weight"].shape == (10, 84)


def write(path: Path, content: dict[str, Tensor] | bytes | list[int]) -> None:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"junk", "is not a file of plain tensors"),
        ([1, 2], "it must hold a state dict"),
        (
            {"conv1.weight": torch.zeros(3)},
            "are not resnet18_imagenet's: .* are missing or of another shape",
        ),
        (None, "cannot be read: No such file"),
    ],
)
def test_bad_files_are_told_in_one_line_before_a_run_is_made(
    content: dict[str, Tensor] | bytes | list[int] | None,
    words: str,
    tmp_path: Path,
    call: Callable[..., Outcome],
) -> None:
    path = tmp_path / "weights.pt"
    if content is not None:
        write(path, content)
    outcome = call("fmnist.train", *IMAGENET, "--weights", path)
    assert outcome.code == 2
    assert outcome.output.count("\n") == 1

    with pytest.raises(InputError, match=words):
        fresh(RESNET.replace(weights=str(path)))
    assert not (tmp_path / "runs").exists()


def test_imagenets_weights_that_cannot_be_fetched_are_told_in_one_line(
    call: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "none"))
    # Nothing listens there, whatever this machine can reach.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    outcome = call("fmnist.train", *IMAGENET, "--weights", "imagenet")
    assert outcome.code == 2
    *_, last = outcome.output.splitlines()
    assert last.startswith("error: weights='imagenet'")
    assert "cannot be fetched" in last
    assert "--weights FILE" in last
    assert "Traceback" not in outcome.output

    with pytest.raises(InputError, match="there are none for lenet"):
        fresh(TrainConfig(model="lenet", weights="imagenet"))
