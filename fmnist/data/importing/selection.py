"""Choose the images of a set from what was read: its classes, splits and copies."""

import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.cli import plural
from fmnist.data.formats import SPLITS
from fmnist.data.importing.item import Fault
from fmnist.data.importing.report import Report, imbalance_note, not_read_note
from fmnist.data.importing.splitting import (
    TEST,
    TRAIN,
    Assignment,
    Numbers,
    assign,
    conflicting,
    group_copies,
)
from fmnist.data.importing.table import Table
from fmnist.data.importing.words import first_of


@dataclass(frozen=True)
class Selection:
    """The images that a set consists of, (N,) arrays."""

    classes: list[str]
    rows: Numbers
    """Rows of the import, ascending."""
    labels: Numbers
    """Places in `classes`."""
    splits: NDArray[np.uint8]
    groups: Numbers
    """Copies share the place in `rows` of the first of them."""
    made_here: bool
    """Whether the test images were chosen here."""
    validation_is_test: bool

    def count(self, split: str) -> int:
        return int((self.splits == SPLITS.index(split)).sum())

    def class_counts(self, split: int | None = None) -> dict[str, int]:
        """Images of each class, of all splits or of one."""
        labels = self.labels if split is None else self.labels[self.splits == split]
        counts = np.bincount(labels, minlength=len(self.classes)).tolist()
        return dict(zip(self.classes, counts, strict=True))


def select(
    table: Table,
    order: list[str] | None,
    listed: Counter[str],
    min_images: int | None,
    report: Report,
) -> Selection:
    """Choose the images, and add what is wrong to the report.

    Args:
        order: the classes as the source numbers them; None sorts them.
        listed: files of each class that is read; some may have no picture that could be.
        min_images: classes with fewer images are left out.
    """
    counts = Counter(dict.fromkeys(listed, 0))
    fitted = table.labels[table.labels >= 0]
    for name, count in zip(
        table.names, np.bincount(fitted, minlength=len(table.names)).tolist(), strict=True
    ):
        counts[name] = count
    left_out = _leave_out(counts, listed, min_images, report)

    # Numbered as the set has them, so that what follows does not depend on the order of reading.
    names = [name for name in order or sorted(table.names) if name in counts]
    numbers = {name: number for number, name in enumerate(names) if name not in left_out}
    translated = np.array([numbers.get(name, -1) for name in table.names], np.int64)
    labels = translated[table.labels]
    # A picture that could not be fitted has no class any more.
    labels[table.labels < 0] = -1

    groups = group_copies(table.digests)
    assignment = assign(labels, table.given, groups, table.draws)
    for number, reason in assignment.too_small.items():
        count = counts[names[number]]
        report.add(_too_few(names[number], f"{plural(count, 'image')}, {reason}"))
    return _selection(names, labels, groups, assignment, table)


def _selection(
    names: list[str], labels: Numbers, groups: Numbers, assignment: Assignment, table: Table
) -> Selection:
    rows = np.flatnonzero(assignment.kept)
    used, kept_labels = np.unique(labels[rows], return_inverse=True)
    return Selection(
        classes=[names[number] for number in used],
        rows=rows,
        labels=kept_labels.astype(np.int64),
        splits=assignment.splits[rows],
        groups=group_copies(table.digests[rows]),
        made_here=assignment.made_here,
        validation_is_test=assignment.validation_is_test,
    )


def _leave_out(
    counts: Counter[str], listed: Counter[str], min_images: int | None, report: Report
) -> set[str]:
    """Classes that are left out before the set is split; faults are added to the report."""
    left_out: set[str] = set()
    small: dict[str, int] = report.facts.setdefault("classes_left_out", {})
    for name, count in counts.items():
        if name in small:
            left_out.add(name)
        elif not count:
            report.add(_too_few(name, _nothing_read(listed[name])))
            left_out.add(name)
        elif min_images is not None and count < min_images:
            small[name] = count
            left_out.add(name)

    for larger, smaller in _clashes(counts, left_out):
        # In ASCII, since composed and decomposed letters look the same.
        detail = (
            f"{smaller!a} differs from {larger!a} in case or in the form of its characters alone"
        )
        report.add(Fault("names clash", smaller, detail, smaller))
        left_out.add(smaller)
    return left_out


def _nothing_read(files: int) -> str:
    if not files:
        return "there is nothing in its folder"
    if files == 1:
        return "its only file cannot be read"
    return f"none of its {files:,} files can be read"


def _too_few(name: str, detail: str) -> Fault:
    return Fault("too few of a class", name, detail, name)


def _clashes(counts: Counter[str], left_out: set[str]) -> list[tuple[str, str]]:
    """Pairs of classes whose names are alike: the largest, and each of the others."""
    alike: dict[str, list[str]] = {}
    for name in sorted(counts):
        if name not in left_out:
            alike.setdefault(_plain(name), []).append(name)

    pairs: list[tuple[str, str]] = []
    for names in alike.values():
        largest = max(names, key=counts.__getitem__)
        pairs += [(largest, name) for name in names if name != largest]
    return pairs


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def describe(selection: Selection, report: Report) -> None:
    """Add to the report what the user should know of the set."""
    train = selection.class_counts(TRAIN)
    report.facts["splits"] = {
        **{name: selection.count(name) for name in SPLITS},
        "test_chosen_here": selection.made_here,
    }
    report.facts["classes"] = selection.class_counts()
    _describe_splits(selection, report)
    _describe_copies(selection, report)

    small = report.facts.get("classes_left_out")
    if small:
        names = sorted(small)
        report.notes.append(
            f"left out with too few images: {first_of(names, 10)} ({len(names):,} in all)"
        )
    if report.links:
        report.notes.append(
            f"{plural(report.links, 'link')} to pictures of the same class: each counts once"
        )
    for note in (not_read_note(report), imbalance_note(train)):
        if note is not None:
            report.notes.append(note)


def _describe_splits(selection: Selection, report: Report) -> None:
    tested = selection.count("test")
    if selection.made_here:
        report.notes.append(
            f"there is no test split: one picture in six of each class is kept for it, "
            f"{tested:,} of {len(selection.rows):,} images"
        )
    if selection.validation_is_test:
        report.notes.append(
            "there is no test split: the validation images serve as the test, and others are held "
            "out of the training images for validation"
        )
    untested = [name for name, count in selection.class_counts(TEST).items() if not count]
    if untested:
        report.notes.append(
            f"{len(untested):,} classes have no test images: {first_of(untested, 10)}"
        )


def _describe_copies(selection: Selection, report: Report) -> None:
    groups = selection.groups
    trained = groups[selection.splits == TRAIN]
    tested = groups[selection.splits == TEST]
    copies = len(groups) - len(np.unique(groups))
    leaked = int(np.isin(tested, trained).sum())
    rows = conflicting(selection.labels, groups)
    report.facts["copies"] = {
        "images": copies,
        "test_images_in_training": leaked,
        "images_under_several_labels": len(rows),
    }
    if copies:
        where = "copies are in one split" if selection.made_here else ""
        if leaked:
            where = f"{leaked:,} of {len(tested):,} test images are copies of training images"
        words = "image is a copy" if copies == 1 else "images are copies"
        text = f"{copies:,} {words} of others, pixel for pixel"
        report.notes.append(f"{text}; {where}" if where else text)
    if len(rows):
        report.notes.append(
            f"{len(rows):,} images have a copy under another label: see conflicts in the report"
        )


def conflicts(selection: Selection) -> list[tuple[int, int, str]]:
    """Images that have a copy under another label: group, row of the import, class."""
    found: list[tuple[int, int, str]] = []
    for place in conflicting(selection.labels, selection.groups).tolist():
        row = int(selection.rows[place])
        found.append(
            (int(selection.groups[place]), row, selection.classes[selection.labels[place]])
        )
    return found


def conflict_lists(found: list[tuple[int, int, str]], files: dict[int, str]) -> list[Any]:
    """The conflicts for the report: a list for each picture, of its copies' files and labels."""
    by_group: dict[int, list[dict[str, str]]] = {}
    for group, row, label in found:
        by_group.setdefault(group, []).append({"file": files[row], "label": label})
    return list(by_group.values())
