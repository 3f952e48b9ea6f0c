"""The run folder: where it is, what is the newest, and writing files so that no reader sees half of one."""

import contextlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from fmnist.errors import InputError, check

RUNS = Path("runs")
LATEST = RUNS / "latest"
WEIGHTS = "model.safetensors"
MODEL = "model.onnx"
PACKAGES = ("torch", "torchvision", "numpy", "ray", "onnx", "onnxruntime-gpu", "onnxruntime", "scikit-learn", "safetensors")


def write_atomic(path: Path, content: str | bytes | memoryview) -> None:
    """Write to a temporary name beside `path`, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            os.fchmod(file.fileno(), 0o644)
            file.flush()
            os.fsync(file.fileno())  # or a power cut could leave the new name on an empty file
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Raises InputError naming the file if it is missing or not JSON."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def open_run(name: str | None, *, resume: bool = False, runs: Path = RUNS) -> Path:
    """Make the run folder RUNS/NAME (by default named after the time), lock it, and point RUNS/latest at it.

    Raises:
        InputError: the name is no plain file name, the run exists already and `resume` is off, or another process works on it.
    """
    from fmnist.lock import hold  # here: a client of a bundle reads run folders too, and needs no filelock

    name = name or time.strftime("%Y%m%d-%H%M%S")
    plain = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) and name != LATEST.name
    check(bool(plain), f"name={name!r}: letters, digits, '.', '_' and '-' only, and not 'latest'")
    run = runs / name
    if run.exists() and not resume:
        raise InputError(f"name={name!r}: {run} exists already; choose another name, or continue it with --resume")
    run.mkdir(parents=True, exist_ok=True)
    hold(run)
    temporary = runs / f".latest.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(name)
    temporary.replace(runs / LATEST.name)
    return run


def run_to_resume(name: str | None, runs: Path = RUNS) -> Path | None:
    """The run folder that --resume means: RUNS/NAME, or the newest; None if RUNS/NAME is still to be made.

    Raises:
        InputError: no name is given, and there is no run yet.
    """
    if name is None:
        return find_run(None, runs)
    return runs / name if (runs / name).is_dir() else None


def is_complete(run: Path | None) -> bool:
    """Whether the run to be resumed has its trained model already."""
    return run is not None and (run / "best" / WEIGHTS).exists()


def find_run(path: str | Path | None, runs: Path = RUNS) -> Path:
    """The run folder at `path` (or RUNS/PATH), by default the newest. Raises InputError if there is none."""
    if path is None:
        latest = runs / LATEST.name
        if latest.exists():
            return runs / latest.readlink()
        found = sorted(runs.glob("*/config.json"), key=lambda file: file.stat().st_mtime)  # runs/latest was deleted
        check(bool(found), "there is no run yet: start one with `make demo` or `python -m tune.search`, or name a folder")
        return found[-1].parent
    for candidate in (Path(path), runs / path):
        if candidate.is_dir():
            return candidate
    known = sorted(folder.name for folder in runs.glob("*") if folder.is_dir() and not folder.is_symlink())
    raise InputError(f"run={str(path)!r}: no such folder; {runs}/ has {', '.join(known) or 'none'}")


def find_checkpoint(path: str | Path | None) -> Path:
    """The checkpoint folder in a run (its best/), or `path` itself. Raises InputError if there is none."""
    run = find_run(path)
    for folder in (run, run / "best"):
        if (folder / WEIGHTS).exists():
            return folder
    raise InputError(f"run={str(run)!r}: it holds no trained model (best/{WEIGHTS}); let its training finish first")


def find_bundle(path: str | Path | None) -> Path:
    """The bundle in a run (its export/), or `path` itself; by default the newest run's. Raises InputError if there is none."""
    run = find_run(path)
    for folder in (run, run / "export", run.parent / "export"):
        if (folder / MODEL).exists():
            return folder
    raise InputError(
        f"run={str(run)!r}: it holds no exported model (export/{MODEL}); make one with: python -m export.to_onnx {run}"
    )


def run_of(checkpoint: Path) -> Path:
    """The run folder that a checkpoint folder belongs to."""
    return checkpoint.parent if checkpoint.name == "best" else checkpoint


def environment() -> dict[str, Any]:
    """Versions and commit: what one needs to make a run again."""
    versions: dict[str, str] = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {"versions": versions, "platform": platform.platform(), **git_state()}


def git_state() -> dict[str, Any]:
    """Commit of the code and whether files differ from it; nulls outside a checkout."""
    root = Path(__file__).parent.parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    status = git("status", "--porcelain")
    return {"git_commit": git("rev-parse", "HEAD"), "git_dirty": None if status is None else bool(status)}
