"""A search in MLflow, with its own client and an SQLite file.

A whole search with it, killed and resumed, is in test_search.py.
"""

import io
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fmnist.config import TrainConfig
from fmnist.errors import InputError
from fmnist.runs.files import read_json, write_json
from fmnist.training.metrics import EpochMetrics
from tune.state import TrialRecord
from tune.tracking import SETTINGS_FILE, Tracker, connect, uri_of

CONFIG = TrainConfig(model="lenet", epochs=2)


def metrics(epoch: int) -> EpochMetrics:
    return EpochMetrics(
        epoch=epoch,
        train_loss=1.0,
        train_accuracy=0.7,
        validation_loss=None,
        validation_accuracy=0.5 + epoch / 10,
        lr=0.1,
        images_per_s=1000.0,
        seconds=2.0,
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "runs/s"
    folder.mkdir(parents=True)
    return folder


def track(run: Path, output: io.StringIO | None = None) -> Tracker:
    uri = uri_of("sqlite", None, run.parent)
    assert uri is not None
    console = Console(file=output or io.StringIO())
    return Tracker(*connect(uri), uri, run, {"trials": 2}, console)


def trial_runs(tracker: Tracker) -> dict[str, Any]:
    """MLflow's run of each trial, by the trial's number."""
    trials: dict[str, Any] = {}
    for run in tracker.client.search_runs([tracker.experiment]):
        if "trial" in run.data.tags:
            trials[run.data.tags["trial"]] = run
    return trials


def status(trials: dict[str, Any]) -> dict[str, str]:
    return {number: trial.info.status for number, trial in trials.items()}


def accuracies(tracker: Tracker, trial: Any) -> list[tuple[int, float]]:
    points = tracker.client.get_metric_history(trial.info.run_id, "validation_accuracy")
    return sorted((point.step, point.value) for point in points)


def test_a_resumed_search_goes_on_in_the_same_runs(run: Path) -> None:
    track(run).on_epoch(0, CONFIG, metrics(1))
    resumed = track(run)
    resumed.on_epoch(0, CONFIG, metrics(2))
    resumed.end_trial(TrialRecord(0, CONFIG, curve=[0.6, 0.7], outcome="finished"))
    resumed.end_trial(TrialRecord(1, CONFIG, outcome="diverged: epoch 1"))
    trials = trial_runs(resumed)
    assert len(resumed.client.search_runs([resumed.experiment])) == 3
    assert status(trials) == {"0": "FINISHED", "1": "FAILED"}
    assert accuracies(resumed, trials["0"]) == [(1, 0.6), (2, 0.7)]
    assert {"train_loss", "train_accuracy", "lr"} <= set(trials["0"].data.metrics)
    assert "validation_loss" not in trials["0"].data.metrics
    # Without being named again.
    assert uri_of(None, run, run.parent) == uri_of("sqlite", None, run.parent)


def test_what_a_killed_search_had_no_time_to_tell(run: Path) -> None:
    killed = track(run)
    killed.on_epoch(0, CONFIG, metrics(1))
    killed.on_epoch(1, CONFIG, metrics(1))
    killed.end_trial(TrialRecord(1, CONFIG, curve=[0.6], outcome="stopped at rung 1"))
    # Killed before it could say what the trial tries.
    tags = {"mlflow.parentRunId": killed.parent, "trial": "2"}
    killed.client.create_run(killed.experiment, tags=tags)

    resumed = track(run)
    known = [
        TrialRecord(0, CONFIG, curve=[0.6, 0.7], outcome="finished"),
        TrialRecord(1, CONFIG, curve=[0.6], outcome="stopped at rung 1"),
        TrialRecord(2, CONFIG, curve=[0.4]),
    ]
    resumed.catch_up(known, {0, 1})
    trials = trial_runs(resumed)
    assert status(trials) == {"0": "FINISHED", "1": "FINISHED", "2": "RUNNING"}

    for record in known:
        trial = trials[str(record.number)]
        assert trial.data.params["lr"] == str(CONFIG.lr)
        assert accuracies(resumed, trial) == list(enumerate(record.curve, start=1))


def test_the_search_goes_on_without_mlflow(run: Path) -> None:
    output = io.StringIO()
    tracker = track(run, output)
    tracker.on_epoch(0, CONFIG, metrics(1))
    with sqlite3.connect(run.parent / "mlflow.db") as database:
        for table in ("metrics", "latest_metrics", "runs"):
            database.execute(f"ALTER TABLE {table} RENAME TO gone_{table}")

    tracker.on_epoch(0, CONFIG, metrics(2))
    tracker.on_epoch(1, CONFIG, metrics(1))
    tracker.end_trial(TrialRecord(0, CONFIG, curve=[0.6], outcome="finished"))
    assert output.getvalue().count("the search goes on without it") == 1


def test_a_database_that_was_replaced(run: Path) -> None:
    track(run)
    settings = read_json(run / SETTINGS_FILE)
    write_json(run / SETTINGS_FILE, settings | {"run_id": 32 * "0"})
    with pytest.raises(InputError, match=f"does not know this run.*{SETTINGS_FILE}"):
        track(run)
