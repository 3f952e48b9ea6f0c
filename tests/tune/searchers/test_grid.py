import pytest

from fmnist.errors import InputError
from tune.searchers.grid import grid
from tune.space import SPACES


def test_each_candidate_comes_once_in_random_order() -> None:
    drawn = grid(SPACES["report-d"], seed=0)
    assert len(drawn) == 27
    assert len({(c["lr"], c["global_batch_size"], c["weight_decay"]) for c in drawn}) == 27

    rates = [candidate["lr"] for candidate in drawn]
    assert rates != sorted(rates)
    assert grid(SPACES["report-d"], seed=0) == drawn
    assert grid(SPACES["report-d"], seed=1) != drawn


def test_a_field_may_decide_on_another() -> None:
    space = {
        "model": ["lenet", "airnet"],
        "widths": {"by": "model", "lenet": [[]], "airnet": [[8, 16, 32], [16, 32, 64]]},
    }
    drawn = grid(space, seed=0)

    # lenet has no widths to choose from, and no airnet goes without.
    assert len(drawn) == 3
    for expected in (
        {"model": "lenet", "widths": []},
        {"model": "airnet", "widths": [8, 16, 32]},
        {"model": "airnet", "widths": [16, 32, 64]},
    ):
        assert expected in drawn


def test_a_range_is_refused() -> None:
    with pytest.raises(InputError, match="searcher='grid': lr has a range"):
        grid({"lr": {"low": 0.1, "high": 0.2}}, seed=0)
