"""An import: what becomes of pictures, splits and copies, and what a second one reads."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fmnist.data.dataset import load_info
from fmnist.data.images import Images
from fmnist.data.sources import Source, find_data
from fmnist.errors import DataError
from tests.fmnist.data.importing.folders import draw, draw_classes, open_set
from tests.pictures import deep_png


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_gray_stays_gray_and_a_test_split_is_made(tmp_path: Path) -> None:
    draw_classes(tmp_path / "animals", ("cat", "dog", "owl"), 18)
    (tmp_path / "animals/owl/notes.txt").write_text("not an image")

    found = open_set(tmp_path / "animals", "20")
    assert found.info.name == "animals"
    assert found.info.classes == ("cat", "dog", "owl")
    assert (found.info.channels, found.info.image_size) == (1, (20, 20))
    assert (found.info.fit, found.info.pad_colour) == ("pad", "edge")
    assert found.train.images.shape == (45, 20, 20)
    assert found.train.labels.bincount().tolist() == [15] * 3
    assert found.test.labels.bincount().tolist() == [3] * 3
    everything = torch.cat((found.train.images.tensor(), found.test.images.tensor()))
    assert len(everything.flatten(1).unique(dim=0)) == 54


def test_rectangles_are_height_by_width(tmp_path: Path) -> None:
    draw_classes(tmp_path / "set", "ab", 6)
    found = open_set(tmp_path / "set", "12x20")
    assert found.train.images.shape == (10, 12, 20)
    assert found.info.image_size == (12, 20)


def test_each_fit_and_pad_colour_is_an_import_of_its_own(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(6):
            Image.new("L", (80, 40), 100 + number).save(tmp_path / f"set/{name}/{number}.png")

    black = open_set(tmp_path / "set", "20", pad_colour="black").train.images[:1][0]
    assert bool((black[5:15] >= 100).all())
    assert int(black[:5].sum() + black[15:].sum()) == 0
    edge = open_set(tmp_path / "set", "20").train.images[:1][0]
    assert bool((edge >= 100).all())
    stretched = open_set(tmp_path / "set", "20", fit="stretch")
    assert stretched.info.fit == "stretch"


def test_the_first_colour_picture_makes_all_rows_colour(tmp_path: Path) -> None:
    draw(tmp_path / "set/a", 9, "L", 1)
    draw(tmp_path / "set/b", 9, "RGB", 2)
    found = open_set(tmp_path / "set")
    assert found.train.images.shape == (14, 3, 16, 16)
    images = found.train.images.tensor()
    gray = images[found.train.labels == 0]
    assert torch.equal(gray[:, 0], gray[:, 1])
    colour = images[found.train.labels == 1]
    assert not torch.equal(colour[:, 0], colour[:, 1])

    # The same pictures alone, in gray, have the same pixels.
    draw(tmp_path / "gray/a", 9, "L", 1)
    draw(tmp_path / "gray/b", 9, "L", 3)
    alone = open_set(tmp_path / "gray").train
    assert torch.equal(alone.images.tensor()[alone.labels == 0], gray[:, 0])


def test_the_sums_are_those_of_the_pixels(tmp_path: Path) -> None:
    draw(tmp_path / "set/a", 6, "L", 1)
    draw(tmp_path / "set/b", 6, "RGB", 2)
    images = open_set(tmp_path / "set").train.images
    pixels = images.tensor().flatten(2).long()
    expected = torch.stack((pixels.sum(2), (pixels**2).sum(2)), 2)
    assert images.sums is not None
    assert torch.equal(images.sums, expected)


def test_rows_name_their_files_and_original_sizes(tmp_path: Path) -> None:
    draw_classes(tmp_path / "set", "ab", 6)
    Image.new("RGB", (300, 200), "red").save(tmp_path / "set/a/large.jpg")
    found = open_set(tmp_path / "set")
    lines = [json.loads(line) for line in (found.folder / "files.jsonl").open()]
    assert [line["file"] for line in lines] == sorted(line["file"] for line in lines)
    (large,) = [line for line in lines if line["file"] == "a/large.jpg"]
    assert (large["width"], large["height"]) == (300, 200)

    rows = Images(found.train.images.source)
    place = lines.index(large)
    assert rows[place : place + 1][0, 0].float().mean() > 200


def test_a_second_import_reads_only_what_has_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_classes(tmp_path / "set", ("a", "b"), 25)
    first = open_set(tmp_path / "set")
    assert "50 pictures read, 0 unchanged" in capsys.readouterr().err
    written = {path: path.stat().st_mtime_ns for path in first.folder.iterdir()}

    again = open_set(tmp_path / "set")
    assert again.folder == first.folder
    assert written == {path: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    assert capsys.readouterr().err == ""

    Image.new("L", (30, 30), 200).save(tmp_path / "set/a/001.png")
    changed = open_set(tmp_path / "set")
    assert "1 picture read, 49 unchanged" in capsys.readouterr().err
    assert changed.folder != first.folder

    (tmp_path / "set/a/003.png").unlink()
    Image.new("RGB", (30, 30), "red").save(tmp_path / "set/b/new.png")
    changed = open_set(tmp_path / "set")
    assert "1 picture read, 49 unchanged" in capsys.readouterr().err
    fresh = import_elsewhere(tmp_path, tmp_path / "set")
    assert changed.all_bytes == fresh


def import_elsewhere(tmp_path: Path, folder: Path) -> dict[str, bytes]:
    """What an import makes that finds nothing of earlier ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path / "another cache"))
        return open_set(folder).all_bytes


def test_colour_rows_are_copied_into_a_set_that_is_gray_again(tmp_path: Path) -> None:
    draw_classes(tmp_path / "set", "ab", 8)
    Image.new("RGB", (30, 30), "red").save(tmp_path / "set/b/red.png")
    assert open_set(tmp_path / "set").info.channels == 3
    (tmp_path / "set/b/red.png").unlink()
    gray = open_set(tmp_path / "set")
    assert gray.info.channels == 1
    assert gray.all_bytes == import_elsewhere(tmp_path, tmp_path / "set")


def test_the_folders_splits_are_kept(tmp_path: Path) -> None:
    parts = {"Training": 8, "VAL": 3, "Testing": 4}
    for seed, (part, count) in enumerate(parts.items()):
        draw(tmp_path / "set" / part / "cat", count, seed=seed)
        draw(tmp_path / "set" / part / "dog", count, seed=seed + 10)
    found = open_set(tmp_path / "set")
    assert found.info.classes == ("cat", "dog")
    # The maker's validation images are training images that are not trained on.
    assert (len(found.train), len(found.test)) == (22, 8)
    assert found.train.own_validation is not None
    assert int(found.train.own_validation.sum()) == 6
    assert found.report["splits"] == {
        "train": 16, "validation": 6, "test": 8, "test_chosen_here": False
    }  # fmt: skip


def test_a_validation_split_alone_serves_as_the_test(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part, count in (("train", 8), ("valid", 4)):
        for seed, name in enumerate("ab"):
            draw(tmp_path / "set" / part / name, count, seed=count + seed)
    found = open_set(tmp_path / "set")
    assert (len(found.train), len(found.test)) == (16, 8)
    assert found.train.own_validation is None
    assert "the validation images serve as the test" in capsys.readouterr().err


def test_copies_stay_in_one_split_and_conflicts_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, name in enumerate("ab"):
        for path in draw(tmp_path / "set" / name, 20, seed=seed):
            path.with_name(f"copy of {path.name}").write_bytes(path.read_bytes())
    wrong = tmp_path / "set/b/wrong.png"
    wrong.write_bytes((tmp_path / "set/a/001.png").read_bytes())

    found = open_set(tmp_path / "set")
    trained, tested = found.train.images.tensor(), found.test.images.tensor()
    in_training = {image.numpy().tobytes() for image in trained}
    assert not any(image.numpy().tobytes() in in_training for image in tested)
    assert found.report["copies"] == {
        "images": 41, "test_images_in_training": 0, "images_under_several_labels": 3
    }  # fmt: skip
    assert found.report["conflicts"] == [
        [
            {"file": "a/001.png", "label": "a"},
            {"file": "a/copy of 001.png", "label": "a"},
            {"file": "b/wrong.png", "label": "b"},
        ]
    ]
    said = capsys.readouterr().err
    assert "41 images are copies of others, pixel for pixel; copies are in one split" in said
    assert "3 images have a copy under another label" in said


def test_copies_across_the_makers_splits_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, name in enumerate("ab"):
        draw(tmp_path / "set/train" / name, 8, seed=seed)
        draw(tmp_path / "set/test" / name, 4, seed=seed + 10)
    copy = tmp_path / "set/test/a/copy.png"
    copy.write_bytes((tmp_path / "set/train/a/001.png").read_bytes())
    report = open_set(tmp_path / "set").report
    assert report["copies"]["test_images_in_training"] == 1
    assert "1 of 9 test images are copies of training images" in capsys.readouterr().err


def test_the_test_images_stay_when_others_come(tmp_path: Path) -> None:
    draw_classes(tmp_path / "set", "ab", 30)
    first = open_set(tmp_path / "set")
    test_files = set(files_of_test(first.folder))
    Image.new("L", (30, 30), 9).save(tmp_path / "set/a/zz.png")
    second = open_set(tmp_path / "set")
    # 31 pictures have a test picture more, which may be any.
    assert len(test_files & set(files_of_test(second.folder))) >= len(test_files) - 1


def files_of_test(folder: Path) -> list[str]:
    splits = np.frombuffer((folder / "splits-idx1-ubyte").read_bytes()[8:], np.uint8)
    lines = (folder / "files.jsonl").read_text().splitlines()
    return [json.loads(line)["file"] for line, split in zip(lines, splits, strict=True) if split]


def test_deep_pictures_are_scaled_by_the_sets_range(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("a", 500), ("b", 3000)):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(6):
            pixels = np.full((20, 20), value + 100 * number, np.uint16)
            Image.fromarray(pixels).save(tmp_path / f"set/{name}/{number}.png")
    dark, bright = np.full((20, 20), 0, np.uint16), np.full((20, 20), 4095, np.uint16)
    Image.fromarray(dark).save(tmp_path / "set/a/dark.png")
    Image.fromarray(bright).save(tmp_path / "set/b/bright.png")

    found = open_set(tmp_path / "set")
    assert found.info.pixel_range == (0, 4095)
    assert "14 pictures have more than 8 bits" in capsys.readouterr().err
    rows = Images(found.train.images.source).tensor()
    values = {name: int(row[8, 8]) for name, row in zip(found.files, rows, strict=True)}
    assert (values["a/dark.png"], values["b/bright.png"]) == (0, 255)
    assert values["a/0.png"] == round(500 / 4095 * 255)
    assert values["b/5.png"] == round(3500 / 4095 * 255)

    # Sums and copies are those of the pixels as they are in the end.
    images = found.train.images
    assert images.sums is not None
    assert torch.equal(images.sums[:, 0, 0], images.tensor().flatten(1).long().sum(1))
    again = open_set(tmp_path / "set")
    assert again.folder == found.folder


def test_a_wider_range_scales_all_deep_pictures_anew(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(6):
            pixels = np.full((20, 20), 0.1 * number + (name == "b"), np.float32)
            Image.fromarray(pixels).save(tmp_path / f"set/{name}/{number}.tiff")
    assert open_set(tmp_path / "set").info.pixel_range == pytest.approx((0, 1.5))

    Image.fromarray(np.full((20, 20), 3, np.float32)).save(tmp_path / "set/b/6.tiff")
    wider = open_set(tmp_path / "set")
    assert wider.info.pixel_range == pytest.approx((0, 3))
    assert wider.all_bytes == import_elsewhere(tmp_path, tmp_path / "set")


def test_colours_of_sixteen_bits_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_classes(tmp_path / "set", ("a", "b"), 6, "RGB")
    for number in range(3):
        values = np.full((20, 20, 3), 4095 - number, np.uint16)
        (tmp_path / f"set/a/deep{number}.png").write_bytes(deep_png(values))

    # Of what was read before, it is remembered.
    for _ in range(2):
        open_set(tmp_path / "set")
        draw(tmp_path / "set" / "b", 1, "RGB", seed=99)
        shown = capsys.readouterr().err
        assert "3 pictures with colours of 16 bits: the upper 8 are read" in shown


def test_a_checkpoint_decides_how_pictures_are_fitted(tmp_path: Path) -> None:
    draw_classes(tmp_path / "set", "ab", 8)
    trained_on = open_set(tmp_path / "set", "12x20", fit="crop", pad_colour="white").info
    # Its folder is gone: the same set is imported anew, whatever the flags say.
    for path in sorted(Path(trained_on.source).iterdir()):
        path.unlink()
    Path(trained_on.source).rmdir()
    found = find_data(Source(data=str(tmp_path / "set")), trained_on)
    assert str(found) == trained_on.source


def test_three_hundred_classes(tmp_path: Path) -> None:
    source = np.random.default_rng(0)
    for number in range(300):
        (tmp_path / f"set/{number:03}").mkdir(parents=True)
        for picture in range(3):
            pixels = source.integers(0, 256, (8, 8), np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"set/{number:03}/{picture}.png")
    found = open_set(tmp_path / "set", "8")
    assert len(found.info.classes) == 300
    assert found.train.labels.bincount().tolist() == [2] * 300
    assert found.test.labels.tolist() == list(range(300))
    assert (found.folder / "labels-idx1-int").exists()


def test_unequal_classes_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(tmp_path / "set/common", 70, seed=1)
    draw(tmp_path / "set/rare", 6, seed=2)
    open_set(tmp_path / "set")
    said = capsys.readouterr().err
    assert "'common' has 58 training images, 'rare' 5 (12 : 1)" in said
    assert "--class-weights balanced" in said


def test_a_set_that_has_changed_since_is_told_from_another(tmp_path: Path) -> None:
    draw_classes(tmp_path / "set", "ab", 8)
    before = open_set(tmp_path / "set")
    (tmp_path / "set/a/000.tiff").unlink()
    now = open_set(tmp_path / "set")
    with pytest.raises(DataError, match=f"another set, set as it was in {before.folder}"):
        load_info(now.folder, before.info)


def test_one_class_is_none(tmp_path: Path) -> None:
    draw(tmp_path / "set/a", 8)
    with pytest.raises(DataError, match=r"one class with enough pictures .*two or more"):
        open_set(tmp_path / "set")
    assert not list(tmp_path.rglob("dataset.json"))


def test_a_set_that_lost_a_file_is_imported_again(tmp_path: Path) -> None:
    draw_classes(tmp_path / "set", "ab", 8)
    first = open_set(tmp_path / "set")
    content = first.all_bytes
    (first.folder / "dataset.json").unlink()
    again = open_set(tmp_path / "set")
    assert again.folder == first.folder
    assert again.all_bytes == content
