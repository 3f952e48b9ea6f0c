"""Fixtures: the real data, a small data set cut from it, and command lines run as a user runs them."""

import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from fmnist.data import CLASSES, Split, accept, find_data, load_test, load_train

ROOT = Path(__file__).parent.parent
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def data_folder() -> Path:
    return find_data()


@pytest.fixture(scope="session")
def train(data_folder: Path) -> Split:
    return load_train(data_folder)


@pytest.fixture(scope="session")
def test_set(data_folder: Path) -> Split:
    return load_test(data_folder)


def write_idx(folder: Path, prefix: str, split: Split) -> None:
    """Write a split in the MNIST file format."""
    for kind, values in (("images-idx3", split.images), ("labels-idx1", split.labels)):
        shape = values.shape
        header = struct.pack(f">{1 + len(shape)}I", 0x800 + len(shape), *shape)
        (folder / f"{prefix}-{kind}-ubyte").write_bytes(header + values.to(torch.uint8).numpy().tobytes())


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory, train: Split, test_set: Split) -> Path:
    """3,000 training and 500 test images of the real set, accepted as a data set of one's own."""
    folder = tmp_path_factory.mktemp("small")
    write_idx(folder, "train", Split(train.images[:3000], train.labels[:3000]))
    write_idx(folder, "t10k", Split(test_set.images[:500], test_set.labels[:500]))
    (folder / "labels.txt").write_text("\n".join(CLASSES) + "\n")
    accept(folder)
    return folder


@pytest.fixture
def command(tmp_path: Path, small_data: Path) -> Iterator[Command]:
    """Runs `python -m MODULE …` in a folder of its own, on the small data set, with Ray's files in a place of their own."""
    with tempfile.TemporaryDirectory(prefix="fm", ignore_cleanup_errors=True) as ray_folder:
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "FMNIST_DATA": str(small_data),
            "RAY_TMPDIR": ray_folder,
            "NO_COLOR": "1",
            "COLUMNS": "200",
        }

        def run(module: str, *arguments: object, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-m", module, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True
            )

        yield run
