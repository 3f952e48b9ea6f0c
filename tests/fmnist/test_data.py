"""The data: Fashion-MNIST itself, other sets in its format, and every way in which files can be wrong."""

import gzip
import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fmnist import data
from fmnist.config import Problem, TrainConfig
from fmnist.data import (
    CLASSES,
    SHA256,
    DataInfo,
    Source,
    Split,
    find_data,
    load_info,
    load_test,
    load_train,
    pixel_statistics,
    split_train,
)
from fmnist.errors import InputError
from fmnist.idx import DataError, write_idx
from tests.conftest import Outcome, write_split

CONFIG = TrainConfig(validation_images=5000)


def test_the_real_set(train: Split, official_test: Split, info: DataInfo) -> None:
    assert info.classes == CLASSES
    assert (info.name, info.channels, info.image_size, info.fit) == ("Fashion-MNIST", 1, 28, "mnist")
    assert train.images.shape == (60000, 28, 28)
    assert train.images.dtype == torch.uint8
    assert torch.bincount(train.labels).tolist() == [6000] * 10
    assert torch.bincount(official_test.labels).tolist() == [1000] * 10
    mean, std = pixel_statistics(train.images)
    assert mean.shape == std.shape == (1, 1, 1)
    assert (mean.item() / 255, std.item() / 255) == (pytest.approx(0.2860, abs=1e-4), pytest.approx(0.3530, abs=1e-4))


def test_statistics_of_colour_are_per_channel() -> None:
    images = torch.randint(0, 256, (50, 3, 8, 8), dtype=torch.uint8)
    images[:, 1] //= 2
    mean, std = pixel_statistics(images)
    assert torch.allclose(mean.flatten(), images.float().mean((0, 2, 3)), atol=1e-3)
    assert torch.allclose(std.flatten(), images.float().std((0, 2, 3), correction=0), atol=1e-3)


def test_split_is_stratified_disjoint_and_fixed(train: Split) -> None:
    numbered = Split(torch.arange(len(train)).view(-1, 1, 1), train.labels)
    config, rest, held_out = split_train(TrainConfig(), numbered)
    assert held_out is not None
    assert config.validation_images == 5000
    assert torch.bincount(held_out.labels).tolist() == [500] * 10
    assert sorted(torch.cat((rest.images, held_out.images)).flatten().tolist()) == list(range(60000))
    # The split is part of every published figure: it may not drift.
    digest = hashlib.sha256(held_out.images.numpy().tobytes()).hexdigest()
    assert digest == "f60a323b1cc344debb2e3202c07945cb4afeae64fa542c6c9a8652a754bf20ff"


def test_fewer_training_images_leave_validation_alone(train: Split) -> None:
    _, few, held_out = split_train(CONFIG.replace(train_images=1000), train)
    _, _, as_ever = split_train(CONFIG, train)
    assert held_out is not None
    assert as_ever is not None
    assert torch.equal(held_out.images, as_ever.images)
    assert torch.bincount(few.labels).tolist() == [100] * 10


@pytest.mark.parametrize("change", [{"validation_images": 60000}, {"validation_images": 3}, {"train_images": 55001}], ids=str)
def test_split_refuses_what_does_not_fit(change: dict[str, int], train: Split) -> None:
    with pytest.raises(InputError, match="{}={}".format(*next(iter(change.items())))):
        split_train(CONFIG.replace(**change), train)


def test_small_sets_hold_out_a_twelfth() -> None:
    few = Split(torch.zeros(60, 8, 8, dtype=torch.uint8), torch.arange(60) % 3)
    config, rest, held_out = split_train(TrainConfig(), few)
    assert held_out is not None
    assert (config.validation_images, len(rest), len(held_out)) == (5, 55, 5)
    assert split_train(TrainConfig(validation_images=0), few)[2] is None


@pytest.fixture
def fashion(data_folder: Path, tmp_path: Path) -> Path:
    """A copy of Fashion-MNIST's files, to be damaged."""
    for name in SHA256:
        shutil.copy(data_folder / f"{name}.gz", tmp_path)
    return tmp_path


def flip_a_bit(path: Path) -> None:
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[-1] ^= 1
    path.write_bytes(gzip.compress(bytes(content), 1))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100000])


def swap(path: Path) -> None:
    other = path.with_name(path.name.replace("t10k", "train"))
    aside = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(aside)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        (
            "t10k-labels-idx1-ubyte.gz",
            Path.unlink,
            "data='FOLDER': it lacks t10k-labels-idx1-ubyte (plain or .gz); name the folder that holds them",
        ),
        (
            "t10k-labels-idx1-ubyte.gz",
            flip_a_bit,
            "FOLDER/t10k-labels-idx1-ubyte.gz: damaged, since t10k-images-idx3-ubyte beside it is Fashion-MNIST's; "
            "delete it and put a whole one there",
        ),
        (
            "t10k-labels-idx1-ubyte.gz",
            swap,
            "FOLDER: train-labels-idx1-ubyte is Fashion-MNIST's t10k-labels-idx1-ubyte: files are swapped; rename them",
        ),
    ],
)
def test_damaged_fashion_mnist_is_told_in_one_line(name: str, damage: Callable[[Path], None], message: str, fashion: Path) -> None:
    damage(fashion / name)
    with pytest.raises(DataError) as raised:
        load_info(find_data(Source(data=str(fashion))))
    assert str(raised.value) == message.replace("FOLDER", str(fashion))


def test_two_damaged_files_are_both_named(fashion: Path) -> None:
    for name in ("t10k-labels-idx1-ubyte.gz", "train-labels-idx1-ubyte.gz"):
        flip_a_bit(fashion / name)
    with pytest.raises(DataError) as raised:
        load_info(fashion)
    named = (
        f"{fashion}/train-labels-idx1-ubyte.gz, {fashion}/t10k-labels-idx1-ubyte.gz: damaged, since t10k-images-idx3-ubyte beside"
    )
    assert str(raised.value).startswith(named)


def test_a_file_cut_short(fashion: Path) -> None:
    cut(fashion / "t10k-images-idx3-ubyte.gz")
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte\.gz cannot be unpacked"):
        load_info(fashion)


def own(folder: Path, train: Split, classes: int = 3) -> Split:
    split = Split(train.images[:40], torch.arange(40) % classes)
    write_split(folder, "train", split)
    write_split(folder, "t10k", split)
    return split


def test_own_data_is_taken_and_held_to_the_sums_of_its_first_use(
    tmp_path: Path, train: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = own(tmp_path, train)
    info = load_info(tmp_path)
    assert info.classes == ("0", "1", "2")
    assert info.name == tmp_path.name
    assert torch.equal(load_train(tmp_path, info).images, split.images)
    monkeypatch.setenv("FMNIST_DATA", str(tmp_path))
    assert find_data() == tmp_path
    images = tmp_path / "train-images-idx3-ubyte"
    content = bytearray(images.read_bytes())
    content[5000] ^= 1
    images.write_bytes(content)
    with pytest.raises(DataError, match=r"damaged; if you changed the data, delete .*SHA256SUMS"):
        load_info(tmp_path)
    with pytest.raises(DataError, match="it changed while it was in use"):
        load_train(tmp_path, info)


def test_labels_may_begin_anywhere_and_have_names(tmp_path: Path, train: Split) -> None:
    own(tmp_path, train, classes=26)
    for prefix in ("train", "t10k"):  # as in EMNIST's letters
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte", (np.arange(40) % 26 + 1).astype(np.uint8))
    letters = [chr(ord("A") + number) for number in range(26)]
    (tmp_path / "labels.txt").write_text("\n".join(letters) + "\n")
    info = load_info(tmp_path)
    assert info.classes == tuple(letters)
    assert load_test(tmp_path, info).labels.tolist() == [number % 26 for number in range(40)]
    (tmp_path / "labels.txt").write_text("a\nb\n")
    with pytest.raises(DataError, match="2 lines, but the training labels have 26 values, 1 to 26"):
        load_info(tmp_path)


def test_emnist_is_found_by_its_own_names_and_set_upright(tmp_path: Path, train: Split) -> None:
    images, labels = train.images[:40].numpy(), (np.arange(40) % 26 + 1).astype(np.uint8)
    for part in ("train", "test"):
        write_idx(tmp_path / f"emnist-letters-{part}-images-idx3-ubyte", images.swapaxes(1, 2).copy())
        write_idx(tmp_path / f"emnist-letters-{part}-labels-idx1-ubyte", labels)
    info = load_info(find_data(Source(data=str(tmp_path))))
    assert info.name == "emnist-letters"
    assert torch.equal(load_train(tmp_path, info).images, train.images[:40])
    write_idx(tmp_path / "emnist-digits-train-labels-idx1-ubyte", labels)
    with pytest.raises(DataError, match="it holds 2 sets"):
        find_data(Source(data=str(tmp_path)))


def test_colour_and_other_sizes_in_the_same_format(tmp_path: Path) -> None:
    split = Split(torch.randint(0, 256, (30, 3, 64, 64), dtype=torch.uint8), torch.arange(30) % 3)
    write_split(tmp_path, "train", split)
    write_split(tmp_path, "t10k", split)
    info = load_info(tmp_path)
    assert (info.channels, info.image_size, info.fit) == (3, 64, "pad")
    assert torch.equal(load_train(tmp_path, info).images, split.images)


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("train-labels-idx1-ubyte", np.zeros(39, np.uint8), "FOLDER: 40 images but 39 labels in train"),
        ("t10k-labels-idx1-ubyte", np.zeros(41, np.uint8), "FOLDER: 40 images but 41 labels in t10k"),
        ("train-labels-idx1-ubyte", np.zeros((40, 1), np.uint8), "FOLDER/FILE holds 2 dimensions; labels have one"),
        *(
            (
                file,
                np.zeros(shape, np.uint8),
                f"FOLDER/FILE holds an array of {shape}; images are (N, size, size) gray or (N, 3, size, size) colour",
            )
            for file, shape in (
                ("train-images-idx3-ubyte", (40, 28, 20)),
                ("t10k-images-idx3-ubyte", (40, 28)),
                ("t10k-images-idx3-ubyte", (40, 4, 28, 28)),
                ("t10k-images-idx3-ubyte", (40, 3, 28, 20)),
            )
        ),
        (
            "t10k-images-idx3-ubyte",
            np.zeros((40, 20, 20), np.uint8),
            "FOLDER: training and test images differ in shape, (28, 28) and (20, 20)",
        ),
        (
            "t10k-labels-idx1-ubyte",
            np.full(40, 9, np.uint8),
            "FOLDER/t10k-labels-idx1-ubyte: labels [9]; the training labels must have them all, two or more",
        ),
        (
            "train-labels-idx1-ubyte",
            np.full(40, 1, np.uint8),
            "FOLDER/t10k-labels-idx1-ubyte: labels [0, 2]; the training labels must have them all, two or more",
        ),
    ],
)
def test_files_that_do_not_belong_together(file: str, values: np.ndarray, message: str, tmp_path: Path, train: Split) -> None:
    own(tmp_path, train)
    write_idx(tmp_path / file, values)
    with pytest.raises(DataError) as raised:
        load_info(tmp_path)
    assert str(raised.value) == message.replace("FOLDER", str(tmp_path)).replace("FILE", file)


def test_sets_of_no_images_and_of_one_class(tmp_path: Path, train: Split) -> None:
    own(tmp_path, train)
    for prefix in ("train", "t10k"):
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte", np.full(40, 7, np.uint8))
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte: labels of one class only; the training labels must"):
        load_info(tmp_path)
    for kind, shape in (("images-idx3", (0, 28, 28)), ("labels-idx1", (0,))):
        write_idx(tmp_path / f"train-{kind}-ubyte", np.zeros(shape, np.uint8))
    with pytest.raises(DataError, match=r"0 images but 0 labels in train$"):
        load_info(tmp_path)


def test_a_whole_description_of_ones_own_data(tmp_path: Path, train: Split) -> None:
    own(tmp_path, train)
    info = load_info(tmp_path)
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.glob("*-ubyte")}
    assert info == DataInfo(
        name=tmp_path.name,
        classes=("0", "1", "2"),
        sha256=digests,
        channels=1,
        image_size=28,
        fit="mnist",
        label_values=(0, 1, 2),
        source=str(tmp_path),
    )
    sums = (tmp_path / "SHA256SUMS").read_text()
    assert sorted(sums.splitlines()) == sorted(f"{digest}  {name}" for name, digest in digests.items())
    (tmp_path / "dataset.json").write_text('{"name": "mine", "fit": "crop"}')
    assert load_info(tmp_path) == replace(info, name="mine", fit="crop")


def test_sums_as_other_tools_write_them(tmp_path: Path, train: Split) -> None:
    own(tmp_path, train)
    load_info(tmp_path)
    sums = tmp_path / "SHA256SUMS"
    sums.write_text("# not a sum at all\n\n" + sums.read_text().replace("  ", " *"))
    load_info(tmp_path)
    sums.write_text(sums.read_text().replace("t10k-labels-idx1-ubyte", "t10k labels"))
    with pytest.raises(DataError) as raised:
        load_info(tmp_path)
    path = tmp_path / "t10k-labels-idx1-ubyte"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    assert str(raised.value) == (
        f"{path}: SHA-256 {digest}… instead of the none… of {sums}: damaged; if you changed the data, delete {sums}"
    )


def test_a_folder_that_cannot_be_written_to_is_read_all_the_same(
    tmp_path: Path, train: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, content: str) -> None:
        raise PermissionError(path)

    own(tmp_path, train)
    monkeypatch.setattr(data, "write_atomic", refuse)
    assert load_info(tmp_path).classes == ("0", "1", "2")
    assert not (tmp_path / "SHA256SUMS").exists()


def test_data_of_a_run_must_be_what_it_was(tmp_path: Path, train: Split) -> None:
    own(tmp_path, train)
    info = load_info(tmp_path)
    assert load_info(tmp_path, info) == info
    with pytest.raises(DataError) as raised:
        load_info(tmp_path, replace(info, name="other", sha256=SHA256))
    assert str(raised.value) == (f"data={str(tmp_path)!r} is {tmp_path.name}, but the model was trained on another set, other")
    with pytest.raises(DataError) as raised:
        load_test(tmp_path, replace(info, sha256=dict.fromkeys(info.sha256, "0" * 64)))
    path = tmp_path / "t10k-images-idx3-ubyte"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    assert str(raised.value) == f"{path}: SHA-256 {digest}… instead of 000000000000…: it changed while it was in use"


def test_where_data_is_looked_for(tmp_path: Path, train: Split, data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named, trained, variable, cached = (tmp_path / name for name in ("named", "trained", "variable", "cache/fmnist"))
    for folder in (named, trained, variable, cached):
        folder.mkdir(parents=True)
        own(folder, train)
    monkeypatch.setenv("FMNIST_DATA", str(variable))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    info = load_info(trained)
    assert find_data(Source(data=str(named)), info) == named
    assert find_data(trained_on=info) == trained
    assert find_data(trained_on=replace(info, source=str(tmp_path / "gone"))) == variable
    assert find_data() == variable
    monkeypatch.delenv("FMNIST_DATA")
    assert find_data() == cached
    for file in cached.iterdir():
        file.unlink()
    monkeypatch.setattr(data, "DEBIAN_FOLDER", data_folder)
    assert find_data() == data_folder
    monkeypatch.setattr(data, "DEBIAN_FOLDER", tmp_path / "none")
    monkeypatch.setattr(data, "_fetch", lambda folder: folder / "fetched")
    assert find_data() == cached / "fetched"


def test_the_cache_is_where_caches_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert data.cache_folder() == tmp_path / ".cache/fmnist"
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert data.cache_folder() == Path("/cache/fmnist")


def test_a_folder_of_images_is_imported_at_the_size_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(6):
            pixels = np.random.default_rng(number).integers(0, 256, (9, 9), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / name / f"{number}.png")
    source = Source(from_folder=str(tmp_path / "set"), image_size=12)
    folder = find_data(source)
    assert folder.is_relative_to(tmp_path / "cache/fmnist/folders")
    info = load_info(folder)
    assert (info.name, info.image_size, info.channels) == ("set", 12, 1)
    again = find_data(Source(from_folder=str(tmp_path / "set")), info)  # the run's own size, whatever the flag says
    assert again == folder


@pytest.mark.parametrize("second_works", [True, False])
def test_fetching_tries_one_source_after_the_other(
    second_works: bool, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def unreachable(folder: Path, files: list[str]) -> None:
        asked.append(files)
        raise OSError("no route")

    def copy(folder: Path, files: list[str]) -> None:
        asked.append(files)
        for file in files:
            shutil.copy(data_folder / file, folder)
        if not second_works:
            flip_a_bit(folder / files[0])

    monkeypatch.setattr(data, "download_from_mirror", unreachable)
    monkeypatch.setattr(data, "unpack_debian_package", copy)
    folder = tmp_path / "cache/fmnist"
    fetch = data._fetch  # pyright: ignore[reportPrivateUsage]
    if second_works:
        folder.mkdir(parents=True)
        assert fetch(folder) == folder
        assert sorted(path.name for path in folder.iterdir()) == sorted(f"{name}.gz" for name in SHA256)
        assert load_info(folder).name == "Fashion-MNIST"
    else:
        with pytest.raises(DataError) as raised:
            fetch(folder)
        said = str(raised.value)
        assert said.startswith("Fashion-MNIST could not be fetched (torchvision's mirror: no route; Debian's package: ")
        assert "train-images-idx3-ubyte.gz: damaged" in said
        assert said.endswith(f". Put the four .gz files into {folder}, or into a folder named by --data or $FMNIST_DATA")
        assert list(folder.iterdir()) == []
    assert asked == [[f"{name}.gz" for name in SHA256]] * 2


def test_a_source_of_another_data_set_is_refused(tmp_path: Path, train: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(folder: Path, files: list[str]) -> None:
        own(folder, train)

    for name in ("download_from_mirror", "unpack_debian_package"):
        monkeypatch.setattr(data, name, other)
    with pytest.raises(DataError, match=r"\(torchvision's mirror: the files are not Fashion-MNIST's; Debian's package: the files"):
        data._fetch(tmp_path / "cache")  # pyright: ignore[reportPrivateUsage]


def test_what_a_network_must_fit(train: Split) -> None:
    assert train.take(np.arange(3)).problem(10) == Problem(10, 1, 28)
    assert Split(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.arange(2)).problem(2) == Problem(2, 3, 8)
    assert DataInfo("x", ("a", "b"), {}, channels=3, image_size=9).problem == Problem(2, 3, 9)


def test_images_of_one_gray_are_not_divided_by_nothing() -> None:
    mean, deviation = pixel_statistics(torch.full((4, 8, 8), 77, dtype=torch.uint8))
    assert (mean.item(), deviation.item()) == (77.0, 1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"validation_images": 2}, "validation_images=2: 3 (one of each class) to 57 of the 60 images, or 0"),
        ({"validation_images": 58}, "validation_images=58: 3 (one of each class) to 57 of the 60 images, or 0"),
        (
            {"validation_images": 20, "train_images": 2},
            "train_images=2: 3 (one of each class) to the 40 that the split leaves; 0 takes them all",
        ),
        (
            {"validation_images": 20, "train_images": 41},
            "train_images=41: 3 (one of each class) to the 40 that the split leaves; 0 takes them all",
        ),
    ],
    ids=str,
)
def test_the_bounds_of_a_split_are_told(change: dict[str, int], message: str) -> None:
    few = Split(torch.zeros(60, 8, 8, dtype=torch.uint8), torch.arange(60) % 3)
    with pytest.raises(InputError) as raised:
        split_train(TrainConfig.from_dict(change), few)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("change", "kept", "held"),
    [
        ({"validation_images": 3}, 57, 3),
        ({"validation_images": 57}, 3, 57),
        ({"validation_images": 20, "train_images": 3}, 3, 20),
        ({"validation_images": 20, "train_images": 37}, 37, 20),
        ({"validation_images": 20, "train_images": 38}, 40, 20),  # too few would be left of some class: all are kept
        ({"validation_images": 20, "train_images": 40}, 40, 20),
        ({"validation_images": 0, "train_images": 30}, 30, 0),
    ],
    ids=str,
)
def test_splits_at_their_bounds(change: dict[str, int], kept: int, held: int) -> None:
    few = Split(torch.arange(60, dtype=torch.uint8).view(60, 1, 1), torch.arange(60) % 3)
    config, training, held_out = split_train(TrainConfig.from_dict(change), few)
    assert config.validation_images == held
    assert len(training) == kept
    assert (0 if held_out is None else len(held_out)) == held
    order = training.images.flatten().tolist()
    assert order == sorted(order)  # the files' own order
    if held_out is not None:
        assert held_out.images.flatten().tolist() == sorted(held_out.images.flatten().tolist())
        assert not set(order) & set(held_out.images.flatten().tolist())
        assert len(held_out.labels.unique()) == 3
    assert len(training.labels.unique()) == 3


def test_a_class_of_a_single_image_cannot_be_split() -> None:
    few = Split(torch.zeros(9, 8, 8, dtype=torch.uint8), torch.tensor([0] * 8 + [1]))
    with pytest.raises(InputError, match=r"^a class has a single training image: there must be 2 to hold one out$"):
        split_train(TrainConfig(validation_images=3), few)
    assert len(split_train(TrainConfig(validation_images=0), few)[1]) == 9


def test_few_images_hold_out_one_of_each_class() -> None:
    few = Split(torch.zeros(30, 8, 8, dtype=torch.uint8), torch.arange(30) % 5)
    assert split_train(TrainConfig(), few)[0].validation_images == 5


def test_lines_of_class_names(tmp_path: Path, train: Split) -> None:
    own(tmp_path, train)
    (tmp_path / "labels.txt").write_text("  a \n\nb\nc\n")
    assert load_info(tmp_path).classes == ("a", "b", "c")
    (tmp_path / "labels.txt").write_text("a\n")
    with pytest.raises(DataError) as raised:
        load_info(tmp_path)
    assert str(raised.value) == (
        f"{tmp_path}/labels.txt has 1 lines, but the training labels have 3 values, 0 to 2: one line a class"
    )


def test_two_sets_in_a_folder_and_none(tmp_path: Path, train: Split) -> None:
    with pytest.raises(DataError) as raised:
        find_data(Source(data=str(tmp_path)))
    assert str(raised.value) == (
        f"data={str(tmp_path)!r}: it lacks train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, "
        "t10k-labels-idx1-ubyte (plain or .gz); name the folder that holds them"
    )
    own(tmp_path, train)
    (tmp_path / "other_train-images.idx3-ubyte.gz").write_bytes(b"")
    with pytest.raises(DataError) as raised:
        find_data(Source(data=str(tmp_path)))
    assert str(raised.value) == f"data={str(tmp_path)!r}: it holds 2 sets (, other_); put one in a folder of its own"


def test_a_plain_file_wins_over_a_packed_one(tmp_path: Path, train: Split) -> None:
    split = own(tmp_path, train)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"damaged")
    assert torch.equal(load_train(tmp_path, load_info(tmp_path)).images, split.images)


def test_not_an_idx_file_and_one_cut_short(tmp_path: Path, train: Split) -> None:
    own(tmp_path, train)
    images = tmp_path / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"31,366 bytes where its header promises 31,376"):
        load_info(tmp_path)
    images.write_bytes(np.arange(5000, dtype=np.uint8).tobytes())
    with pytest.raises(DataError, match="not an IDX file"):
        load_info(tmp_path)


def test_two_sources_are_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^--data and --from-folder: give one of them$"):
        find_data(Source(data="a", from_folder="b"))


def test_the_description_in_words(tmp_path: Path, train: Split, capsys: pytest.CaptureFixture[str]) -> None:
    own(tmp_path, train)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", (np.arange(40) % 2).astype(np.uint8))
    data.main(data.DataOptions(source=Source(data=str(tmp_path))))
    mean, deviation = (statistic.item() for statistic in pixel_statistics(train.images[:40]))
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path.name} in {tmp_path}",
        f"40 training and 40 test images, 28×28 gray; pixel mean {mean:.2f}, deviation {deviation:.2f}",
        "    0  0                      14       20",
        "    1  1                      13       20",
        "    2  2                      13        0",
    ]


def test_the_description_of_colour(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    split = Split(torch.randint(0, 256, (30, 3, 8, 8), dtype=torch.uint8), torch.arange(30) % 2)  # two classes are enough
    for prefix in ("train", "t10k"):
        write_split(tmp_path, prefix, split)
    data.main(data.DataOptions(source=Source(data=str(tmp_path))))
    mean = ", ".join(f"{value:.2f}" for value in pixel_statistics(split.images)[0].flatten())
    assert f"30 training and 30 test images, 8×8 colour; pixel mean {mean}, deviation " in capsys.readouterr().out


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
