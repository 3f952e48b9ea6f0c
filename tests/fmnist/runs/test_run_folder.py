"""Where runs are, and which one a command means."""

import os
import shutil
from pathlib import Path

import pytest

from fmnist.errors import InputError
from fmnist.runs.files import write_json
from fmnist.runs.run_folder import (
    find_checkpoint,
    find_run,
    is_complete,
    kind_of,
    open_run,
    run_of,
    run_to_resume,
    saved_config,
)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def make(name: str, age: int, *, complete: bool = False, search: bool = False) -> Path:
    """A run folder, of a search or a training, that was started `age` seconds ago."""
    run = Path("runs") / name
    write_json(run / "config.json", {"search": {}} if search else {"train": {}})
    started = (run / "config.json").stat().st_mtime - age
    os.utime(run / "config.json", (started, started))
    if complete:
        (run / "best").mkdir()
        (run / "best/model.safetensors").touch()
    return run


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


def test_a_run_that_is_missing_is_an_error_in_words() -> None:
    with pytest.raises(InputError, match="no run yet"):
        find_run(None)
    open_run("a")
    with pytest.raises(InputError, match="runs/ has a"):
        find_run("b")
    with pytest.raises(InputError, match="no run has a trained model: runs/ has 1 without"):
        find_checkpoint(None)
    with pytest.raises(InputError, match="it holds no trained model"):
        find_checkpoint("a")


def test_the_newest_is_found_although_latest_was_deleted() -> None:
    make("a", age=2)
    make("b", age=1)
    open_run("c")
    shutil.rmtree("runs/c")
    assert find_run(None) == Path("runs/b")


def test_the_newest_run_that_suits_is_taken_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    make("a", age=3, complete=True)
    make("b", age=2, complete=True)
    make("c", age=1)
    assert find_checkpoint(None) == Path("runs/b/best")
    assert capsys.readouterr().err == "runs/b: the newest run with a trained model\n"
    assert find_run(None) == Path("runs/c")
    assert capsys.readouterr().err == "runs/c: the newest run\n"
    assert find_run("a") == Path("runs/a")
    assert capsys.readouterr().err == ""


def test_a_checkpoint_is_found_from_its_run_and_from_itself() -> None:
    run = make("a", age=1, complete=True)
    for path in ("a", "runs/a", "runs/a/best"):
        assert find_checkpoint(path) == run / "best"
    assert run_of(run / "best") == run
    assert run_of(Path("elsewhere")) == Path("elsewhere")


def test_resuming_prefers_the_newest_unfinished_run_of_its_kind() -> None:
    make("old", age=5)
    make("unfinished", age=4)
    make("searched", age=3, search=True)
    make("complete", age=2, complete=True)
    assert run_to_resume(None) == Path("runs/unfinished")
    assert run_to_resume(None, kind="search") == Path("runs/searched")


def test_resuming_takes_the_newest_of_its_kind_if_all_are_complete() -> None:
    make("a", age=3, complete=True)
    make("b", age=2, complete=True)
    make("c", age=1, search=True)
    assert run_to_resume(None) == Path("runs/b")


def test_resuming_by_name() -> None:
    assert run_to_resume("a") is None
    run = make("a", age=1, complete=True)
    make("b", age=0)
    assert run_to_resume("a") == run


def test_nothing_to_resume_is_an_error_in_words() -> None:
    make("a", age=1)
    with pytest.raises(InputError, match="runs/ has no search yet"):
        run_to_resume(None, kind="search")


def test_kinds() -> None:
    assert kind_of(make("a", age=0, search=True)) == "search"
    assert kind_of(make("b", age=0)) == "training"
    assert kind_of(Path("runs/missing")) == "training"
    run = make("c", age=0)
    for content in ("{", "3", "[]"):
        (run / "config.json").write_text(content)
        assert kind_of(run) == "training"


def test_what_a_run_was_started_with() -> None:
    run = make("a", age=0)
    assert saved_config(run) == {"train": {}}
    assert saved_config(None) is None
    assert saved_config(Path("runs/missing")) is None
    assert not is_complete(run)
    assert not is_complete(None)
