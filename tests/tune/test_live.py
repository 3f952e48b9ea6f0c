import json
from pathlib import Path

from rich.console import Console

from fmnist.config import TrainConfig
from tune.asha import Asha
from tune.live import SearchView, TrialRecord, read_trials, winner


def record(number: int, curve: list[float], outcome: str) -> TrialRecord:
    return TrialRecord(number, TrainConfig(epochs=3), curve, outcome)


def test_the_winner_ran_in_full() -> None:
    records = [
        record(0, [0.5, 0.6, 0.7], "finished"),
        record(1, [0.9], "stopped at rung 1"),
        record(2, [0.5, 0.7, 0.8], "finished"),
        record(3, [0.5, 0.7, 0.99], "diverged: epoch 4"),
    ]
    assert winner(records) is records[2]
    assert winner(records[1:2]) is records[1]
    assert winner(records[3:]) is None
    assert winner([record(0, [], "error: x")]) is None


def test_journal_survives_a_line_cut_short(tmp_path: Path) -> None:
    journal = tmp_path / "trials.jsonl"
    assert read_trials(journal) == []
    records = [record(0, [0.5, 0.6, 0.7], "finished"), record(1, [0.4], "stopped at rung 1")]
    lines = [json.dumps(r.to_dict()) for r in records]
    journal.write_text("\n".join(lines) + "\n" + lines[0][:50])
    assert read_trials(journal) == records


def test_what_follows_a_line_cut_short_is_not_lost_with_it(tmp_path: Path) -> None:
    journal = tmp_path / "trials.jsonl"
    first, second = record(0, [0.5, 0.6, 0.7], "finished"), record(1, [0.4], "running")
    line = json.dumps(first.to_dict())
    journal.write_text(line + "\n" + line[:50])
    done = read_trials(journal)
    view = SearchView(journal, TrainConfig(epochs=3), 2, done, Asha(1, 3, 3), Console(file=(tmp_path / "out").open("w")))
    with view:
        view.records[1] = second  # still running when the search ends
    assert [(r.number, r.outcome) for r in read_trials(journal)] == [(0, "finished"), (1, "out of time")]
