"""Fashion-MNIST itself, other sets in its format, their splits, and wrong files."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fmnist.config import Problem, TrainConfig
from fmnist.data import dataset
from fmnist.data.dataset import (
    Split,
    TrainingData,
    load_info,
    load_test,
    load_train,
    pixel_statistics,
    split_train,
)
from fmnist.data.formats import CLASSES, SHA256
from fmnist.data.idx import write_idx
from fmnist.data.info import DataInfo
from fmnist.data.sources import Source, find_data
from fmnist.errors import DataError, InputError
from tests.conftest import write_split
from tests.fmnist.data.files import cut, flip_a_bit, swap, write_small_set

CONFIG = TrainConfig(validation_images=5000)


def hash_file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_real_set(train: Split, official_test: Split, info: DataInfo) -> None:
    assert info.classes == CLASSES
    assert info.name == "Fashion-MNIST"
    assert (info.channels, info.image_size, info.fit) == (1, (28, 28), "mnist")
    assert train.images.shape == (60000, 28, 28)
    assert train.images[:1].dtype == torch.uint8
    assert torch.bincount(train.labels).tolist() == [6000] * 10
    assert torch.bincount(official_test.labels).tolist() == [1000] * 10

    mean, deviation = pixel_statistics(train.images)
    assert mean.shape == deviation.shape == (1, 1, 1)
    assert mean.item() / 255 == pytest.approx(0.2860, abs=1e-4)
    assert deviation.item() / 255 == pytest.approx(0.3530, abs=1e-4)


def test_statistics_of_colour_are_per_channel() -> None:
    images = torch.randint(0, 256, (50, 3, 8, 8), dtype=torch.uint8)
    images[:, 1] //= 2
    mean, deviation = pixel_statistics(images)
    pixels = images.float()
    assert torch.allclose(mean.flatten(), pixels.mean((0, 2, 3)), atol=1e-3)
    assert torch.allclose(deviation.flatten(), pixels.std((0, 2, 3), correction=0), atol=1e-3)


def test_images_of_one_gray_are_not_divided_by_nothing() -> None:
    mean, deviation = pixel_statistics(torch.full((4, 8, 8), 77, dtype=torch.uint8))
    assert (mean.item(), deviation.item()) == (77.0, 1.0)


def test_split_is_stratified_disjoint_and_fixed(train: Split) -> None:
    numbered = Split(torch.arange(len(train)).view(-1, 1, 1), train.labels)
    config, rest, held_out = split_train(TrainConfig(), numbered)
    assert held_out is not None
    assert config.validation_images == 5000
    assert torch.bincount(held_out.labels).tolist() == [500] * 10
    everything = torch.cat((rest.images.tensor(), held_out.images.tensor())).flatten().tolist()
    assert sorted(everything) == list(range(60000))

    # The split is part of every published figure: it may not drift.
    digest = hashlib.sha256(held_out.images.tensor().numpy().tobytes()).hexdigest()
    assert digest == "f60a323b1cc344debb2e3202c07945cb4afeae64fa542c6c9a8652a754bf20ff"


def test_fewer_training_images_leave_validation_alone(train: Split) -> None:
    _, few, held_out = split_train(CONFIG.replace(train_images=1000), train)
    _, _, as_ever = split_train(CONFIG, train)
    assert held_out is not None
    assert as_ever is not None
    assert torch.equal(held_out.images.rows, as_ever.images.rows)
    assert torch.bincount(few.labels).tolist() == [100] * 10


@pytest.mark.parametrize(
    "change",
    [{"validation_images": 60000}, {"validation_images": 3}, {"train_images": 55001}],
    ids=str,
)
def test_split_refuses_what_does_not_fit(change: dict[str, int], train: Split) -> None:
    ((name, value),) = change.items()
    with pytest.raises(InputError, match=f"{name}={value}"):
        split_train(CONFIG.replace(**change), train)


def blank_split(images: int, classes: int) -> Split:
    return Split(torch.zeros(images, 8, 8, dtype=torch.uint8), torch.arange(images) % classes)


def test_small_sets_hold_out_a_twelfth() -> None:
    few = blank_split(60, 3)
    config, rest, held_out = split_train(TrainConfig(), few)
    assert held_out is not None
    assert (config.validation_images, len(rest), len(held_out)) == (5, 55, 5)
    assert split_train(TrainConfig(validation_images=0), few)[2] is None


def test_few_images_hold_out_one_of_each_class() -> None:
    assert split_train(TrainConfig(), blank_split(30, 5))[0].validation_images == 5


def test_a_class_of_a_single_image_cannot_be_split() -> None:
    few = Split(torch.zeros(9, 8, 8, dtype=torch.uint8), torch.tensor([0] * 8 + [1]))
    words = r"^a class has a single training image: there must be 2 to hold one out$"
    with pytest.raises(InputError, match=words):
        split_train(TrainConfig(validation_images=3), few)
    assert len(split_train(TrainConfig(validation_images=0), few)[1]) == 9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"validation_images": 2},
            "validation_images=2: 3 (one of each class) to 57 of the 60 images, or 0",
        ),
        (
            {"validation_images": 58},
            "validation_images=58: 3 (one of each class) to 57 of the 60 images, or 0",
        ),
        (
            {"validation_images": 20, "train_images": 2},
            "train_images=2: 3 (one of each class) to the 40 that the split leaves; "
            "0 takes them all",
        ),
        (
            {"validation_images": 20, "train_images": 41},
            "train_images=41: 3 (one of each class) to the 40 that the split leaves; "
            "0 takes them all",
        ),
    ],
    ids=str,
)
def test_the_bounds_of_a_split_are_told(change: dict[str, int], message: str) -> None:
    with pytest.raises(InputError) as raised:
        split_train(TrainConfig.from_dict(change), blank_split(60, 3))
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("change", "kept", "held"),
    [
        ({"validation_images": 3}, 57, 3),
        ({"validation_images": 57}, 3, 57),
        ({"validation_images": 20, "train_images": 3}, 3, 20),
        ({"validation_images": 20, "train_images": 37}, 37, 20),
        # Too few would be left of some class: all are kept.
        ({"validation_images": 20, "train_images": 38}, 40, 20),
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
    assert len(training.labels.unique()) == 3
    numbers = training.images.tensor().flatten().tolist()
    assert numbers == sorted(numbers)  # the files' own order

    if held_out is None:
        assert held == 0
        return
    others = held_out.images.tensor().flatten().tolist()
    assert len(others) == held
    assert others == sorted(others)
    assert not set(numbers) & set(others)
    assert len(held_out.labels.unique()) == 3


def test_what_a_network_must_fit(train: Split) -> None:
    gray = train.take(np.arange(3))
    assert gray.problem(10) == TrainingData(gray, None, 10).problem == Problem(10, 1, 28, 28)
    colour = Split(torch.zeros(2, 3, 8, 6, dtype=torch.uint8), torch.arange(2))
    assert colour.problem(2) == Problem(2, 3, 8, 6)
    info = DataInfo("x", ("a", "b"), {}, channels=3, image_size=(9, 7))
    assert info.problem == Problem(2, 3, 9, 7)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            Path.unlink,
            "data='FOLDER': it lacks t10k-labels-idx1-ubyte (plain or .gz); "
            "name the folder that holds them",
        ),
        (
            flip_a_bit,
            "FOLDER/t10k-labels-idx1-ubyte.gz: damaged, since t10k-images-idx3-ubyte beside it is "
            "Fashion-MNIST's; delete it and put a whole one there",
        ),
        (
            swap,
            "FOLDER: train-labels-idx1-ubyte is Fashion-MNIST's t10k-labels-idx1-ubyte: "
            "files are swapped; rename them",
        ),
    ],
)
def test_damaged_fashion_mnist_is_told_in_one_line(
    damage: Callable[[Path], None], message: str, fashion: Path
) -> None:
    damage(fashion / "t10k-labels-idx1-ubyte.gz")
    with pytest.raises(DataError) as raised:
        load_info(find_data(Source(data=str(fashion))))
    assert str(raised.value) == message.replace("FOLDER", str(fashion))


def test_two_damaged_files_are_both_named(fashion: Path) -> None:
    for name in ("t10k-labels-idx1-ubyte.gz", "train-labels-idx1-ubyte.gz"):
        flip_a_bit(fashion / name)
    with pytest.raises(DataError) as raised:
        load_info(fashion)
    assert str(raised.value).startswith(
        f"{fashion}/train-labels-idx1-ubyte.gz, {fashion}/t10k-labels-idx1-ubyte.gz: damaged, "
        "since t10k-images-idx3-ubyte beside"
    )


def test_a_file_cut_short(fashion: Path) -> None:
    cut(fashion / "t10k-images-idx3-ubyte.gz")
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte\.gz cannot be unpacked"):
        load_info(fashion)


def test_own_data_is_taken_and_held_to_the_sums_of_its_first_use(
    tmp_path: Path, train: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = write_small_set(tmp_path, train)
    info = load_info(tmp_path)
    assert info.classes == ("0", "1", "2")
    assert info.name == tmp_path.name
    assert torch.equal(load_train(tmp_path, info).images.tensor(), split.images.tensor())
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
    write_small_set(tmp_path, train, classes=26)
    # As in EMNIST's letters.
    labels = (np.arange(40) % 26 + 1).astype(np.uint8)
    for prefix in ("train", "t10k"):
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte", labels)
    letters = [chr(ord("A") + number) for number in range(26)]
    (tmp_path / "labels.txt").write_text("\n".join(letters) + "\n")

    info = load_info(tmp_path)
    assert info.classes == tuple(letters)
    assert load_test(tmp_path, info).labels.tolist() == [number % 26 for number in range(40)]
    (tmp_path / "labels.txt").write_text("a\nb\n")
    with pytest.raises(DataError, match="2 lines, but the training labels have 26 values, 1 to 26"):
        load_info(tmp_path)


def test_lines_of_class_names(tmp_path: Path, train: Split) -> None:
    write_small_set(tmp_path, train)
    (tmp_path / "labels.txt").write_text("  a \n\nb\nc\n")
    assert load_info(tmp_path).classes == ("a", "b", "c")

    (tmp_path / "labels.txt").write_text("a\n")
    with pytest.raises(DataError) as raised:
        load_info(tmp_path)
    assert str(raised.value) == (
        f"{tmp_path}/labels.txt has 1 lines, but the training labels have 3 values, 0 to 2: "
        "one line a class"
    )


def test_emnist_is_found_by_its_own_names_and_set_upright(tmp_path: Path, train: Split) -> None:
    images = train.images[:40].numpy()
    labels = (np.arange(40) % 26 + 1).astype(np.uint8)
    turned = images.swapaxes(1, 2).copy()
    for part in ("train", "test"):
        write_idx(tmp_path / f"emnist-letters-{part}-images-idx3-ubyte", turned)
        write_idx(tmp_path / f"emnist-letters-{part}-labels-idx1-ubyte", labels)

    info = load_info(find_data(Source(data=str(tmp_path))))
    assert info.name == "emnist-letters"
    assert torch.equal(load_train(tmp_path, info).images.tensor(), train.images[:40])
    write_idx(tmp_path / "emnist-digits-train-labels-idx1-ubyte", labels)
    with pytest.raises(DataError, match="it holds 2 sets"):
        find_data(Source(data=str(tmp_path)))


def test_colour_and_other_sizes_in_the_same_format(tmp_path: Path) -> None:
    images = torch.randint(0, 256, (30, 3, 64, 48), dtype=torch.uint8)
    split = Split(images, torch.arange(30) % 3)
    write_split(tmp_path, "train", split)
    write_split(tmp_path, "t10k", split)
    info = load_info(tmp_path)
    assert (info.channels, info.image_size, info.fit) == (3, (64, 48), "pad")
    assert torch.equal(load_train(tmp_path, info).images.tensor(), split.images.tensor())


@pytest.mark.parametrize(
    ("prefix", "shape", "message"),
    [
        ("train", (39,), "FOLDER: 40 images but 39 labels in train"),
        ("t10k", (41,), "FOLDER: 40 images but 41 labels in t10k"),
        ("train", (40, 1), "FOLDER/train-labels-idx1-ubyte holds 2 dimensions; labels have one"),
    ],
)
def test_labels_of_another_shape(
    prefix: str, shape: tuple[int, ...], message: str, tmp_path: Path, train: Split
) -> None:
    write_small_set(tmp_path, train)
    write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte", np.zeros(shape, np.uint8))
    with pytest.raises(DataError) as raised:
        load_info(tmp_path)
    assert str(raised.value) == message.replace("FOLDER", str(tmp_path))


@pytest.mark.parametrize(
    ("prefix", "shape"),
    [
        ("train", (40, 784)),
        ("t10k", (40, 28)),
        ("t10k", (40, 4, 28, 28)),
    ],
)
def test_images_of_another_shape(
    prefix: str, shape: tuple[int, ...], tmp_path: Path, train: Split
) -> None:
    write_small_set(tmp_path, train)
    path = tmp_path / f"{prefix}-images-idx3-ubyte"
    write_idx(path, np.zeros(shape, np.uint8))
    with pytest.raises(DataError) as raised:
        load_info(tmp_path)
    assert str(raised.value) == (
        f"{path} holds an array of {shape} uint8; images are unsigned bytes, "
        "(N, height, width) gray or (N, 3, height, width) colour"
    )


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        (
            "t10k-images-idx3-ubyte",
            np.zeros((40, 20, 20), np.uint8),
            "FOLDER: training and test images differ in shape, (28, 28) and (20, 20)",
        ),
        (
            "t10k-labels-idx1-ubyte",
            np.full(40, 9, np.uint8),
            "FOLDER/t10k-labels-idx1-ubyte: labels [9]; "
            "the training labels must have them all, two or more",
        ),
        (
            "train-labels-idx1-ubyte",
            np.full(40, 1, np.uint8),
            "FOLDER/t10k-labels-idx1-ubyte: labels [0, 2]; "
            "the training labels must have them all, two or more",
        ),
    ],
    ids=["size", "unknown label", "one class"],
)
def test_files_that_do_not_belong_together(
    file: str, values: np.ndarray, message: str, tmp_path: Path, train: Split
) -> None:
    write_small_set(tmp_path, train)
    write_idx(tmp_path / file, values)
    with pytest.raises(DataError) as raised:
        load_info(tmp_path)
    assert str(raised.value) == message.replace("FOLDER", str(tmp_path))


def test_sets_of_no_images_and_of_one_class(tmp_path: Path, train: Split) -> None:
    write_small_set(tmp_path, train)
    for prefix in ("train", "t10k"):
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte", np.full(40, 7, np.uint8))
    words = r"t10k-labels-idx1-ubyte: labels of one class only; the training labels must"
    with pytest.raises(DataError, match=words):
        load_info(tmp_path)

    write_idx(tmp_path / "train-images-idx3-ubyte", np.zeros((0, 28, 28), np.uint8))
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(0, np.uint8))
    with pytest.raises(DataError, match=r"0 images but 0 labels in train$"):
        load_info(tmp_path)


def test_not_an_idx_file_and_one_cut_short(tmp_path: Path, train: Split) -> None:
    write_small_set(tmp_path, train)
    images = tmp_path / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"31,366 bytes where its header promises 31,376"):
        load_info(tmp_path)
    images.write_bytes(np.arange(5000, dtype=np.uint8).tobytes())
    with pytest.raises(DataError, match="not an IDX file"):
        load_info(tmp_path)


def test_a_plain_file_wins_over_a_packed_one(tmp_path: Path, train: Split) -> None:
    split = write_small_set(tmp_path, train)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"damaged")
    assert torch.equal(load_train(tmp_path, load_info(tmp_path)).images[:], split.images[:])


def test_a_whole_description_of_ones_own_data(tmp_path: Path, train: Split) -> None:
    write_small_set(tmp_path, train)
    info = load_info(tmp_path)
    digests = {path.name: hash_file(path) for path in tmp_path.glob("*-ubyte")}
    assert info == DataInfo(
        name=tmp_path.name,
        classes=("0", "1", "2"),
        sha256=digests,
        channels=1,
        image_size=(28, 28),
        fit="mnist",
        label_values=(0, 1, 2),
        source=str(tmp_path),
    )

    sums = (tmp_path / "SHA256SUMS").read_text().splitlines()
    assert sorted(sums) == sorted(f"{digest}  {name}" for name, digest in digests.items())


def test_sums_as_other_tools_write_them(tmp_path: Path, train: Split) -> None:
    write_small_set(tmp_path, train)
    load_info(tmp_path)
    sums = tmp_path / "SHA256SUMS"
    sums.write_text("# not a sum at all\n\n" + sums.read_text().replace("  ", " *"))
    load_info(tmp_path)

    sums.write_text(sums.read_text().replace("t10k-labels-idx1-ubyte", "t10k labels"))
    with pytest.raises(DataError) as raised:
        load_info(tmp_path)
    path = tmp_path / "t10k-labels-idx1-ubyte"
    assert str(raised.value) == (
        f"{path}: SHA-256 {hash_file(path)[:12]}… instead of the none… of {sums}: damaged; "
        f"if you changed the data, delete {sums}"
    )


def test_a_folder_that_cannot_be_written_to_is_read_all_the_same(
    tmp_path: Path, train: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, content: str) -> None:
        raise PermissionError(path)

    write_small_set(tmp_path, train)
    monkeypatch.setattr(dataset, "write_atomic", refuse)
    assert load_info(tmp_path).classes == ("0", "1", "2")
    assert not (tmp_path / "SHA256SUMS").exists()


def test_data_of_a_run_must_be_what_it_was(tmp_path: Path, train: Split) -> None:
    write_small_set(tmp_path, train)
    info = load_info(tmp_path)
    assert load_info(tmp_path, info) == info
    with pytest.raises(DataError) as raised:
        load_info(tmp_path, replace(info, name="other", sha256=SHA256))
    assert str(raised.value) == (
        f"data={str(tmp_path)!r} is {tmp_path.name}, "
        "but the model was trained on another set, other"
    )

    with pytest.raises(DataError) as raised:
        load_test(tmp_path, replace(info, sha256=dict.fromkeys(info.sha256, "0" * 64)))
    path = tmp_path / "t10k-images-idx3-ubyte"
    assert str(raised.value) == (
        f"{path}: SHA-256 {hash_file(path)[:12]}… instead of 000000000000…: "
        "it changed while it was in use"
    )
