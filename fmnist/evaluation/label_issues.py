"""Labels that networks contradict which were not trained on the image: confident learning.

No network judges an image that it was trained on, nor one that shows the same picture as an image
that it was trained on. Northcutt et al., Confident Learning (2021).
"""

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from fmnist.config import TrainConfig
from fmnist.data.audit.findings import Suspect
from fmnist.data.dataset import Split, TrainingData, load_test, load_train
from fmnist.data.info import DataInfo
from fmnist.errors import InputError, check
from fmnist.runs.files import write_atomic
from fmnist.training.device import Rank, default_device, set_threads
from fmnist.training.inference import compute_logits
from fmnist.training.metrics import DivergedError
from fmnist.training.progress import TrainingBar
from fmnist.training.session import FileStore, TrainingResult, run_session

FOLD_SEED = 2017
"""Fixed, so that the same images are held out together every time."""
LEAST_STEPS = 20
"""Optimiser steps of an epoch, at least: a small set is trained in smaller batches."""

Groups = NDArray[np.int64]
Probabilities = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class OutOfFold:
    """What networks say of images that they were not trained on."""

    train: Probabilities
    """(N, classes), each row by the network that the image was held out from."""
    test: Probabilities
    """(M, classes), by those networks that were trained on no copy of the image."""


def find_suspects(
    config: TrainConfig,
    folder: Path,
    info: DataInfo,
    groups: Groups,
    out: Path,
    *,
    folds: int,
    console: Console,
) -> list[Suspect]:
    """Train a network for each fold, and find the labels that the predictions contradict.

    Interrupted, it goes on after the last whole epoch of a fold, from what it keeps in `out`.

    Args:
        config: of the networks; its validation images and early stopping are left out.
        folder: the data set's, which `info` describes.
        groups: (N + M,), copies of one picture having the same number: training images, then test
            images.
        out: folder of the folds.
        folds: parts that the training images are divided into.

    Raises:
        InputError: there are too few images for so many folds, or a loss is not finite.
    """
    train, test = load_train(folder, info), load_test(folder, info)
    predicted = out_of_fold(config, info, train, test, groups, out, folds=folds, console=console)

    suspects: list[Suspect] = []
    for is_test, split, probabilities in (
        (False, train, predicted.train),
        (True, test, predicted.test),
    ):
        labels = split.labels.numpy()
        for place in contradicted(labels, probabilities).tolist():
            scores = probabilities[place]
            best = int(scores.argmax())
            own = float(scores[labels[place]])
            suspects.append(Suspect(is_test, place, best, float(scores[best]), own))
    return suspects


def out_of_fold(
    config: TrainConfig,
    info: DataInfo,
    train: Split,
    test: Split,
    groups: Groups,
    out: Path,
    *,
    folds: int,
    console: Console,
) -> OutOfFold:
    """Predict each image by networks that were trained on no copy of it.

    Args:
        train, test: the set's images; the other arguments are those of `find_suspects`.
    """
    fold_of = assign_folds(train.labels.numpy(), groups[: len(train)], folds)
    config = _fold_config(config, len(train), folds)
    folder = _folds_folder(out, config, info, fold_of)
    return _Work(config, info, train, test, fold_of, folder).predict(groups, console)


def assign_folds(labels: Groups, groups: Groups, folds: int) -> Groups:
    """Divide images into folds, each class alike, and copies of a picture always together.

    Args:
        labels: (N,)
        groups: (N,), equal for copies of one picture.

    Returns:
        (N,), each image's fold from 0.

    Raises:
        InputError: no class has so many pictures.
    """
    # Here: scikit-learn takes seconds to import, which --help does without.
    from sklearn.model_selection import StratifiedKFold

    _, first, picture = np.unique(groups, return_index=True, return_inverse=True)
    most = int(np.bincount(labels[first]).max())
    check(
        2 <= folds <= most,
        f"folds={folds}: 2 to {most:,}, the different pictures of the largest class",
    )
    fold_of_picture = np.empty(len(first), np.int64)
    splitter = StratifiedKFold(folds, shuffle=True, random_state=FOLD_SEED)
    for fold, (_, held_out) in enumerate(splitter.split(first, labels[first])):
        fold_of_picture[held_out] = fold
    return fold_of_picture[picture]


def contradicted(labels: Groups, probabilities: Probabilities) -> Groups:
    """Find the images whose label the predictions contradict, the most suspect first.

    A class is likely for an image whose probability of it is at least the mean of those that are
    labelled with it. A label is suspect where the likeliest of the likely classes is another one.

    Own code beside cleanlab, whose find_label_issues (filter_by="confident_learning") names the
    same images: these lines spare pandas. A test holds the two equal.

    Args:
        labels: (N,)
        probabilities: (N, classes), of networks that were not trained on these images.
    """
    images, classes = probabilities.shape
    own = probabilities[np.arange(images), labels]
    counts = np.bincount(labels, minlength=classes)
    thresholds = np.bincount(labels, own, classes) / np.maximum(counts, 1)
    # A class without images has no mean: it is never likely.
    thresholds[counts == 0] = np.inf
    likely = np.where(probabilities >= thresholds - 1e-6, probabilities, 0)

    suspect = likely.any(1) & (likely.argmax(1) != labels)
    found = np.flatnonzero(suspect)
    return found[np.argsort(own[found], kind="stable")]


def _fold_config(config: TrainConfig, images: int, folds: int) -> TrainConfig:
    """The config as the folds are trained: nothing is selected, and every image is used."""
    trained = images - images // folds
    batch = min(config.global_batch_size, max(trained // LEAST_STEPS, 2))
    return config.replace(
        validation_images=0,
        early_stopping=0,
        train_images=0,
        early_epochs=0,
        early_share=1.0,
        global_batch_size=batch,
        # In proportion, so that a small set's steps are not too long.
        lr=config.lr * batch / config.global_batch_size,
    )


def _folds_folder(out: Path, config: TrainConfig, info: DataInfo, fold_of: Groups) -> Path:
    """A folder of its own for each config, data set and division into folds."""
    key = json.dumps([config.to_dict(), info.sha256], sort_keys=True).encode() + fold_of.tobytes()
    return out / "folds" / hashlib.sha256(key).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class _Work:
    """The trainings of all folds."""

    config: TrainConfig
    info: DataInfo
    train: Split
    test: Split
    fold_of: Groups
    folder: Path

    @property
    def folds(self) -> int:
        return int(self.fold_of.max()) + 1

    def predict(self, groups: Groups, console: Console) -> OutOfFold:
        """Train what is not done yet, and put the folds' predictions together."""
        set_threads(self.config)
        classes = len(self.info.classes)
        train = np.zeros((len(self.train), classes), np.float32)
        test = np.zeros((len(self.test), classes), np.float32)
        judges = np.zeros((len(self.test), 1), np.float32)

        own_fold = _own_folds(groups, self.fold_of)
        for fold in range(self.folds):
            held_out, of_test = self._fold(fold, console)
            train[self.fold_of == fold] = held_out
            unseen = np.isin(own_fold, (-1, fold))
            test[unseen] += of_test[unseen]
            judges[unseen] += 1
        return OutOfFold(train, test / judges)

    def _fold(self, fold: int, console: Console) -> tuple[Probabilities, Probabilities]:
        """Probabilities of the fold's held-out images and of the test images."""
        path = self.folder / f"fold-{fold + 1}.npz"
        if not path.exists():
            held_out, of_test = self._train_fold(fold, console)
            buffer = io.BytesIO()
            np.savez(buffer, held_out=held_out, test=of_test)
            write_atomic(path, buffer.getvalue())
            self._state_file(fold).unlink(missing_ok=True)

        with np.load(path) as saved:
            return saved["held_out"], saved["test"]

    def _train_fold(self, fold: int, console: Console) -> tuple[Probabilities, Probabilities]:
        outside = torch.from_numpy(np.flatnonzero(self.fold_of != fold))
        inside = torch.from_numpy(np.flatnonzero(self.fold_of == fold))
        data = TrainingData(self.train.take(outside), None, len(self.info.classes))
        console.print(f"fold {fold + 1} of {self.folds}: {len(outside):,} images")
        try:
            result = self._run(fold, data, console)
        except DivergedError as error:
            raise InputError(f"fold {fold + 1}: {error}") from error

        held_out = compute_logits(result.model, self.train.take(inside).images)
        of_test = compute_logits(result.model, self.test.images)
        return _probabilities(held_out), _probabilities(of_test)

    def _run(self, fold: int, data: TrainingData, console: Console) -> TrainingResult:
        # Another seed for each: their mistakes should not be alike.
        config = self.config.replace(seed=self.config.seed + fold)
        title = f"fold {fold + 1}"
        self.folder.mkdir(parents=True, exist_ok=True)
        store = FileStore(self._state_file(fold))
        with TrainingBar(config.epochs, title, console) as bar:
            rank = Rank(default_device())
            for event in run_session(config, data, rank, store, on_step=bar.on_step):
                if isinstance(event, TrainingResult):
                    return event
                if not event.replayed:
                    bar.on_epoch(event.metrics)
        raise AssertionError("a session without a deadline ends with its result")

    def _state_file(self, fold: int) -> Path:
        return self.folder / f"fold-{fold + 1}.pt"


def _own_folds(groups: Groups, fold_of: Groups) -> Groups:
    """The fold of each test image's copies among the training images, -1 where there are none."""
    train_groups, first = np.unique(groups[: len(fold_of)], return_index=True)
    test_groups = groups[len(fold_of) :]
    place = np.searchsorted(train_groups, test_groups).clip(max=len(train_groups) - 1)
    copied = train_groups[place] == test_groups
    return np.where(copied, fold_of[first[place]], -1)


def _probabilities(logits: Tensor) -> Probabilities:
    return logits.softmax(1).numpy()
