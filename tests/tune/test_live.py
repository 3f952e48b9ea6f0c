import json
from pathlib import Path

import pytest
from rich.console import Console

from fmnist.config import TrainConfig
from tune.asha import Asha
from tune.live import JOURNAL, SearchView, TrialRecord, failure, read_trials, sparkline, winner
from tune.plan import Plan

PLAN = Plan(
    trials=1,
    rungs=[1],
    at_once=1,
    epochs=3,
    images=100,
    worst_epochs=3,
    expected_epochs=2.0,
    search_s=60.0,
    retrain_s=90.0,
    speeds={},
)


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
    journal = tmp_path / JOURNAL
    journal.parent.mkdir()
    first, second = record(0, [0.5, 0.6, 0.7], "finished"), record(1, [0.4], "running")
    line = json.dumps(first.to_dict())
    journal.write_text(line + "\n" + line[:50])
    done = read_trials(journal)
    console = Console(file=(tmp_path / "out").open("w"))
    view = SearchView(tmp_path, TrainConfig(epochs=3), done, Asha(1, 3, 3), PLAN, 0.0, console, live=False)
    with view:
        view.records[1] = second  # still running when the search ends
    assert [(r.number, r.outcome) for r in read_trials(journal)] == [(0, "finished"), (1, "out of time")]


def test_sparkline_goes_from_the_lowest_to_the_highest() -> None:
    assert sparkline([0.0, 0.5, 1.0], (0.0, 1.0)) == "▁▅█"
    assert sparkline([], (0.0, 1.0)) == ""
    assert sparkline([0.7, 0.7], (0.7, 0.7)) == "▁▁"
    assert len(sparkline([i / 100 for i in range(100)], (0.0, 1.0))) == 16


def test_the_table_shows_the_best_first_with_rung_curve_and_forecast(tmp_path: Path) -> None:
    scheduler = Asha(1, 3, 3)
    done = [record(0, [0.5, 0.6, 0.7], "finished"), record(1, [0.4], "stopped at rung 1"), record(2, [0.5, 0.7, 0.8], "finished")]
    console = Console(file=(tmp_path / "out").open("w"), width=140, record=True)
    view = SearchView(tmp_path, TrainConfig(epochs=3), done, scheduler, PLAN, 0.0, console, live=False)
    view.records[3] = TrialRecord(3, TrainConfig(epochs=3, lr=0.123), [0.65], images_per_s=4321.0)
    console.print(view.picture())
    text = console.export_text()
    rows = [line.split() for line in text.splitlines() if line[:2].strip().isdigit()]
    assert [row[0] for row in rows if row[1] == "airnet"] == ["3", "2", "0", "1"]
    assert "0.123" in text
    assert "4,321" in text
    assert "1/3" in text
    assert "█" in text
    assert "3/4 trials" in text
    assert "left, then training the winner 90 s" in text
    assert "GB" in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Traceback\n  File\nValueError: bad batch\n", "error: ValueError: bad batch"),
        (
            "RayActorError: 2 worker(s) were killed due to the node running low on memory.\nmore",
            "error: killed for memory: RayActorError",
        ),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB\n", "error: killed for memory: torch"),
        (
            "ActorDiedError: it died\nWorker exit type: SYSTEM_ERROR exit detail: x\nend",
            "error: its process died: Worker exit type",
        ),
        ("", "error: the process died"),
    ],
)
def test_reasons_of_failures(text: str, words: str) -> None:
    assert failure(text).startswith(words)
