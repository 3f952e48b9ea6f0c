"""A search in MLflow: `--mlflow URI`. A run of MLflow's for the search, and one below it for each trial."""

import logging
import os
import time
from collections.abc import Callable, Collection, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from fmnist.board import CHARTS
from fmnist.config import TrainConfig
from fmnist.errors import InputError, check, first_line
from fmnist.run import read_json, write_json
from tune.state import TrialRecord

KEPT = "mlflow.json"
"""In the run folder: where the search is tracked, and under which id, so that a resumed one goes on there."""
EXPERIMENT = "fmnist"
SQLITE = "sqlite"
VALUE = "validation_accuracy"
STATUS = {"diverged": "FAILED", "error": "FAILED", "out of time": "KILLED"}


def check_uri(given: str | None) -> None:
    """Raise InputError unless MLflow could mean something by it."""
    fine = given is None or given == SQLITE or "://" in given
    check(fine, f"mlflow={given!r}: {SQLITE} (a file beside the runs), sqlite:///FILE, or http://HOST:PORT of an MLflow server")


def uri_of(given: str | None, resumed: Path | None, runs: Path) -> str | None:
    """Where to track a run: what the command line says, else where it was tracked before, else nowhere."""
    if given is None:
        return read_json(resumed / KEPT)["uri"] if resumed and (resumed / KEPT).exists() else None
    return f"sqlite:///{runs.absolute() / 'mlflow.db'}" if given == SQLITE else given


def connect(uri: str) -> tuple[Any, str]:
    """A client of MLflow's, and the id of the experiment. Raises InputError if MLflow is not installed or does not answer."""
    # Its own patience is minutes for each call, in which a search would stand still.
    for name, value in {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}.items():
        os.environ.setdefault(name, value)
    try:
        import mlflow  # here: it is an extra, and takes seconds
    except ImportError as error:
        raise InputError(f"mlflow={uri!r}: MLflow is not installed; install it with: pip install mlflow") from error
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    try:
        client = mlflow.MlflowClient(uri)
        found = client.get_experiment_by_name(EXPERIMENT)
        return client, found.experiment_id if found else client.create_experiment(EXPERIMENT)
    except Exception as error:  # one of many, by kind of store
        raise InputError(f"mlflow={uri!r}: MLflow does not answer there: {first_line(error)}") from error


class Tracker:
    """Tells MLflow of every epoch, trial and winner. If MLflow fails on the way, it says so once, and the search goes on.

    Args:
        client, experiment: as `connect` gives them.
        uri: what they are connected to.
        run: run folder of the search.
        search: the search's own numbers, as in config.json.

    Raises:
        InputError: MLflow does not know the run that it was told of in an earlier session.
    """

    def __init__(self, client: Any, experiment: str, uri: str, run: Path, search: dict[str, Any], console: Console) -> None:
        self.client, self.experiment, self.run, self.console, self.broken = client, experiment, run, console, False
        kept = read_json(run / KEPT) if (run / KEPT).exists() else {}
        try:
            if kept.get("uri") != uri:
                kept = {"uri": uri, "run_id": self._start(run.name, _plain(search), {})}
                write_json(run / KEPT, kept)
            self.parent: str = kept["run_id"]
            client.update_run(self.parent, "RUNNING")
            below = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{self.parent}'", max_results=10_000)
        except Exception as error:
            raise InputError(
                f"mlflow={uri!r}: it does not know this run ({first_line(error)}); remove {run / KEPT} to start anew"
            ) from error
        self.trials = {int(trial.data.tags["trial"]): str(trial.info.run_id) for trial in below}
        self.open = {int(trial.data.tags["trial"]) for trial in below if "outcome" not in trial.data.tags}

    def catch_up(self, records: Iterable[TrialRecord], ended: Collection[int]) -> None:
        """Tell what a search that was killed knew and had no time to tell: parameters, the accuracy of epochs, how trials ended."""

        def tell(record: TrialRecord) -> None:
            trial = self._trial(record.number, record.config)
            self._set(trial, _plain(record.config.to_dict()))
            known = {point.step for point in self.client.get_metric_history(trial, VALUE)}
            for epoch, value in enumerate(record.curve, start=1):
                if epoch not in known:
                    self._log(trial, {VALUE: value}, epoch)

        for record in records:
            if record.number in self.open or record.number not in self.trials:
                self._try(partial(tell, record))
                if record.number in ended:
                    self.end_trial(record)

    def on_epoch(self, number: int, config: TrainConfig, metrics: dict[str, Any]) -> None:
        """Args: metrics: EpochMetrics as a dict."""
        values = {name: metrics[name] for name in CHARTS.values() if metrics.get(name) is not None}
        self._try(lambda: self._log(self._trial(number, config), values, metrics["epoch"]))

    def end_trial(self, record: TrialRecord) -> None:
        def tell() -> None:
            trial = self._trial(record.number, record.config)
            if record.curve:
                self.client.log_metric(trial, "accuracy", record.accuracy)
            self.client.set_terminated(trial, STATUS.get(record.outcome.partition(":")[0], "FINISHED"))
            self.client.set_tag(trial, "outcome", record.outcome)  # last: a trial that has it is told of no more

        self._try(tell)

    def end(self, summary: dict[str, Any], report: Path) -> None:
        """The winner is trained and tested."""

        def tell() -> None:
            figures = {name: summary[name] for name in (VALUE, "test_accuracy", "peak_memory_mb")}
            seconds = {f"seconds/{stage}": value for stage, value in summary["seconds"].items()}
            self._log(self.parent, figures | seconds, 0)
            self._set(self.parent, {f"winner/{name}": value for name, value in _plain(summary["config"]).items()})
            self.client.set_tag(self.parent, "report", str(report.absolute()))
            self.client.set_terminated(self.parent)

        self._try(tell)

    def _try(self, tell: Callable[[], None]) -> None:
        if self.broken:
            return
        try:
            tell()
        except Exception as error:
            self.broken = True
            self.console.print(
                f"[yellow]MLflow does not answer, the search goes on without it:[/] {first_line(error)}", soft_wrap=True
            )

    def _trial(self, number: int, config: TrainConfig) -> str:
        if number not in self.trials:
            tags = {"mlflow.parentRunId": self.parent, "trial": str(number)}
            self.trials[number] = self._start(f"{self.run.name} trial {number}", _plain(config.to_dict()), tags)
        return self.trials[number]

    def _start(self, name: str, parameters: dict[str, str], tags: dict[str, str]) -> str:
        run_id = str(self.client.create_run(self.experiment, tags=tags, run_name=name).info.run_id)
        self._set(run_id, parameters)
        return run_id

    def _set(self, run_id: str, parameters: dict[str, str]) -> None:
        """Set a run's parameters; to set them again changes nothing."""
        from mlflow.entities import Param

        self.client.log_batch(run_id, params=[Param(key, value) for key, value in parameters.items()])

    def _log(self, run_id: str, values: dict[str, float], epoch: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(run_id, metrics=[Metric(name, float(value), now, epoch) for name, value in values.items()])


def _plain(values: dict[str, Any]) -> dict[str, str]:
    return {key: str(value)[:500] for key, value in values.items()}
