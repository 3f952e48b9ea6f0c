"""Labels that out-of-fold predictions contradict: planted ones are found, by real trainings."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from fmnist.config import TrainConfig
from fmnist.data.audit.catalogue import Catalogue
from fmnist.data.audit.collect import collect
from fmnist.data.audit.findings import Suspect
from fmnist.data.dataset import Split, load_info, load_test, load_train
from fmnist.errors import InputError
from fmnist.evaluation.label_issues import (
    Groups,
    assign_folds,
    contradicted,
    find_suspects,
    out_of_fold,
)
from tests.conftest import write_split

CONFIG = TrainConfig(
    model="lenet", epochs=6, global_batch_size=50, lr=0.05, shift=0, precision="fp32"
)
CLASSES = (1, 7, 8)
"""Trouser, sneaker and bag: a short training tells them apart."""
WRONG = 12


@pytest.fixture
def mislabelled(tmp_path: Path, train: Split, official_test: Split) -> Path:
    """Images of three classes, a few of them under the next class's label."""
    for prefix, split, count in (("train", train, 600), ("t10k", official_test, 90)):
        chosen = torch.isin(split.labels, torch.tensor(CLASSES)).nonzero().flatten()[:count]
        labels = torch.searchsorted(torch.tensor(CLASSES), split.labels[chosen])
        wrong = WRONG if prefix == "train" else 2
        labels[:wrong] = (labels[:wrong] + 1) % 3
        write_split(tmp_path, prefix, Split(split.images[chosen], labels))
    return tmp_path


def test_planted_wrong_labels_are_found(
    mislabelled: Path, tmp_path: Path, one_thread: None
) -> None:
    info = load_info(mislabelled)
    quiet = Console(quiet=True)
    out = tmp_path / "out"

    def find(groups: Groups) -> list[Suspect]:
        return find_suspects(CONFIG, mislabelled, info, groups, out, folds=3, console=quiet)

    report = collect(Catalogue(mislabelled, info), "mine", quiet, find)
    suspects = report.suspects
    assert suspects is not None
    train = [one.picture.row for one in suspects if one.picture.split == "train"]
    test = [one.picture.row for one in suspects if one.picture.split == "test"]
    assert len(set(train) & set(range(WRONG))) >= WRONG - 2
    assert len(train) <= 2 * WRONG
    assert {0, 1} <= set(test)
    # Those least sure of their label come first, and are told what they look like.
    assert suspects[0].label_confidence <= suspects[-1].label_confidence
    assert suspects[0].predicted != suspects[0].picture.label
    assert suspects[0].confidence > 0.5


def test_done_folds_are_not_trained_again(
    mislabelled: Path, tmp_path: Path, one_thread: None
) -> None:
    info = load_info(mislabelled)
    train, test = load_train(mislabelled, info), load_test(mislabelled, info)
    groups = np.arange(690)
    config = CONFIG.replace(epochs=1)

    def predict() -> tuple[str, np.ndarray]:
        screen = io.StringIO()
        found = out_of_fold(
            *(config, info, train, test, groups, tmp_path), folds=3, console=Console(file=screen)
        )
        return screen.getvalue(), found.train

    words, first = predict()
    assert words.count("fold ") == 3
    assert np.allclose(first.sum(1), 1, atol=1e-5)
    (second_fold,) = tmp_path.glob("folds/*/fold-2.npz")
    second_fold.unlink()
    words, again = predict()
    assert "fold 2 of 3: 400 images" in words
    assert words.count("fold ") == 1
    assert np.array_equal(first, again)
    assert not list(tmp_path.glob("folds/*/*.pt"))


def test_an_image_is_judged_by_no_network_that_saw_a_copy(
    mislabelled: Path, tmp_path: Path, one_thread: None
) -> None:
    """The test images are training images here: each must get what its copy gets."""
    info = load_info(mislabelled)
    train = load_train(mislabelled, info)
    test = train.first(50)
    groups = np.concatenate((np.arange(600), np.arange(50)))
    config = CONFIG.replace(epochs=1)
    found = out_of_fold(
        *(config, info, train, test, groups, tmp_path), folds=3, console=Console(quiet=True)
    )
    assert np.allclose(found.test, found.train[:50], atol=1e-5)


def test_copies_are_in_one_fold_and_classes_in_all() -> None:
    labels = np.arange(300) % 3
    groups = np.arange(300)
    groups[100:200] = np.arange(100)
    folds = assign_folds(labels, groups, 5)
    assert np.array_equal(folds[100:200], folds[:100])
    for fold in range(5):
        assert (np.bincount(labels[folds == fold], minlength=3) >= 15).all()
    assert np.array_equal(folds, assign_folds(labels, groups, 5))


@pytest.mark.parametrize("folds", [1, 11])
def test_folds_must_fit_the_images(folds: int) -> None:
    with pytest.raises(InputError, match=rf"^folds={folds}: 2 to 10, the different pictures"):
        assign_folds(np.repeat([0, 1], 10), np.arange(20), folds)


def noisy() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, a tenth of them wrong, probabilities that see the truth, and which are wrong."""
    source = np.random.default_rng(0)
    truth = source.integers(0, 4, 2000)
    scores = source.normal(size=(2000, 4)) + 5 * np.eye(4)[truth]
    probabilities = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    wrong = source.random(2000) < 0.1
    labels = np.where(wrong, (truth + 1) % 4, truth)
    return labels, probabilities.astype(np.float32), wrong


def test_confident_learning_finds_wrong_labels() -> None:
    labels, probabilities, wrong = noisy()
    found = contradicted(labels, probabilities)
    assert wrong[found].mean() > 0.9
    assert np.isin(np.flatnonzero(wrong), found).mean() > 0.8
    own = probabilities[found, labels[found]]
    assert (np.diff(own) >= 0).all()


def test_a_class_without_images_is_never_likely() -> None:
    probabilities = np.array([[0.1, 0.2, 0.7], [0.2, 0.1, 0.7], [0.6, 0.1, 0.3]], np.float32)
    assert contradicted(np.array([0, 0, 0]), probabilities).tolist() == []


def test_cleanlab_finds_the_same() -> None:
    cleanlab = pytest.importorskip("cleanlab.filter", reason="cleanlab is not installed")
    labels, probabilities, _ = noisy()
    expected = cleanlab.find_label_issues(
        labels,
        probabilities,
        return_indices_ranked_by="self_confidence",
        filter_by="confident_learning",
        n_jobs=1,
    )
    assert contradicted(labels, probabilities).tolist() == expected.tolist()
