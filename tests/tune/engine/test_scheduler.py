"""Reports reach the state of a search through Ray Tune, which flattens them on the way."""

import dataclasses
from typing import Any

import pytest
from ray.tune.utils import flatten_dict

from fmnist.config import TrainConfig
from fmnist.training.metrics import EpochMetrics, EpochReport, TrainingFailed
from tune.engine.scheduler import Dealer, Decider
from tune.rules.full_length import FullLength
from tune.state import SearchState

METRICS = EpochMetrics(
    epoch=1,
    train_loss=1.0,
    train_accuracy=0.5,
    validation_loss=1.0,
    validation_accuracy=0.6,
    lr=0.1,
    images_per_s=100.0,
    seconds=2.0,
)


@dataclasses.dataclass
class FakeTrial:
    """What the scheduler reads of one of Ray Tune's trials."""

    config: dict[str, Any]


@pytest.fixture
def running() -> tuple[SearchState, FakeTrial]:
    """A search whose one trial was dealt out."""
    state = SearchState(
        FullLength(), lambda number, records: {} if number == 0 else None, TrainConfig(epochs=3)
    )
    dealt = Dealer(state).suggest("0")
    assert dealt is not None
    return state, FakeTrial(dealt)


def report(state: SearchState, trial: FakeTrial, values: dict[str, Any]) -> str:
    """Send a report as Ray Tune does: flattened, with keys of its own."""
    arrived = flatten_dict(values | {"trial_id": "0", "config": {"trial": trial.config}})
    decider: Any = Decider(state)
    return decider.on_trial_result(None, trial, arrived)


def test_an_epoch_is_recorded_and_the_trial_continues(
    running: tuple[SearchState, FakeTrial],
) -> None:
    state, trial = running
    assert report(state, trial, EpochReport(METRICS, kept_epoch=1).to_dict()) == Decider.CONTINUE
    assert state.records[0].curve == [0.6]


@pytest.mark.parametrize("diverged", [True, False])
def test_a_failure_stops_the_trial_with_its_reason(
    running: tuple[SearchState, FakeTrial], diverged: bool
) -> None:
    state, trial = running
    failure = TrainingFailed(3, "global_batch_size=5000: too many", diverged=diverged)
    assert report(state, trial, failure.to_dict()) == Decider.STOP
    assert state.records[0].outcome == failure.outcome


def test_the_dealer_waits_while_a_trial_runs_and_then_says_that_it_is_finished(
    running: tuple[SearchState, FakeTrial],
) -> None:
    state, _ = running
    dealer = Dealer(state)
    assert dealer.suggest("1") is None
    state.end(0, "finished")
    assert dealer.suggest("2") == Dealer.FINISHED
