"""Fixtures: the real data, a small data set cut from it, and command lines as a user runs them."""

import os
import runpy
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from fmnist.data.dataset import Split, load_info, load_test, load_train
from fmnist.data.formats import CLASSES
from fmnist.data.idx import write_idx
from fmnist.data.info import DataInfo
from fmnist.data.sources import find_data
from fmnist.runs.lock import HELD
from tests.browser import open_browser
from tests.gates import FAIR, PATH, Gates

ROOT = Path(__file__).parent.parent
FAST = os.environ.get("FMNIST_TEST_FAST") == "1"
"""The processes under test train networks of one neuron (tests/gates), on fewer images: a machine
faster than any there is."""
NETWORK = {"FMNIST_TEST_NETWORK": "neuron"} if FAST else {}
IMAGES = 200 if FAST else 600
"""Training images of the tests that start processes."""
SLOW_S = 5.0
"""A test that takes longer is named as it ends: so one sees what one waits for."""


class Slow:
    """Names slow tests as they end."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        terminal = self.config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None and report.duration > SLOW_S:
            terminal.write_line(f" {report.duration:.0f} s: {report.nodeid} ({report.when})")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Slow(config))


@pytest.fixture(scope="session")
def data_folder() -> Path:
    return find_data()


@pytest.fixture(scope="session")
def info(data_folder: Path) -> DataInfo:
    return load_info(data_folder)


@pytest.fixture(scope="session")
def train(data_folder: Path, info: DataInfo) -> Split:
    return load_train(data_folder, info)


@pytest.fixture(scope="session")
def official_test(data_folder: Path, info: DataInfo) -> Split:
    return load_test(data_folder, info)


def write_split(folder: Path, prefix: str, split: Split) -> None:
    """Write a split in MNIST's file format."""
    write_idx(
        folder / f"{prefix}-images-idx{split.images.ndim}-ubyte", split.images.tensor().numpy()
    )
    write_idx(folder / f"{prefix}-labels-idx1-ubyte", split.labels.byte().numpy())


@pytest.fixture(scope="session")
def small_data(
    tmp_path_factory: pytest.TempPathFactory, train: Split, official_test: Split
) -> Path:
    """3,000 training and 500 test images of the real set, as a data set of one's own."""
    folder = tmp_path_factory.mktemp("small")
    few = Split(train.images[:3000], train.labels[:3000])
    few_tests = Split(official_test.images[:500], official_test.labels[:500])
    write_split(folder, "train", few)
    write_split(folder, "t10k", few_tests)
    (folder / "labels.txt").write_text("\n".join(CLASSES) + "\n")
    return folder


@dataclass(frozen=True)
class CommandLine:
    """Runs `python -m MODULE …` in a folder of its own, on the small data set.

    Ray's files are in a place of their own too.
    """

    folder: Path
    environment: dict[str, str]

    def start(self, module: str, *arguments: object) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", module, *map(str, arguments)]
        return subprocess.Popen(
            words,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        process = self.start(module, *arguments)
        stdout, stderr = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


@pytest.fixture
def command(tmp_path: Path, small_data: Path) -> Iterator[CommandLine]:
    with tempfile.TemporaryDirectory(prefix="fm", ignore_cleanup_errors=True) as ray_folder:
        changes = {
            "PYTHONPATH": PATH,
            "FMNIST_DATA": str(small_data),
            "RAY_TMPDIR": ray_folder,
            "NO_COLOR": "1",
            "COLUMNS": "200",
        }
        changes |= NETWORK | FAIR
        yield CommandLine(tmp_path, dict(os.environ) | changes)


@pytest.fixture
def gates(command: CommandLine, tmp_path: Path) -> Gates:
    """Gates at which the trainings that `command` starts can be made to wait; all are open."""
    folder = tmp_path / "gates"
    folder.mkdir()
    gates = Gates(folder)
    command.environment.update(gates.environment)
    return gates


def runs(process: subprocess.Popen[str]) -> Callable[[], None]:
    """A check that raises once the process has ended."""

    def check_runs() -> None:
        if process.poll() is not None:
            stdout, stderr = process.communicate()
            raise AssertionError(f"it exited {process.returncode}:\n{stdout}\n{stderr}")

    return check_runs


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    output: str


@pytest.fixture
def call(
    tmp_path: Path,
    small_data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., Outcome]:
    """Runs a command line in this process, which spares the seconds of import.

    For commands that end before any long work.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FMNIST_DATA", str(small_data))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")

    def run(module: str, *arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", [module, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended, warnings.catch_warnings():
            # The module may be imported already.
            warnings.simplefilter("ignore", RuntimeWarning)
            runpy.run_module(module, run_name="__main__")

        # As the end of the process would.
        while HELD:
            HELD.popitem()[1].release()
        captured = capsys.readouterr()
        return Outcome(int(ended.value.code or 0), captured.out + captured.err)

    return run


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    camera = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with open_browser(*camera) as chromium:
        yield chromium
