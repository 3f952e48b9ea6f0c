"""Fixtures: the real data, a small data set cut from it, and command lines run as a user runs them."""

import os
import runpy
import struct
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from fmnist.data import CLASSES, Split, accept, find_data, load_test, load_train

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def data_folder() -> Path:
    return find_data()


@pytest.fixture(scope="session")
def train(data_folder: Path) -> Split:
    return load_train(data_folder)


@pytest.fixture(scope="session")
def official_test(data_folder: Path) -> Split:
    return load_test(data_folder)


def write_idx(folder: Path, prefix: str, split: Split) -> None:
    """Write a split in the MNIST file format."""
    for kind, values in (("images-idx3", split.images), ("labels-idx1", split.labels)):
        shape = values.shape
        header = struct.pack(f">{1 + len(shape)}I", 0x800 + len(shape), *shape)
        (folder / f"{prefix}-{kind}-ubyte").write_bytes(header + values.to(torch.uint8).numpy().tobytes())


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory, train: Split, official_test: Split) -> Path:
    """3,000 training and 500 test images of the real set, accepted as a data set of one's own."""
    folder = tmp_path_factory.mktemp("small")
    write_idx(folder, "train", Split(train.images[:3000], train.labels[:3000]))
    write_idx(folder, "t10k", Split(official_test.images[:500], official_test.labels[:500]))
    (folder / "labels.txt").write_text("\n".join(CLASSES) + "\n")
    accept(folder)
    return folder


@dataclass(frozen=True)
class CommandLine:
    """Runs `python -m MODULE …` in a folder of its own, on the small data set, with Ray's files in a place of their own."""

    folder: Path
    environment: dict[str, str]

    def start(self, module: str, *arguments: object) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", module, *map(str, arguments)]
        return subprocess.Popen(
            words, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def __call__(self, module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        process = self.start(module, *arguments)
        stdout, stderr = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


@pytest.fixture
def command(tmp_path: Path, small_data: Path) -> Iterator[CommandLine]:
    with tempfile.TemporaryDirectory(prefix="fm", ignore_cleanup_errors=True) as ray_folder:
        changes = {
            "PYTHONPATH": str(ROOT),
            "FMNIST_DATA": str(small_data),
            "RAY_TMPDIR": ray_folder,
            "NO_COLOR": "1",
            "COLUMNS": "200",
        }
        yield CommandLine(tmp_path, dict(os.environ) | changes)


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    output: str


@pytest.fixture
def call(
    tmp_path: Path, small_data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """Runs a command line in this process, which spares the seconds of import: for what ends before any real work."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"FMNIST_DATA": str(small_data), "NO_COLOR": "1", "COLUMNS": "200"}.items():
        monkeypatch.setenv(name, value)

    def run(module: str, *arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", [module, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended, warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # that the module is imported already
            runpy.run_module(module, run_name="__main__")
        captured = capsys.readouterr()
        return Outcome(int(ended.value.code or 0), captured.out + captured.err)

    return run
