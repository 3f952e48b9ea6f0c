"""Find or fetch the data: a named folder, the cache, Debian's package, torchvision's mirror.

Sources, in order: what `--data` or `--from-folder` names, $FMNIST_DATA, the project's cache,
Debian's installed package, torchvision's mirror, Debian's package fetched and unpacked without
root. Fashion-MNIST is the corrected release of September 2017 (zalandoresearch/fashion-mnist#44).
"""

import os
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import wrap_file

from fmnist.config import topic
from fmnist.data.formats import SHA256, find_files, hash_files
from fmnist.data.info import DataInfo
from fmnist.errors import DataError, check

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
DEBIAN_PACKAGE = "dataset-fashion-mnist"
MIRROR_TIMEOUT_S = 15
PACKAGE_TIMEOUT_S = 300

Download = Callable[[Path, list[str]], None]
"""Puts the files with these names into a folder."""


class FetchError(RuntimeError):
    """A source does not give the files."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the data comes from."""

    data: str | None = topic("data", None)
    """Folder with the four files of MNIST's format; by default Fashion-MNIST is found or
    fetched."""
    from_folder: str | None = topic("data", None)
    """Folder of images, one subfolder a class (or train and test, each with one a class), in place
    of --data."""
    image_size: int = topic("data", 28)
    """Height and width in pixels that the images of --from-folder are resized to."""


NOT_NAMED = Source()


def cache_folder() -> Path:
    """Where fetched data is kept: $XDG_CACHE_HOME/fmnist, by default ~/.cache/fmnist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fmnist"


def find_data(source: Source = NOT_NAMED, trained_on: DataInfo | None = None) -> Path:
    """The folder that holds the four files, fetched or converted first where needed.

    Args:
        source: what the command line names.
        trained_on: a checkpoint's data, taken where nothing is named and it is still there.

    Raises:
        DataError: a named folder does not hold them, or no source can be reached.
    """
    both = source.data is not None and source.from_folder is not None
    check(not both, "--data and --from-folder: give one of them")
    if source.from_folder:
        # Here: Pillow and a pool of threads, for the few runs that need them.
        from fmnist.data.image_folder import import_folder

        size = trained_on.image_size if trained_on else source.image_size
        return import_folder(Path(source.from_folder), size, cache_folder() / "folders")

    named = _named_folder(source, trained_on)
    if named:
        find_files(Path(named))
        return Path(named)

    # A cache that lacks a file is fetched anew.
    for candidate in (cache_folder(), DEBIAN_FOLDER):
        with suppress(DataError):
            find_files(candidate)
            return candidate
    return _fetch(cache_folder())


def _named_folder(source: Source, trained_on: DataInfo | None) -> str | None:
    """What the command line names, or else the checkpoint, or else $FMNIST_DATA."""
    if source.data:
        return source.data
    # A checkpoint of another machine names a folder that this one may not have.
    if trained_on is not None and trained_on.source and Path(trained_on.source).is_dir():
        return trained_on.source
    return os.environ.get("FMNIST_DATA")


def download_from_mirror(folder: Path, files: list[str]) -> None:
    """Raises OSError if the mirror cannot be reached."""
    # Here: PyTorch takes seconds to import, and the data is fetched once.
    from torchvision.datasets import FashionMNIST

    console = Console(stderr=True)
    for name in files:
        url = f"{FashionMNIST.mirrors[0]}{name}"
        with urllib.request.urlopen(url, timeout=MIRROR_TIMEOUT_S) as response:
            size = int(response.headers.get("Content-Length", 0))
            bar = wrap_file(response, size, description=name, console=console)
            with bar as body, open(folder / name, "wb") as out:
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
    done = subprocess.run(
        arguments, cwd=folder, capture_output=True, text=True, timeout=PACKAGE_TIMEOUT_S
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise FetchError(f"{arguments[0]} failed: {lines[-1]}")


def _fetch(folder: Path) -> Path:
    """Fetch Fashion-MNIST into `folder` from the first source that gives it whole."""
    folder.mkdir(parents=True, exist_ok=True)
    downloads: dict[str, Download] = {
        "torchvision's mirror": download_from_mirror,
        "Debian's package": unpack_debian_package,
    }
    failures: list[str] = []
    for name, download in downloads.items():
        try:
            _fetch_from(download, folder)
        except (DataError, FetchError, OSError, ValueError, subprocess.SubprocessError) as error:
            failures.append(f"{name}: {error}")
        else:
            return folder
    raise DataError(
        f"Fashion-MNIST could not be fetched ({'; '.join(failures)}). "
        f"Put the four .gz files into {folder}, or into a folder named by --data or $FMNIST_DATA"
    )


def _fetch_from(download: Download, folder: Path) -> None:
    """Move the files into `folder` once all four have come and are the right ones."""
    files = [f"{name}.gz" for name in SHA256]
    # On the same disk, so that moving the files is renaming them.
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        arrived = Path(temporary)
        download(arrived, files)
        _check_arrived(hash_files(arrived))
        for file in files:
            (arrived / file).replace(folder / file)


def _check_arrived(hashes: dict[str, str]) -> None:
    damaged = [name for name, digest in SHA256.items() if hashes.get(name) != digest]
    check(len(damaged) < len(SHA256), "the files are not Fashion-MNIST's")
    check(not damaged, f"{', '.join(damaged)}: damaged on the way")
