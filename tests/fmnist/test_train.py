"""`python -m fmnist.train`, as a user runs it."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import CommandLine, Outcome

LENET = ("--recipe", "lenet-sgd", "--validation-images", "500", "--global-batch-size", "64")


def test_leaves_a_run_folder(command: CommandLine, tmp_path: Path) -> None:
    done = command("fmnist.train", *LENET, "--epochs", 2, "--name", "a")
    assert done.returncode == 0, done.stderr
    assert "epoch 2/2" in done.stdout
    run = tmp_path / "runs/a"
    assert json.loads((run / "config.json").read_text())["train"]["epochs"] == 2
    summary = json.loads((run / "summary.json").read_text())
    assert 0.1 < summary["validation_accuracy"] <= 1
    assert "test_accuracy" not in summary
    assert summary["seconds"]["train"] > 0
    assert (run / "best/model.safetensors").exists()
    evaluated = command("fmnist.evaluate", "--split", "validation")
    assert evaluated.returncode == 0, evaluated.stderr
    assert "Ankle boot" in evaluated.stdout


@pytest.mark.slow
def test_killed_and_resumed_is_bit_for_bit_undisturbed(command: CommandLine, tmp_path: Path) -> None:
    arguments = ("--recipe", "airnet-quick", "--validation-images", "500", "--epochs", "5")
    assert command("fmnist.train", *arguments, "--name", "undisturbed").returncode == 0
    process = command.start("fmnist.train", *arguments, "--name", "killed")
    state = tmp_path / "runs/killed/last.pt"
    deadline = time.monotonic() + 120
    while not state.exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "runs/killed/best").exists()
    resumed = command("fmnist.train", *arguments, "--name", "killed", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "epoch 1/5" not in resumed.stdout
    one, other = (load_file(tmp_path / "runs" / name / "best/model.safetensors") for name in ("undisturbed", "killed"))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--lr", "-1"), "lr=-1.0"),
        (("--recipe", "nope"), "--recipe nope"),
        (("--epochs", "many"), "epochs"),
        (("--epoch", "1"), "--epochs"),
        (("--model", "lenet", "--widths", "4"), "widths=(4,)"),
        (("--validation-images", "2999"), "validation_images=2999"),
        (("--name", "a/b"), "name='a/b'"),
        (("--global-batch-size", "5000", "--validation-images", "500"), "global_batch_size=5000"),
        (("--data", "/nowhere"), "/nowhere"),
    ],
)
def test_bad_input_is_told_and_leaves_nothing(
    call: Callable[..., Outcome], tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    done = call("fmnist.train", "--validation-images", "500", *arguments)
    assert done.code == 2
    assert words in done.output
    assert not (tmp_path / "runs").exists()


def test_help_teaches(call: Callable[..., Outcome]) -> None:
    done = call("fmnist.train", "--help")
    assert done.code == 0
    assert "python -m fmnist.train" in done.output
    assert "Peak learning rate" in done.output
