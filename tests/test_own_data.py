"""Two data sets that are not Fashion-MNIST, from end to end."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from fmnist.data.dataset import load_info, load_test
from fmnist.data.sources import Source, find_data
from tests.conftest import CommandLine, Outcome
from tests.pictures import SHAPES, write_letters, write_shapes


def test_gray_letters_of_26_classes_in_mnists_format(
    call: Callable[..., Outcome], tmp_path: Path
) -> None:
    data = tmp_path / "letters"
    write_letters(data, 60, 12)
    network = ("--model", "lenet", "--optimizer", "adamw", "--lr", 0.003)
    recipe = (*network, "--epochs", 12, "--global-batch-size", 64, "--no-flip")
    assert call("fmnist.train", "--data", data, *recipe, "--name", "letters").code == 0

    # From here on nothing is said of the data: the run knows.
    for command in (("fmnist.evaluate",), ("export.to_onnx",), ("export.verify",)):
        done = call(*command)
        assert done.code == 0, done.output
    assert "passed on cpu: 312 test images" in done.output
    bundle = tmp_path / "runs/letters/export"
    assert json.loads((bundle / "verify.json").read_text())["onnx_accuracy"] > 0.8
    assert json.loads((bundle / "manifest.json").read_text())["labels"][25] == "Z"

    info = load_info(data)
    test = load_test(data, info)
    Image.fromarray(test.images[:1][0].numpy()).save(tmp_path / "letter.png")
    answer = call("export.predict", tmp_path / "letter.png").output.split(": ")[1]
    assert "%" in answer
    assert answer.split(" ")[0] in info.classes


@pytest.mark.full
@pytest.mark.cluster
def test_coloured_shapes_in_folders_of_images(
    command: CommandLine,
    call: Callable[..., Outcome],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    command.environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    write_shapes(tmp_path / "shapes", 150)
    (tmp_path / "space.toml").write_text(
        'model = ["airnet"]\nwidths = [[8, 16, 32]]\nlr = { low = 0.002, high = 0.01 }\n'
    )

    folder = ("--data", tmp_path / "shapes", "--image-size", 64)
    space = ("--preset", "demo", "--space", tmp_path / "space.toml")
    batch = ("--train.global-batch-size", 32, "--train.train-images", 0)
    base = ("--train.optimizer", "adamw", "--train.epochs", 6, *batch)
    budget = ("--trials", 2, "--grace-epochs", 2, "--time-budget-min", 0, "--retrain-epochs", 8)
    done = command("tune.search", "--name", "s", *folder, *space, *base, *budget)
    assert done.returncode == 0, done.stderr

    for step in ("export.to_onnx", "export.verify"):
        done = call(step)
        assert done.code == 0, done.output
    bundle = tmp_path / "runs/s/export"
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["input"][0]["shape"] == ["batch", 3, 64, 64]
    assert manifest["labels"] == list(SHAPES)
    assert str(tmp_path) not in json.dumps(manifest)
    assert json.loads((bundle / "verify.json").read_text())["onnx_accuracy"] > 0.8

    # The client prepares a picture as training did: on the test set's own files it is as often
    # right.
    pictures = sorted((tmp_path / "shapes").rglob("*.*"))[::15]
    words = [sys.executable, bundle / "client.py", "--top", "1", *pictures]
    shown = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path).stdout.splitlines()
    answers = [line.split(": ")[1].split(" ")[0] for line in shown]
    expected = [path.parent.name for path in pictures]
    right = sum(answer == name for answer, name in zip(answers, expected, strict=True))
    assert right / len(pictures) > 0.8

    info = load_info(find_data(Source(data=str(tmp_path / "shapes"), image_size="64")))
    assert (info.channels, info.image_size, info.name) == (3, (64, 64), "shapes")
