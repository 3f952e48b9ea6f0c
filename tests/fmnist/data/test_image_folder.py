"""A folder of images becomes a data set: any size, mode and aspect, with a split or without."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fmnist.data.dataset import load_info, load_test, load_train
from fmnist.data.sources import Source, find_data
from fmnist.errors import DataError, InputError


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def draw_images(folder: Path, count: int, mode: str, seed: int = 0) -> None:
    """Images of as many sizes and aspects."""
    source = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        height, width = source.integers(10, 90, 2)
        pixels = source.integers(0, 256, (height, width, 3), np.uint8)
        suffix = "png" if number % 2 else "tiff"
        Image.fromarray(pixels).convert(mode).save(folder / f"{number}.{suffix}")


def open_folder(folder: Path, size: int = 20) -> Path:
    return find_data(Source(from_folder=str(folder), image_size=size))


def test_gray_stays_gray_and_a_split_is_made(tmp_path: Path) -> None:
    for number, name in enumerate(("cat", "dog", "owl")):
        draw_images(tmp_path / "animals" / name, 18, "L", number)
    (tmp_path / "animals/owl/notes.txt").write_text("not an image")

    folder = open_folder(tmp_path / "animals")
    info = load_info(folder)
    assert info.name == "animals"
    assert info.classes == ("cat", "dog", "owl")
    assert (info.channels, info.image_size) == (1, 20)

    train, test = load_train(folder, info), load_test(folder, info)
    assert train.images.shape == (45, 20, 20)
    assert torch.bincount(train.labels).tolist() == [15] * 3
    assert torch.bincount(test.labels).tolist() == [3] * 3
    everything = torch.cat((train.images, test.images)).flatten(1)
    assert len(everything.unique(dim=0)) == 54


def test_converted_once_until_an_image_changes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        draw_images(tmp_path / "set" / name, 6, "L")
    first = open_folder(tmp_path / "set")
    written = {file: file.stat().st_mtime_ns for file in first.iterdir()}
    assert len(written) == 6
    assert open_folder(tmp_path / "set") == first
    assert written == {file: file.stat().st_mtime_ns for file in first.iterdir()}

    assert open_folder(tmp_path / "set", size=16) != first
    Image.new("L", (30, 30), 200).save(tmp_path / "set/a/1.png")
    assert open_folder(tmp_path / "set") != first


def test_one_colour_image_makes_three_channels_and_the_folders_split_is_kept(
    tmp_path: Path,
) -> None:
    for part, count in (("train", 8), ("test", 4)):
        draw_images(tmp_path / "set" / part / "a", count, "L")
        mode = "RGB" if part == "test" else "L"
        draw_images(tmp_path / "set" / part / "b", count, mode, seed=1)

    folder = open_folder(tmp_path / "set", 32)
    info = load_info(folder)
    train, test = load_train(folder, info), load_test(folder, info)
    assert (len(train), len(test)) == (16, 8)
    assert train.images.shape == (16, 3, 32, 32)
    assert info.fit == "pad"
    assert torch.equal(train.images[0, 0], train.images[0, 2])
    assert not torch.equal(test.images[-1, 0], test.images[-1, 2])


def test_aspect_is_kept_by_padding_with_black(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(6):
            Image.new("L", (80, 40), 100 + number).save(tmp_path / f"set/{name}/{number}.png")

    folder = open_folder(tmp_path / "set")
    image = load_train(folder, load_info(folder)).images[0]
    assert bool((image[5:15] >= 100).all())
    assert int(image[:5].sum() + image[15:].sum()) == 0


def test_what_is_wrong_with_a_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        open_folder(tmp_path / "none")

    draw_images(tmp_path / "set/a", 6, "L")
    with pytest.raises(DataError, match="1 subfolders with images"):
        open_folder(tmp_path / "set")

    draw_images(tmp_path / "set/b", 3, "L")
    with pytest.raises(DataError, match="class 'b' has 3 images"):
        open_folder(tmp_path / "set")

    draw_images(tmp_path / "set/b", 6, "L")
    (tmp_path / "set/b/7.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"7\.png.* is not an image .*take it out"):
        open_folder(tmp_path / "set")
    with pytest.raises(InputError, match="image_size=4"):
        open_folder(tmp_path / "set", 4)
    assert not list((tmp_path / "cache").rglob("*-images-*"))


def test_splits_of_other_classes_are_told(tmp_path: Path) -> None:
    draw_images(tmp_path / "two/train/a", 6, "L")
    draw_images(tmp_path / "two/train/b", 6, "L")
    draw_images(tmp_path / "two/val/a", 6, "L")
    draw_images(tmp_path / "two/val/c", 6, "L")
    with pytest.raises(DataError, match="not in both: b, c"):
        open_folder(tmp_path / "two")
    assert not list((tmp_path / "cache").rglob("*-images-*"))
