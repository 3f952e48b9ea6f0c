"""A search on the terminal: what is kept of its trials, and what is shown at which width."""

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from fmnist.config import TrainConfig
from fmnist.training.metrics import EpochMetrics, EpochReport, TrainingFailed
from tune.journal import JOURNAL, TRIALS, Journal, read_events
from tune.live import SearchView
from tune.live_table import LiveTable, Screen, gpu_lines
from tune.planning.plan import Plan
from tune.rules.asha import Asha
from tune.state import SearchState, TrialRecord, read_trials
from tune.words import BARS, failure, sparkline

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
CURVES = ([0.5, 0.6, 0.7], [0.4], [0.5, 0.7, 0.8], [0.65])
ALWAYS = ["trial", "network", "lr", "batch", "epoch", "val. %", "curve", "state"]


def record(number: int, curve: list[float], outcome: str) -> TrialRecord:
    return TrialRecord(number, TrainConfig(epochs=3), curve, outcome=outcome)


def make_state(path: Path, base: TrainConfig | None = None) -> SearchState:
    return SearchState(
        Asha(1, 3, 3),
        lambda number, records: {"lr": 0.1 + number / 1000} if number < len(CURVES) else None,
        base or TrainConfig(epochs=3),
        journal=Journal(path / JOURNAL),
        events=read_events(path / JOURNAL),
    )


def make_report(epoch: int, accuracy: float) -> EpochReport:
    metrics = EpochMetrics(
        epoch=epoch,
        train_loss=1.0,
        train_accuracy=accuracy,
        validation_loss=1.0,
        validation_accuracy=accuracy,
        lr=0.1,
        images_per_s=4321.0,
        seconds=1.0,
    )
    return EpochReport(metrics, kept_epoch=epoch)


def feed(state: SearchState) -> None:
    """Two trials ran in full, one was stopped, one runs."""
    for curve in CURVES:
        number = state.next()
        assert number is not None
        for epoch, accuracy in enumerate(curve, start=1):
            state.report(number, make_report(epoch, accuracy))
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
    feed(make_state(tmp_path))
    trials = tmp_path / TRIALS
    # Killed in the middle of a line, and before the others.
    trials.write_text('{"number": 0, "con')
    screen = Screen(Console(file=(tmp_path / "out").open("w")), live=False)
    with SearchView(tmp_path, make_state(tmp_path), PLAN, screen):
        outcomes = [(r.number, r.outcome) for r in read_trials(trials)]
        assert outcomes == [(0, "finished"), (1, "stopped at rung 1: 2nd of 2"), (2, "finished")]

    outcomes = [(r.number, r.outcome) for r in read_trials(trials)]
    assert outcomes[3:] == [(3, "out of time")]


def test_epochs_of_a_trial_go_to_tensorboard_once(tmp_path: Path) -> None:
    state = make_state(tmp_path)
    feed(state)
    screen = Screen(Console(file=io.StringIO()), live=False)
    view = SearchView(tmp_path, state, PLAN, screen)
    trial: Any = SimpleNamespace(config={"trial": {"number": 3}})
    failed = TrainingFailed(3, "the loss is nan", diverged=True).to_dict()
    # Trial 3 has one epoch, which an earlier session showed.
    for result in (make_report(1, 0.65).to_dict(), failed):
        view.on_trial_result(0, [], trial, result | {"training_iteration": 1})
    assert not (tmp_path / "tensorboard").exists()

    # Ray adds keys of its own.
    view.on_trial_result(0, [], trial, make_report(2, 0.7).to_dict() | {"pid": 7})
    assert [folder.name for folder in (tmp_path / "tensorboard").iterdir()] == ["trial_0003"]
    assert view.epochs_shown[3] == 2


def test_sparkline_goes_from_the_lowest_to_the_highest() -> None:
    assert sparkline([0.0, 0.5, 1.0], (0.0, 1.0)) == "▁▅█"
    assert sparkline([], (0.0, 1.0)) == ""
    assert sparkline([0.7, 0.7], (0.7, 0.7)) == "▁▁"
    long = [i / 100 for i in range(100)]
    assert len(sparkline(long, (0.0, 1.0))) == 16
    assert sparkline(long, (0.0, 1.0), width=8) == "▁▂▃▄▅▆▇█"


def draw(state: SearchState, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(LiveTable(state, PLAN, Screen(console, live=True)).picture())
    return console.export_text().splitlines()


def head_of(lines: list[str]) -> str:
    return next(line for line in lines if line.startswith("trial"))


def test_the_table_shows_the_best_first_with_rung_curve_and_forecast(tmp_path: Path) -> None:
    state = make_state(tmp_path)
    feed(state)
    lines = draw(state, 140)
    rows = [line.split() for line in lines if line[:2].strip().isdigit()]
    assert [row[0] for row in rows if row[1] == "airnet"] == ["3", "2", "0", "1"]

    text = "\n".join(lines)
    for words in ("0.103", "4,321", "1/3", "█", "3/4 trials", "GB", "stopped at rung 1"):
        assert words in text
    assert "left, then training the winner 90 s" in text


@pytest.mark.parametrize(
    ("model", "widths"),
    [
        ("airnet", (24, 64, 128)),
        ("wideresnet16", (128, 256, 512)),
        ("vgg_like_weighted", (64, 128, 256, 512)),
    ],
)
@pytest.mark.parametrize("width", [80, 120])
def test_the_table_is_whole(
    tmp_path: Path, width: int, model: str, widths: tuple[int, ...]
) -> None:
    base = TrainConfig(model=model, widths=widths, epochs=150, lr=0.0123, global_batch_size=16384)
    state = make_state(tmp_path, base)
    feed(state)
    lines = draw(state, width)
    text = "\n".join(lines)
    assert max(map(len, lines)) <= width
    assert "…" not in text

    head = head_of(lines)
    places = [head.index(name) for name in ALWAYS]
    assert places == sorted(places)

    for words in ("16384", "3/150", "70.00", "running", "stopped", "3/4 trials", "90 s"):
        assert words in text
    # A long name is broken between its parts, never within one.
    words = set(text.replace("-", "- ").split())
    assert model in words
    assert {f"{one}-" for one in widths[:-1]} <= words
    assert "optimizer" in head or width == 80


@pytest.mark.parametrize(("width", "bars"), [(80, 8), (120, 16)])
def test_curves_are_thinned_to_the_room_there_is(tmp_path: Path, width: int, bars: int) -> None:
    state = make_state(
        tmp_path, TrainConfig(model="wideresnet16", widths=(128, 256, 512), epochs=3)
    )
    feed(state)
    state.records[0].curve = [0.5 + epoch / 100 for epoch in range(27)]
    row = next(line for line in draw(state, width) if line.startswith("0    "))
    assert sum(letter in BARS for letter in row) == bars


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Traceback\n  File\nValueError: bad batch\n", "error: ValueError: bad batch"),
        (
            "RayActorError: 2 worker(s) were killed due to the node running low on memory.\nmore",
            "error: killed for memory: RayActorError",
        ),
        (
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB\n",
            "error: killed for memory: torch",
        ),
        (
            "ActorDiedError: it died\nWorker exit type: SYSTEM_ERROR exit detail: x\nend",
            "error: its process died: Worker exit type",
        ),
        ("", "error: the process died"),
    ],
)
def test_reasons_of_failures(text: str, words: str) -> None:
    assert failure(text).startswith(words)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            "97, 20480, 143771\n0, 0, 143771\n",
            "; GPU 0 97 %, 20 of 140 GiB; GPU 1 0 %, 0 of 140 GiB",
        ),
        # Split by MIG, a GPU does not say how busy it is, and some do not say their memory.
        ("[N/A], 20480, 143771\n", "; GPU 0 20 of 140 GiB"),
        ("[N/A], [N/A], [N/A]\n97, [N/A], 143771\n", "; GPU 1 97 %"),
        ("", ""),
    ],
)
def test_the_answer_of_nvidia_smi_in_words(answer: str, words: str) -> None:
    assert gpu_lines(answer) == words
