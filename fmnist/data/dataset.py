"""Load, verify and split a data set."""

from collections.abc import Iterator
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
    EMNIST_CLASSES,
    LABELS_FILE,
    PARTS,
    SHA256,
    SPLITS,
    SUMMARY_FILE,
    SUMS_FILE,
    find_files,
    hash_content,
    is_imported,
    known_hash,
    plain_name,
    set_name,
    unpack,
)
from fmnist.data.idx import Values, map_idx, parse_idx
from fmnist.data.images import Images, PixelFile, Rows, batch_within
from fmnist.data.info import DataInfo
from fmnist.errors import DataError, check
from fmnist.runs.files import read_json, write_atomic

SPLIT_SEED = 2017
"""Fixed, so that every run of every seed has the same validation images."""
VALIDATION_SHARE = 12
"""One training image in so many is held out unless the config gives a number: 5,000 of
Fashion-MNIST's 60,000."""
READ_AT_ONCE = 2**26
"""Bytes of images that statistics and hashes read at once."""
LARGEST_PACKED = 2**29
"""Bytes of a packed file up to which it is unpacked in memory."""

Indices = NDArray[np.int64]
Statistics = tuple[Tensor, Tensor]
"""Mean and deviation of each channel's pixels, (C, 1, 1) each in 0 to 255."""


class Split:
    """Images and their labels.

    Args:
        images: (N, H, W) or (N, 3, H, W) uint8; in memory, or in a file that is read as needed.
        labels: (N,) int64.
        groups: (N,) int64: copies of one picture have the same number; None where none are known.
        own_validation: (N,) bool: the images that the set's maker keeps for validation.
    """

    def __init__(
        self,
        images: Images | Tensor,
        labels: Tensor,
        groups: Tensor | None = None,
        own_validation: Tensor | None = None,
    ) -> None:
        self.images = Images(images) if isinstance(images, Tensor) else images
        self.labels = labels
        self.groups = groups
        self.own_validation = own_validation

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, chosen: Rows) -> "Split":
        """The images at these places, in their order; no pixel is copied."""
        if isinstance(chosen, np.ndarray):
            chosen = torch.from_numpy(chosen)
        groups = None if self.groups is None else self.groups[chosen]
        own = None if self.own_validation is None else self.own_validation[chosen]
        return Split(self.images.take(chosen), self.labels[chosen], groups, own)

    def first(self, count: int) -> "Split":
        """Up to `count` images, the first ones."""
        return self.take(slice(count))

    def problem(self, classes: int) -> Problem:
        """What a network for these images must fit."""
        channels = 1 if self.images.ndim == 3 else self.images.shape[1]
        height, width = self.images.shape[-2:]
        return Problem(classes, channels=channels, height=height, width=width)


@dataclass(frozen=True)
class TrainingData:
    """The images that a network is trained on, and those that it is selected by."""

    train: Split
    validation: Split | None
    """None where nothing is selected."""
    classes: int
    """Number of classes; a split may lack some."""
    known_statistics: Statistics | None = None
    """Those of the training images, where they were computed before."""

    @property
    def problem(self) -> Problem:
        return self.train.problem(self.classes)

    @property
    def statistics(self) -> Statistics:
        """Mean and deviation of the training images' pixels."""
        return self.known_statistics or pixel_statistics(self.train.images)


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
        other = trained_on.name
        if other == info.name:
            # Pictures have come, gone or changed since, or are fitted otherwise.
            other = f"{other} as it was in {trained_on.source or 'another folder'}"
        raise DataError(
            f"data={str(folder)!r} is {info.name}, "
            f"but the model was trained on another set, {other}"
        )
    return info


def load_train(folder: Path, info: DataInfo) -> Split:
    """Load the official training set, the maker's own validation images included.

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

    The validation images do not depend on how many are trained on. Copies of one picture stay
    together, so that where there are some the number held out is met only nearly. A set whose maker
    has kept images for validation keeps those.

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
    own = _own_validation(train, held_out)
    if held_out is None:
        held_out = max(len(train) // VALIDATION_SHARE, classes) if own is None else len(own)
    config = config.replace(validation_images=held_out)

    rest = np.arange(len(train))
    validation: Split | None = None
    if held_out:
        if own is None:
            _check_held_out(held_out, labels, classes)
            rest, chosen = _hold_out(train, labels, held_out)
        else:
            rest, chosen = np.setdiff1d(rest, own), own
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


def _own_validation(train: Split, wanted: int | None) -> Indices | None:
    """The images that the set's maker keeps for validation; None where there are none.

    Raises InputError if another number of them is asked for.
    """
    if train.own_validation is None or not train.own_validation.any():
        return None
    own = train.own_validation.nonzero().flatten().numpy()
    check(
        wanted in (None, 0, len(own)),
        f"validation_images={wanted}: the data has a validation split of its own, "
        f"{len(own):,} images; leave it out, or give 0 to train on them too",
    )
    return own


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


def _hold_out(train: Split, labels: Indices, held_out: int) -> tuple[Indices, Indices]:
    """Choose the training and the validation images, all copies of a picture on one side."""
    images = np.arange(len(train))
    if train.groups is None:
        return _split_indices(images, labels, test_size=held_out)

    groups = train.groups.numpy()
    _, first = np.unique(groups, return_index=True)
    classes = len(np.unique(labels))
    pictures = max(round(held_out * len(first) / len(train)), classes)
    single = np.bincount(labels[first])[labels[first]] < 2
    check(
        not single.any(),
        "a class has copies of a single training image: there must be 2 different ones to hold "
        "one out",
    )
    _, chosen = _split_indices(first, labels[first], test_size=pictures)
    held = np.isin(groups, groups[chosen])
    return images[~held], images[held]


def _split_indices(indices: Indices, labels: Indices, **sizes: Any) -> tuple[Indices, Indices]:
    """Split `indices` in two, each class alike."""
    # Here: scikit-learn takes seconds to import, which workers need not spend.
    from sklearn.model_selection import train_test_split

    parts = train_test_split(indices, random_state=SPLIT_SEED, stratify=labels, **sizes)
    first, second = cast(list[Indices], parts)
    return first, second


def pixel_statistics(images: Images | Tensor) -> Statistics:
    """Mean and standard deviation of each channel's uint8 pixels, in 0 to 255.

    They are computed from counts of the 256 values, hence exact and alike everywhere. The deviation
    is at least 1, so that images of a single gray can be divided by it.

    Returns:
        two tensors of (channels, 1, 1) float32.
    """
    if isinstance(images, Tensor):
        images = Images(images)
    mean, variance = _known_moments(images) or _moments(images)
    deviation = variance.sqrt().clamp(min=1)
    return mean.float().view(-1, 1, 1), deviation.float().view(-1, 1, 1)


def _known_moments(images: Images) -> tuple[Tensor, Tensor] | None:
    """Mean and variance of each channel by the sums that the import has written."""
    sums = images.sums
    if sums is None:
        return None
    pixels = len(images) * images.shape[-2:].numel()
    mean, mean_square = (sums.sum(0).double() / pixels).unbind(1)
    return mean, mean_square - mean**2


def _moments(images: Images) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel, (channels,) float64 each."""
    values = torch.arange(256, dtype=torch.float64)
    means: list[Tensor] = []
    variances: list[Tensor] = []
    for counts in _value_counts(images).double():
        mean = (counts * values).sum() / counts.sum()
        means.append(mean)
        variances.append((counts * (values - mean) ** 2).sum() / counts.sum())
    return torch.stack(means), torch.stack(variances)


def _value_counts(images: Images) -> Tensor:
    """How often each channel has each value, (channels, 256) int64."""
    channels = 1 if images.ndim == 3 else images.shape[1]
    counts = torch.zeros(channels, 256, dtype=torch.int64)
    for batch in images.batches(batch_within(len(images), READ_AT_ONCE, images.image_bytes)):
        for channel, plane in enumerate(batch.view(len(batch), channels, -1).unbind(1)):
            counts[channel] += torch.bincount(plane.flatten(), minlength=256)
    return counts


def image_hashes(images: Images) -> Iterator[str]:
    """SHA-256 of each image's pixels."""
    for batch in images.batches(batch_within(len(images), READ_AT_ONCE, images.image_bytes)):
        for image in batch.numpy():
            yield hash_content(image.tobytes())


def _describe(folder: Path) -> DataInfo:
    # All files are hashed before one is parsed: damage is then told as such.
    files = find_files(folder)
    sha256 = _hash_all(files)
    if sha256 == SHA256:
        return DataInfo("Fashion-MNIST", CLASSES, SHA256, source=str(folder.absolute()))

    _check_sums(folder, files, sha256)
    if is_imported(folder):
        return _describe_imported(folder, files, sha256)

    arrays = {part: _open(path)[0] for part, path in files.items()}
    _check_arrays(files, arrays)
    values = np.unique(arrays["train-labels"]).tolist()
    name = set_name(files["train-images"])
    classes = _class_names(folder, values, name)
    # Only now: a set that was refused is not held to its sums.
    _write_sums(folder, sha256)

    images = arrays["train-images"]
    gray = images.ndim == 3
    return DataInfo(
        name=name or folder.resolve().name,
        classes=classes,
        sha256=sha256,
        channels=1 if gray else 3,
        image_size=images.shape[-2:],
        fit="mnist" if gray else "pad",
        label_values=tuple(values),
        source=str(folder.absolute()),
    )


def _describe_imported(folder: Path, files: dict[str, Path], sha256: dict[str, str]) -> DataInfo:
    summary = read_json(folder / SUMMARY_FILE)
    images, _ = map_idx(files["images"])
    classes = tuple(summary["classes"])
    pixel_range = summary["pixel_range"]
    return DataInfo(
        name=summary["name"],
        classes=classes,
        sha256=sha256,
        channels=1 if images.ndim == 3 else 3,
        image_size=images.shape[-2:],
        fit=summary["fit"],
        pad_colour=summary["pad_colour"],
        pixel_range=None if pixel_range is None else tuple(pixel_range),
        label_values=tuple(range(len(classes))),
        source=str(folder.absolute()),
    )


def _hash_all(files: dict[str, Path]) -> dict[str, str]:
    """SHA-256 of each file by its plain name."""
    return {plain_name(path): known_hash(path) for path in files.values()}


def _open(path: Path) -> tuple[Values, PixelFile | None]:
    """The array in a file: mapped where it is plain, in memory where it is packed."""
    if path.suffix == ".gz":
        size = path.stat().st_size
        check(
            size <= LARGEST_PACKED,
            f"{path}: {size:,} bytes packed, more than memory is given to; unpack it with "
            f"`gunzip --keep {path.name}`, and the images are read as they are needed",
        )
        return parse_idx(path, unpack(path)), None
    values, _ = map_idx(path)
    return values, PixelFile(path) if values.dtype == np.uint8 else None


def _load(folder: Path, info: DataInfo, prefix: str) -> Split:
    files = find_files(folder)
    if is_imported(folder):
        _check_unchanged(files, info)
        return _load_imported(files, info, prefix == "t10k")

    _check_unchanged({part: path for part, path in files.items() if part.startswith(prefix)}, info)
    pixels, file = _open(files[f"{prefix}-images"])
    labels, _ = _open(files[f"{prefix}-labels"])
    images = file
    # EMNIST's files hold each image turned on its side.
    if set_name(files["train-images"]).startswith("emnist"):
        pixels, images = np.ascontiguousarray(pixels.swapaxes(-1, -2)), None
    if images is None:
        return Split(torch.from_numpy(pixels), _class_numbers(labels, info))
    return Split(Images(images), _class_numbers(labels, info))


def _load_imported(files: dict[str, Path], info: DataInfo, test: bool) -> Split:
    splits, _ = map_idx(files["splits"])
    is_test = splits == SPLITS.index("test")
    rows = np.flatnonzero(is_test == test)

    groups = map_idx(files["groups"])[0].astype(np.int64)
    copied = len(np.unique(groups)) < len(groups)
    own = splits[rows] == SPLITS.index("validation")
    return Split(
        Images(PixelFile(files["images"]), torch.from_numpy(rows)),
        _class_numbers(map_idx(files["labels"])[0][rows], info),
        groups=torch.from_numpy(groups[rows]) if copied else None,
        own_validation=torch.from_numpy(own) if own.any() else None,
    )


def _class_numbers(labels: Values, info: DataInfo) -> Tensor:
    """Classes are numbered from 0, whatever the files call them: (N,) int64."""
    return torch.from_numpy(np.searchsorted(info.label_values, labels).astype(np.int64))


def _check_unchanged(files: dict[str, Path], info: DataInfo) -> None:
    """Raise DataError unless the files are those that `info` describes."""
    for path in files.values():
        digest, expected = known_hash(path), info.sha256[plain_name(path)]
        if digest != expected:
            raise DataError(
                f"{path}: SHA-256 {digest[:12]}… instead of {expected[:12]}…: "
                "it changed while it was in use"
            )


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


def _check_arrays(files: dict[str, Path], arrays: dict[str, Values]) -> None:
    """Raise DataError unless the four arrays make a data set."""
    for part, kind in PARTS.items():
        if kind == "images":
            _check_images(files[part], arrays[part])
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


def _check_images(path: Path, images: Values) -> None:
    gray_or_colour = images.shape[1:-2] in ((), (3,))
    if images.ndim < 3 or not gray_or_colour or images.dtype != np.uint8:
        raise DataError(
            f"{path} holds an array of {images.shape} {images.dtype}; images are unsigned bytes, "
            "(N, height, width) gray or (N, 3, height, width) colour"
        )


def _check_label_shape(path: Path, shape: tuple[int, ...]) -> None:
    if len(shape) != 1:
        raise DataError(f"{path} holds {len(shape)} dimensions; labels have one")


def _class_names(folder: Path, values: list[int], set_name: str) -> tuple[str, ...]:
    """The lines of labels.txt, or else what EMNIST calls them, or else the label values."""
    path = folder / LABELS_FILE
    if not path.exists():
        known = EMNIST_CLASSES.get(set_name, "")
        return tuple(known) if len(known) == len(values) else tuple(map(str, values))

    lines = [line.strip() for line in _read_text(path).split("\n")]
    names = tuple(line for line in lines if line)
    if len(names) != len(values):
        raise DataError(
            f"{path} has {len(names)} lines, but the training labels have {len(values)} values, "
            f"{values[0]} to {values[-1]}: one line a class"
        )
    return names


def _read_text(path: Path) -> str:
    """Text as editors save it: UTF-8 with or without a mark, or UTF-16 with one."""
    content = path.read_bytes()
    utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        return content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error}); save it as UTF-8") from error
