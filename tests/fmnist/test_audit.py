"""`python -m fmnist.audit`: the command, its flags and what it leaves."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fmnist.audit import file_name
from fmnist.data.dataset import Split
from tests.conftest import CommandLine, Outcome, write_split


def test_it_says_what_it_found_and_where(command: CommandLine, tmp_path: Path) -> None:
    done = command("fmnist.audit", "--out", "found")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].endswith(": 3,500 images audited")
    assert lines[-1] == "saved in found/audit.html and found/audit.json"
    found = json.loads((tmp_path / "found/audit.json").read_text())
    assert found["images"] == 3500
    assert found["suspected_labels"] is None
    assert [row["class"] for row in found["classes"]][:2] == ["T-shirt/top", "Trouser"]


def test_it_judges_labels_by_the_config_of_a_run(
    command: CommandLine, tmp_path: Path, train: Split
) -> None:
    folder = tmp_path / "few"
    folder.mkdir()
    for prefix, start, count in (("train", 0, 200), ("t10k", 200, 40)):
        images = train.images[start : start + count]
        write_split(folder, prefix, Split(images, torch.arange(count) % 2))
    trained = command(
        "fmnist.train",
        "--data",
        folder,
        "--name",
        "first",
        "--model",
        "lenet",
        "--epochs",
        1,
        "--global-batch-size",
        50,
    )
    assert trained.returncode == 0, trained.stderr
    words = ("--labels", "--run", "first", "--folds", 2, "--out", "found")
    done = command("fmnist.audit", *words)
    assert done.returncode == 0, done.stderr
    assert "fold 2 of 2: 100 images" in done.stdout
    found = json.loads((tmp_path / "found/audit.json").read_text())
    assert found["name"] == "few"
    # Labels at random, and a network that has learned nothing: whatever is named, it is a list.
    assert isinstance(found["suspected_labels"], list)


def test_flags_of_a_training_need_labels(call: Callable[..., Outcome]) -> None:
    refused = call("fmnist.audit", "--epochs", 3)
    assert refused.code == 2
    assert "add --labels" in refused.output


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Fashion-MNIST", "fashion-mnist"),
        ("../a b\n", "a-b"),
        ("猫", "set"),
        ("x" * 300, "x" * 100),
    ],
)
def test_file_names_are_plain(name: str, expected: str) -> None:
    assert file_name(name) == expected
