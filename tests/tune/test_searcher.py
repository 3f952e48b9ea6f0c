import pytest

from fmnist.config import TrainConfig
from tune.searcher import STARTUP, build_searcher
from tune.space import SPACES, candidates
from tune.state import Candidate, TrialRecord

SPACE = SPACES["quick"]


def records(drawn: list[Candidate]) -> dict[int, TrialRecord]:
    """Trials that are the better the nearer their learning rate of AdamW is to .003; the others are poor."""
    found: dict[int, TrialRecord] = {}
    for number, candidate in enumerate(drawn):
        good = 0.9 - 20 * abs(candidate["lr"] - 0.003) if candidate["optimizer"] == "adamw" else 0.5
        curve = [0.8 * good, good]
        outcome = "finished" if good > 0.6 else "stopped at rung 1: 9th of 9"
        kept = curve if good > 0.6 else curve[:1]
        found[number] = TrialRecord(number, TrainConfig().replace(**candidate), kept, outcome=outcome)
    return found


def test_tpe_starts_as_the_random_search_and_then_looks_where_it_was_good() -> None:
    propose = build_searcher("tpe", SPACE, 60, seed=0)
    known: list[Candidate] = []
    while (candidate := propose(len(known), records(known))) is not None:
        known.append(candidate)
    assert len(known) == 60
    assert known[:STARTUP] == candidates(SPACE, 60, 0)[:STARTUP]
    later = [c for c in known[30:] if c["optimizer"] == "adamw"]
    assert len(later) > 20  # a random search has half of them
    assert sum(abs(c["lr"] - 0.003) < 0.001 for c in later) > len(later) / 3
    for candidate in known:
        TrainConfig().replace(**candidate)


def test_tpe_proposes_the_same_for_the_same_records_whatever_was_asked_before() -> None:
    drawn = candidates(SPACE, 20, 0)
    first, again = build_searcher("tpe", SPACE, 60, seed=3), build_searcher("tpe", SPACE, 60, seed=3)
    first(15, records(drawn[:15]))
    assert first(20, records(drawn)) == again(20, records(drawn))
    assert build_searcher("tpe", SPACE, 60, seed=4)(20, records(drawn)) != again(20, records(drawn))


@pytest.mark.parametrize("name", ["random", "tpe"])
def test_candidates_of_an_earlier_search_come_first(name: str) -> None:
    drawn = candidates(SPACE, 20, 0)
    propose = build_searcher(name, SPACE, 12, 0, first=drawn[15:18])
    proposed = [propose(number, {}) for number in range(6)]
    assert proposed == [*drawn[15:18], *drawn[:3]]


def test_the_candidates_end() -> None:
    assert build_searcher("random", SPACE, 5, 0)(5, {}) is None
    assert build_searcher("tpe", SPACE, 5, 0)(5, {}) is None
    assert build_searcher("grid", {"lr": [0.1, 0.2]}, 50, 0)(2, {}) is None
