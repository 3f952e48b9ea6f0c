"""One process at a time works on a run folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fmnist.runs.lock import HELD, hold, in_use, release
from tests.conftest import ROOT

SCRIPT = "import sys; from pathlib import Path; from fmnist.runs.lock import hold; hold(Path('a'))"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = Path("a")
    folder.mkdir()
    return folder


def hold_elsewhere() -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment
    )


def test_the_second_process_on_a_run_is_refused(run: Path) -> None:
    hold(run)
    assert "in use by another process" in hold_elsewhere().stderr
    release(run)
    assert hold_elsewhere().returncode == 0


def test_a_run_that_was_held_twice_is_released_at_once(run: Path) -> None:
    hold(run)
    hold(run)
    release(run)
    assert run.absolute() not in HELD
    assert hold_elsewhere().returncode == 0
    release(run)  # Nothing is left to release.


def test_only_other_processes_are_said_to_use_a_run(run: Path) -> None:
    assert not in_use(run)
    script = f"{SCRIPT}; print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert in_use(run)
        other.communicate()
    assert not in_use(run)
