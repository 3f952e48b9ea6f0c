from fmnist.config import TrainConfig
from tune.searchers import build_searcher
from tune.searchers.sobol import candidates
from tune.searchers.tpe import STARTUP
from tune.space import SPACES, Candidate
from tune.state import TrialRecord

SPACE = SPACES["quick"]


def records_of(drawn: list[Candidate]) -> dict[int, TrialRecord]:
    """Make trials with AdamW the better, the nearer their learning rate is to 0.003; the others
    are poor, and stop at the first rung."""
    records: dict[int, TrialRecord] = {}
    for number, candidate in enumerate(drawn):
        accuracy = 0.5
        if candidate["optimizer"] == "adamw":
            accuracy = 0.9 - 20 * abs(candidate["lr"] - 0.003)

        config = TrainConfig().replace(**candidate)
        record = TrialRecord(number, config, [0.8 * accuracy, accuracy], outcome="finished")
        if accuracy <= 0.6:
            record.curve.pop()
            record.outcome = "stopped at rung 1: 9th of 9"

        records[number] = record

    return records


def test_it_starts_as_the_random_search_and_then_looks_where_it_was_good() -> None:
    propose = build_searcher("tpe", SPACE, 60, seed=0)
    proposed: list[Candidate] = []
    while (candidate := propose(len(proposed), records_of(proposed))) is not None:
        proposed.append(candidate)
    assert len(proposed) == 60
    assert proposed[:STARTUP] == candidates(SPACE, 60, 0)[:STARTUP]

    later = [candidate for candidate in proposed[30:] if candidate["optimizer"] == "adamw"]
    assert len(later) > 20, "a random search has half of them"
    assert sum(abs(candidate["lr"] - 0.003) < 0.001 for candidate in later) > len(later) / 3

    # TrainConfig takes them all: their numbers are rounded, and still in range.
    for candidate in proposed:
        TrainConfig().replace(**candidate)


def test_it_proposes_the_same_for_the_same_records_whatever_was_asked_before() -> None:
    drawn = candidates(SPACE, 20, 0)
    first = build_searcher("tpe", SPACE, 60, seed=3)
    second = build_searcher("tpe", SPACE, 60, seed=3)
    first(15, records_of(drawn[:15]))

    records = records_of(drawn)
    assert first(20, records) == second(20, records)
    assert build_searcher("tpe", SPACE, 60, seed=4)(20, records) != second(20, records)
