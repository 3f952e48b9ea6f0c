"""The run folder: where it is, and which one a command means."""

import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from fmnist.errors import InputError, check
from fmnist.runs.files import read_json

RUNS = Path("runs")
LATEST = RUNS / "latest"
CONFIG = "config.json"
WEIGHTS = "model.safetensors"

RunKind = Literal["search", "training"]


def open_run(name: str | None, *, resume: bool = False, runs: Path = RUNS) -> Path:
    """Make the run folder RUNS/NAME, lock it, and point RUNS/latest at it.

    Args:
        name: by default the time.
        resume: the folder may exist already.

    Raises:
        InputError: the name is no plain file name, the run exists already and `resume` is off, or
            another process works on it.
    """
    # Here: the client of a bundle reads run folders too, and needs no filelock.
    from fmnist.runs.lock import hold

    name = name or time.strftime("%Y%m%d-%H%M%S")
    plain = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) and name != LATEST.name
    check(bool(plain), f"name={name!r}: letters, digits, '.', '_' and '-' only, and not 'latest'")
    run = runs / name
    if run.exists() and not resume:
        raise InputError(
            f"name={name!r}: {run} exists already; choose another name, or continue it with "
            "--resume"
        )

    run.mkdir(parents=True, exist_ok=True)
    hold(run)
    _point_latest_at(name, runs)
    return run


def _point_latest_at(name: str, runs: Path) -> None:
    # Renamed into place, so that RUNS/latest is there at any moment.
    temporary = runs / f".latest.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(name)
    temporary.replace(runs / LATEST.name)


def find_run(
    path: str | Path | None,
    runs: Path = RUNS,
    *,
    suits: Callable[[Path], bool] = lambda run: True,
    with_what: str = "",
) -> Path:
    """The run folder at `path` or RUNS/PATH; by default the newest that suits.

    The run that is taken where none was named is named on standard error.

    Args:
        suits: whether a run has what the command needs.
        with_what: that need in words, such as "a trained model".

    Raises:
        InputError: there is none.
    """
    if path is not None:
        return _named_run(path, runs)

    candidates = _oldest_first(runs)
    check(
        bool(candidates),
        "there is no run yet: start one with `make demo` or `python -m tune.search`, "
        "or name a folder",
    )
    suitable = [run for run in candidates if suits(run)]
    check(
        bool(suitable),
        f"no run has {with_what}: {runs}/ has {len(candidates)} without; name a run",
    )

    newest = suitable[-1]
    having = f" with {with_what}" if with_what else ""
    print(f"{newest}: the newest run{having}", file=sys.stderr)
    return newest


def _named_run(path: str | Path, runs: Path) -> Path:
    for candidate in (Path(path), runs / path):
        if candidate.is_dir():
            return candidate

    known = ", ".join(sorted(run.name for run in _oldest_first(runs))) or "none"
    raise InputError(f"run={str(path)!r}: no such folder; {runs}/ has {known}")


def _oldest_first(runs: Path) -> list[Path]:
    """Run folders by the age of their config; RUNS/latest, which may have none yet, comes last."""
    configs = [file for file in runs.glob(f"*/{CONFIG}") if not file.parent.is_symlink()]
    configs.sort(key=lambda file: file.stat().st_mtime)
    folders = [file.parent for file in configs]

    latest = runs / LATEST.name
    if latest.exists():
        opened_last = runs / latest.readlink()
        folders = [run for run in folders if run != opened_last]
        folders.append(opened_last)
    return folders


def run_to_resume(name: str | None, runs: Path = RUNS, kind: RunKind = "training") -> Path | None:
    """The run folder that --resume means.

    Args:
        name: RUNS/NAME; by default the newest run of this kind that is not complete, or else the
            newest of this kind.

    Returns:
        None if RUNS/NAME is still to be made.

    Raises:
        InputError: no name is given, and there is no run of this kind yet.
    """
    if name is not None:
        return runs / name if (runs / name).is_dir() else None

    of_kind = [run for run in _oldest_first(runs) if kind_of(run) == kind]
    check(bool(of_kind), f"--resume: {runs}/ has no {kind} yet; start one without --resume")
    unfinished = [run for run in of_kind if not is_complete(run)]
    return (unfinished or of_kind)[-1]


def kind_of(run: Path) -> RunKind:
    """Whether a run folder is of a search or of one training; of a training if it says nothing."""
    try:
        config = read_json(run / CONFIG)
    except InputError:
        return "training"
    return "search" if isinstance(config, dict) and "search" in config else "training"


def saved_config(run: Path | None) -> dict[str, Any] | None:
    """The config.json that a run was started with; None if it has not come so far."""
    if run is None or not (run / CONFIG).exists():
        return None
    return read_json(run / CONFIG)


def is_complete(run: Path | None) -> bool:
    """Whether the run has its trained model."""
    return run is not None and (run / "best" / WEIGHTS).exists()


def find_checkpoint(path: str | Path | None) -> Path:
    """The checkpoint folder in a run (its best/), or `path` itself.

    Args:
        path: by default the newest run that has one.

    Raises:
        InputError: there is none.
    """
    run = find_run(path, suits=is_complete, with_what="a trained model")
    for folder in (run, run / "best"):
        if (folder / WEIGHTS).exists():
            return folder
    raise InputError(
        f"run={str(run)!r}: it holds no trained model (best/{WEIGHTS}); let its training finish "
        "first"
    )


def run_of(checkpoint: Path) -> Path:
    """The run folder that a checkpoint folder belongs to."""
    return checkpoint.parent if checkpoint.name == "best" else checkpoint
