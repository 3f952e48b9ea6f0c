"""Files that are replaced whole, and the versions a run was made with."""

import multiprocessing
from pathlib import Path

import pytest

from fmnist.errors import InputError
from fmnist.runs.files import read_json, write_atomic, write_json
from fmnist.runs.provenance import environment


def overwrite(path: Path) -> None:
    for number in range(300):
        write_atomic(path, str(number % 10) * 200_000)


def test_no_reader_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, "0" * 200_000)
    writer = multiprocessing.get_context("fork").Process(target=overwrite, args=(path,))
    writer.start()
    while writer.is_alive():
        content = path.read_text()
        assert len(content) == 200_000
        assert len(set(content)) == 1
    writer.join()
    assert writer.exitcode == 0
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["file"]


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        write_atomic(tmp_path / "folder", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_json_comes_back(tmp_path: Path) -> None:
    write_json(tmp_path / "a/b.json", {"x": [1, None]})
    assert read_json(tmp_path / "a/b.json") == {"x": [1, None]}


@pytest.mark.parametrize("content", [None, "{", "[" * 100_000])
def test_json_that_cannot_be_read_is_named(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=r"a\.json cannot be read"):
        read_json(path)


def test_environment_names_versions_and_commit() -> None:
    found = environment()
    assert {"python", "torch", "ray", "onnx"} <= set(found["versions"])
    assert len(found["git_commit"]) == 40
    assert found["git_dirty"] in (True, False)
