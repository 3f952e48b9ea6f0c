"""Find, verify and split the data: Fashion-MNIST, any data set in MNIST's (IDX) file format, or a folder of images.

Sources, in order: what `--data` or `--from-folder` names, $FMNIST_DATA, the project's cache, Debian's installed package,
torchvision's mirror, Debian's package fetched and unpacked without root. Fashion-MNIST is the corrected release of
September 2017 (zalandoresearch/fashion-mnist#44). `python -m fmnist.data` fetches, verifies and describes.
"""

import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from fmnist.cli import command
from fmnist.config import Problem, TrainConfig
from fmnist.errors import check
from fmnist.fetch import DEBIAN_FOLDER, FetchError, download_from_mirror, unpack_debian_package
from fmnist.folder import DESCRIPTION, import_folder
from fmnist.idx import DataError, parse_idx, unpack
from fmnist.run import read_json, write_atomic

SPLIT_SEED = 2017
"""Fixed, so that every run of every seed chooses by the same validation images."""
VALIDATION_SHARE = 12
"""One training image in so many is held out unless the config gives a number: 5,000 of Fashion-MNIST's 60,000."""

CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""Fashion-MNIST's, of the unpacked files: mirrors compress them differently."""
SUMS_FILE = "SHA256SUMS"
LABELS_FILE = "labels.txt"
PARTS = {"train-images": "images", "train-labels": "labels", "t10k-images": "images", "t10k-labels": "labels"}
FILE_NAME = re.compile(r"(?P<set>.*?)(?P<part>train|t10k|test)-(?P<kind>images|labels)[-.]idx\d-ubyte(\.gz)?")


@dataclass(frozen=True, slots=True)
class Split:
    """Images and their labels."""

    images: Tensor  # (N, H, W) or (N, 3, H, W) uint8
    labels: Tensor  # (N,) int64

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> "Split":
        index = torch.from_numpy(indices)
        return Split(self.images[index], self.labels[index])

    def problem(self, classes: int) -> Problem:
        return Problem(classes, channels=1 if self.images.ndim == 3 else self.images.shape[1], size=self.images.shape[-1])


@dataclass(frozen=True, slots=True)
class DataInfo:
    """What a data set is: goes into every checkpoint."""

    name: str
    classes: tuple[str, ...]
    sha256: dict[str, str]
    """Of each unpacked file, by its name."""
    channels: int = 1
    image_size: int = 28
    fit: str = "mnist"
    """How a picture from elsewhere is made to look like this set's: see fmnist.photo.to_pixels."""
    label_values: tuple[int, ...] = tuple(range(10))
    """What the files call each class: EMNIST's letters are 1 to 26."""
    source: str = ""
    """The folder it was read from."""

    @property
    def problem(self) -> Problem:
        return Problem(len(self.classes), self.channels, self.image_size)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the data comes from."""

    data: str | None = None
    """Folder with the four files of MNIST's format; by default Fashion-MNIST is found or fetched."""
    from_folder: str | None = None
    """Folder of images, one subfolder a class (or train and test, each with one a class), in place of --data."""
    image_size: int = 28
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
        DataError: a folder was named and does not hold them, or no source can be reached.
    """
    check(source.data is None or source.from_folder is None, "--data and --from-folder: give one of them")
    if source.from_folder:
        size = trained_on.image_size if trained_on else source.image_size
        return import_folder(Path(source.from_folder), size, cache_folder() / "folders")
    named = source.data or (trained_on and Path(trained_on.source).is_dir() and trained_on.source) or os.environ.get("FMNIST_DATA")
    if named:
        _files(Path(named))
        return Path(named)
    for candidate in (cache_folder(), DEBIAN_FOLDER):
        with suppress(DataError):
            _files(candidate)
            return candidate
    return _fetch(cache_folder())


def load_info(folder: Path, trained_on: DataInfo | None = None) -> DataInfo:
    """Name, classes, image size and hashes of the data in `folder`, each file checked against SHA-256 sums where there are any.

    The first time a data set that is not Fashion-MNIST is seen, its sums are written beside it: later loads are held to them.

    Args:
        trained_on: the data of a checkpoint or of a run to be resumed, which this must be.

    Raises:
        DataError: a file is damaged, Fashion-MNIST's files are mixed with others or stand under each other's names, or the
            data is another set than the one trained on.
    """
    info = _describe(folder)
    if trained_on is not None and info.sha256 != trained_on.sha256:
        raise DataError(f"data={str(folder)!r} is {info.name}, but the model was trained on another set, {trained_on.name}")
    return info


def load_train(folder: Path, info: DataInfo) -> Split:
    """The official training set; raises DataError if a file is not the one that `info` describes."""
    return _load(folder, info, "train")


def load_test(folder: Path, info: DataInfo) -> Split:
    """The official test set. For the final evaluation and for verification alone: it chooses nothing."""
    return _load(folder, info, "t10k")


def split_train(config: TrainConfig, train: Split) -> tuple[TrainConfig, Split, Split | None]:
    """The images to train on and those to choose by, stratified by class, with a fixed seed.

    The validation images do not depend on how many are trained on.

    Args:
        config: its validation_images are held out, none if 0; of the rest train_images are kept, all if 0.
        train: the official training set.

    Returns:
        the config with its number of validation images decided, and the two parts.
    """
    from sklearn.model_selection import train_test_split  # here, since its import takes seconds that workers need not spend

    labels = train.labels.numpy()
    classes = len(np.unique(labels))
    held_out = max(len(train) // VALIDATION_SHARE, classes) if config.validation_images is None else config.validation_images
    rest, chosen_by = np.arange(len(train)), None
    if held_out:
        limit = len(train) - classes
        check(
            classes <= held_out <= limit,
            f"validation_images={held_out}: {classes} (one of each class) to {limit:,} of the {len(train):,} images, or 0",
        )
        check(np.bincount(labels)[labels].min() >= 2, "a class has a single training image: there must be 2 to hold one out")
        rest, chosen_by = train_test_split(rest, test_size=held_out, random_state=SPLIT_SEED, stratify=labels)
    if wanted := config.train_images:
        check(
            classes <= wanted <= len(rest),
            f"train_images={wanted}: {classes} (one of each class) to the {len(rest):,} that the split leaves; 0 takes them all",
        )
        if wanted <= len(rest) - classes:
            rest, _ = train_test_split(rest, train_size=wanted, random_state=SPLIT_SEED, stratify=labels[rest])
    training = train.take(np.sort(rest))
    return config.replace(validation_images=held_out), training, None if chosen_by is None else train.take(np.sort(chosen_by))


def pixel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel's uint8 pixels, (channels, 1, 1) in 0 to 255; exact, so alike everywhere."""
    planes = images.unsqueeze(1) if images.ndim == 3 else images
    values = torch.arange(256, dtype=torch.float64)
    statistics: list[tuple[float, float]] = []
    for plane in planes.unbind(1):
        counts = torch.bincount(plane.flatten(), minlength=256).double()
        mean = (counts * values).sum() / counts.sum()
        variance = (counts * (values - mean) ** 2).sum() / counts.sum()
        statistics.append((mean.item(), max(variance.sqrt().item(), 1.0)))
    means, deviations = zip(*statistics, strict=True)
    return torch.tensor(means).view(-1, 1, 1), torch.tensor(deviations).view(-1, 1, 1)


def _describe(folder: Path) -> DataInfo:
    files = _files(folder)
    contents = {part: unpack(path) for part, path in files.items()}
    sha256 = {_plain_name(files[part]): hashlib.sha256(content).hexdigest() for part, content in contents.items()}
    if sha256 == SHA256:
        return DataInfo("Fashion-MNIST", CLASSES, SHA256, source=str(folder.absolute()))
    _check_sums(folder, files, sha256)
    parsed = {part: parse_idx(files[part], content) for part, content in contents.items()}
    _check_parts(files, parsed)
    values = np.unique(parsed["train-labels"]).tolist()
    images = parsed["train-images"]
    described = read_json(folder / DESCRIPTION) if (folder / DESCRIPTION).exists() else {}
    classes = _class_names(folder, values)
    if not (folder / SUMS_FILE).exists():
        with suppress(OSError):  # a folder that cannot be written to: the run keeps the sums
            write_atomic(folder / SUMS_FILE, "".join(f"{digest}  {name}\n" for name, digest in sha256.items()))
    return DataInfo(
        name=described.get("name", _set_name(files["train-images"]) or folder.resolve().name),
        classes=classes,
        sha256=sha256,
        channels=1 if images.ndim == 3 else 3,
        image_size=images.shape[-1],
        fit=described.get("fit", "mnist" if images.ndim == 3 else "pad"),
        label_values=tuple(values),
        source=str(folder.absolute()),
    )


def _load(folder: Path, info: DataInfo, prefix: str) -> Split:
    files = _files(folder)
    images, labels = (_read(files[f"{prefix}-{kind}"], info) for kind in ("images", "labels"))
    if _set_name(files["train-images"]).startswith("emnist"):
        images = images.swapaxes(-1, -2)  # EMNIST's files hold each image turned on its side
    index = np.searchsorted(info.label_values, labels).astype(np.int64)
    return Split(torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(index))


def _read(path: Path, info: DataInfo) -> NDArray[np.uint8]:
    content = unpack(path)
    digest, expected = hashlib.sha256(content).hexdigest(), info.sha256[_plain_name(path)]
    if digest != expected:
        raise DataError(f"{path}: SHA-256 {digest[:12]}… instead of {expected[:12]}…: it changed while it was in use")
    return parse_idx(path, content)


def _files(folder: Path) -> dict[str, Path]:
    """The four files by part, whatever stands before train, t10k or test in their names. Raises DataError if one is missing."""
    sets: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir(), reverse=True) if folder.is_dir() else []:  # reversed, so that plain files win over .gz
        if match := FILE_NAME.fullmatch(path.name):
            part = match["part"].replace("test", "t10k")
            sets.setdefault(match["set"], {})[f"{part}-{match['kind']}"] = path
    if len(sets) > 1:
        raise DataError(
            f"data={str(folder)!r}: it holds {len(sets)} sets ({', '.join(sorted(sets))}); put one in a folder of its own"
        )
    found = next(iter(sets.values()), {})
    missing = [f"{part}-idx{3 if kind == 'images' else 1}-ubyte" for part, kind in PARTS.items() if part not in found]
    if missing:
        raise DataError(f"data={str(folder)!r}: it lacks {', '.join(missing)} (plain or .gz); name the folder that holds them")
    return {part: found[part] for part in PARTS}


def _plain_name(path: Path) -> str:
    return path.name.removesuffix(".gz")


def _set_name(path: Path) -> str:
    match = FILE_NAME.fullmatch(path.name)
    assert match is not None, "_files() gave it"
    return match["set"].strip("-_. ")


def _check_sums(folder: Path, files: dict[str, Path], sha256: dict[str, str]) -> None:
    """Raise DataError if Fashion-MNIST's files are mixed or swapped, or another set differs from the sums of its first use."""
    names = {digest: name for name, digest in SHA256.items()}
    for name, digest in sha256.items():
        if digest in names and names[digest] != name:
            raise DataError(f"{folder}: {name} is Fashion-MNIST's {names[digest]}: files are swapped; rename them")
    if known := sorted(name for name, digest in sha256.items() if digest in names):
        damaged = ", ".join(str(path) for path in files.values() if _plain_name(path) not in known)
        raise DataError(f"{damaged}: damaged, since {known[0]} beside it is Fashion-MNIST's; delete it and put a whole one there")
    sums = folder / SUMS_FILE
    if not sums.exists():
        return
    lines = (line.split(maxsplit=1) for line in sums.read_text().splitlines())
    expected = {line[1].lstrip("*"): line[0] for line in lines if len(line) == 2}
    for path in files.values():
        digest, was = sha256[_plain_name(path)], expected.get(_plain_name(path), "none")
        if digest != was:
            raise DataError(
                f"{path}: SHA-256 {digest[:12]}… instead of the {was[:12]}… of {sums}: damaged; "
                f"if you changed the data, delete {sums}"
            )


def _check_parts(files: dict[str, Path], parsed: dict[str, NDArray[np.uint8]]) -> None:
    for part, kind in PARTS.items():
        shape, path = list(parsed[part].shape), files[part]
        if kind == "labels" and len(shape) != 1:
            raise DataError(f"{path} holds {len(shape)} dimensions; labels have one")
        square = len(shape) in (3, 4) and shape[-1] == shape[-2] and shape[1:-2] in ([], [3])
        if kind == "images" and not square:
            raise DataError(
                f"{path} holds an array of {tuple(shape)}; images are (N, size, size) gray or (N, 3, size, size) colour"
            )
    for prefix in ("train", "t10k"):
        images, labels = parsed[f"{prefix}-images"], parsed[f"{prefix}-labels"]
        if len(images) != len(labels) or not len(images):
            raise DataError(f"{files[f'{prefix}-images'].parent}: {len(images)} images but {len(labels)} labels in {prefix}")
    if parsed["train-images"].shape[1:] != parsed["t10k-images"].shape[1:]:
        shapes = " and ".join(str(parsed[part].shape[1:]) for part in ("train-images", "t10k-images"))
        raise DataError(f"{files['train-images'].parent}: training and test images differ in shape, {shapes}")
    unknown = np.setdiff1d(parsed["t10k-labels"], parsed["train-labels"]).tolist()
    if unknown or len(np.unique(parsed["train-labels"])) < 2:
        raise DataError(
            f"{files['t10k-labels']}: labels {unknown or 'of one class only'}; the training labels must have them all, two or more"
        )


def _class_names(folder: Path, values: list[int]) -> tuple[str, ...]:
    path = folder / LABELS_FILE
    if not path.exists():
        return tuple(map(str, values))
    names = tuple(line.strip() for line in path.read_text().splitlines() if line.strip())
    if len(names) != len(values):
        shown = f"{values[0]} to {values[-1]}"
        raise DataError(
            f"{path} has {len(names)} lines, but the training labels have {len(values)} values, {shown}: one line a class"
        )
    return names


def _fetch(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    failures: list[str] = []
    sources: tuple[tuple[str, Callable[[Path, list[str]], None]], ...] = (
        ("torchvision's mirror", download_from_mirror),
        ("Debian's package", unpack_debian_package),
    )
    packed = [f"{name}.gz" for name in SHA256]
    for name, fetch in sources:
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            try:
                fetch(Path(temporary), packed)
                check(load_info(Path(temporary)).sha256 == SHA256, "the files are not Fashion-MNIST's")
            except (DataError, FetchError, OSError, ValueError, subprocess.SubprocessError) as error:
                failures.append(f"{name}: {error}")
                continue
            for file in packed:
                (Path(temporary) / file).replace(folder / file)
            return folder
    raise DataError(
        f"Fashion-MNIST could not be fetched ({'; '.join(failures)}). "
        f"Put the four .gz files into {folder}, or into a folder named by --data or $FMNIST_DATA"
    )


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Fetch, verify and describe the data.

    Example: python -m fmnist.data --from-folder my-photos --image-size 64
    """

    source: Annotated[Source, tyro.conf.arg(name="")] = NOT_NAMED


def main(options: DataOptions) -> None:
    console = Console(highlight=False, soft_wrap=True)
    folder = find_data(options.source)
    info = load_info(folder)
    train, test = load_train(folder, info), load_test(folder, info)
    mean, deviation = (", ".join(f"{value:.2f}" for value in statistic.flatten()) for statistic in pixel_statistics(train.images))
    colour = "gray" if info.channels == 1 else "colour"
    console.print(f"[bold]{info.name}[/] in {folder}")
    console.print(
        f"{len(train):,} training and {len(test):,} test images, {info.image_size}×{info.image_size} {colour}; "
        f"pixel mean {mean}, deviation {deviation}"
    )
    counts: dict[str, Any] = {
        part: torch.bincount(split.labels, minlength=len(info.classes)).tolist()
        for part, split in (("train", train), ("test", test))
    }
    for number, name in enumerate(info.classes):
        console.print(f"  {number:3}  {name:<16} {counts['train'][number]:>8,} {counts['test'][number]:>8,}")


if __name__ == "__main__":
    command(DataOptions, main)
