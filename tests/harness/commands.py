"""Commands as a user runs them, with what they print; and the processes that they leave behind."""

import math
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psutil

from tests.gates import FAIR, LIMIT_S, PATH, Gates


def until(
    condition: Callable[[], Any],
    what: str,
    details: Callable[[], str] = lambda: "",
    limit_s: float = LIMIT_S,
) -> Any:
    """Wait until the condition gives something, and return that.

    Args:
        what: what is waited for, in words.
        details: for the message if it never comes.
    """
    deadline = time.monotonic() + limit_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {limit_s} s\n{details()}"
        time.sleep(0.05)

    return value


class Command:
    """A command that runs; what it prints, line by line, with the time.

    Args:
        folder: its working directory.
        prefix: words before it, such as those of unshare.
    """

    def __init__(
        self,
        folder: Path,
        module: str,
        *arguments: object,
        prefix: tuple[str, ...] = (),
        environ: dict[str, str] | None = None,
    ) -> None:
        base = FAIR | {
            "PYTHONPATH": PATH,
            "NO_COLOR": "1",
            "COLUMNS": "300",
            "RAY_TMPDIR": str(folder.parent),
        }
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", module, *map(str, arguments)],
            cwd=folder,
            env=os.environ | base | (environ or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[tuple[float, str]] = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append((time.monotonic(), line.rstrip()))

    @property
    def text(self) -> str:
        return "\n".join(line for _, line in self.lines)

    def find_line(self, pattern: str, after: float = 0.0) -> tuple[float, str] | None:
        """The first line, printed after a time, that has the pattern: when and what."""
        for when, line in list(self.lines):
            if when >= after and re.search(pattern, line):
                return when, line
        return None

    def wait_line(self, pattern: str, after: float = 0.0) -> tuple[float, str]:
        """Wait for the line that `find_line` finds."""

        def look() -> tuple[float, str] | None:
            self.check_runs(pattern)
            return self.find_line(pattern, after)

        return until(look, f"a line with {pattern!r}", lambda: self.text)

    def check_runs(self, pattern: str) -> None:
        """Raise AssertionError if the command has ended without a line that has the pattern."""
        if self.process.poll() is not None:
            # The last lines may still be on their way.
            self.reader.join(5)
            code = self.process.returncode
            ended = self.find_line(pattern)
            assert ended is not None, f"it exited {code} without {pattern!r}:\n{self.text}"

    def wait_at(self, gates: Gates, processes: int) -> list[int]:
        """Wait until so many of its processes are at the gate; their numbers."""
        return gates.wait_for(processes, lambda: self.check_runs("a process at the gate"))

    def epochs_done(self, before: float = math.inf) -> int:
        """Epochs of a training that it has printed by then."""
        epochs = 0
        for when, line in list(self.lines):
            epoch_line = re.match(r"epoch +(\d+)/", line)
            if epoch_line and when < before:
                epochs = max(epochs, int(epoch_line[1]))

        return epochs

    def end(self, code: int = 0) -> str:
        """Wait for its end; give all that it printed."""
        try:
            self.process.wait(LIMIT_S)
        finally:
            self.kill()

        self.reader.join(5)
        found = self.process.returncode
        assert found == code, f"exit {found}, not {code}:\n{self.text}"
        return self.text

    def below(self) -> list[psutil.Process]:
        """All processes that it started, directly or not."""
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.below():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.kill()


class Census:
    """Notes every process that comes into being below this one while inside."""

    def __init__(self) -> None:
        self.before = set(psutil.Process().children(recursive=True))
        self.seen: set[psutil.Process] = set()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self.over.wait(0.5):
            with suppress(psutil.NoSuchProcess):
                self.seen |= set(psutil.Process().children(recursive=True)) - self.before

    def left(self, wait_s: float) -> list[str]:
        """Those that are still there after so long: what each is, and its command."""
        left: list[str] = []
        _, alive = psutil.wait_procs(self.seen, timeout=wait_s)
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    words = " ".join(process.cmdline())
                    left.append(f"{process.pid} of {process.ppid()}: {words}")

        return left

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()
