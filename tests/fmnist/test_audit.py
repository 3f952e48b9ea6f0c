"""`python -m fmnist.data --audit` and `python -m fmnist.audit`: what they say and leave."""

import json
from pathlib import Path

import pytest
import torch

from fmnist.data.audit.report import audit_folder
from fmnist.data.dataset import Split
from tests.conftest import CommandLine, write_split


def test_it_says_what_it_found_and_where(command: CommandLine, tmp_path: Path) -> None:
    done = command("fmnist.data", "--audit")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert any(line.endswith(": 3,500 images audited") for line in lines)
    [folder] = (tmp_path / "runs").glob("audit-*")
    place = folder.relative_to(tmp_path)
    assert lines[-1] == f"saved in {place}/audit.html and {place}/audit.json"
    found = json.loads((folder / "audit.json").read_text())
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
    words = ("--run", "first", "--folds", 2, "--out", "found")
    done = command("fmnist.audit", *words)
    assert done.returncode == 0, done.stderr
    assert "fold 2 of 2: 100 images" in done.stdout
    found = json.loads((tmp_path / "found/audit.json").read_text())
    assert found["name"] == "few"
    # Labels at random, and a network that has learned nothing: whatever is named, it is a list.
    assert isinstance(found["suspected_labels"], list)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Fashion-MNIST", "fashion-mnist"),
        ("../a b\n", "a-b"),
        ("猫", "set"),
        ("x" * 300, "x" * 100),
    ],
)
def test_names_of_folders_are_plain(name: str, expected: str) -> None:
    assert audit_folder(name) == Path("runs") / f"audit-{expected}"
