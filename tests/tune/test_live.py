import json
from pathlib import Path

from fmnist.config import TrainConfig
from tune.live import TrialRecord, read_trials, winner


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
