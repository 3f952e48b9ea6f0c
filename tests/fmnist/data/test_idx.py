"""MNIST's file format, byte by byte."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fmnist.data.idx import IdxWriter, label_type, map_idx, parse_idx, write_idx
from fmnist.errors import DataError

PATH = Path("some-file")


def header(*sizes: int, kind: int = 8, dimensions: int | None = None) -> bytes:
    count = len(sizes) if dimensions is None else dimensions
    return bytes([0, 0, kind, count]) + b"".join(size.to_bytes(4, "big") for size in sizes)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 3, 4), (2, 3, 4, 5)], ids=str)
def test_what_is_written_is_read(shape: tuple[int, ...], tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    write_idx(tmp_path / "file", values)
    content = (tmp_path / "file").read_bytes()
    assert content == header(*shape) + values.tobytes()

    array = parse_idx(tmp_path / "file", content)
    assert array.dtype == np.uint8
    assert np.array_equal(array, values)
    array[:] = 0  # it may be written to


def test_no_values_at_all() -> None:
    assert parse_idx(PATH, header(0)).shape == (0,)
    assert parse_idx(PATH, header(0, 28, 28)).shape == (0, 28, 28)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        header(),
        header(5, dimensions=0) + bytes(5),
        header(1, 1, 1, 1, 1) + bytes(1),
        header(2, kind=9) + bytes(2),
        b"\x01" + header(2)[1:] + bytes(2),
        header(2)[:7],
        header(2, dimensions=2) + bytes(3),
        header(2, 2)[:11],
    ],
)
def test_what_is_no_idx_file(content: bytes) -> None:
    with pytest.raises(DataError) as raised:
        parse_idx(PATH, content)
    assert str(raised.value) == (
        "some-file is not an IDX file of unsigned bytes or of integers of 16 or 32 bits"
    )


@pytest.mark.parametrize(("missing", "found"), [(1, "1,011"), (-1, "1,013"), (1000, "12")])
def test_a_file_of_another_length_than_its_header_promises(missing: int, found: str) -> None:
    with pytest.raises(DataError) as raised:
        parse_idx(PATH, header(100, 10) + bytes(1000 - missing))
    message = f"some-file has {found} bytes where its header promises 1,012: damaged or cut short"
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("values", "code"),
    [
        (np.array([0, 1, 300, 32767], np.int16), 0x0B),
        (np.array([[0, 70_000], [2**31 - 1, 5]], np.int32), 0x0C),
    ],
)
def test_wide_values_are_written_big_endian_and_read_back(
    values: NDArray[Any], code: int, tmp_path: Path
) -> None:
    path = tmp_path / "labels"
    write_idx(path, values)
    content = path.read_bytes()
    assert content[2] == code
    assert content.endswith(int(values.flat[-1]).to_bytes(values.itemsize, "big"))
    for read in (parse_idx(path, content), map_idx(path)[0]):
        assert read.astype(np.int64).tolist() == values.tolist()


def test_a_mapped_array_is_read_only_and_that_of_the_content(tmp_path: Path) -> None:
    values = np.arange(60, dtype=np.uint8).reshape(5, 3, 2, 2)
    path = tmp_path / "images"
    write_idx(path, values)
    mapped, offset = map_idx(path)
    assert offset == 20
    assert np.array_equal(mapped, values)
    assert not mapped.flags.writeable

    write_idx(path, values[:0])
    assert map_idx(path)[0].shape == (0, 3, 2, 2)


def test_images_are_written_one_by_one_and_counted_at_the_end(tmp_path: Path) -> None:
    images = np.arange(4 * 3 * 2 * 5, dtype=np.uint8).reshape(4, 3, 2, 5)
    path = tmp_path / "images"
    with path.open("w+b") as file:
        writer = IdxWriter(file, (3, 2, 5))
        for image in images:
            writer.write(image)
        writer.finish()
    assert writer.count == 4
    assert np.array_equal(parse_idx(path, path.read_bytes()), images)


@pytest.mark.parametrize(("classes", "name"), [(2, "ubyte"), (256, "ubyte"), (257, "int")])
def test_labels_are_as_wide_as_the_classes(classes: int, name: str) -> None:
    dtype, word = label_type(classes)
    assert word == name
    assert np.iinfo(dtype).max >= classes - 1
