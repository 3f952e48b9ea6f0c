"""Test whether two models differ by more than chance.

McNemar's test (1947) looks only at the images that exactly one of the two models gets right: of two
equally good models, each wins about half of them.
"""

import itertools
from collections.abc import Sequence
from typing import Any

from torch import Tensor

SIGNIFICANCE = 0.05


def mcnemar(first_right: Tensor, second_right: Tensor) -> tuple[int, int, float]:
    """Apply McNemar's exact test to two models' answers to the same images.

    Args:
        first_right: (N,) bool, whether the first model has each image right.
        second_right: (N,) bool, the same for the second.

    Returns:
        b (images that only the first has right), c (only the second), and the two-sided p-value,
        which is 1 where the models never differ.
    """
    # SciPy's binomial test is all it takes; statsmodels would be a heavy dependency for ten lines.
    # Imported here, since it takes a while and most commands do without.
    from scipy.stats import binomtest

    only_first = int((first_right & ~second_right).sum())
    only_second = int((second_right & ~first_right).sum())
    differing = only_first + only_second
    if not differing:
        return 0, 0, 1.0
    return only_first, only_second, float(binomtest(only_first, differing).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for the number of tests (Holm, 1979); they stay in the order given."""
    count = len(p_values)
    adjusted = [0.0] * count
    highest = 0.0
    smallest_first = sorted(range(count), key=p_values.__getitem__)
    for done, index in enumerate(smallest_first):
        corrected = min((count - done) * p_values[index], 1.0)
        # A larger p-value never ends up below a smaller one.
        highest = max(highest, corrected)
        adjusted[index] = highest
    return adjusted


def compare_pairs(names: Sequence[str], right: Sequence[Tensor]) -> list[dict[str, Any]]:
    """Apply McNemar's test to each pair of runs, corrected for the number of pairs.

    Args:
        names: names of the runs.
        right: of each run (N,) bool, whether it has each image right.

    Returns:
        of each pair: first and second (names), b, c and p (see `mcnemar`), p_holm, and whether it
        is significant (p_holm below .05).
    """
    pairs: list[dict[str, Any]] = []
    for first, second in itertools.combinations(range(len(names)), 2):
        b, c, p = mcnemar(right[first], right[second])
        pairs.append({"first": names[first], "second": names[second], "b": b, "c": c, "p": p})

    corrected = holm([pair["p"] for pair in pairs])
    for pair, p_holm in zip(pairs, corrected, strict=True):
        pair["p_holm"] = p_holm
        pair["significant"] = p_holm < SIGNIFICANCE
    return pairs
