"""MODEL_CARD.md, written from a bundle's manifest (after Mitchell et al., 2019).

The card says what the model is for, and how far to trust it.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from export.bundle.layout import variant_file
from fmnist.data.origins import printable
from fmnist.evaluation.copies import copies_in_words
from fmnist.evaluation.many_classes import SHOWN_CLASSES, worst_classes
from fmnist.evaluation.metrics import (
    IMBALANCE,
    MANY_CLASSES,
    accuracy_interval,
    confused_pairs,
    imbalance,
)

FOLDER = Path(__file__).parent
TEMPLATE = "MODEL_CARD.md.j2"


def model_card(manifest: dict[str, Any]) -> str:
    """The card, in Markdown."""
    # A template reads as the card does; built from strings in Python, its shape could not be seen.
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    return environment.get_template(TEMPLATE).render(
        manifest,
        commas=commas,
        confused_pairs=confused_pairs,
        copies_in_words=copies_in_words,
        imbalance_in_words=imbalance_in_words,
        in_words=in_words,
        cell=cell,
        shown_classes=shown_classes,
        fixed=fixed,
        interval=interval,
        percent=percent,
        variant_file=variant_file,
    )


def in_words(labels: Sequence[str]) -> str:
    """The classes' names; of many the first ones, and how many there are besides."""
    if len(labels) <= MANY_CLASSES:
        return ", ".join(map(cell, labels))
    first = ", ".join(map(cell, labels[:SHOWN_CLASSES]))
    return f"{first} and {len(labels) - SHOWN_CLASSES:,} others"


def cell(name: str) -> str:
    """A class's name as Markdown shows it, in a table too."""
    return re.sub(r"([\\`*_\[\]<>|$])", r"\\\1", printable(name))


def shown_classes(metrics: dict[str, Any]) -> list[int]:
    """Numbers of the classes in the table; of many those with the lowest F1."""
    numbers = list(range(len(metrics["support"])))
    if len(numbers) <= MANY_CLASSES:
        return numbers
    return worst_classes(metrics)[:SHOWN_CLASSES]


def imbalance_in_words(verified: dict[str, Any]) -> str:
    """How unequal the classes are, and the scores that count them alike; empty if they are not."""
    # Bundles verified by an earlier version say nothing of the training images.
    ratios = verified.get("imbalance") or {"test": imbalance(verified["metrics"]["support"])}
    unequal: list[str] = []
    for part, ratio in ratios.items():
        if ratio >= IMBALANCE:
            unequal.append(f"{commas(ratio)} times in the {part} images")
    if not unequal:
        return ""

    metrics = verified["metrics"]
    return (
        f"classes are unequal: the largest has the images of the smallest {' and '.join(unequal)}, "
        "so that accuracy is mostly that of large classes; each class alike, "
        f"recall is **{percent(metrics['recall']['macro'], 2)}** and F1 "
        f"{percent(metrics['f1']['macro'], 2)}"
    )


def interval(share: float, images: int) -> tuple[float, float]:
    """95 % interval of a share of some images; all there is if there are none."""
    if images == 0:
        return 0.0, 1.0
    return accuracy_interval(round(share * images), images)


def commas(number: float) -> str:
    return f"{number:,.0f}"


def fixed(number: float, digits: int) -> str:
    return f"{number:.{digits}f}"


def percent(share: float, digits: int) -> str:
    return f"{share:.{digits}%}"
