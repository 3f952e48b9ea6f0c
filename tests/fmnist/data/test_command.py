"""`python -m fmnist.data`."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fmnist.data.__main__ import DataOptions, main
from fmnist.data.dataset import Split, pixel_statistics
from fmnist.data.idx import write_idx
from fmnist.data.sources import Source
from tests.conftest import ROOT, Outcome, write_split
from tests.fmnist.data.files import write_small_set


def test_the_description_in_words(
    tmp_path: Path, train: Split, capsys: pytest.CaptureFixture[str]
) -> None:
    write_small_set(tmp_path, train)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", (np.arange(40) % 2).astype(np.uint8))
    main(DataOptions(source=Source(data=str(tmp_path))))

    mean, deviation = (statistic.item() for statistic in pixel_statistics(train.images[:40]))
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path.name} in {tmp_path}",
        "40 training and 40 test images, 28×28 gray; "
        f"pixel mean {mean:.2f}, deviation {deviation:.2f}",
        "    0  0                      14       20",
        "    1  1                      13       20",
        "    2  2                      13        0",
    ]


def test_the_description_of_colour(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Two classes are enough.
    images = torch.randint(0, 256, (30, 3, 8, 8), dtype=torch.uint8)
    split = Split(images, torch.arange(30) % 2)
    for prefix in ("train", "t10k"):
        write_split(tmp_path, prefix, split)
    main(DataOptions(source=Source(data=str(tmp_path))))

    mean = ", ".join(f"{value:.2f}" for value in pixel_statistics(images)[0].flatten())
    expected = f"30 training and 30 test images, 8×8 colour; pixel mean {mean}, deviation "
    assert expected in capsys.readouterr().out


def test_command_describes(call: Callable[..., Outcome]) -> None:
    done = call("fmnist.data")
    assert done.code == 0
    assert "3,000 training and 500 test images, 28×28 gray" in done.output
    assert "Ankle boot" in done.output


def test_command_fails_in_one_line(call: Callable[..., Outcome], tmp_path: Path) -> None:
    done = call("fmnist.data", "--data", tmp_path)
    assert done.code == 2
    assert done.output.startswith("error: data=")
    assert len(done.output.splitlines()) == 1


@pytest.mark.parametrize("module", ["fmnist.data.__main__", "fmnist.train"])
def test_help_comes_without_pytorch(module: str) -> None:
    script = f"import sys, {module}; print(*{{'numpy', 'torch', 'sklearn'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("\n", "")
