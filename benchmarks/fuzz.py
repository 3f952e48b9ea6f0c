"""`python -m benchmarks.fuzz`: damaged and hostile files into everything here that reads one.

Hypothesis damages whole files (benchmarks/damage.py, benchmarks/fuzz_targets.py). Each file must be
read, or refused by the one error that commands turn into one line: no traceback, no crash, no hang,
no memory out of proportion. Each reader works in a process of its own, which cannot take others
along; the file that it died of is kept. Writes docs/results/fuzz (.json and .md).
"""

import faulthandler
import multiprocessing
import os
import resource
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import hypothesis
import torch
from hypothesis import HealthCheck, Phase, given, settings
from rich.progress import Progress

from benchmarks.fuzz_targets import REFUSED, Target, make_targets
from benchmarks.results import CONSOLE, Page, Row, machine, machine_text, write_rows
from fmnist.cli import command
from fmnist.errors import check, one_of
from fmnist.runs.files import write_atomic

KEPT = Path("runs/fuzz")
CHUNK = 500
"""Inputs of one run of Hypothesis, which remembers all of them."""
HANG_S = 10
MEMORY = 2 << 30
"""Bytes that a reader may map beyond those it has mapped after its first, whole file."""
SETTINGS = settings(
    max_examples=CHUNK,
    deadline=None,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=(
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Feed damaged files to every reader, and see that each is read or refused.

    Example: python -m benchmarks.fuzz --inputs 2000 --only idx image
    """

    inputs: int = 100_000
    """Inputs of all readers together."""
    only: tuple[str, ...] = ()
    """Readers; by default all. The results are written when all are run."""
    seed: int = 0

    def __post_init__(self) -> None:
        check(self.inputs >= 1, f"inputs={self.inputs}: it must be at least 1")


@dataclass(slots=True)
class Tally:
    """Result of fuzzing one reader."""

    target: str
    what: str = ""
    inputs: int = 0
    read: int = 0
    """Inputs that were taken for whole, as some are: a pixel may have any value."""
    slowest_ms: float = 0.0
    memory_mb: float = 0.0
    """Growth of the process's peak."""
    found: str = ""
    """The failure; empty if there was none."""


@dataclass(frozen=True, slots=True)
class FailingFile:
    """The last file that a reader was given: the smallest that fails, if one does."""

    content: bytes


def read_one(target: Target, tally: Tally, content: bytes) -> None:
    """Give a reader one file, and count it. Raises what the reader should not."""
    target.file.write_bytes(content)
    faulthandler.dump_traceback_later(HANG_S, exit=True)
    started = time.perf_counter()
    tally.inputs += 1

    try:
        target.read()
        tally.read += 1
    except REFUSED as error:
        if "\n" in str(error).strip():
            raise AssertionError(f"more than one line: {error}") from error
    finally:
        tally.slowest_ms = max(tally.slowest_ms, 1e3 * (time.perf_counter() - started))
        faulthandler.cancel_dump_traceback_later()


def limit_memory() -> None:
    """Let this process map little more than it has mapped now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def peak_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def work(name: str, inputs: int, seed: int, reports: Connection) -> None:
    """In a process of its own: give a reader so many files, and send its path, a tally after each
    chunk, and the last file."""
    # Threads would map memory of their own.
    torch.set_num_threads(1)
    in_memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="fz", dir=in_memory) as folder:
        target = make_targets(Path(folder))[name]
        faulthandler.enable()
        reports.send(target.file)
        if target.file.exists():
            # The whole file first: what it maps and imports does not count.
            target.read()
        limit_memory()
        tally, before_kb = Tally(name, target.what), peak_kb()

        def one(content: bytes) -> None:
            read_one(target, tally, content)

        while tally.inputs < inputs and not tally.found:
            # Hypothesis' random numbers of a chunk depend on where it begins.
            chunk = hypothesis.seed(seed + tally.inputs)(SETTINGS(given(target.inputs)(one)))
            try:
                chunk()
            except Exception as error:
                tally.found = f"{type(error).__name__}: {error}"[:300]
                traceback.print_exc()
            tally.memory_mb = (peak_kb() - before_kb) / 1024
            reports.send(tally)

        reports.send(FailingFile(target.file.read_bytes()))


def run(name: str, inputs: int, seed: int, advance: Callable[[int], None]) -> Tally:
    """Give a reader so many files; the one it fails on goes to runs/fuzz/."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(name, inputs, seed, sender))
    process.start()
    sender.close()

    tally = Tally(name)
    file: Path | None = None
    content: bytes | None = None
    try:
        while True:
            message: Any = receiver.recv()
            match message:
                case Tally():
                    advance(message.inputs - tally.inputs)
                    tally = message
                case FailingFile():
                    content = message.content
                case _:
                    file = message
    except EOFError:
        process.join()

    if process.exitcode:
        code = process.exitcode
        tally.found = f"the process ended with code {code}: a crash, or longer than {HANG_S} s"
        # The file that the process died of is still there: it had no time to clean up.
        content = file.read_bytes() if file and file.exists() else None

    if tally.found and content is not None:
        write_atomic(KEPT / name, content)

    return tally


def write_page(rows: Sequence[Row]) -> None:
    files = sum(row["inputs"] for row in rows)
    page = Page("Damaged files")
    page.text(
        f"""`python -m benchmarks.fuzz --seed {rows[0]["seed"]}` on {machine_text(rows[0])}:
        {files:,} files, each read or refused with one line."""
    )
    shown: list[Row] = []

    for row in rows:
        lines = row["found"].splitlines() or ["nothing"]
        taken = row["read"] / max(row["inputs"], 1)
        shown.append(row | {"taken": taken, "first_line": lines[0]})

    page.row_table(
        "lrrrrl",
        "target | files | taken for whole | slowest, ms | memory grew by, MB | found",
        "{target} | {inputs:,} | {taken:.1%} | {slowest_ms:.0f} | {memory_mb:.0f} | {first_line}",
        shown,
    )
    page.items(f"**{row['target']}**: {row['what']}." for row in rows)
    page.write("fuzz")


def divide_inputs(options: Options) -> dict[str, int]:
    """Divide the files among the readers."""
    with tempfile.TemporaryDirectory() as folder:
        targets = make_targets(Path(folder))

    for name in options.only:
        one_of("only", name, targets)

    shares = {name: targets[name].share for name in options.only or targets}
    total = sum(shares.values())
    return {name: -(-options.inputs * share // total) for name, share in shares.items()}


def main(options: Options) -> int:
    tallies: list[Tally] = []
    with Progress(console=CONSOLE) as progress:
        task = progress.add_task("fuzzing", total=options.inputs)
        for name, count in divide_inputs(options).items():
            progress.update(task, description=name)
            tally = run(name, count, options.seed, lambda more: progress.advance(task, more))
            tallies.append(tally)
            CONSOLE.print(f"{name}: {tally.inputs:,} files, {tally.found or 'nothing found'}")

    if not options.only:
        where = {"seed": options.seed} | machine()
        rows = [asdict(tally) | where for tally in tallies]
        write_rows("fuzz", rows)
        write_page(rows)

    if any(tally.found for tally in tallies):
        CONSOLE.print(f"the files are in {KEPT}/")
        return 1

    return 0


if __name__ == "__main__":
    command(Options, main)
