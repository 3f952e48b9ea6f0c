import gzip
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fmnist.data import (
    CLASSES,
    SHA256,
    DataError,
    Split,
    accept,
    find_data,
    load_info,
    load_test,
    load_train,
    pixel_statistics,
    split_train,
)
from fmnist.errors import InputError
from tests.conftest import CommandLine, Outcome, write_idx


def test_the_real_set(train: Split, official_test: Split, data_folder: Path) -> None:
    assert load_info(data_folder).classes == CLASSES
    assert train.images.shape == (60000, 28, 28)
    assert train.images.dtype == torch.uint8
    assert torch.bincount(train.labels).tolist() == [6000] * 10
    assert torch.bincount(official_test.labels).tolist() == [1000] * 10
    mean, std = pixel_statistics(train.images)
    assert (mean / 255, std / 255) == (pytest.approx(0.2860, abs=1e-4), pytest.approx(0.3530, abs=1e-4))


def test_split_is_stratified_disjoint_and_fixed(train: Split) -> None:
    numbered = Split(torch.arange(len(train)), train.labels)
    rest, held_out = split_train(numbered, validation_images=5000)
    assert held_out is not None
    assert torch.bincount(held_out.labels).tolist() == [500] * 10
    assert sorted(torch.cat((rest.images, held_out.images)).tolist()) == list(range(60000))
    # The split is part of every published figure: it may not drift.
    digest = hashlib.sha256(held_out.images.numpy().tobytes()).hexdigest()
    assert digest == "f60a323b1cc344debb2e3202c07945cb4afeae64fa542c6c9a8652a754bf20ff"


def test_fewer_training_images_leave_validation_alone(train: Split) -> None:
    few, held_out = split_train(train, validation_images=5000, train_images=1000)
    _, as_ever = split_train(train, validation_images=5000)
    assert held_out is not None
    assert as_ever is not None
    assert torch.equal(held_out.images, as_ever.images)
    assert torch.bincount(few.labels).tolist() == [100] * 10


def test_split_refuses_what_does_not_fit(train: Split) -> None:
    with pytest.raises(InputError, match="validation_images=60000"):
        split_train(train, validation_images=60000)
    with pytest.raises(InputError, match="train_images=55001"):
        split_train(train, validation_images=5000, train_images=55001)


def test_one_flipped_bit_is_found(data_folder: Path, tmp_path: Path) -> None:
    for name in SHA256:
        shutil.copy(data_folder / f"{name}.gz", tmp_path)
    labels = tmp_path / "t10k-labels-idx1-ubyte.gz"
    content = bytearray(gzip.decompress(labels.read_bytes()))
    content[-1] ^= 1
    labels.write_bytes(gzip.compress(bytes(content)))
    assert len(load_train(tmp_path)) == 60000
    with pytest.raises(DataError, match=r"t10k-labels.*SHA-256"):
        load_test(tmp_path)


def test_cut_off_file_says_so(data_folder: Path, tmp_path: Path) -> None:
    for name in SHA256:
        shutil.copy(data_folder / f"{name}.gz", tmp_path)
    images = tmp_path / "t10k-images-idx3-ubyte.gz"
    images.write_bytes(images.read_bytes()[:100000])
    with pytest.raises(DataError, match="cannot be unpacked"):
        load_test(tmp_path)


def test_own_data_must_be_accepted_first(tmp_path: Path, train: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    ten = Split(train.images[:40], train.labels[:40] % 3)
    write_idx(tmp_path, "train", ten)
    write_idx(tmp_path, "t10k", ten)
    with pytest.raises(DataError, match="--accept"):
        load_train(tmp_path)
    accept(tmp_path)
    assert torch.equal(load_train(tmp_path).images, ten.images)
    assert load_info(tmp_path).classes == ("0", "1", "2")
    (tmp_path / "labels.txt").write_text("a\nb\n")
    with pytest.raises(InputError, match="2 lines"):
        load_info(tmp_path)
    monkeypatch.setenv("FMNIST_DATA", str(tmp_path))
    assert find_data() == tmp_path


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte"):
        find_data(tmp_path)


def test_not_an_idx_file(tmp_path: Path) -> None:
    for name in SHA256:
        (tmp_path / name).write_bytes(np.arange(5000, dtype=np.uint8).tobytes())
    accept(tmp_path)
    with pytest.raises(DataError, match="not an IDX file"):
        load_train(tmp_path)


def test_command_describes(call: Callable[..., Outcome]) -> None:
    done = call("fmnist.data")
    assert done.code == 0
    assert "3,000 training and 500 test images" in done.output
    assert "Ankle boot" in done.output


def test_command_fails_in_one_line(command: CommandLine, tmp_path: Path) -> None:
    done = command("fmnist.data", "--data", tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: data=")
    assert len(done.stderr.splitlines()) == 1
