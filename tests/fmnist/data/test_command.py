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
from tests.fmnist.data.importing.folders import draw


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


def test_the_description_of_an_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for seed, part in enumerate(("train", "val", "test")):
        draw(tmp_path / "set" / part / "[b]old\n", 40, seed=seed)
        draw(tmp_path / "set" / part / "rare", 4, seed=seed + 10)
    copy = (tmp_path / "set/train/rare/001.png").read_bytes()
    (tmp_path / "set/test/rare/copy.png").write_bytes(copy)
    (tmp_path / "set/test/rare/bad.png").touch()
    source = Source(data=str(tmp_path / "set"), image_size="12x16", skip_bad=True)
    note = "1 of 45 test images are copies of training images"
    main(DataOptions(source=source))
    first = capsys.readouterr()
    # The import has just said it, and the description does not repeat it.
    assert note in first.err
    assert note not in first.out

    main(DataOptions(source=source))
    shown = capsys.readouterr().out
    assert "88 training (44 of them its own validation images) and 45 test images" in shown
    assert "12×16 gray" in shown
    assert note in shown
    assert "'[b]old\\n' has 40 training images, 'rare' 4 (10 : 1)" in shown
    assert "imported without 1 fault (1 empty)" in shown
    assert "    0  '[b]old\\n'             80       40" in shown


def test_of_many_classes_the_first_and_the_last_are_listed(
    tmp_path: Path, train: Split, capsys: pytest.CaptureFixture[str]
) -> None:
    write_small_set(tmp_path, train, classes=36)
    main(DataOptions(source=Source(data=str(tmp_path))))
    lines = capsys.readouterr().out.splitlines()[2:]
    assert len(lines) == 26
    assert lines[19].split() == ["19", "19", "1", "1"]
    assert lines[20] == "  … 11 more of 36 classes"
    assert lines[21].split() == ["31", "31", "1", "1"]


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
