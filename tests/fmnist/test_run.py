import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fmnist.errors import InputError
from fmnist.lock import HELD
from fmnist.run import environment, find_bundle, find_checkpoint, find_run, open_run, write_atomic
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_latest_points_at_the_newest() -> None:
    open_run("a")
    assert find_run(None) == Path("runs/a")
    open_run("b")
    assert find_run(None) == Path("runs/b")
    assert find_run("a") == find_run("runs/a") == Path("runs/a")


def test_a_run_is_not_overwritten() -> None:
    open_run("a")
    with pytest.raises(InputError, match="--resume"):
        open_run("a")
    assert open_run("a", resume=True) == Path("runs/a")


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "latest", "a b"])
def test_names_are_plain(name: str) -> None:
    with pytest.raises(InputError, match="name="):
        open_run(name)


def test_what_is_missing_is_said() -> None:
    with pytest.raises(InputError, match="no run yet"):
        find_run(None)
    run = open_run("a")
    with pytest.raises(InputError, match="runs/ has a"):
        find_run("b")
    with pytest.raises(InputError, match="no trained model"):
        find_checkpoint(None)
    with pytest.raises(InputError, match="no exported model"):
        find_bundle(run)


def test_the_newest_is_found_although_latest_was_deleted() -> None:
    for name in ("a", "b"):
        write_atomic(open_run(name) / "config.json", "{}")
    shutil.rmtree("runs/b")
    assert find_run(None) == Path("runs/a")


def test_the_second_process_on_a_run_is_refused() -> None:
    run = open_run("a")
    script = "import sys; from fmnist.run import open_run; open_run('a', resume=True)"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    second = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert "in use by another process" in second.stderr
    HELD.pop(run.absolute()).release()
    assert subprocess.run([sys.executable, "-c", script], env=environment).returncode == 0


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


def test_environment_names_versions_and_commit() -> None:
    found = environment()
    assert {"python", "torch", "ray", "onnx"} <= set(found["versions"])
    assert len(found["git_commit"]) == 40
