import pytest
import torch

from fmnist.evaluation.significance import compare_pairs, holm, mcnemar


def test_mcnemar_by_hand() -> None:
    """9 images that only the first has right, 1 that only the second has: two-sided p = 2 · (1 +
    10) / 2¹⁰."""
    first = torch.tensor([True] * 9 + [False] + [True] * 50 + [False] * 7)
    second = torch.tensor([False] * 9 + [True] + [True] * 50 + [False] * 7)
    b, c, p = mcnemar(first, second)
    assert (b, c) == (9, 1)
    assert p == pytest.approx(22 / 1024)
    assert mcnemar(second, first) == (1, 9, pytest.approx(22 / 1024))


def test_models_that_never_differ_do_not_differ() -> None:
    right = torch.tensor([True, False])
    assert mcnemar(right, right) == (0, 0, 1.0)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([0.02]) == [0.02]


def test_correction_takes_away_a_chance_find() -> None:
    """p = .021 counts alone, and no longer among three pairs."""
    first = torch.tensor([True] * 9 + [False] + [True] * 4)
    second = torch.tensor([False] * 9 + [True] + [True] * 4)
    (alone,) = compare_pairs(["a", "b"], [first, second])
    assert alone["significant"]

    pairs = compare_pairs(["a", "b", "c"], [first, second, second])
    names = [(pair["first"], pair["second"]) for pair in pairs]
    assert names == [("a", "b"), ("a", "c"), ("b", "c")]
    assert not any(pair["significant"] for pair in pairs)
