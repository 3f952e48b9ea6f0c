"""Where the data comes from: named folders, the cache, and what is fetched."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fmnist.data import sources
from fmnist.data.dataset import Split, load_info
from fmnist.data.formats import SHA256
from fmnist.data.sources import Source, cache_folder, find_data, parse_size
from fmnist.errors import DataError, InputError
from tests.fmnist.data.files import flip_a_bit, write_small_set

FETCHED = [f"{name}.gz" for name in SHA256]


def test_where_data_is_looked_for(
    tmp_path: Path, train: Split, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named, trained, variable = (tmp_path / name for name in ("named", "trained", "variable"))
    cached = tmp_path / "cache/fmnist"
    for folder in (named, trained, variable, cached):
        folder.mkdir(parents=True)
        write_small_set(folder, train)
    monkeypatch.setenv("FMNIST_DATA", str(variable))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    info = load_info(trained)
    assert find_data(Source(data=str(named)), info) == named
    assert find_data(trained_on=info) == trained
    assert find_data(trained_on=replace(info, source=str(tmp_path / "gone"))) == variable
    assert find_data(trained_on=replace(info, source="")) == variable
    assert find_data() == variable
    monkeypatch.delenv("FMNIST_DATA")
    assert find_data() == cached

    for file in cached.iterdir():
        file.unlink()
    monkeypatch.setattr(sources, "DEBIAN_FOLDER", data_folder)
    assert find_data() == data_folder
    monkeypatch.setattr(sources, "DEBIAN_FOLDER", tmp_path / "none")
    monkeypatch.setattr(sources, "_fetch", lambda folder: folder / "fetched")
    assert find_data() == cached / "fetched"


def test_flags_of_an_import_that_change_nothing_are_told(
    tmp_path: Path, train: Split, capsys: pytest.CaptureFixture[str]
) -> None:
    write_small_set(tmp_path, train)
    find_data(Source(data=str(tmp_path)))
    assert capsys.readouterr().err == ""
    assert find_data(Source(data=str(tmp_path), image_size="64")) == tmp_path
    assert f"note: {tmp_path} has MNIST's files, used as they are" in capsys.readouterr().err


def test_the_cache_is_where_caches_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_folder() == tmp_path / ".cache/fmnist"
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert cache_folder() == Path("/cache/fmnist")


@pytest.mark.parametrize(
    ("text", "size"),
    [("28", (28, 28)), ("64", (64, 64)), ("96x128", (96, 128)), (" 96 × 128 ", (96, 128))],
)
def test_sizes_are_height_by_width(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "7", "64x", "x64", "64x64x3", "-64", "6.5", "99999", "ten"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"^image_size=.*height by width, as 96x128"):
        Source(image_size=text)


@pytest.mark.parametrize(
    ("field", "value"),
    [("fit", "zoom"), ("pad_colour", "red"), ("min_images_per_class", 0), ("max_pixels", 0)],
)
def test_other_values_are_refused(field: str, value: object) -> None:
    with pytest.raises(InputError, match=f"^{field}="):
        Source(**{field: value})  # pyright: ignore[reportArgumentType]


def test_two_sets_in_a_folder_and_none(tmp_path: Path, train: Split) -> None:
    with pytest.raises(DataError) as raised:
        find_data(Source(data=str(tmp_path)))
    assert str(raised.value).endswith("There: an empty folder")

    (tmp_path / "t10k-labels-idx1-ubyte").touch()
    with pytest.raises(DataError) as raised:
        find_data(Source(data=str(tmp_path)))
    assert str(raised.value) == (
        f"data={str(tmp_path)!r}: it lacks train-images-idx3-ubyte, train-labels-idx1-ubyte, "
        "t10k-images-idx3-ubyte (plain or .gz); name the folder that holds them"
    )

    write_small_set(tmp_path, train)
    (tmp_path / "other_train-images.idx3-ubyte.gz").write_bytes(b"")
    with pytest.raises(DataError) as raised:
        find_data(Source(data=str(tmp_path)))
    assert str(raised.value) == (
        f"data={str(tmp_path)!r}: it holds 2 sets (, other); name one: {str(tmp_path / 'other')!r}"
    )


def test_pictures_are_imported_at_the_size_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(6):
            seed = [number, ord(name)]
            pixels = np.random.default_rng(seed).integers(0, 256, (9, 9), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / name / f"{number}.png")

    folder = find_data(Source(data=str(tmp_path / "set"), image_size="12x16"))
    assert folder.is_relative_to(tmp_path / "cache/fmnist/imported")
    info = load_info(folder)
    assert (info.name, info.image_size, info.channels) == ("set", (12, 16), 1)

    # A checkpoint's own size is taken, whatever the flag says.
    again = find_data(Source(data=str(tmp_path / "set")), info)
    assert again == folder
    # An imported set may be named itself.
    assert find_data(Source(data=str(folder))) == folder
    monkeypatch.setenv("FMNIST_DATA", str(tmp_path / "set"))
    assert find_data(Source(image_size="12x16")) == folder


Download = Callable[[Path, list[str]], None]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The files that each source was asked for; the first source cannot be reached."""
    asked: list[list[str]] = []

    def unreachable(folder: Path, files: list[str]) -> None:
        asked.append(files)
        raise OSError("no route")

    monkeypatch.setattr(sources, "download_from_mirror", unreachable)
    return asked


def fetch(folder: Path) -> Path:
    return sources._fetch(folder)  # pyright: ignore[reportPrivateUsage]


def test_fetching_tries_one_source_after_the_other(
    asked: list[list[str]], data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy(folder: Path, files: list[str]) -> None:
        asked.append(files)
        for file in files:
            shutil.copy(data_folder / file, folder)

    monkeypatch.setattr(sources, "unpack_debian_package", copy)
    folder = tmp_path / "cache/fmnist"
    folder.mkdir(parents=True)
    assert fetch(folder) == folder
    assert sorted(path.name for path in folder.iterdir()) == sorted(FETCHED)
    assert load_info(folder).name == "Fashion-MNIST"
    assert asked == [FETCHED, FETCHED]


def test_what_every_source_failed_with_is_told(
    asked: list[list[str]], data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy_damaged(folder: Path, files: list[str]) -> None:
        asked.append(files)
        for file in files:
            shutil.copy(data_folder / file, folder)
        flip_a_bit(folder / files[0])

    monkeypatch.setattr(sources, "unpack_debian_package", copy_damaged)
    folder = tmp_path / "cache/fmnist"
    with pytest.raises(DataError) as raised:
        fetch(folder)

    assert str(raised.value) == (
        "Fashion-MNIST could not be fetched (torchvision's mirror: no route; "
        "Debian's package: train-images-idx3-ubyte: damaged on the way). "
        f"Put the four .gz files into {folder}, or into a folder named by --data or $FMNIST_DATA"
    )
    assert list(folder.iterdir()) == []
    assert asked == [FETCHED, FETCHED]


def test_a_source_of_another_data_set_is_refused(
    tmp_path: Path, train: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(folder: Path, files: list[str]) -> None:
        write_small_set(folder, train)

    for name in ("download_from_mirror", "unpack_debian_package"):
        monkeypatch.setattr(sources, name, other)
    words = (
        r"\(torchvision's mirror: the files are not Fashion-MNIST's; "
        r"Debian's package: the files"
    )
    with pytest.raises(DataError, match=words):
        fetch(tmp_path / "cache")
