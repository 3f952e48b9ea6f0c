"""Images in memory and in files: the same pixels, read only where they are asked for."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fmnist.data import images as images_module
from fmnist.data.dataset import Split, pixel_statistics
from fmnist.data.idx import write_idx
from fmnist.data.images import Images, PixelFile, batch_within, read_ahead
from fmnist.errors import DataError

CHOSEN = torch.tensor([5, 2, 2, 39])


@pytest.fixture(params=["mapped", "read by calls"])
def in_file(
    request: pytest.FixtureRequest, train: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Images:
    """The first 40 training images in a file: mapped, or read by calls as a large one is."""
    if request.param == "read by calls":
        monkeypatch.setattr(images_module, "LARGEST_MAPPED", 1000)
    write_idx(tmp_path / "images", train.images[:40].numpy())
    return Images(PixelFile(tmp_path / "images"))


def test_a_file_gives_the_pixels_that_memory_does(in_file: Images, train: Split) -> None:
    pixels = train.images[:40]
    assert in_file.shape == (40, 28, 28)
    assert torch.equal(in_file.tensor(), pixels)
    assert torch.equal(in_file[CHOSEN], pixels[CHOSEN])
    assert torch.equal(in_file[3:9:2], pixels[3:9:2])
    assert torch.equal(in_file.take(CHOSEN)[1:3], pixels[[2, 2]])
    assert torch.equal(in_file.take(CHOSEN).take(torch.tensor([3])).tensor(), pixels[[39]])
    assert torch.equal(torch.cat(list(in_file.batches(7))), pixels)
    assert [len(batch) for batch in in_file.batches(7)] == [7, 7, 7, 7, 7, 5]


def test_a_split_takes_rows_without_reading_them(in_file: Images) -> None:
    split = Split(in_file, torch.arange(40))
    part = split.take(np.array([7, 3])).take(slice(1, None))
    assert part.images.source is in_file.source
    assert part.images.rows.tolist() == [3]
    assert part.labels.tolist() == [3]


def test_a_file_is_pickled_by_its_path(in_file: Images, tmp_path: Path) -> None:
    content = pickle.dumps(in_file.take(CHOSEN))
    assert len(content) < 2000
    assert torch.equal(pickle.loads(content).tensor(), in_file[CHOSEN])

    (tmp_path / "images").unlink()
    with pytest.raises(FileNotFoundError):
        pickle.loads(content)


def test_a_file_cut_short_while_in_use_is_told(
    train: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images_module, "LARGEST_MAPPED", 1000)
    path = tmp_path / "images"
    write_idx(path, train.images[:40].numpy())
    images = Images(PixelFile(path))
    with path.open("r+b") as file:
        file.truncate(20_000)

    assert torch.equal(images[:5], train.images[:5])
    with pytest.raises(OSError, match="cut short while it was in use"):
        images[39:]


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "images"
    path.write_bytes(b"no images")
    with pytest.raises(DataError, match="is not an IDX file"):
        PixelFile(path)


def test_statistics_by_the_sums_of_an_import_are_those_of_the_pixels(tmp_path: Path) -> None:
    pixels = torch.randint(0, 256, (30, 3, 9, 7), dtype=torch.uint8)
    channels = pixels.flatten(2).long()
    sums = torch.stack((channels.sum(2), channels.square().sum(2)), 2)
    write_idx(tmp_path / "images", pixels.numpy())
    np.save(tmp_path / "sums.npy", sums.numpy())

    some = Images(PixelFile(tmp_path / "images")).take(CHOSEN.clamp(max=29))
    assert some.sums is not None
    for known, counted in zip(pixel_statistics(some), pixel_statistics(some.tensor()), strict=True):
        torch.testing.assert_close(known, counted)


def test_statistics_of_a_set_read_in_parts_are_exactly_those_of_the_whole(
    train: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pixel_statistics(train.images)
    monkeypatch.setattr("fmnist.data.dataset.READ_AT_ONCE", 784 * 1001)
    parts = pixel_statistics(train.images)
    assert torch.equal(whole[0], parts[0])
    assert torch.equal(whole[1], parts[1])


def test_reading_ahead_reads_one_part_ahead_in_order() -> None:
    began: list[int] = []

    def read(part: int) -> int:
        began.append(part)
        return 10 * part

    seen: list[int] = []
    for value in read_ahead(read, range(5)):
        # At most one more than what was handed out.
        assert len(began) <= len(seen) + 2
        seen.append(value)
    assert seen == [0, 10, 20, 30, 40]
    assert began == [0, 1, 2, 3, 4]


def test_an_error_of_the_reading_thread_reaches_the_loop() -> None:
    def read(part: int) -> Tensor:
        if part == 2:
            raise OSError("the disk is gone")
        return torch.zeros(1)

    parts = read_ahead(read, range(4))
    next(parts)
    next(parts)
    with pytest.raises(OSError, match="the disk is gone"):
        next(parts)


@pytest.mark.parametrize(
    ("most", "limit", "image", "expected"), [(500, 1000, 10, 100), (5, 1000, 10, 5), (5, 1, 10, 1)]
)
def test_a_batch_stays_within_its_bytes(most: int, limit: int, image: int, expected: int) -> None:
    assert batch_within(most, limit, image) == expected
