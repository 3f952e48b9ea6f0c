import pytest

from tune.searchers import build_searcher
from tune.searchers.grid import grid
from tune.searchers.sobol import candidates
from tune.space import SPACES

SPACE = SPACES["quick"]


@pytest.mark.parametrize("name", ["random", "tpe"])
def test_candidates_of_an_earlier_search_come_first(name: str) -> None:
    drawn = candidates(SPACE, 20, 0)
    propose = build_searcher(name, SPACE, 12, 0, first=drawn[15:18])

    proposed = [propose(number, {}) for number in range(6)]
    assert proposed == [*drawn[15:18], *drawn[:3]]


def test_a_candidate_of_an_earlier_search_comes_once() -> None:
    drawn = candidates(SPACE, 5, 0)
    propose = build_searcher("random", SPACE, 5, 0, first=drawn[2:3])

    proposed = [propose(number, {}) for number in range(6)]
    assert proposed == [drawn[2], drawn[0], drawn[1], drawn[3], drawn[4], None]


def test_grid_proposes_the_whole_grid() -> None:
    propose = build_searcher("grid", SPACES["report-d"], 50, seed=1)
    proposed = [propose(number, {}) for number in range(28)]
    assert proposed == [*grid(SPACES["report-d"], seed=1), None]


def test_the_candidates_end() -> None:
    assert build_searcher("random", SPACE, 5, 0)(5, {}) is None
    assert build_searcher("tpe", SPACE, 5, 0)(5, {}) is None
    assert build_searcher("grid", {"lr": [0.1, 0.2]}, 50, 0)(2, {}) is None
    assert build_searcher("grid", SPACES["report-d"], 5, 0)(5, {}) is None
