"""Choose the classes that are shown where there are more than a page has room for."""

from collections.abc import Mapping
from typing import Any

SHOWN_CLASSES = 30
"""Classes in a figure or table that cannot show all."""


def worst_classes(metrics: Mapping[str, Any], score: str = "f1") -> list[int]:
    """Numbers of the classes that occur, that with the lowest score first.

    Args:
        metrics: `classification_metrics`.
        score: f1 or auroc; f1 too where the AUROC was left out.
    """
    values: list[float | None] = metrics[score]["per_class"]
    if metrics[score]["macro"] is None:
        values = metrics["f1"]["per_class"]

    known: list[tuple[float, int]] = []
    for number, (value, images) in enumerate(zip(values, metrics["support"], strict=True)):
        if value is not None and images:
            known.append((value, number))
    return [number for _, number in sorted(known)]


def most_confused(metrics: Mapping[str, Any]) -> list[int]:
    """Numbers of up to SHOWN_CLASSES classes of the most frequent confusions, in ascending order.

    Where few are confused, the classes with the lowest F1 join them.
    """
    chosen: dict[int, None] = {}
    for pair in metrics["confused"]:
        # Both of a pair or none of it.
        both = {pair["true"]: None, pair["predicted"]: None}
        if len(chosen | both) > SHOWN_CLASSES:
            break
        chosen |= both
    if len(chosen) < SHOWN_CLASSES:
        chosen |= dict.fromkeys(worst_classes(metrics))
    return sorted(list(chosen)[:SHOWN_CLASSES])
