import math

from tune.searchers.sobol import candidates
from tune.space import SPACES


def test_the_seed_decides() -> None:
    space = SPACES["quick"]
    drawn = candidates(space, 8, seed=3)

    assert candidates(space, 8, seed=3) == drawn
    assert candidates(space, 4, seed=3) == drawn[:4]
    assert candidates(space, 8, seed=4) != drawn


def test_ranges_are_uniform_in_the_logarithm_and_without_gaps() -> None:
    drawn = candidates({"lr": {"low": 0.001, "high": 0.1}}, 64, seed=0)
    parts: set[int] = set()
    for candidate in drawn:
        share = math.log(candidate["lr"] / 0.001) / math.log(100)
        parts.add(int(32 * share))

    assert len(parts) >= 31, "independent draws leave four of 32 parts empty"


def test_no_candidate_comes_twice() -> None:
    space = {"lr": [0.1, 0.2], "shift": [0, 1, 2]}

    # There are six; four may be drawn.
    assert len(candidates(space, 100, seed=0)) == 6
    assert len(candidates(space, 4, seed=0)) == 4
