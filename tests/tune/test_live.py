import json
from pathlib import Path

import pytest
from rich.console import Console

from fmnist.config import TrainConfig
from tune.asha import Asha
from tune.journal import JOURNAL, TRIALS, Journal, read_events
from tune.live import SearchView, failure, gpu_lines, sparkline
from tune.plan import Plan
from tune.state import SearchState, TrialRecord, read_trials

PLAN = Plan(
    trials=1,
    rungs=[1],
    at_once=1,
    epochs=3,
    images=100,
    early="",
    worst_epochs=3,
    expected_epochs=2.0,
    search_s=60.0,
    retrain_s=90.0,
    speeds={},
)


def record(number: int, curve: list[float], outcome: str) -> TrialRecord:
    return TrialRecord(number, TrainConfig(epochs=3), curve, outcome=outcome)


def state(path: Path) -> SearchState:
    curves = [[0.5, 0.6, 0.7], [0.4], [0.5, 0.7, 0.8], [0.65]]
    return SearchState(
        Asha(1, 3, 3),
        lambda number, records: {"lr": 0.1 + number / 1000} if number < len(curves) else None,
        TrainConfig(epochs=3),
        journal=Journal(path / JOURNAL),
        events=read_events(path / JOURNAL),
    )


def feed(state: SearchState) -> None:
    """Two trials ran in full, one was stopped, one runs."""
    for curve in ([0.5, 0.6, 0.7], [0.4], [0.5, 0.7, 0.8], [0.65]):
        number = state.next()
        assert number is not None
        for epoch, value in enumerate(curve, start=1):
            report = {"epoch": epoch, "validation_accuracy": value, "images_per_s": 4321.0, "seconds": 1.0, "kept_epoch": epoch}
            state.report(number, report | {"ended": ""})
        if len(curve) == 3:
            state.end(number, "finished")


def test_journal_survives_a_line_cut_short(tmp_path: Path) -> None:
    journal = tmp_path / "trials.jsonl"
    assert read_trials(journal) == []
    records = [record(0, [0.5, 0.6, 0.7], "finished"), record(1, [0.4], "stopped at rung 1")]
    lines = [json.dumps(r.to_dict()) for r in records]
    journal.write_text("\n".join(lines) + "\n" + lines[0][:50])
    assert read_trials(journal) == records


def test_the_lines_of_trials_follow_from_the_journal(tmp_path: Path) -> None:
    feed(state(tmp_path))
    trials = tmp_path / TRIALS
    trials.write_text('{"number": 0, "con')  # killed in the middle of a line, and before the others
    console = Console(file=(tmp_path / "out").open("w"))
    with SearchView(tmp_path, state(tmp_path), PLAN, console, live=False):
        outcomes = [(r.number, r.outcome) for r in read_trials(trials)]
        assert outcomes == [(0, "finished"), (1, "stopped at rung 1: 2nd of 2"), (2, "finished")]
    outcomes = [(r.number, r.outcome) for r in read_trials(trials)]
    assert outcomes[3:] == [(3, "out of time")]


def test_sparkline_goes_from_the_lowest_to_the_highest() -> None:
    assert sparkline([0.0, 0.5, 1.0], (0.0, 1.0)) == "▁▅█"
    assert sparkline([], (0.0, 1.0)) == ""
    assert sparkline([0.7, 0.7], (0.7, 0.7)) == "▁▁"
    assert len(sparkline([i / 100 for i in range(100)], (0.0, 1.0))) == 16


def test_the_table_shows_the_best_first_with_rung_curve_and_forecast(tmp_path: Path) -> None:
    searching = state(tmp_path)
    feed(searching)
    console = Console(file=(tmp_path / "out").open("w"), width=140, record=True)
    view = SearchView(tmp_path, searching, PLAN, console, live=False)
    console.print(view.picture())
    text = console.export_text()
    rows = [line.split() for line in text.splitlines() if line[:2].strip().isdigit()]
    assert [row[0] for row in rows if row[1] == "airnet"] == ["3", "2", "0", "1"]
    assert "0.103" in text
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


def test_what_nvidia_smi_says_in_words() -> None:
    assert gpu_lines("97, 20480, 143771\n0, 0, 143771\n") == "; GPU 0 97 %, 20 of 140 GiB; GPU 1 0 %, 0 of 140 GiB"
    assert gpu_lines("") == ""
