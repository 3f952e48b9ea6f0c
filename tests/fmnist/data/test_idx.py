"""MNIST's file format, byte by byte."""

from pathlib import Path

import numpy as np
import pytest

from fmnist.data.idx import parse_idx, write_idx
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
def test_what_is_no_idx_file_of_bytes(content: bytes) -> None:
    with pytest.raises(DataError) as raised:
        parse_idx(PATH, content)
    assert str(raised.value) == "some-file is not an IDX file of unsigned bytes"


@pytest.mark.parametrize(("missing", "found"), [(1, "1,011"), (-1, "1,013"), (1000, "12")])
def test_a_file_of_another_length_than_its_header_promises(missing: int, found: str) -> None:
    with pytest.raises(DataError) as raised:
        parse_idx(PATH, header(100, 10) + bytes(1000 - missing))
    message = f"some-file has {found} bytes where its header promises 1,012: damaged or cut short"
    assert str(raised.value) == message
