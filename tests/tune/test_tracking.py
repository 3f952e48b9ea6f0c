"""MLflow's own client and an SQLite file; a whole search with it, killed and resumed, is in test_search.py."""

import io
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fmnist.config import TrainConfig
from fmnist.errors import InputError
from fmnist.run import read_json, write_json
from tune.state import TrialRecord
from tune.tracking import KEPT, Tracker, connect, uri_of

CONFIG = TrainConfig(model="lenet", epochs=2)


def metrics(epoch: int) -> dict[str, Any]:
    return {"epoch": epoch, "validation_accuracy": 0.5 + epoch / 10, "train_loss": 1.0, "validation_loss": None, "lr": 0.1}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "runs/s"
    folder.mkdir(parents=True)
    return folder


def track(run: Path, said: io.StringIO | None = None) -> Tracker:
    uri = uri_of("sqlite", None, run.parent)
    assert uri is not None
    return Tracker(*connect(uri), uri, run, {"trials": 2}, Console(file=said or io.StringIO()))


def test_a_resumed_search_goes_on_in_the_same_runs(run: Path) -> None:
    track(run).on_epoch(0, CONFIG, metrics(1))
    resumed = track(run)
    resumed.on_epoch(0, CONFIG, metrics(2))
    resumed.end_trial(TrialRecord(0, CONFIG, curve=[0.6, 0.7], outcome="finished"))
    resumed.end_trial(TrialRecord(1, CONFIG, outcome="diverged: epoch 1"))
    told = resumed.client.search_runs([resumed.experiment])
    trials = {told.data.tags["trial"]: told for told in told if "trial" in told.data.tags}
    assert len(told) == 3
    assert {number: trial.info.status for number, trial in trials.items()} == {"0": "FINISHED", "1": "FAILED"}
    points = resumed.client.get_metric_history(trials["0"].info.run_id, "validation_accuracy")
    assert sorted((point.step, point.value) for point in points) == [(1, 0.6), (2, 0.7)]
    assert uri_of(None, run, run.parent) == uri_of("sqlite", None, run.parent)  # without being named again


def test_what_a_killed_search_had_no_time_to_tell(run: Path) -> None:
    killed = track(run)
    killed.on_epoch(0, CONFIG, metrics(1))
    killed.on_epoch(1, CONFIG, metrics(1))
    killed.end_trial(TrialRecord(1, CONFIG, curve=[0.6], outcome="stopped at rung 1"))
    tags = {"mlflow.parentRunId": killed.parent, "trial": "2"}
    killed.client.create_run(killed.experiment, tags=tags)  # killed before it could say what the trial tries
    resumed = track(run)
    known = [
        TrialRecord(0, CONFIG, curve=[0.6, 0.7], outcome="finished"),
        TrialRecord(1, CONFIG, curve=[0.6], outcome="stopped at rung 1"),
        TrialRecord(2, CONFIG, curve=[0.4]),
    ]
    resumed.catch_up(known, {0, 1})
    trials = {
        told.data.tags["trial"]: told for told in resumed.client.search_runs([resumed.experiment]) if "trial" in told.data.tags
    }
    assert {number: trial.info.status for number, trial in trials.items()} == {"0": "FINISHED", "1": "FINISHED", "2": "RUNNING"}
    for record in known:
        assert trials[str(record.number)].data.params["lr"] == str(CONFIG.lr)
        points = resumed.client.get_metric_history(trials[str(record.number)].info.run_id, "validation_accuracy")
        assert sorted((point.step, point.value) for point in points) == list(enumerate(record.curve, start=1))


def test_the_search_goes_on_without_mlflow(run: Path) -> None:
    said = io.StringIO()
    tracker = track(run, said)
    tracker.on_epoch(0, CONFIG, metrics(1))
    with sqlite3.connect(run.parent / "mlflow.db") as database:
        for table in ("metrics", "latest_metrics", "runs"):
            database.execute(f"ALTER TABLE {table} RENAME TO gone_{table}")
    tracker.on_epoch(0, CONFIG, metrics(2))
    tracker.on_epoch(1, CONFIG, metrics(1))
    tracker.end_trial(TrialRecord(0, CONFIG, curve=[0.6], outcome="finished"))
    assert said.getvalue().count("the search goes on without it") == 1


def test_a_database_that_was_replaced(run: Path) -> None:
    track(run)
    write_json(run / KEPT, read_json(run / KEPT) | {"run_id": 32 * "0"})
    with pytest.raises(InputError, match=f"does not know this run.*{KEPT}"):
        track(run)
