"""Files by name, unpacked by name."""

import gzip
from pathlib import Path

import pytest

from fmnist.data.formats import PARTS, find_files, plain_name, set_name, unpack
from fmnist.errors import DataError


def test_files_are_found_whatever_stands_before_their_names(tmp_path: Path) -> None:
    names = (
        "emnist-letters-train-images-idx3-ubyte.gz",
        "emnist-letters-train-labels.idx1-ubyte",
        "emnist-letters-test-images-idx3-ubyte",
        "emnist-letters-test-labels-idx1-ubyte.gz",
    )
    for name in (*names, "emnist-letters-mapping.txt"):
        (tmp_path / name).touch()

    files = find_files(tmp_path)
    assert files == dict(zip(PARTS, (tmp_path / name for name in names), strict=True))
    assert {set_name(path) for path in files.values()} == {"emnist-letters"}
    assert plain_name(files["train-images"]) == "emnist-letters-train-images-idx3-ubyte"


def test_unpacking_goes_by_the_name(tmp_path: Path) -> None:
    packed = gzip.compress(b"content")
    for name, expected in (("file.gz", b"content"), ("file", packed)):
        (tmp_path / name).write_bytes(packed)
        assert unpack(tmp_path / name) == expected


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(b"content" * 100)[:-12],
        b"no gzip",
        gzip.compress(b"content")[:10] + b"\xff" * 20,
    ],
)
def test_a_damaged_archive_is_told(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file.gz"
    path.write_bytes(content)
    with pytest.raises(DataError) as raised:
        unpack(path)
    assert str(raised.value).startswith(f"{path} cannot be unpacked (")
    assert str(raised.value).endswith("): damaged or cut short; put a whole one in its place")


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(tmp_path / "none")
