"""`python -m fmnist.train`, as a user runs it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from fmnist.training.checkpoint import load_state
from tests.conftest import IMAGES, ROOT, CommandLine, Outcome, runs
from tests.gates import LIMIT_S, Gates

LENET = ("--recipe", "e-lenet-0.05", "--validation-images", "500", "--global-batch-size", "64")


def test_leaves_a_run_folder(call: Callable[..., Outcome], tmp_path: Path) -> None:
    done = call("fmnist.train", *LENET, "--epochs", 2, "--name", "a")
    assert done.code == 0, done.output
    assert "epoch 2/2" in done.output

    run = tmp_path / "runs/a"
    assert json.loads((run / "config.json").read_text())["train"]["epochs"] == 2
    summary = json.loads((run / "summary.json").read_text())
    assert 0.1 < summary["validation_accuracy"] <= 1
    assert "test_accuracy" not in summary
    assert summary["seconds"]["train"] > 0
    assert (run / "best/model.safetensors").exists()

    evaluated = call("fmnist.evaluate", "--split", "validation")
    assert evaluated.code == 0, evaluated.output
    assert "Ankle boot" in evaluated.output


def same(one: Any, other: Any) -> bool:
    """Whether two states are equal bit for bit, tensors and all."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        same_keys = one.keys() == other.keys()
        return same_keys and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def without_times(state: dict[str, Any]) -> dict[str, Any]:
    times = {"images_per_s": None, "seconds": None}
    history = [row | times for row in state["history"]]
    return state | {"history": history}


@pytest.mark.processes
def test_killed_and_resumed_is_bit_for_bit_undisturbed(
    command: CommandLine, gates: Gates, tmp_path: Path
) -> None:
    images = ("--validation-images", 500, "--train-images", IMAGES, "--global-batch-size", 64)
    network = ("--recipe", "airnet-quick", "--widths", 8, 16, 32, "--epochs", 5)
    extras = ("--optimizer", "muon", "--lr", 0.005, "--ema", 0.98, "--erase", 0.3)
    arguments = (*network, *images, *extras)
    assert command("fmnist.train", *arguments, "--name", "undisturbed").returncode == 0

    gates.close(1.5)
    process = command.start("fmnist.train", *arguments, "--name", "killed")
    gates.wait_for(1, runs(process))
    os.kill(process.pid, signal.SIGKILL)  # in the middle of the second epoch
    process.communicate()
    gates.open()
    assert not (tmp_path / "runs/killed/best").exists()

    resumed = command("fmnist.train", "--resume")  # the newest run, as it was started
    assert resumed.returncode == 0, resumed.stderr
    assert "epoch 1/5" not in resumed.stdout

    undisturbed, killed = tmp_path / "runs/undisturbed", tmp_path / "runs/killed"
    weights = load_file(killed / "best/model.safetensors")
    assert same(weights, load_file(undisturbed / "best/model.safetensors"))
    # Weights, both optimisers' moments, averaged weights, and losses, which show the order of data
    # and its augmentation.
    state = without_times(load_state(killed / "last.pt"))
    assert same(state, without_times(load_state(undisturbed / "last.pt")))
    assert list((killed / "tensorboard").glob("events.out.tfevents.*"))


@pytest.mark.processes
def test_ctrl_c_keeps_what_is_done_and_says_what_to_type(
    command: CommandLine, gates: Gates, tmp_path: Path
) -> None:
    gates.close(1.5)
    process = command.start("fmnist.train", *LENET, "--epochs", 3, "--name", "a")
    gates.wait_for(1, runs(process))
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate()

    assert process.returncode == 130
    typed = " ".join((*LENET, "--epochs", "3"))
    again = f"python -m fmnist.train {typed} --name a --resume"
    assert stderr.strip() == f"interrupted. What is done is kept; go on with: {again}"
    assert load_state(tmp_path / "runs/a/last.pt")["epoch"] == 1


def test_ctrl_c_twice_stops_now(tmp_path: Path) -> None:
    script = (
        "import signal, fmnist.cli as cli\n"
        "signal.signal(signal.SIGINT, cli._stop_at_second())\n"
        "try:\n    print('ready', flush=True); signal.pause()\n"
        "except KeyboardInterrupt:\n    print('closing', flush=True); signal.pause()\n"
    )
    words = [sys.executable, "-c", script]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    for word in ("ready", "closing"):
        assert process.stdout.readline().strip() == word
        process.send_signal(signal.SIGINT)
    assert process.wait(timeout=LIMIT_S) == 130


def mounted(options: str, folder: Path) -> list[str]:
    """The words that run a command with `folder` on a small file system of its own.

    No other process sees it.
    """
    script = f'mount -t tmpfs -o {options} none "{folder}" && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", script, "sh"]


def can_mount(folder: Path) -> bool:
    done = subprocess.run([*mounted("size=1m", folder), "true"], capture_output=True)
    return done.returncode == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            "size=300k",
            "the disk is full; make room. What is done is kept; go on with: python -m fmnist.train",
        ),
        ("ro", "it is on a read-only disk; choose a folder that can be written to"),
    ],
)
def test_no_room_and_no_right_to_write(
    options: str, words: str, command: CommandLine, tmp_path: Path
) -> None:
    (tmp_path / "runs").mkdir()
    if not can_mount(tmp_path / "runs"):
        pytest.skip("mounting a file system takes root")

    train = [sys.executable, "-m", "fmnist.train", *LENET, "--name", "a", "--epochs", "3"]
    done = subprocess.run(
        [*mounted(options, tmp_path / "runs"), *train],
        cwd=tmp_path,
        env=command.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_an_existing_run_is_never_overwritten(call: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / "runs/a").mkdir(parents=True)
    (tmp_path / "runs/a/mine").write_text("keep")

    done = call("fmnist.train", *LENET, "--name", "a")
    assert done.code == 2
    assert "runs/a exists already; choose another name, or continue it with --resume" in done.output
    assert (tmp_path / "runs/a/mine").read_text() == "keep"


def test_a_run_goes_on_with_its_own_data_and_config_only(
    call: Callable[..., Outcome], tmp_path: Path, small_data: Path
) -> None:
    assert call("fmnist.train", *LENET, "--epochs", 1, "--name", "a").code == 0
    (tmp_path / "runs/a/best/model.safetensors").unlink()

    other = tmp_path / "other"
    shutil.copytree(small_data, other)
    for file in ("t10k-labels-idx1-ubyte", "t10k-images-idx3-ubyte"):
        content = bytearray((other / file).read_bytes())
        content[-1] ^= 1
        (other / file).write_bytes(content)
    (other / "SHA256SUMS").unlink()
    done = call("fmnist.train", "--resume", "--data", other)
    assert done.code == 2
    assert "trained on another set" in done.output

    done = call("fmnist.train", "--resume", "--lr", 0.01)
    assert done.code == 2
    assert "lr 0.05 became 0.01" in done.output

    assert call("fmnist.train", "--resume").code == 0
    assert (tmp_path / "runs/a/best/model.safetensors").exists()


def test_a_dry_run_plans_and_leaves_nothing(call: Callable[..., Outcome], tmp_path: Path) -> None:
    done = call("fmnist.train", *LENET, "--dry-run")
    assert done.code == 0
    assert "plan: lenet, 44,426 parameters, 2,500 images" in done.output
    assert "minutes" in done.output
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--lr", "-1"), "lr=-1.0"),
        (("--recipe", "airnet-quik"), "--recipe='airnet-quik': did you mean 'airnet-quick'"),
        (("--modle", "lenet"), "Did you mean --model?"),
        (("--model", "lennet"), "did you mean 'lenet'"),
        (("--optimizer", "admw"), "did you mean 'adamw'"),
        (("--lr", "0"), "lr=0.0"),
        (("--shift", "28"), "shift=28"),
        (("--class-weights", "1", "2"), "class_weights: 2 numbers, but the data has 10 classes"),
        (("--epochs", "many"), "epochs"),
        (("--epoch", "1"), "--epochs"),
        (("--model", "lenet", "--widths", "4"), "widths=(4,)"),
        (("--validation-images", "2999"), "validation_images=2999"),
        (("--name", "a/b"), "name='a/b'"),
        (("--global-batch-size", "5000", "--validation-images", "500"), "global_batch_size=5000"),
        (("--data", "/nowhere"), "/nowhere"),
        (("--from-folder", "/nowhere"), "--from-folder is now --data"),
    ],
)
def test_bad_input_is_told_and_leaves_nothing(
    call: Callable[..., Outcome], tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    done = call("fmnist.train", "--validation-images", "500", *arguments)
    assert done.code == 2
    assert words in done.output
    assert len(done.output.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_help_teaches(call: Callable[..., Outcome]) -> None:
    done = call("fmnist.train", "--help")
    assert done.code == 0
    assert "python -m fmnist.train" in done.output
    assert "Peak learning rate" in done.output
    assert "optimiser options" in done.output


def test_a_complete_run_is_left_alone(call: Callable[..., Outcome], tmp_path: Path) -> None:
    best = tmp_path / "runs/a/best"
    best.mkdir(parents=True)
    (best / "model.safetensors").write_text("whole")
    done = call("fmnist.train", "--name", "a", "--resume")
    assert done.code == 0
    assert "runs/a is complete: nothing to do" in done.output
    assert [path.name for path in (tmp_path / "runs/a").iterdir()] == ["best"]


def test_augmentation_is_drawn_without_a_run(call: Callable[..., Outcome], tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    drawn = call("fmnist.train", *LENET, "--rotate", "20", "--show-augmentation", path)
    assert drawn.code == 0, drawn.output
    with Image.open(path) as picture:
        assert min(picture.size) > 300
    assert not (tmp_path / "runs").exists()


def test_no_thread_computes_with_numbers_that_slow_a_cpu_down() -> None:
    script = """
import torch
from fmnist.config import TrainConfig
from fmnist.training.device import set_threads
set_threads(TrainConfig(threads=2))
small = torch.full((1_000_000,), 1e-38)
print((small * 0.01).count_nonzero().item(), torch.get_num_threads())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == ["0", "2"]
