"""What one needs to make a run again: package versions, platform and commit."""

import contextlib
import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "ray",
    "onnx",
    "onnxruntime-gpu",
    "onnxruntime",
    "scikit-learn",
    "safetensors",
)
GIT_TIMEOUT_S = 20


def environment() -> dict[str, Any]:
    """Versions of Python and of packages, the platform, and `git_state`."""
    versions: dict[str, str] = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {"versions": versions, "platform": platform.platform(), **git_state()}


def git_state() -> dict[str, Any]:
    """Commit of the code and whether files differ from it; nulls outside a checkout."""
    status = _git("status", "--porcelain")
    return {
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": None if status is None else bool(status),
    }


def _git(*arguments: str) -> str | None:
    """Output of a git command on the code's checkout; None if it fails."""
    root = Path(__file__).parents[2]
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT_S,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
