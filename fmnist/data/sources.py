"""Find or fetch the data: what --data names, the cache, Debian's package, torchvision's mirror.

Sources, in order: what `--data` names, $FMNIST_DATA, the project's cache, Debian's installed
package, torchvision's mirror, Debian's package fetched and unpacked without root. What is named and
is not in MNIST's format is imported into the cache, once. Fashion-MNIST is the corrected release of
September 2017 (zalandoresearch/fashion-mnist#44).
"""

import os
import re
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, get_args

from rich.console import Console
from rich.progress import wrap_file

from fmnist.cli import Flag
from fmnist.config import LARGEST, topic
from fmnist.data.formats import (
    SHA256,
    find_files,
    find_idx,
    hash_files,
    holds_data,
    is_imported,
)
from fmnist.data.info import DataInfo
from fmnist.errors import DataError, check, one_of

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
DEBIAN_PACKAGE = "dataset-fashion-mnist"
MIRROR_TIMEOUT_S = 15
PACKAGE_TIMEOUT_S = 300
IMPORTED = "imported"
"""Folder of the cache for what was imported."""
MIN_SIDE = 8
"""Pixels on a side of an image."""

FitName = Literal["pad", "crop", "stretch"]
PadColour = Literal["edge", "black", "white", "mean"]

Download = Callable[[Path, list[str]], None]
"""Puts the files with these names into a folder."""


class FetchError(RuntimeError):
    """A source does not give the files."""


def parse_size(text: str) -> tuple[int, int]:
    """Height and width from "64" or "96x128".

    Raises:
        InputError: it is neither, or out of range.
    """
    match = re.fullmatch(r"\s*(\d{1,6})(?:\s*[x×X*]\s*(\d{1,6}))?\s*", text)
    sides = (0, 0)
    if match is not None:
        sides = (int(match[1]), int(match[2] or match[1]))
    check(
        all(MIN_SIDE <= side <= LARGEST for side in sides),
        f"image_size={text!r}: pixels of both sides, as 64, or height by width, as 96x128; "
        f"each from {MIN_SIDE} to {LARGEST:,}",
    )
    return sides


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the data comes from, and how pictures become its images.

    Raises:
        InputError: a value is out of range.
    """

    data: str | None = topic("data", None)
    """Folder, file or s3:// address of the data: MNIST's four files, torchvision's root, a folder
    of pictures for each class (also in train, val and test), .npz, .csv, .parquet or .tar. What it
    is, is found by looking. By default Fashion-MNIST is found or fetched."""
    image_size: str = topic("data", "28")
    """Size of the images that pictures are fitted to: 64, or height by width as in 96x128."""
    fit: FitName = topic("data", "pad")
    """How: pad (the whole picture, in the middle), crop (what is beyond is cut off) or stretch."""
    pad_colour: PadColour = topic("data", "edge")
    """What lies beside a padded picture, and under a transparent one: edge (the border goes on, and
    white under a transparent one), black, white, or mean (the picture's own mean)."""
    skip_bad: Annotated[bool, Flag] = topic("data", False)
    """Go on without pictures that are damaged, too large or in no class; without this they are
    listed, and nothing is imported."""
    min_images_per_class: int | None = topic("data", None)
    """Leave out classes with fewer images. By default a class too small to be split is a fault."""
    max_pixels: int | None = topic("data", None)
    """Largest picture that is read, in pixels; by default 89 million. It takes four bytes of memory
    a pixel in each thread."""

    def __post_init__(self) -> None:
        parse_size(self.image_size)
        one_of("fit", self.fit, get_args(FitName))
        one_of("pad_colour", self.pad_colour, get_args(PadColour))
        for name in ("min_images_per_class", "max_pixels"):
            value = getattr(self, name)
            check(value is None or value >= 1, f"{name}={value}: it must be at least 1")


NOT_NAMED = Source()


def cache_folder() -> Path:
    """Where fetched data is kept: $XDG_CACHE_HOME/fmnist, by default ~/.cache/fmnist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fmnist"


def find_data(source: Source = NOT_NAMED, trained_on: DataInfo | None = None) -> Path:
    """The folder that holds the data in MNIST's format, fetched or imported first where needed.

    Args:
        source: what the command line names.
        trained_on: a checkpoint's data, taken where nothing is named and it is still there.
            Pictures that are named are fitted as its were.

    Raises:
        DataError: what is named is nothing known or has faults, or no source can be reached.
    """
    folder = _find(source, trained_on)
    if not is_imported(folder) and replace(source, data=None) != NOT_NAMED:
        flags = "--image-size, --fit and the other flags of an import change nothing"
        console = Console(stderr=True, soft_wrap=True, highlight=False)
        console.print(f"note: {folder} has MNIST's files, used as they are: {flags}", markup=False)
    return folder


def _find(source: Source, trained_on: DataInfo | None) -> Path:
    if not source.data and trained_on is not None and _is_at_hand(trained_on):
        trained_in = Path(trained_on.source)
        find_files(trained_in)
        return trained_in

    named = source.data or os.environ.get("FMNIST_DATA")
    if named:
        return _find_named(named, source, trained_on)

    # A cache that lacks a file is fetched anew.
    for candidate in (cache_folder(), DEBIAN_FOLDER):
        with suppress(DataError):
            find_files(candidate)
            return candidate
    return _fetch(cache_folder())


def _is_at_hand(trained_on: DataInfo) -> bool:
    """Whether a checkpoint's data is there: it may name a folder of another machine."""
    folder = Path(trained_on.source)
    return bool(trained_on.source) and (folder.is_dir() or find_idx(folder) is not None)


def _find_named(named: str, source: Source, trained_on: DataInfo | None) -> Path:
    """The folder itself where it has MNIST's files, else the folder of what is imported from it."""
    if holds_data(Path(named)):
        find_files(Path(named))
        return Path(named)

    # Here: NumPy, Pillow and a pool of threads, for the few runs that need them.
    from fmnist.data.importing.options import ImportOptions
    from fmnist.data.importing.origin import import_named

    height, width = parse_size(source.image_size)
    options = ImportOptions(
        height=height,
        width=width,
        how=source.fit,
        pad_colour=source.pad_colour,
        skip_bad=source.skip_bad,
        min_images=source.min_images_per_class,
        max_pixels=source.max_pixels,
    )
    # A checkpoint of MNIST's own format says nothing of how pictures are imported.
    if trained_on is not None and trained_on.fit != "mnist":
        options = options.like(trained_on)
    return import_named(named, options, cache_folder() / IMPORTED)


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
