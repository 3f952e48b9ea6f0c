"""What an audit finds, as values that the console, the page and audit.json show."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Picture:
    """An image of the set."""

    number: int
    """In the audit's own numbering."""
    split: str
    row: int
    """Its line in the list of files, or where there is none its place in the split, from 0."""
    label: str
    file: str | None
    """The file that it was imported from."""

    @property
    def name(self) -> str:
        return self.file if self.file is not None else f"{self.split} {self.row}"

    def to_dict(self) -> dict[str, Any]:
        return {"split": self.split, "row": self.row, "file": self.file, "label": self.label}


@dataclass(frozen=True, slots=True)
class Copies:
    """Images that show one picture."""

    pictures: tuple[Picture, ...]
    likeness: float
    """The smallest correlation of two that were compared; 1 for equal pixels."""

    @property
    def splits(self) -> list[str]:
        return list(dict.fromkeys(picture.split for picture in self.pictures))

    @property
    def labels(self) -> list[str]:
        return list(dict.fromkeys(picture.label for picture in self.pictures))

    def examples(self, most: int) -> tuple[Picture, ...]:
        """Up to so many of the pictures, of every split and label if there is room."""
        kinds: set[tuple[str, str]] = set()
        first: list[Picture] = []
        others: list[Picture] = []
        for picture in self.pictures:
            kind = (picture.split, picture.label)
            if kind in kinds:
                others.append(picture)
            else:
                first.append(picture)
            kinds.add(kind)
        chosen = (first + others)[:most]
        return tuple(sorted(chosen, key=lambda picture: picture.number))

    def to_dict(self) -> dict[str, Any]:
        return {
            "across_splits": len(self.splits) > 1,
            "labels_differ": len(self.labels) > 1,
            "likeness": round(self.likeness, 5),
            "images": [picture.to_dict() for picture in self.pictures],
        }


@dataclass(frozen=True, slots=True)
class Leak:
    """How many images of a held-out split are copies of training images."""

    split: str
    copies: str
    """Which copies are counted: "exact", or "exact or near"."""
    images: int
    labels_differ: int
    """Of these, how many have a copy in training under another label."""
    of: int
    """Images of the split."""

    @property
    def words(self) -> str:
        words = (
            f"{self.images:,} of {self.of:,} {self.split} images are {self.copies} copies of "
            "training images"
        )
        if not self.labels_differ:
            return words
        return f"{words}, {self.labels_differ:,} of one that has another label there"

    def to_dict(self) -> dict[str, Any]:
        return {
            "split": self.split,
            "copies": self.copies,
            "images": self.images,
            "of": self.of,
            "labels_differ": self.labels_differ,
        }


@dataclass(frozen=True, slots=True)
class Oddity:
    """An image that stands out."""

    kind: str
    """One of oddities.KINDS."""
    picture: Picture
    detail: str
    """What was measured, in words."""

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, **self.picture.to_dict(), "detail": self.detail}


@dataclass(frozen=True, slots=True)
class Suspect:
    """A label that a network which was not trained on the image contradicts."""

    test: bool
    """In the test set; otherwise in the training set."""
    place: int
    """In that set, from 0."""
    predicted: int
    confidence: float
    """Probability of the predicted class."""
    label_confidence: float
    """Probability of the class that the label names: the lower, the more suspect."""


@dataclass(frozen=True, slots=True)
class SuspectedLabel:
    """A suspect with its picture."""

    picture: Picture
    predicted: str
    confidence: float
    label_confidence: float

    def to_dict(self) -> dict[str, Any]:
        return {
            **self.picture.to_dict(),
            "predicted": self.predicted,
            "confidence": round(self.confidence, 4),
            "label_confidence": round(self.label_confidence, 4),
        }


@dataclass(frozen=True, slots=True)
class ClassCount:
    """Images of one class in each split."""

    name: str
    train: int
    validation: int
    test: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "class": self.name,
            "train": self.train,
            "validation": self.validation,
            "test": self.test,
        }


@dataclass(frozen=True, slots=True)
class AuditReport:
    """Everything that an audit of a data set found."""

    name: str
    images: int
    counts: tuple[ClassCount, ...]
    leaks: tuple[Leak, ...]
    exact: tuple[Copies, ...]
    near: tuple[Copies, ...]
    """Groups with exact copies alone are not among them."""
    oddities: tuple[Oddity, ...]
    usual: tuple[str, ...]
    """What would be odd in one image, and is usual in this set."""
    imbalance: tuple[str, ...]
    """What is uneven about the classes, and what to do."""
    suspects: tuple[SuspectedLabel, ...] | None
    """Most suspect first; None where no out-of-fold predictions were made."""
    groups: NDArray[np.int64]
    """(N,): exact and near copies of one picture have the same number. Training images, then test
    images."""

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        copies = self.exact or self.near
        return not (copies or self.oddities or self.imbalance or self.suspects)

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "images": self.images,
            "classes": _dicts(self.counts),
            "leaks": _dicts(self.leaks),
            "exact_copies": _dicts(self.exact),
            "near_copies": _dicts(self.near),
            "oddities": _dicts(self.oddities),
            "usual_in_this_set": list(self.usual),
            "imbalance": list(self.imbalance),
            "suspected_labels": None if self.suspects is None else _dicts(self.suspects),
        }


def _dicts(findings: Sequence[Any]) -> list[dict[str, Any]]:
    return [finding.to_dict() for finding in findings]
