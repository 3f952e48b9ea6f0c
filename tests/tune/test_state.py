"""The state of a search is fed scripted reports, killed at random points, and resumed from its
journal."""

import copy
import dataclasses
import math
import pickle
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fmnist.config import TrainConfig
from fmnist.training.metrics import EpochMetrics, EpochReport, TrainingFailed
from tune.journal import EpochRecorded, Journal, TrialPromoted, read_events, read_lines
from tune.planning.simulate import Clock, Script, play
from tune.presets import Scheduler, SearchConfig
from tune.rules import Rule, Verdict
from tune.rules.asha import Asha
from tune.space import Candidate
from tune.state import Limits, SearchState, TrialRecord, winner

EPOCHS = 9
BASE = TrainConfig(epochs=EPOCHS)
TRIALS = 12


def make_rule(scheduler: Scheduler) -> Rule:
    return SearchConfig(scheduler=scheduler).rule(EPOCHS)


def propose(number: int, records: Mapping[int, TrialRecord]) -> Candidate | None:
    """Propose what depends on the records, as TPE does."""
    if number >= TRIALS:
        return None

    best = max((record.accuracy for record in records.values() if record.curve), default=0.0)
    return {"lr": round(0.01 + number / 100 + best / 1000, 6)}


def make_report(
    epoch: int, accuracy: float | None, *, seconds: float = 1.0, replayed: bool = False
) -> EpochReport:
    metrics = EpochMetrics(
        epoch=epoch,
        train_loss=0.5,
        train_accuracy=0.8,
        validation_loss=0.6,
        validation_accuracy=accuracy,
        lr=0.1,
        images_per_s=100.0,
        seconds=seconds,
    )
    return EpochReport(metrics, kept_epoch=epoch, replayed=replayed)


def scripted_accuracy(number: int, epoch: int) -> float:
    """Every fifth trial diverges at epoch 2; how good the others are follows from their number."""
    if number % 5 == 4 and epoch == 2:
        return math.nan

    quality = random.Random(number).random()
    noise = random.Random(f"{number} {epoch}").random()
    return quality * (1 - 0.5**epoch) + 0.05 * noise


class Killed(BaseException):
    pass


class Driver:
    """Does for a search what Ray Tune does: it runs two trials at a time, in random order, and
    keeps what their state files hold.

    A kill may come between any two steps, or in the middle of a line of the journal.
    """

    def __init__(self, path: Path, scheduler: Scheduler) -> None:
        self.path = path
        self.scheduler: Scheduler = scheduler
        self.saved: dict[int, int] = {}
        """Epochs in the state file of each trial."""
        self.decisions: dict[tuple[int, int], str] = {}
        self.begin_session()

    def begin_session(self) -> None:
        self.state = SearchState(
            make_rule(self.scheduler),
            propose,
            BASE,
            journal=Journal(self.path),
            events=read_events(self.path),
            clock=Clock(),
        )
        self.active: list[int] = []

    def run(self, source: random.Random, kill_at: int | None = None) -> None:
        steps = 0
        while True:
            self.fill_places()
            if not self.active:
                return

            steps += 1
            number = source.choice(self.active)
            epoch = self.saved.get(number, 0) + 1
            if epoch <= EPOCHS:
                self.saved[number] = epoch  # The trial saves its state before it reports.
                if steps == kill_at:
                    raise Killed
                self.report(number, epoch)

            if number in self.active and self.saved[number] == EPOCHS:
                self.state.end(number, "finished")
                self.active.remove(number)

    def fill_places(self) -> None:
        while len(self.active) < 2:
            number = self.state.next()
            if number is None:
                return

            self.active.append(number)
            for epoch in range(1, self.saved.get(number, 0) + 1):
                self.report(number, epoch, replayed=True)

    def report(self, number: int, epoch: int, *, replayed: bool = False) -> None:
        if number not in self.active:
            return

        report = make_report(epoch, scripted_accuracy(number, epoch), replayed=replayed)
        decision = self.state.report(number, report)

        # A replayed report is no new decision.
        self.decisions.setdefault((number, epoch), decision)
        if decision != "continue":
            self.active.remove(number)


def trial_dicts(state: SearchState) -> list[dict[str, Any]]:
    return [record.to_dict() for record in state.records.values()]


@pytest.mark.parametrize("scheduler", ["asha", "promotion", "median", "none"])
@pytest.mark.parametrize("seed", range(20))
def test_killed_at_random_points_every_decision_is_that_of_an_undisturbed_search(
    scheduler: Scheduler, seed: int, tmp_path: Path
) -> None:
    source = random.Random(seed)
    driver = Driver(tmp_path / "journal.jsonl", scheduler)
    for _ in range(6):
        try:
            driver.run(source, kill_at=source.randint(1, 12))
        except Killed:
            if source.random() < 0.5:  # Killed in the middle of a line.
                with driver.path.open("ab") as file:
                    file.write(b'{"event": "report", "tri')
            driver.begin_session()
    driver.run(source)

    outcomes = {record.outcome for record in driver.state.records.values()}
    assert "running" not in outcomes
    assert "finished" in outcomes
    check_undisturbed(driver)

    again = SearchState(
        make_rule(scheduler), propose, BASE, events=read_events(driver.path), clock=Clock()
    )
    assert trial_dicts(again) == trial_dicts(driver.state)
    assert list(again.ended) == list(driver.state.ended)


def check_undisturbed(driver: Driver) -> None:
    """Check that a rule that is given the same reports in the same order decides the same."""
    undisturbed = make_rule(driver.scheduler)
    counted: set[tuple[int, int]] = set()
    for event in read_events(driver.path):
        match event:
            case TrialPromoted():
                assert undisturbed.promotion(last=event.last) == event.trial
            case EpochRecorded(trial=trial, epoch=epoch, validation_accuracy=accuracy):
                assert (trial, epoch) not in counted, "an epoch counted twice"
                counted.add((trial, epoch))
                value = math.nan if accuracy is None else accuracy
                verdict = undisturbed.report(trial, epoch, value)
                assert verdict.decision == driver.decisions[trial, epoch]
            case _:
                pass

    assert len(counted) > 20


def test_nothing_is_decided_before_it_is_on_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    lines_at_report: list[int] = []

    class Watching(Asha):
        def report(self, number: int, epoch: int, value: float) -> Verdict:
            lines_at_report.append(len(read_events(path)))
            return super().report(number, epoch, value)

    state = SearchState(Watching(1, 3, 9), propose, BASE, journal=Journal(path))
    assert state.next() == 0

    state.report(0, make_report(1, 0.5))
    state.report(0, make_report(2, 0.6))
    state.fail(0, TrainingFailed(EPOCHS, "epoch 3", diverged=True))
    assert lines_at_report == [2, 3, 4]


def test_a_replayed_epoch_counts_once_and_says_where_the_trial_went_on(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    state = SearchState(Asha(1, 3, 9), propose, BASE, journal=Journal(path))
    state.next()
    state.report(0, make_report(1, 0.5))

    asha = Asha(1, 3, 9)
    later = SearchState(asha, propose, BASE, journal=Journal(path), events=read_events(path))
    assert later.running == set(), "nothing runs until it is dealt out"
    assert later.next() == 0, "it goes on before a new one begins"
    assert later.running == {0}
    record = later.records[0]
    assert record.resumed_after == 1
    assert later.report(0, make_report(1, 0.5, replayed=True)) == "continue"
    assert len(read_events(path)) == 3, "that it went on after epoch 1 is known already"

    # It had saved epoch 2, whose report was lost.
    assert later.report(0, make_report(2, 0.6, replayed=True)) == "continue"
    assert record.curve == [0.5, 0.6]
    assert record.resumed_after == 2

    # Ray starts it again on its own.
    later.report(0, make_report(3, 0.7))
    assert later.report(0, make_report(2, 0.6, replayed=True)) == "continue"
    assert record.resumed_after == 2, "only its last epoch says where it goes on"
    assert later.report(0, make_report(3, 0.7)) == "continue"
    assert record.resumed_after == 2
    assert later.report(0, make_report(3, 0.7, replayed=True)) == "continue"
    assert record.resumed_after == 3

    restored = SearchState(Asha(1, 3, 9), propose, BASE, events=read_events(path))
    assert restored.records[0].resumed_after == 3
    assert later.epochs == 3
    assert len(asha.levels[1].values) == 1


def test_a_failed_trial_says_why_and_a_diverged_one_ranks_last() -> None:
    asha = Asha(1, 2, 4)
    state = SearchState(asha, propose, BASE)
    assert [state.next() for _ in range(3)] == [0, 1, 2]
    state.fail(0, TrainingFailed(EPOCHS, "epoch 1", diverged=True))
    state.fail(1, TrainingFailed(EPOCHS, "batch"))
    state.end(2, "error: killed")

    outcomes = [record.outcome for record in state.done]
    assert outcomes == ["diverged: epoch 1", "error: batch", "error: killed"]
    assert all(record.failed for record in state.done)
    assert list(asha.levels[1].values) == [-math.inf]
    assert winner(state.done) is None


def test_a_trial_that_does_not_run_keeps_its_outcome() -> None:
    state = SearchState(Asha(1, 2, 4), propose, BASE)
    state.next()
    state.fail(0, TrainingFailed(EPOCHS, "batch"))
    state.end(0, "finished")

    assert state.records[0].outcome == "error: batch"


def test_a_missing_metric_ranks_last() -> None:
    asha = Asha(1, 3, 9)
    state = SearchState(asha, propose, BASE)
    state.next()

    assert state.report(0, make_report(1, None)) == "stop"
    assert state.records[0].outcome.startswith("diverged: epoch 1")
    assert state.records[0].curve == []
    assert list(asha.levels[1].values) == [-math.inf]


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(epochs=10), "10 epochs are trained"),
        (Limits(seconds=30.0), "the time budget is used up"),
        (Limits(accuracy=0.6), "is reached"),
    ],
)
def test_limits_end_the_search_and_with_more_it_goes_on(
    limits: Limits, reason: str, tmp_path: Path
) -> None:
    path, clock = tmp_path / "journal.jsonl", Clock()
    script = Script(
        epochs=EPOCHS,
        epoch_s=lambda number, epoch: 5.0,
        accuracy=lambda number, epoch: 0.05 * number + 0.02 * epoch,
    )

    def make_state(limits: Limits) -> SearchState:
        return SearchState(
            make_rule("promotion"),
            propose,
            BASE,
            limits=limits,
            journal=Journal(path),
            events=read_events(path),
            clock=clock,
        )

    first = make_state(limits)
    play(first, clock, 2, script)

    assert reason in first.over()
    assert first.next() is None

    first.close()
    outcomes = {record.outcome.split(":")[0] for record in first.done}
    assert outcomes <= {"finished", "out of time", "stopped at rung 1", "stopped at rung 3"}

    clock.now += 1000  # Nobody worked meanwhile.
    second = make_state(Limits())
    assert second.elapsed == pytest.approx(first.elapsed - 1000, abs=6)

    epochs = second.epochs
    play(second, clock, 2, script)
    assert len(second.records) == TRIALS
    assert second.epochs > epochs


def test_the_winner_ran_in_full() -> None:
    def record(number: int, curve: list[float], outcome: str) -> TrialRecord:
        return TrialRecord(number, BASE, curve, outcome=outcome)

    records = [
        record(0, [0.5, 0.6, 0.7], "finished"),
        record(1, [0.9], "stopped at rung 1: 2nd of 2"),
        record(2, [0.5, 0.7, 0.8], "finished"),
        record(3, [0.5, 0.7, 0.99], "diverged: epoch 4"),
    ]
    assert winner(records) is records[2]
    assert winner(records[1:2]) is records[1]
    assert winner(records[3:]) is None
    assert winner([record(0, [], "error: x")]) is None


def make_state(scheduler: Scheduler = "promotion", trials: int = 2, **more: Any) -> SearchState:
    """Make a search of a few candidates, whose clock stands still unless one is given."""

    def few(number: int, records: Mapping[int, TrialRecord]) -> Candidate | None:
        return {"lr": round(0.01 + number / 100, 6)} if number < trials else None

    more.setdefault("clock", Clock())
    return SearchState(make_rule(scheduler), few, BASE, **more)


def test_the_best_goes_on_where_nobody_could_be_promoted(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    state = make_state(journal=Journal(path))
    assert (state.next(), state.next()) == (0, 1)
    assert state.report(0, make_report(1, 0.5)) == "pause"
    assert state.records[0].outcome == "paused at rung 1: 1st of 1"
    assert state.next() is None, "another trial still runs"
    assert state.report(1, make_report(1, 0.4)) == "pause"

    # Two are too few to promote one of them, but there must be a full run.
    assert state.next() == 0
    assert state.records[0].outcome == "running"
    assert state.running == {0}
    for epoch in range(2, EPOCHS + 1):
        if state.report(0, make_report(epoch, 0.5)) == "pause":
            assert state.next() == 0
    state.end(0, "finished")
    assert state.next() is None, "one has run in full"

    events = read_events(path)
    promoted = [(event.trial, event.last) for event in events if isinstance(event, TrialPromoted)]
    assert promoted == [(0, True)] * 2
    last_line = read_lines(path)[-1]
    assert last_line == {"event": "end", "trial": 0, "outcome": "finished", "s": 0.0}

    resumed = make_state(events=events)
    assert [record.number for record in resumed.done] == [0]

    state.close()
    assert state.records[1].outcome == "stopped at rung 1: 2nd of 2"
    assert [record.number for record in state.done] == [0, 1]


def test_a_journal_that_the_rule_contradicts_is_refused() -> None:
    events = [TrialPromoted(trial=3, last=False, s=1.0)]
    with pytest.raises(AssertionError, match="the journal promotes 3, the rule None"):
        make_state(events=events)


def test_at_the_end_what_runs_is_out_of_time_and_what_is_paused_was_stopped() -> None:
    state = make_state()
    state.next()
    state.next()
    state.report(0, make_report(1, 0.5))
    state.records[0].outcome = "paused at rung 1: paused twice"

    expected = ["stopped at rung 1: paused twice", "out of time"]
    for _ in range(2):  # To close it again changes nothing.
        state.close()
        assert [record.outcome for record in state.done] == expected
        assert not state.running


def test_nothing_is_proposed_once_there_was_nothing_to_propose() -> None:
    asked: list[int] = []

    def propose_none(number: int, records: Mapping[int, TrialRecord]) -> None:
        asked.append(number)

    state = SearchState(make_rule("asha"), propose_none, BASE, clock=Clock())
    assert not state.exhausted
    assert state.best == 0.0

    for _ in range(3):
        assert state.next() is None

    assert state.exhausted
    assert asked == [0]


@pytest.mark.parametrize(
    ("value", "over"), [(0.8999, ""), (0.9, "90.00% is reached"), (0.95, "95.00% is reached")]
)
def test_an_accuracy_that_is_reached_ends_the_search(value: float, over: str) -> None:
    state = make_state("none", limits=Limits(accuracy=0.9))
    assert state.over() == ""
    state.next()
    state.report(0, make_report(1, value))
    assert state.over() == over

    # The best counts, not the last.
    state.report(0, make_report(2, 0.1))
    assert state.over() == over


@pytest.mark.parametrize(
    ("now", "over"),
    [(59.9, ""), (60.0, "the time budget is used up"), (61.0, "the time budget is used up")],
)
def test_the_time_budget_counts_from_the_first_trial(now: float, over: str) -> None:
    clock = Clock(1000.0)
    state = make_state("none", limits=Limits(seconds=60.0), clock=clock)
    clock.now = 2000.0
    assert (state.elapsed, state.over()) == (0.0, "")

    state.next()
    clock.now = 2000.0 + now
    assert state.over() == over
    assert (state.next() is None) == bool(over)


def test_earlier_sessions_count(tmp_path: Path) -> None:
    path, clock = tmp_path / "journal.jsonl", Clock()
    state = make_state("none", journal=Journal(path), clock=clock)
    state.next()
    clock.now += 7.0
    state.report(0, make_report(1, 0.5))
    clock.now += 5.0
    state.report(0, make_report(2, 0.5))

    clock = Clock(100.0)
    resumed = make_state("none", events=read_events(path), clock=clock)
    assert resumed.elapsed == resumed.spent == 12.0
    resumed.next()
    clock.now += 3.0
    assert resumed.elapsed == 15.0
    assert make_state("none").spent == 0.0


def test_a_record_has_what_was_reported() -> None:
    clock = Clock()
    state = make_state("none", clock=clock)
    state.next()
    clock.now = 1.5
    state.report(0, make_report(1, 0.7))
    clock.now = 4.0
    state.report(0, dataclasses.replace(make_report(2, 0.6), kept_epoch=1))

    record = state.records[0]
    assert record.curve == [0.7, 0.6]
    assert record.times == [1.5, 4.0]
    assert record.kept_epoch == 1
    assert record.accuracy == 0.7
    assert record.images_per_s == 100.0
    assert record.resumed_after == 0


def test_copies_share_one_state_and_pickles_are_empty() -> None:
    state = make_state()
    assert copy.deepcopy({"state": state})["state"] is state
    assert vars(pickle.loads(pickle.dumps(state))) == {}


def test_what_trials_took_adds_up() -> None:
    state = make_state("none")
    state.next()
    for epoch, seconds in enumerate((1.25, 2.5, 4.0), start=1):
        state.report(0, make_report(epoch, 0.5, seconds=seconds))

    assert state.records[0].seconds == 7.75
    assert state.epochs == 3


def test_a_trial_that_diverges_is_counted_at_the_epoch_it_did_not_reach(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    state = make_state("none", journal=Journal(path))
    state.next()
    state.report(0, make_report(1, 0.5))
    state.fail(0, TrainingFailed(EPOCHS, "nan", diverged=True))

    assert read_lines(path)[-1] == {
        "event": "failed",
        "trial": 0,
        "epoch": 2,
        "outcome": "diverged: nan",
        "s": 0.0,
    }


def test_a_record_is_rounded_for_the_file_and_read_again() -> None:
    record = TrialRecord(
        3,
        BASE,
        [0.51234],
        [1.23456],
        "finished",
        images_per_s=2345.678,
        seconds=12.3456,
        kept_epoch=1,
    )
    values = record.to_dict()
    assert values["curve"] == [0.51234]
    assert values["times"] == [1.23]
    assert values["images_per_s"] == 2345.7
    assert values["seconds"] == 12.35
    assert values["rung"] == 1
    assert TrialRecord.from_dict(values) == TrialRecord(
        3, BASE, [0.51234], [1.23], "finished", images_per_s=2345.7, seconds=12.35, kept_epoch=1
    )


def test_the_accuracy_is_that_of_the_epoch_that_was_kept() -> None:
    record = TrialRecord(0, BASE, [0.5, 0.7, 0.6])
    assert record.accuracy == 0.6
    record.kept_epoch = 2
    assert record.accuracy == 0.7


def test_a_report_is_journalled_whole_and_as_json_can_hold_it(tmp_path: Path) -> None:
    path = tmp_path / "runs/s/journal.jsonl"  # Its folder does not exist yet.
    clock = Clock()
    state = make_state("none", journal=Journal(path), clock=clock)
    state.next()
    clock.now = 1.23456
    state.report(0, make_report(1, 0.5))
    state.report(0, make_report(2, math.nan))

    expected = {
        "event": "report",
        "trial": 0,
        "epoch": 1,
        "validation_accuracy": 0.5,
        "images_per_s": 100.0,
        "seconds": 1.0,
        "kept_epoch": 1,
        "s": 1.235,
    }
    _, first, second = read_lines(path)
    assert first == expected
    assert second == expected | {"epoch": 2, "validation_accuracy": None, "kept_epoch": 2}
