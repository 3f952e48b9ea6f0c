"""Load, verify and split a data set."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fmnist.config import Problem, TrainConfig
from fmnist.data.formats import (
    CLASSES,
    LABELS_FILE,
    PARTS,
    SHA256,
    SUMS_FILE,
    find_files,
    hash_content,
    plain_name,
    set_name,
    unpack,
)
from fmnist.data.idx import parse_idx
from fmnist.data.image_folder import DESCRIPTION
from fmnist.data.info import DataInfo
from fmnist.errors import DataError, check
from fmnist.runs.files import read_json, write_atomic

SPLIT_SEED = 2017
"""Fixed, so that every run of every seed has the same validation images."""
VALIDATION_SHARE = 12
"""One training image in so many is held out unless the config gives a number: 5,000 of
Fashion-MNIST's 60,000."""

Bytes = NDArray[np.uint8]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Split:
    """Images and their labels."""

    images: Tensor  # (N, H, W) or (N, 3, H, W) uint8
    labels: Tensor  # (N,) int64

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Indices) -> "Split":
        index = torch.from_numpy(indices)
        return Split(self.images[index], self.labels[index])

    def problem(self, classes: int) -> Problem:
        """What a network for these images must fit."""
        channels = 1 if self.images.ndim == 3 else self.images.shape[1]
        return Problem(classes, channels=channels, size=self.images.shape[-1])


@dataclass(frozen=True, slots=True)
class TrainingData:
    """The images that a network is trained on, and those that it is selected by."""

    train: Split
    validation: Split | None
    """None where nothing is selected."""
    classes: int
    """Number of classes; a split may lack some."""

    @property
    def problem(self) -> Problem:
        return self.train.problem(self.classes)


def load_info(folder: Path, trained_on: DataInfo | None = None) -> DataInfo:
    """Describe and verify the data in `folder`, by SHA-256 sums where there are any.

    The first time a data set that is not Fashion-MNIST is seen, its sums are written beside it:
    later loads are held to them.

    Args:
        trained_on: the data of a checkpoint or of a run to be resumed, which this must be.

    Raises:
        DataError: a file is damaged, Fashion-MNIST's files are mixed with others or stand under
            each other's names, or the data is another set than the one trained on.
    """
    info = _describe(folder)
    if trained_on is not None and info.sha256 != trained_on.sha256:
        raise DataError(
            f"data={str(folder)!r} is {info.name}, "
            f"but the model was trained on another set, {trained_on.name}"
        )
    return info


def load_train(folder: Path, info: DataInfo) -> Split:
    """Load the official training set.

    Raises:
        DataError: a file is not the one that `info` describes.
    """
    return _load(folder, info, "train")


def load_test(folder: Path, info: DataInfo) -> Split:
    """Load the official test set: for the final evaluation and verification, never to select.

    Raises:
        DataError: a file is not the one that `info` describes.
    """
    return _load(folder, info, "t10k")


def split_train(config: TrainConfig, train: Split) -> tuple[TrainConfig, Split, Split | None]:
    """Split into training and validation images, stratified by class, with a fixed seed.

    The validation images do not depend on how many are trained on.

    Args:
        config: its validation_images are held out, none if 0; of the rest train_images are kept,
            all if 0.
        train: the official training set.

    Returns:
        the config with its number of validation images decided, the training images, and the
        validation images.

    Raises:
        InputError: the numbers do not fit the images.
    """
    labels = train.labels.numpy()
    classes = len(np.unique(labels))
    held_out = config.validation_images
    if held_out is None:
        held_out = max(len(train) // VALIDATION_SHARE, classes)
    config = config.replace(validation_images=held_out)

    rest = np.arange(len(train))
    validation: Split | None = None
    if held_out:
        _check_held_out(held_out, labels, classes)
        rest, chosen = _split_indices(rest, labels, test_size=held_out)
        validation = train.take(np.sort(chosen))

    wanted = config.train_images
    if wanted:
        check(
            classes <= wanted <= len(rest),
            f"train_images={wanted}: {classes} (one of each class) to the {len(rest):,} "
            "that the split leaves; 0 takes them all",
        )
        # Where fewer than one image of each class would be left over, all are kept.
        if wanted <= len(rest) - classes:
            rest, _ = _split_indices(rest, labels[rest], train_size=wanted)

    # In the files' order again: the order of training depends on its own seed alone.
    return config, train.take(np.sort(rest)), validation


def _check_held_out(held_out: int, labels: Indices, classes: int) -> None:
    limit = len(labels) - classes
    check(
        classes <= held_out <= limit,
        f"validation_images={held_out}: {classes} (one of each class) to {limit:,} "
        f"of the {len(labels):,} images, or 0",
    )
    # Only the classes that occur: a subset of the data may lack some.
    smallest = np.bincount(labels)[labels].min()
    check(
        smallest >= 2,
        "a class has a single training image: there must be 2 to hold one out",
    )


def _split_indices(indices: Indices, labels: Indices, **sizes: Any) -> tuple[Indices, Indices]:
    """Split `indices` in two, each class alike."""
    # Here: scikit-learn takes seconds to import, which workers need not spend.
    from sklearn.model_selection import train_test_split

    parts = train_test_split(indices, random_state=SPLIT_SEED, stratify=labels, **sizes)
    first, second = cast(list[Indices], parts)
    return first, second


def pixel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel's uint8 pixels, in 0 to 255.

    They are computed from counts of the 256 values, hence exact and alike everywhere. The deviation
    is at least 1, so that images of a single gray can be divided by it.

    Returns:
        two tensors of (channels, 1, 1) float32.
    """
    planes = images.unsqueeze(1) if images.ndim == 3 else images
    values = torch.arange(256, dtype=torch.float64)
    means: list[float] = []
    deviations: list[float] = []
    for plane in planes.unbind(1):
        counts = torch.bincount(plane.flatten(), minlength=256).double()
        mean = (counts * values).sum() / counts.sum()
        variance = (counts * (values - mean) ** 2).sum() / counts.sum()
        means.append(mean.item())
        deviations.append(max(variance.sqrt().item(), 1.0))
    return torch.tensor(means).view(-1, 1, 1), torch.tensor(deviations).view(-1, 1, 1)


def _describe(folder: Path) -> DataInfo:
    # All files are hashed before one is parsed: damage is then told as such.
    files = find_files(folder)
    contents: dict[str, bytes] = {}
    sha256: dict[str, str] = {}
    for part, path in files.items():
        contents[part] = unpack(path)
        sha256[plain_name(path)] = hash_content(contents[part])
    if sha256 == SHA256:
        return DataInfo("Fashion-MNIST", CLASSES, SHA256, source=str(folder.absolute()))

    _check_sums(folder, files, sha256)
    arrays = {part: parse_idx(files[part], content) for part, content in contents.items()}
    _check_arrays(files, arrays)
    values = np.unique(arrays["train-labels"]).tolist()
    described = _description(folder)
    classes = _class_names(folder, values)
    # Only now: a set that was refused is not held to its sums.
    _write_sums(folder, sha256)

    images = arrays["train-images"]
    gray = images.ndim == 3
    name = set_name(files["train-images"]) or folder.resolve().name
    return DataInfo(
        name=described.get("name", name),
        classes=classes,
        sha256=sha256,
        channels=1 if gray else 3,
        image_size=images.shape[-1],
        fit=described.get("fit", "mnist" if gray else "pad"),
        label_values=tuple(values),
        source=str(folder.absolute()),
    )


def _description(folder: Path) -> dict[str, Any]:
    """What an imported folder of images says of itself; empty for other data."""
    path = folder / DESCRIPTION
    return read_json(path) if path.exists() else {}


def _load(folder: Path, info: DataInfo, prefix: str) -> Split:
    files = find_files(folder)
    images = _read(files[f"{prefix}-images"], info)
    labels = _read(files[f"{prefix}-labels"], info)
    # EMNIST's files hold each image turned on its side.
    if set_name(files["train-images"]).startswith("emnist"):
        images = images.swapaxes(-1, -2)

    # Classes are numbered from 0, whatever the files call them.
    index = np.searchsorted(info.label_values, labels).astype(np.int64)
    return Split(torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(index))


def _read(path: Path, info: DataInfo) -> Bytes:
    content = unpack(path)
    digest = hash_content(content)
    expected = info.sha256[plain_name(path)]
    if digest != expected:
        raise DataError(
            f"{path}: SHA-256 {digest[:12]}… instead of {expected[:12]}…: "
            "it changed while it was in use"
        )
    return parse_idx(path, content)


def _check_sums(folder: Path, files: dict[str, Path], sha256: dict[str, str]) -> None:
    """Raise DataError if files are mixed up, or changed since their first use."""
    _check_not_mixed(folder, files, sha256)
    sums = folder / SUMS_FILE
    if not sums.exists():
        return

    expected = _read_sums(sums)
    for path in files.values():
        digest = sha256[plain_name(path)]
        before = expected.get(plain_name(path), "none")
        if digest != before:
            raise DataError(
                f"{path}: SHA-256 {digest[:12]}… instead of the {before[:12]}… of {sums}: damaged; "
                f"if you changed the data, delete {sums}"
            )


def _check_not_mixed(folder: Path, files: dict[str, Path], sha256: dict[str, str]) -> None:
    """Raise DataError if some of Fashion-MNIST's files are swapped, or stand among others."""
    # Its hash tells which of Fashion-MNIST's files one is, whatever its name.
    names = {digest: name for name, digest in SHA256.items()}
    whole: list[str] = []
    for name, digest in sha256.items():
        if digest not in names:
            continue
        if names[digest] != name:
            raise DataError(
                f"{folder}: {name} is Fashion-MNIST's {names[digest]}: "
                "files are swapped; rename them"
            )
        whole.append(name)

    if whole:
        damaged = [str(path) for path in files.values() if plain_name(path) not in whole]
        raise DataError(
            f"{', '.join(damaged)}: damaged, since {min(whole)} beside it is Fashion-MNIST's; "
            "delete it and put a whole one there"
        )


def _read_sums(path: Path) -> dict[str, str]:
    """Sums by file name, of a file as sha256sum writes it; lines that are no sums are skipped."""
    sums: dict[str, str] = {}
    for line in path.read_text().splitlines():
        words = line.split(maxsplit=1)
        if len(words) == 2:
            digest, name = words
            # sha256sum marks a file that it read as binary with a star.
            sums[name.lstrip("*")] = digest
    return sums


def _write_sums(folder: Path, sha256: dict[str, str]) -> None:
    path = folder / SUMS_FILE
    if path.exists():
        return
    lines = [f"{digest}  {name}\n" for name, digest in sha256.items()]
    # Where the folder cannot be written to, the run keeps the sums.
    with suppress(OSError):
        write_atomic(path, "".join(lines))


def _check_arrays(files: dict[str, Path], arrays: dict[str, Bytes]) -> None:
    """Raise DataError unless the four arrays make a data set."""
    for part, kind in PARTS.items():
        if kind == "images":
            _check_image_shape(files[part], arrays[part].shape)
        else:
            _check_label_shape(files[part], arrays[part].shape)

    folder = files["train-images"].parent
    for prefix in ("train", "t10k"):
        images = len(arrays[f"{prefix}-images"])
        labels = len(arrays[f"{prefix}-labels"])
        if images != labels or not images:
            raise DataError(f"{folder}: {images} images but {labels} labels in {prefix}")

    shape, test_shape = arrays["train-images"].shape[1:], arrays["t10k-images"].shape[1:]
    if shape != test_shape:
        raise DataError(
            f"{folder}: training and test images differ in shape, {shape} and {test_shape}"
        )

    # A class that is not trained could never be recognised.
    unknown = np.setdiff1d(arrays["t10k-labels"], arrays["train-labels"]).tolist()
    if unknown or len(np.unique(arrays["train-labels"])) < 2:
        raise DataError(
            f"{files['t10k-labels']}: labels {unknown or 'of one class only'}; "
            "the training labels must have them all, two or more"
        )


def _check_image_shape(path: Path, shape: tuple[int, ...]) -> None:
    gray_or_colour = shape[1:-2] in ((), (3,))
    square = len(shape) >= 3 and shape[-1] == shape[-2]
    if not (square and gray_or_colour):
        raise DataError(
            f"{path} holds an array of {shape}; "
            "images are (N, size, size) gray or (N, 3, size, size) colour"
        )


def _check_label_shape(path: Path, shape: tuple[int, ...]) -> None:
    if len(shape) != 1:
        raise DataError(f"{path} holds {len(shape)} dimensions; labels have one")


def _class_names(folder: Path, values: list[int]) -> tuple[str, ...]:
    """The lines of labels.txt, or else the label values themselves."""
    path = folder / LABELS_FILE
    if not path.exists():
        return tuple(map(str, values))

    lines = [line.strip() for line in path.read_text().splitlines()]
    names = tuple(line for line in lines if line)
    if len(names) != len(values):
        raise DataError(
            f"{path} has {len(names)} lines, but the training labels have {len(values)} values, "
            f"{values[0]} to {values[-1]}: one line a class"
        )
    return names
