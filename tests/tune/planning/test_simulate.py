import math
from collections.abc import Mapping

import pytest

from fmnist.config import TrainConfig
from tune.planning.simulate import Clock, Script, play
from tune.rules.asha import Asha
from tune.rules.full_length import FullLength
from tune.space import Candidate
from tune.state import Limits, SearchState, TrialRecord


def propose_three(number: int, records: Mapping[int, TrialRecord]) -> Candidate | None:
    return {} if number < 3 else None


def test_workers_train_one_trial_each_to_its_end() -> None:
    clock = Clock()
    state = SearchState(FullLength(), propose_three, TrainConfig(), clock=clock)
    script = Script(
        epochs=2,
        epoch_s=lambda number, epoch: 10.0 * (number + 1),
        accuracy=lambda number, epoch: 0.1 * number + 0.01 * epoch,
        start_s=1.0,
    )
    played = play(state, clock, 2, script)

    # Worker A has trial 0 until 21 s and trial 2 until 82 s, worker B trial 1 until 41 s.
    assert played.seconds == clock.now == 82.0
    assert played.epochs == 6
    assert played.idle == pytest.approx((82 - 41) / (2 * 82))
    assert [record.number for record in state.done] == [0, 1, 2]
    assert {record.outcome for record in state.done} == {"finished"}
    assert state.records[2].curve == [pytest.approx(0.21), pytest.approx(0.22)]
    assert state.records[2].seconds == 60.0


def test_a_place_that_a_stopped_or_diverged_trial_leaves_is_taken() -> None:
    clock = Clock()
    state = SearchState(Asha(1, 3, 3), propose_three, TrainConfig(), clock=clock)
    accuracies = [0.5, math.nan, 0.4]
    script = Script(
        epochs=3,
        epoch_s=lambda number, epoch: 1.0,
        accuracy=lambda number, epoch: accuracies[number],
    )
    played = play(state, clock, 1, script)

    # Three epochs of trial 0, one of trial 1, one of trial 2.
    assert played.seconds == 5.0
    assert played.epochs == 4, "one that diverges is not counted"
    assert played.idle == 0.0

    outcomes = [state.records[number].outcome.split(":")[0] for number in range(3)]
    assert outcomes == ["finished", "diverged", "stopped at rung 1"]


def test_what_the_end_cuts_short_does_not_count_as_work() -> None:
    clock = Clock()
    limits = Limits(epochs=1)
    state = SearchState(FullLength(), propose_three, TrainConfig(), limits=limits, clock=clock)
    script = Script(
        epochs=5,
        epoch_s=lambda number, epoch: 10.0 + 90.0 * number,
        accuracy=lambda number, epoch: 0.5,
    )
    played = play(state, clock, 2, script)

    # Trial 1 was in the middle of its first epoch: until then both workers were busy.
    assert played.seconds == 10.0
    assert played.idle == pytest.approx(0.0)


def test_nothing_to_do_takes_no_time() -> None:
    clock = Clock()
    state = SearchState(FullLength(), lambda number, records: None, TrainConfig(), clock=clock)
    script = Script(1, lambda number, epoch: 1.0, lambda number, epoch: 0.5)
    played = play(state, clock, 2, script)
    assert (played.seconds, played.epochs, played.idle) == (0.0, 0, 0.0)
