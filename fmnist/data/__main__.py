"""`python -m fmnist.data`: fetch or import, verify and describe the data."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from rich.markup import escape

from fmnist.cli import Flag, Topics, command
from fmnist.data.info import DataInfo
from fmnist.data.sources import NOT_NAMED, Source, find_data

if TYPE_CHECKING:
    from fmnist.data.dataset import Split

FIRST_CLASSES, LAST_CLASSES = 20, 5
"""Classes that are listed where there are more than both."""


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Fetch or import, verify and describe the data.

    Example: python -m fmnist.data --data my-photos --image-size 64
    """

    audit: Annotated[bool, Flag] = False
    """Look for copies, near copies and conflicting labels, within and across the splits, and for
    blank, blurred and odd images. Leaves a page with the pictures and a JSON with the file names in
    runs/audit-NAME. (python -m fmnist.audit also judges the labels, by training networks.)"""
    source: Annotated[Source, Topics()] = NOT_NAMED


def main(options: DataOptions) -> None:
    console = Console(highlight=False, soft_wrap=True)
    started = time.time()
    folder = find_data(options.source)

    # Here: PyTorch takes seconds to import, and --help does without.
    from fmnist.data.dataset import load_info, load_test, load_train

    info = load_info(folder)
    train = load_train(folder, info)
    test = load_test(folder, info)

    console.print(f"[bold]{escape(info.name)}[/] in {escape(str(folder))}")
    console.print(_describe(info, train, test))
    for line in _notes(folder, started):
        console.print(escape(line))
    for line in _class_lines(info, train, test):
        console.print(escape(line))

    if options.audit:
        # Here: as above.
        from fmnist.data.audit.report import audit, audit_folder

        audit(folder, info, audit_folder(info.name), console=console)


def _describe(info: DataInfo, train: "Split", test: "Split") -> str:
    """How many images there are, of what kind, and their pixels' statistics."""
    # Here: as in main.
    from fmnist.data.dataset import pixel_statistics

    mean, deviation = pixel_statistics(train.images)
    means = ", ".join(f"{value:.2f}" for value in mean.flatten())
    deviations = ", ".join(f"{value:.2f}" for value in deviation.flatten())
    height, width = info.image_size
    colour = "gray" if info.channels == 1 else "colour"

    validation = ""
    if train.own_validation is not None:
        validation = f" ({int(train.own_validation.sum()):,} of them its own validation images)"
    return (
        f"{len(train):,} training{validation} and {len(test):,} test images, "
        f"{height}×{width} {colour}; pixel mean {means}, deviation {deviations}"
    )


def _notes(folder: Path, started: float) -> list[str]:
    """What an earlier import has found; one since `started` has just said it."""
    # Here: NumPy, which --help does without.
    from fmnist.data.importing.report import REPORT_FILE, read_notes

    report = folder / REPORT_FILE
    if not report.exists() or report.stat().st_mtime >= started:
        return []
    return read_notes(report)


def _class_lines(info: DataInfo, train: "Split", test: "Split") -> Iterator[str]:
    """A line for each class with its training and test images; of many the first and the last."""
    classes = len(info.classes)
    train_counts = train.labels.bincount(minlength=classes).tolist()
    test_counts = test.labels.bincount(minlength=classes).tolist()
    hidden = range(FIRST_CLASSES, classes - LAST_CLASSES)
    for number, name in enumerate(info.classes):
        if number in hidden:
            if number == hidden.start:
                yield f"  … {len(hidden):,} more of {classes:,} classes"
            continue
        shown = name if name.isprintable() else repr(name)
        yield f"  {number:3}  {shown:<16} {train_counts[number]:>8,} {test_counts[number]:>8,}"


if __name__ == "__main__":
    command(DataOptions, main)
