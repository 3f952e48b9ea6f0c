"""The journal's lines stay as they are, so that searches of earlier versions can be resumed."""

import json
from pathlib import Path

import pytest

from fmnist.config import TrainConfig
from fmnist.errors import InputError
from tune.journal import (
    EpochRecorded,
    EpochReplayed,
    Event,
    Journal,
    JsonLines,
    TrialEnded,
    TrialFailed,
    TrialPromoted,
    TrialStarted,
    read_events,
    read_lines,
)
from tune.planning.simulate import Clock
from tune.rules.asha import Asha
from tune.state import SearchState, read_trials

# As earlier versions wrote them, to the letter.
OLD_LINES = """\
{"event": "start", "trial": 0, "candidate": {"lr": 0.1, "widths": [16, 32]}, "s": 0.0}
{"event": "start", "trial": 1, "candidate": {"lr": 0.2}, "s": 0.001}
{"event": "start", "trial": 2, "candidate": {"lr": 0.3}, "s": 0.002}
{"event": "report", "trial": 0, "epoch": 1, "validation_accuracy": 0.5, "images_per_s": 100.0, \
"seconds": 2.5, "kept_epoch": 1, "s": 2.5}
{"event": "report", "trial": 1, "epoch": 1, "validation_accuracy": null, "images_per_s": 100.0, \
"seconds": 2.0, "kept_epoch": 1, "s": 2.75}
{"event": "failed", "trial": 2, "epoch": 1, "outcome": "error: batch", "s": 3.0}
{"event": "promote", "trial": 0, "last": true, "s": 3.25}
{"event": "again", "trial": 0, "s": 3.5}
{"event": "start", "trial": 0, "s": 3.5}
{"event": "report", "trial": 0, "epoch": 2, "validation_accuracy": 0.75, "images_per_s": 90.5, \
"seconds": 2.0, "kept_epoch": 2, "again": true, "s": 5.5}
{"event": "end", "trial": 0, "outcome": "finished", "s": 7.25}
"""

EVENTS: list[Event] = [
    TrialStarted(trial=0, candidate={"lr": 0.1, "widths": [16, 32]}, s=0.0),
    TrialStarted(trial=1, candidate={"lr": 0.2}, s=0.001),
    TrialStarted(trial=2, candidate={"lr": 0.3}, s=0.002),
    EpochRecorded(
        trial=0,
        epoch=1,
        validation_accuracy=0.5,
        images_per_s=100.0,
        seconds=2.5,
        kept_epoch=1,
        s=2.5,
    ),
    EpochRecorded(
        trial=1,
        epoch=1,
        validation_accuracy=None,
        images_per_s=100.0,
        seconds=2.0,
        kept_epoch=1,
        s=2.75,
    ),
    TrialFailed(trial=2, epoch=1, outcome="error: batch", s=3.0),
    TrialPromoted(trial=0, last=True, s=3.25),
    EpochReplayed(trial=0, s=3.5),
    TrialStarted(trial=0, s=3.5),
    EpochRecorded(
        trial=0,
        epoch=2,
        validation_accuracy=0.75,
        images_per_s=90.5,
        seconds=2.0,
        kept_epoch=2,
        replayed=True,
        s=5.5,
    ),
    TrialEnded(trial=0, outcome="finished", s=7.25),
]


def test_lines_of_earlier_versions_are_read(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text(OLD_LINES)
    assert read_events(path) == EVENTS


def test_the_lines_are_those_of_earlier_versions_to_the_letter(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    for event in EVENTS:
        journal.append(event)

    assert path.read_text() == OLD_LINES


def test_a_search_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text(OLD_LINES)
    state = SearchState(
        Asha(1, 3, 9, promote=True),
        lambda number, records: {"lr": 0.4} if number < 4 else None,
        TrainConfig(epochs=9),
        journal=Journal(path),
        events=read_events(path),
        clock=Clock(),
    )

    first = state.records[0]
    assert first.curve == [0.5, 0.75]
    assert first.config.widths == (16, 32)
    assert first.resumed_after == 2
    assert first.seconds == 4.5

    assert [record.outcome for record in state.done] == [
        "diverged: epoch 1: its accuracy is nan",
        "error: batch",
        "finished",
    ]
    assert state.spent == 7.25

    assert state.next() == 3
    assert read_lines(path)[-1] == {
        "event": "start",
        "trial": 3,
        "candidate": {"lr": 0.4},
        "s": 7.25,
    }


def test_a_last_line_cut_short_is_left_out_and_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    assert read_events(path) == []
    Journal(path).append(EVENTS[0])
    with path.open("ab") as file:
        file.write(b'{"event": "rep')
    assert read_events(path) == EVENTS[:1]

    Journal(path).append(EVENTS[-1])
    kinds = [json.loads(line)["event"] for line in path.read_text().splitlines()]
    assert kinds == ["start", "end"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"ev', "line 2: Unterminated string"),
        ("3", "line 2: '3' is no JSON object"),
        ('{"trial": 0, "s": 1.0}', "line 2: it has no 'event'"),
        ('{"event": "end", "trial": 0, "s": 1.0}', "line 2: it has no 'outcome'"),
        ('{"event": "ends", "trial": 0, "s": 1.0}', "line 2: unknown event 'ends'"),
    ],
)
def test_a_damaged_line_is_named_with_the_remedy(line: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    good = json.dumps(EVENTS[0].to_dict())
    path.write_text(f"{good}\n{line}\n{good}\n")

    with pytest.raises(InputError, match=reason) as raised:
        read_events(path)
    message = str(raised.value)
    assert message.startswith(str(path))
    assert message.endswith("repair or remove that line, or start another run")


def test_other_json_lines_are_read_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "made/lines.jsonl"
    assert read_lines(path) == []
    lines = JsonLines(path)
    lines.append({"number": 1})
    lines.append({"number": 2})

    assert read_lines(path) == [{"number": 1}, {"number": 2}]

    with path.open("a") as file:
        file.write("[1, 2]\n")
    with pytest.raises(InputError, match="line 3"):
        read_lines(path)


def test_a_damaged_trial_is_named(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    path.write_text('{"number": 0, "config": {}}\n{"number": 1}\n')
    with pytest.raises(InputError, match="line 2: it has no 'config'"):
        read_trials(path)
