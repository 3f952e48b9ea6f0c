"""Fetch Fashion-MNIST: from torchvision's mirror, else from Debian's package, unpacked without root."""

import shutil
import subprocess
import urllib.request
from pathlib import Path

from rich.console import Console
from rich.progress import wrap_file

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
DEBIAN_PACKAGE = "dataset-fashion-mnist"


class FetchError(RuntimeError):
    """A source does not give the files."""


def download_from_mirror(folder: Path, files: list[str]) -> None:
    """Raises OSError if the mirror cannot be reached."""
    from torchvision.datasets import FashionMNIST  # pyright: ignore[reportMissingTypeStubs]  # slow to import, rarely needed

    for name in files:
        url = f"{FashionMNIST.mirrors[0]}{name}"
        with urllib.request.urlopen(url, timeout=15) as response:
            size = int(response.headers.get("Content-Length", 0))
            with (
                wrap_file(response, size, description=name, console=Console(stderr=True)) as body,
                open(folder / name, "wb") as out,
            ):
                shutil.copyfileobj(body, out)


def unpack_debian_package(folder: Path, files: list[str]) -> None:
    """Raises FetchError if apt or dpkg fails, OSError if they are not there."""
    # A package list of its own: the machine's may be empty, and only root may renew it.
    lists = ["-o", f"Dir::State::Lists={folder}/lists", "-o", f"Dir::Cache={folder}/cache"]
    (folder / "lists/partial").mkdir(parents=True)
    (folder / "cache/archives/partial").mkdir(parents=True)
    _run(["apt-get", *lists, "update"], folder)
    _run(["apt-get", *lists, "download", DEBIAN_PACKAGE], folder)
    for package in folder.glob("*.deb"):
        _run(["dpkg", "-x", package.name, "."], folder)
    for name in files:
        (folder / DEBIAN_FOLDER.relative_to("/") / name).replace(folder / name)


def _run(arguments: list[str], folder: Path) -> None:
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, timeout=300)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise FetchError(f"{arguments[0]} failed: {lines[-1]}")
