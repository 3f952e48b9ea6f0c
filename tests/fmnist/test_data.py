"""The data: Fashion-MNIST itself, other sets in its format, and every way in which files can be wrong."""

import gzip
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fmnist.config import TrainConfig
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
    ("name", "damage", "words"),
    [
        ("t10k-labels-idx1-ubyte.gz", Path.unlink, "it lacks t10k-labels-idx1-ubyte"),
        ("t10k-labels-idx1-ubyte.gz", flip_a_bit, "t10k-labels-idx1-ubyte.gz: damaged"),
        ("t10k-images-idx3-ubyte.gz", cut, "t10k-images-idx3-ubyte.gz cannot be unpacked"),
        ("t10k-labels-idx1-ubyte.gz", swap, "files are swapped"),
    ],
)
def test_damaged_fashion_mnist_is_told_in_one_line(
    name: str, damage: Callable[[Path], None], words: str, fashion: Path, call: Callable[..., Outcome]
) -> None:
    damage(fashion / name)
    done = call("fmnist.data", "--data", fashion)
    assert done.code == 2
    assert words in done.output
    assert len(done.output.strip().splitlines()) == 1


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
    ("file", "values", "words"),
    [
        ("train-labels-idx1-ubyte", np.zeros(39, np.uint8), "40 images but 39 labels in train"),
        ("train-labels-idx1-ubyte", np.zeros((40, 1), np.uint8), "holds 2 dimensions; labels have one"),
        ("train-images-idx3-ubyte", np.zeros((40, 28, 20), np.uint8), r"an array of \(40, 28, 20\)"),
        ("t10k-images-idx3-ubyte", np.zeros((40, 20, 20), np.uint8), "differ in shape"),
        ("t10k-labels-idx1-ubyte", np.full(40, 9, np.uint8), r"labels \[9\]; the training labels must have them all"),
        ("train-labels-idx1-ubyte", np.full(40, 1, np.uint8), "the training labels must have them all"),
    ],
)
def test_files_that_do_not_belong_together(file: str, values: np.ndarray, words: str, tmp_path: Path, train: Split) -> None:
    own(tmp_path, train)
    write_idx(tmp_path / file, values)
    with pytest.raises(DataError, match=words):
        load_info(tmp_path)


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
    with pytest.raises(InputError, match="--data and --from-folder"):
        find_data(Source(data="a", from_folder="b"))


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
