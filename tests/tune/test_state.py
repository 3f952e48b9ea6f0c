"""The state of a search is fed scripted reports, killed at random points, and resumed from its journal."""

import json
import math
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fmnist.config import TrainConfig
from fmnist.errors import InputError
from tune.asha import Asha, Rule
from tune.journal import Journal, read_events
from tune.presets import SearchConfig
from tune.simulate import Clock, play
from tune.state import Candidate, Limits, SearchState, TrialRecord, winner

EPOCHS = 9
BASE = TrainConfig(epochs=EPOCHS)
TRIALS = 12


def rule(scheduler: str) -> Rule:
    return SearchConfig.rule(SearchConfig(scheduler=scheduler), EPOCHS)  # pyright: ignore[reportArgumentType]


def propose(number: int, records: Mapping[int, TrialRecord]) -> Candidate | None:
    """Depends on what is known, as TPE does."""
    best = max((record.accuracy for record in records.values() if record.curve), default=0.0)
    return {"lr": round(0.01 + number / 100 + best / 1000, 6)} if number < TRIALS else None


def result(epoch: int, value: float, **more: Any) -> dict[str, Any]:
    common = {"images_per_s": 100.0, "seconds": 1.0, "kept_epoch": epoch, "ended": ""}
    return {"epoch": epoch, "validation_accuracy": value} | common | more


def accuracy(number: int, epoch: int) -> float:
    """Scripted: of three trials one diverges at epoch 2 or is good, by its number."""
    source = random.Random(f"{number} {epoch}")
    quality = random.Random(number).random()
    return math.nan if number % 5 == 4 and epoch == 2 else quality * (1 - 0.5**epoch) + 0.05 * source.random()


class Killed(BaseException):
    pass


class Driver:
    """What Ray Tune does for a search: two trials at a time, in an order given by chance; and what their saved states hold.

    A kill may come between any two steps, or in the middle of a line of the journal.
    """

    def __init__(self, path: Path, scheduler: str) -> None:
        self.path, self.scheduler = path, scheduler
        self.saved: dict[int, int] = {}
        """Epochs in the saved state of each trial."""
        self.decisions: dict[tuple[int, int], str] = {}
        self.session()

    def session(self) -> None:
        self.state = SearchState(
            rule(self.scheduler), propose, BASE, journal=Journal(self.path), events=read_events(self.path), clock=Clock()
        )
        self.active: list[int] = []

    def run(self, source: random.Random, kill_at: int | None = None) -> None:
        steps = 0
        while True:
            while len(self.active) < 2 and (number := self.state.next()) is not None:
                self.active.append(number)
                for epoch in range(1, self.saved.get(number, 0) + 1):
                    self.decide(number, epoch, again=True)
            if not self.active:
                return
            steps += 1
            number = source.choice(self.active)
            epoch = self.saved.get(number, 0) + 1
            if number in self.active and epoch <= EPOCHS:
                self.saved[number] = epoch  # the trial saves, then reports
                if steps == kill_at:
                    raise Killed
                self.decide(number, epoch)
            if number in self.active and self.saved[number] == EPOCHS:
                self.state.end(number, "finished")
                self.active.remove(number)

    def decide(self, number: int, epoch: int, again: bool = False) -> None:
        if number not in self.active:
            return
        value = accuracy(number, epoch)
        decision = self.state.report(number, result(epoch, value, **({"again": True} if again else {})))
        self.decisions.setdefault((number, epoch), decision)
        if decision != "continue":
            self.active.remove(number)


def reports(path: Path) -> list[dict[str, Any]]:
    return [event for event in read_events(path) if event["event"] == "report"]


@pytest.mark.parametrize("scheduler", ["asha", "promotion", "median", "none"])
@pytest.mark.parametrize("seed", range(20))
def test_killed_at_random_points_every_decision_is_that_of_an_undisturbed_search(scheduler: str, seed: int, tmp_path: Path) -> None:
    source = random.Random(seed)
    driver = Driver(tmp_path / "journal.jsonl", scheduler)
    for _ in range(6):
        try:
            driver.run(source, kill_at=source.randint(1, 12))
        except Killed:
            if source.random() < 0.5:  # in the middle of a line
                with driver.path.open("ab") as file:
                    file.write(b'{"event": "report", "tri')
            driver.session()
    driver.run(source)
    outcomes = [record.outcome for record in driver.state.records.values()]
    assert "running" not in outcomes
    assert "finished" in outcomes

    # An undisturbed search, given the same reports in the same order.
    rows = reports(driver.path)
    assert len(rows) > 20
    undisturbed = rule(scheduler)
    taken: set[tuple[int, int]] = set()
    for event in read_events(driver.path):
        if event["event"] == "promote":
            assert undisturbed.promotion(last=event["last"]) == event["trial"]
        elif event["event"] == "report":
            key = event["trial"], event["epoch"]
            assert key not in taken, "an epoch counted twice"
            taken.add(key)
            value = math.nan if event["validation_accuracy"] is None else event["validation_accuracy"]
            assert undisturbed.report(*key, value).decision == driver.decisions[key]
    # And its journal gives the same state once more.
    again = SearchState(rule(scheduler), propose, BASE, events=read_events(driver.path), clock=Clock())
    assert {n: r.to_dict() for n, r in again.records.items()} == {n: r.to_dict() for n, r in driver.state.records.items()}
    assert list(again.ended) == list(driver.state.ended)


def test_nothing_is_decided_before_it_is_on_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    state = SearchState(Asha(1, 3, 9), propose, BASE, journal=Journal(path))
    seen: list[int] = []

    class Watching(Asha):
        def report(self, number: int, epoch: int, value: float) -> Any:
            seen.append(len(read_events(path)))
            return super().report(number, epoch, value)

    state.rule = Watching(1, 3, 9)
    number = state.next()
    assert number == 0
    state.report(0, result(1, 0.5))
    state.report(0, result(2, 0.6))
    assert seen == [2, 3]


def test_what_is_told_again_counts_once_and_a_restart_is_known(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    state = SearchState(Asha(1, 3, 9), propose, BASE, journal=Journal(path))
    state.next()
    state.report(0, result(1, 0.5))
    later = SearchState(Asha(1, 3, 9), propose, BASE, journal=Journal(path), events=read_events(path))
    assert later.next() == 0  # it goes on before a new one begins
    assert later.records[0].resumed_after == 1
    assert later.report(0, result(1, 0.5, again=True)) == "continue"
    assert later.report(0, result(2, 0.6, again=True)) == "continue"  # saved, but not heard of before
    assert later.records[0].curve == [0.5, 0.6]
    assert later.records[0].resumed_after == 2
    later.report(0, result(3, 0.7))
    assert later.report(0, result(3, 0.7, again=True)) == "continue"  # Ray started it anew
    assert later.records[0].resumed_after == 3
    assert SearchState(Asha(1, 3, 9), propose, BASE, events=read_events(path)).records[0].resumed_after == 3
    assert later.epochs == 3
    assert len(later.rule.levels[1].values) == 1  # pyright: ignore


def test_a_failed_trial_says_why_and_a_diverged_one_ranks_last() -> None:
    asha = Asha(1, 2, 4)
    state = SearchState(asha, propose, BASE)
    assert [state.next() for _ in range(3)] == [0, 1, 2]
    ended = {"epoch": 9, "validation_accuracy": 0.0}
    assert state.report(0, ended | {"ended": "diverged: epoch 1"}) == "stop"
    assert state.report(1, ended | {"ended": "error: batch"}) == "stop"
    state.end(2, "error: killed")
    assert [record.outcome for record in state.done] == ["diverged: epoch 1", "error: batch", "error: killed"]
    assert list(asha.levels[1].values) == [-math.inf]
    assert winner(state.done) is None


def test_a_missing_metric_ranks_last() -> None:
    state = SearchState(Asha(1, 3, 9), propose, BASE)
    state.next()
    assert state.report(0, result(1, 0.5) | {"validation_accuracy": None}) == "stop"
    assert state.records[0].outcome.startswith("diverged: epoch 1")


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(epochs=10), "10 epochs are trained"),
        (Limits(seconds=30.0), "the time budget is used up"),
        (Limits(accuracy=0.6), "is reached"),
    ],
)
def test_limits_end_the_search_and_with_more_it_goes_on(limits: Limits, reason: str, tmp_path: Path) -> None:
    path, clock = tmp_path / "journal.jsonl", Clock()

    def state(limits: Limits) -> SearchState:
        return SearchState(
            rule("promotion"), propose, BASE, limits=limits, journal=Journal(path), events=read_events(path), clock=clock
        )

    first = state(limits)
    play(first, clock, 2, lambda number, epoch: 5.0, lambda number, epoch: 0.05 * number + 0.02 * epoch, EPOCHS)
    assert reason in first.over()
    assert first.next() is None
    first.close()
    outcomes = {record.outcome.split(":")[0] for record in first.done}
    assert outcomes <= {"finished", "out of time", "stopped at rung 1", "stopped at rung 3"}
    clock.now += 1000  # nobody worked meanwhile
    second = state(Limits())
    assert second.elapsed == pytest.approx(first.elapsed - 1000, abs=6)
    epochs = second.epochs
    play(second, clock, 2, lambda number, epoch: 5.0, lambda number, epoch: 0.05 * number + 0.02 * epoch, EPOCHS)
    assert len(second.records) == TRIALS
    assert second.epochs > epochs


def test_a_journal_cut_short_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "j"
    assert read_events(path) == []
    Journal(path).append({"event": "start"})
    with path.open("ab") as file:
        file.write(b'{"event": "rep')
    assert read_events(path) == [{"event": "start"}]
    Journal(path).append({"event": "end"})
    assert [json.loads(line)["event"] for line in path.read_text().splitlines()] == ["start", "end"]
    path.write_text('{"event": "start"}\n{"ev\n{"event": "end"}\n')
    with pytest.raises(InputError, match="line 2"):
        read_events(path)


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


def fresh(scheduler: str = "promotion", trials: int = 2, **more: Any) -> SearchState:
    """A search of a few candidates, in which epochs cost no time."""

    def few(number: int, records: Mapping[int, TrialRecord]) -> Candidate | None:
        return {"lr": round(0.01 + number / 100, 6)} if number < trials else None

    more.setdefault("clock", Clock())
    return SearchState(rule(scheduler), few, BASE, **more)


def test_the_best_goes_on_where_nobody_could_be_promoted(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    state = fresh(journal=Journal(path))
    assert (state.next(), state.next()) == (0, 1)
    assert state.report(0, result(1, 0.5)) == "pause"
    assert state.records[0].outcome == "paused at rung 1: 1st of 1"
    assert state.next() is None  # another still runs
    assert state.report(1, result(1, 0.4)) == "pause"
    assert state.next() == 0  # two are too few to promote one of, but a full run there must be
    for epoch in range(2, EPOCHS + 1):
        if state.report(0, result(epoch, 0.5)) == "pause":
            assert state.next() == 0
    state.end(0, "finished")
    assert state.next() is None  # one has run in full
    promoted = [(event["trial"], event["last"]) for event in read_events(path) if event["event"] == "promote"]
    assert promoted == [(0, True)] * 2
    assert read_events(path)[-1] == {"event": "end", "trial": 0, "outcome": "finished", "s": 0.0}
    resumed = fresh(events=read_events(path))
    assert [record.number for record in resumed.done] == [0]
    state.close()
    assert state.records[1].outcome == "stopped at rung 1: 2nd of 2"
    assert [record.number for record in state.done] == [0, 1]


def test_at_the_end_what_runs_is_out_of_time_and_what_is_paused_was_stopped() -> None:
    state = fresh()
    state.next()
    state.next()
    state.report(0, result(1, 0.5))
    state.records[0].outcome = "paused at rung 1: paused twice"
    state.close()
    assert [record.outcome for record in state.done] == ["stopped at rung 1: paused twice", "out of time"]
    assert not state.running
    before = [record.outcome for record in state.done]
    state.close()
    assert [record.outcome for record in state.done] == before


def test_nothing_is_proposed_once_there_was_nothing_to_propose() -> None:
    asked: list[int] = []

    def none(number: int, records: Mapping[int, TrialRecord]) -> None:
        asked.append(number)

    state = SearchState(rule("asha"), none, BASE, clock=Clock())
    assert not state.exhausted
    assert state.best == 0.0
    for _ in range(3):
        assert state.next() is None
    assert state.exhausted
    assert asked == [0]


@pytest.mark.parametrize(("value", "over"), [(0.8999, ""), (0.9, "90.00% is reached"), (0.95, "95.00% is reached")])
def test_an_accuracy_that_is_reached_ends_the_search(value: float, over: str) -> None:
    state = fresh("none", limits=Limits(accuracy=0.9))
    assert state.over() == ""
    state.next()
    state.report(0, result(1, value))
    assert state.over() == over
    state.report(0, result(2, 0.1))
    assert state.over() == over


@pytest.mark.parametrize(("now", "over"), [(59.9, ""), (60.0, "the time budget is used up"), (61.0, "the time budget is used up")])
def test_the_time_budget_counts_from_the_first_trial(now: float, over: str) -> None:
    clock = Clock()
    clock.now = 1000.0
    state = fresh("none", limits=Limits(seconds=60.0), clock=clock)
    clock.now = 2000.0
    assert (state.elapsed, state.over()) == (0.0, "")
    state.next()
    clock.now = 2000.0 + now
    assert state.over() == over
    assert (state.next() is None) == bool(over)


def test_earlier_sessions_count(tmp_path: Path) -> None:
    path, clock = tmp_path / "journal.jsonl", Clock()
    state = fresh("none", journal=Journal(path), clock=clock)
    state.next()
    clock.now += 7.0
    state.report(0, result(1, 0.5))
    clock.now += 5.0
    state.report(0, result(2, 0.5))
    resumed = fresh("none", events=read_events(path), clock=Clock())
    assert resumed.elapsed == resumed.spent == 12.0
    assert fresh("none").spent == 0.0


def test_what_trials_took_adds_up() -> None:
    state = fresh("none")
    state.next()
    for epoch, seconds in enumerate((1.25, 2.5, 4.0), start=1):
        state.report(0, result(epoch, 0.5, seconds=seconds))
    assert state.records[0].seconds == 7.75
    assert state.epochs == 3


def test_a_trial_that_diverges_is_counted_at_the_epoch_it_did_not_reach(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    state = fresh("none", journal=Journal(path))
    state.next()
    state.report(0, result(1, 0.5))
    assert state.report(0, {"ended": "diverged: nan", "epoch": 9, "validation_accuracy": 0.0}) == "stop"
    assert read_events(path)[-1] == {"event": "failed", "trial": 0, "epoch": 2, "outcome": "diverged: nan", "s": 0.0}


def test_a_record_is_rounded_for_the_file_and_read_again() -> None:
    record = TrialRecord(3, BASE, [0.51234], [1.23456], "finished", images_per_s=2345.678, seconds=12.3456, kept_epoch=1)
    told = record.to_dict()
    assert (told["times"], told["images_per_s"], told["seconds"], told["rung"]) == ([1.23], 2345.7, 12.35, 1)
    assert told["curve"] == [0.51234]
    assert TrialRecord.from_dict(told) == TrialRecord(
        3, BASE, [0.51234], [1.23], "finished", images_per_s=2345.7, seconds=12.35, kept_epoch=1
    )


def test_a_report_is_journalled_whole_and_as_json_can_hold_it(tmp_path: Path) -> None:
    path = tmp_path / "runs/s/journal.jsonl"  # of a run folder that is still to be made
    now = Clock()
    state = fresh("none", journal=Journal(path), clock=now)
    state.next()
    now.now = 1.23456
    state.report(0, result(1, 0.5))
    state.report(0, result(2, math.nan))
    first, second = read_events(path)[1:]
    report = {"event": "report", "trial": 0, "epoch": 1, "validation_accuracy": 0.5, "images_per_s": 100.0, "seconds": 1.0}
    assert first == report | {"kept_epoch": 1, "s": 1.235}
    assert second == report | {"epoch": 2, "validation_accuracy": None, "kept_epoch": 2, "s": 1.235}
