"""Find, fetch, verify and split the data: Fashion-MNIST, or any data set in the MNIST (IDX) file format.

Sources, in order: the folder given (`--data` or $FMNIST_DATA), the project's cache, Debian's installed package,
torchvision's mirror, Debian's package fetched and unpacked without root. The release is the corrected one of
September 2017 (zalandoresearch/fashion-mnist#44). `python -m fmnist.data` fetches, verifies and describes it.
"""

import gzip
import hashlib
import os
import shutil
import struct
import subprocess
import tempfile
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import wrap_file
from torch import Tensor

from fmnist.cli import command
from fmnist.errors import InputError, check

IMAGE_SIZE = 28
SPLIT_SEED = 2017
"""Fixed, so that every run of every seed chooses by the same validation images."""

CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""Of the unpacked files: mirrors compress them differently."""
SUMS_FILE = "SHA256SUMS"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
DEBIAN_PACKAGE = "dataset-fashion-mnist"


class DataError(InputError):
    """The data cannot be had, or is not what it should be."""


@dataclass(frozen=True, slots=True)
class Split:
    """Images and their labels."""

    images: Tensor  # (N, 28, 28) uint8
    labels: Tensor  # (N,) int64

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> "Split":
        index = torch.from_numpy(indices)
        return Split(self.images[index], self.labels[index])


@dataclass(frozen=True, slots=True)
class DataInfo:
    """What a data set is: goes into every checkpoint."""

    name: str
    classes: tuple[str, ...]
    sha256: dict[str, str]
    """Of each unpacked file."""


def cache_folder() -> Path:
    """Where fetched data is kept: $XDG_CACHE_HOME/fmnist, by default ~/.cache/fmnist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fmnist"


def find_data(folder: str | Path | None = None) -> Path:
    """The folder that holds the four files, fetched first where needed.

    Raises:
        DataError: a folder was named and does not hold them, or no source can be reached.
    """
    named = folder or os.environ.get("FMNIST_DATA")
    if named:
        missing = [name for name in SHA256 if _file(Path(named), name) is None]
        if missing:
            raise DataError(f"data={str(named)!r}: it lacks {', '.join(missing)} (plain or .gz); name the folder that holds them")
        return Path(named)
    for candidate in (cache_folder(), DEBIAN_FOLDER):
        if all(_file(candidate, name) for name in SHA256):
            return candidate
    return _fetch(cache_folder())


def load_info(folder: Path) -> DataInfo:
    """Name, classes and hashes of the data in `folder`, without reading the pixels."""
    sha256 = _expected_sha256(folder)
    if sha256 == SHA256:
        return DataInfo("Fashion-MNIST", CLASSES, sha256)
    labels_file = folder / "labels.txt"
    count = int(_read_idx(folder, "train-labels-idx1-ubyte", sha256).max()) + 1
    classes = tuple(labels_file.read_text().split("\n")) if labels_file.exists() else tuple(map(str, range(count)))
    classes = tuple(name.strip() for name in classes if name.strip())
    check(len(classes) == count, f"{labels_file} has {len(classes)} lines, but the labels are 0 to {count - 1}: one line a class")
    return DataInfo(folder.name, classes, sha256)


def load_train(folder: Path) -> Split:
    """The official training set, each file checked by SHA-256."""
    return _load(folder, "train")


def load_test(folder: Path) -> Split:
    """The official test set. For the final evaluation and for verification alone: it chooses nothing."""
    return _load(folder, "t10k")


def split_train(train: Split, *, validation_images: int, train_images: int = 0) -> tuple[Split, Split | None]:
    """The images to train on and those to choose by, stratified by class, with a fixed seed.

    Args:
        train: the official training set.
        validation_images: held out; 0 holds none out and gives None.
        train_images: keep this many of the rest; 0 keeps all. The validation images do not depend on it.
    """
    from sklearn.model_selection import train_test_split  # here, since its import takes seconds that workers need not spend

    labels = train.labels.numpy()
    rest, held_out = np.arange(len(train)), None
    if validation_images:
        limit = len(train) - len(np.unique(labels))
        check(validation_images <= limit, f"validation_images={validation_images}: at most {limit} of the {len(train)} images")
        rest, held_out = train_test_split(rest, test_size=validation_images, random_state=SPLIT_SEED, stratify=labels)
    if train_images:
        check(train_images <= len(rest), f"train_images={train_images}: the split leaves {len(rest)}; 0 takes them all")
        if train_images < len(rest):
            rest, _ = train_test_split(rest, train_size=train_images, random_state=SPLIT_SEED, stratify=labels[rest])
    return train.take(np.sort(rest)), None if held_out is None else train.take(np.sort(held_out))


def pixel_statistics(images: Tensor) -> tuple[float, float]:
    """Mean and standard deviation of uint8 pixels, in 0 to 255; exact, so the same on every machine."""
    counts = torch.bincount(images.flatten(), minlength=256).double()
    values = torch.arange(256, dtype=torch.float64)
    mean = (counts * values).sum() / counts.sum()
    variance = (counts * (values - mean) ** 2).sum() / counts.sum()
    return mean.item(), max(variance.sqrt().item(), 1.0)


def accept(folder: Path) -> Path:
    """Write SHA256SUMS for a data set of one's own: from then on every load is checked against it."""
    lines = [f"{hashlib.sha256(_unpacked(folder, name)).hexdigest()}  {name}\n" for name in SHA256]
    (folder / SUMS_FILE).write_text("".join(lines))
    return folder / SUMS_FILE


def _load(folder: Path, prefix: str) -> Split:
    sha256 = _expected_sha256(folder)
    images = _read_idx(folder, f"{prefix}-images-idx3-ubyte", sha256)
    labels = _read_idx(folder, f"{prefix}-labels-idx1-ubyte", sha256)
    size = images.shape[1:]
    check(size == (IMAGE_SIZE, IMAGE_SIZE), f"{folder}: images of {size[0]}×{size[1]}; they must be 28×28")
    check(len(images) == len(labels), f"{folder}: {len(images)} images but {len(labels)} labels in {prefix}")
    return Split(torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)))


def _file(folder: Path, name: str) -> Path | None:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    return None


def _unpacked(folder: Path, name: str) -> bytes:
    path = _file(folder, name)
    if path is None:
        raise DataError(f"{folder} lacks {name} (plain or .gz)")
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, OSError) as error:
        raise DataError(f"{path} cannot be unpacked ({error}); delete it to have it fetched again") from error


def _expected_sha256(folder: Path) -> dict[str, str]:
    sums = folder / SUMS_FILE
    if not sums.exists():
        return SHA256
    pairs = (line.split(maxsplit=1) for line in sums.read_text().splitlines() if line.strip())
    found = {name.strip().lstrip("*"): digest for digest, name in pairs}
    missing = sorted(set(SHA256) - set(found))
    check(not missing, f"{sums} lacks {', '.join(missing)}; write it anew with: python -m fmnist.data --data {folder} --accept")
    return {name: found[name] for name in SHA256}


def _read_idx(folder: Path, name: str, sha256: dict[str, str]) -> NDArray[np.uint8]:
    content = _unpacked(folder, name)
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256[name]:
        raise DataError(
            f"{_file(folder, name)}: SHA-256 {digest[:12]}… instead of {sha256[name][:12]}…: damaged, or another data set. "
            f"If it is your own: python -m fmnist.data --data {folder} --accept; else delete it to have it fetched again"
        )
    dimensions = 3 if "images" in name else 1
    header = 4 + 4 * dimensions
    magic, *shape = struct.unpack(f">{1 + dimensions}I", content[:header]) if len(content) >= header else (0,)
    if magic != 0x800 + dimensions or len(content) - header != int(np.prod(shape)):
        raise DataError(f"{_file(folder, name)}: not an IDX file of {dimensions} dimensions of unsigned bytes")
    return np.frombuffer(bytearray(content), np.uint8, offset=header).reshape(shape)


def _fetch(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    failures: list[str] = []
    sources: tuple[tuple[str, Callable[[Path], None]], ...] = (
        ("torchvision's mirror", _download_from_mirror),
        ("Debian's package", _unpack_debian_package),
    )
    for name, fetch in sources:
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            try:
                fetch(Path(temporary))
                for file in SHA256:
                    _read_idx(Path(temporary), file, SHA256)
            except (DataError, OSError, subprocess.SubprocessError) as error:
                failures.append(f"{name}: {error}")
                continue
            for file in SHA256:
                (Path(temporary) / f"{file}.gz").replace(folder / f"{file}.gz")
            return folder
    raise DataError(
        f"Fashion-MNIST could not be fetched ({'; '.join(failures)}). "
        f"Put the four .gz files into {folder}, or into a folder named by --data or $FMNIST_DATA"
    )


def _download_from_mirror(folder: Path) -> None:
    from torchvision.datasets import FashionMNIST  # pyright: ignore[reportMissingTypeStubs]  # slow to import, rarely needed

    for name in SHA256:
        url = f"{FashionMNIST.mirrors[0]}{name}.gz"
        with urllib.request.urlopen(url, timeout=15) as response:
            size = int(response.headers.get("Content-Length", 0))
            with (
                wrap_file(response, size, description=name, console=Console(stderr=True)) as body,
                open(folder / f"{name}.gz", "wb") as out,
            ):
                shutil.copyfileobj(body, out)


def _unpack_debian_package(folder: Path) -> None:
    # A package list of its own: the machine's may be empty, and only root may renew it.
    lists = ["-o", f"Dir::State::Lists={folder}/lists", "-o", f"Dir::Cache={folder}/cache"]
    (folder / "lists/partial").mkdir(parents=True)
    (folder / "cache/archives/partial").mkdir(parents=True)
    _run(["apt-get", *lists, "update"], folder)
    _run(["apt-get", *lists, "download", DEBIAN_PACKAGE], folder)
    for package in folder.glob("*.deb"):
        _run(["dpkg", "-x", package.name, "."], folder)
    for name in SHA256:
        (folder / DEBIAN_FOLDER.relative_to("/") / f"{name}.gz").replace(folder / f"{name}.gz")


def _run(arguments: list[str], folder: Path) -> None:
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, timeout=300)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise DataError(f"{arguments[0]} failed: {lines[-1]}")


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Fetch, verify and describe the data."""

    data: str | None = None
    """Folder with the four files of the MNIST format; by default Fashion-MNIST is found or fetched."""
    accept: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Write SHA256SUMS into --data: this data set is mine, and later loads are checked against it."""


def main(options: DataOptions) -> None:
    check(not options.accept or options.data is not None, "--accept needs --data DIR, the folder to accept")
    console = Console()
    if options.accept:
        console.print(f"wrote {accept(find_data(options.data))}")
    folder = find_data(options.data)
    info, train, test = load_info(folder), load_train(folder), load_test(folder)
    mean, std = pixel_statistics(train.images)
    console.print(f"[bold]{info.name}[/] in {folder}, every file's SHA-256 as expected")
    console.print(f"{len(train):,} training and {len(test):,} test images of 28×28; pixel mean {mean:.2f}, deviation {std:.2f}")
    counts = torch.bincount(train.labels, minlength=len(info.classes)).tolist()
    for number, (name, count) in enumerate(zip(info.classes, counts, strict=True)):
        console.print(f"  {number:2}  {name:<12} {count:,}")


if __name__ == "__main__":
    command(DataOptions, main)
