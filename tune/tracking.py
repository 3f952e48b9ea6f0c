"""A search in MLflow, `--mlflow URI`: an MLflow run for the search, and one below it for each
trial."""

import logging
import os
import time
from collections.abc import Callable, Collection, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from fmnist.config import TrainConfig
from fmnist.errors import InputError, check, first_line
from fmnist.runs.files import read_json, write_json
from fmnist.training.metrics import CHARTS, EpochMetrics
from tune.state import TrialRecord

SETTINGS_FILE = "mlflow.json"
"""In the run folder: where the search is tracked, and under which id, so that a resumed one goes
on there."""
EXPERIMENT = "fmnist"
SQLITE = "sqlite"
ACCURACY = "validation_accuracy"
PARENT_TAG = "mlflow.parentRunId"
STATUS = {"diverged": "FAILED", "error": "FAILED", "out of time": "KILLED"}
"""MLflow's status of a trial by its outcome; any other is FINISHED."""
LONGEST_VALUE = 500
"""Characters of a parameter that MLflow takes."""
MLFLOW_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""By default MLflow waits minutes for each call, in which a search would stand still."""


def check_uri(given: str | None) -> None:
    """Raise InputError unless MLflow can take it for an address."""
    check(
        given is None or given == SQLITE or "://" in given,
        f"mlflow={given!r}: {SQLITE} (a file beside the runs), sqlite:///FILE, or "
        "http://HOST:PORT of an MLflow server",
    )


def uri_of(given: str | None, resumed: Path | None, runs: Path) -> str | None:
    """Where to track a run: what the command line says, else where it was tracked before, else
    nowhere."""
    if given == SQLITE:
        return f"sqlite:///{runs.absolute() / 'mlflow.db'}"
    if given is None and resumed is not None and (resumed / SETTINGS_FILE).exists():
        return read_json(resumed / SETTINGS_FILE)["uri"]
    return given


def connect(uri: str) -> tuple[Any, str]:
    """Return a client of MLflow and the id of the experiment.

    Raises:
        InputError: MLflow is not installed, or does not answer.
    """
    for name, value in MLFLOW_PATIENCE.items():
        os.environ.setdefault(name, value)
    try:
        import mlflow  # Here: it is an extra, and takes seconds.
    except ImportError as error:
        raise InputError(
            f"mlflow={uri!r}: MLflow is not installed; install it with: pip install mlflow"
        ) from error

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    try:
        client = mlflow.MlflowClient(uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is not None:
            return client, experiment.experiment_id
        return client, client.create_experiment(EXPERIMENT)
    except Exception as error:  # Each kind of store has its own.
        raise InputError(
            f"mlflow={uri!r}: MLflow does not answer there: {first_line(error)}"
        ) from error


class Tracker:
    """Tells MLflow of every epoch, trial and winner. If MLflow fails on the way, it says so once,
    and the search goes on.

    Args:
        client, experiment: as `connect` gives them.
        uri: what they are connected to.
        run: run folder of the search.
        search: the search's own numbers, as in config.json.

    Raises:
        InputError: MLflow does not know the run that an earlier session started.
    """

    def __init__(
        self,
        client: Any,
        experiment: str,
        uri: str,
        run: Path,
        search: dict[str, Any],
        console: Console,
    ) -> None:
        self.client = client
        self.experiment = experiment
        self.run = run
        self.console = console
        self.broken = False
        self.trials: dict[int, str] = {}
        """MLflow's run of each trial."""
        self.open: set[int] = set()
        """Trials whose end MLflow has not been told."""
        try:
            self.parent = self._open_parent(uri, search)
            self._find_trials()
        except Exception as error:
            raise InputError(
                f"mlflow={uri!r}: it does not know this run ({first_line(error)}); remove "
                f"{run / SETTINGS_FILE} to start anew"
            ) from error

    def _open_parent(self, uri: str, search: dict[str, Any]) -> str:
        """Start MLflow's run of the search, or go on with the one of an earlier session."""
        file = self.run / SETTINGS_FILE
        settings = read_json(file) if file.exists() else {}
        if settings.get("uri") != uri:
            run_id = self._start(self.run.name, _as_parameters(search), {})
            settings = {"uri": uri, "run_id": run_id}
            write_json(file, settings)

        self.client.update_run(settings["run_id"], "RUNNING")

        return settings["run_id"]

    def _find_trials(self) -> None:
        """Find what earlier sessions told MLflow."""
        below = f"tags.`{PARENT_TAG}` = '{self.parent}'"
        for trial in self.client.search_runs([self.experiment], below, max_results=10_000):
            number = int(trial.data.tags["trial"])
            self.trials[number] = str(trial.info.run_id)
            if "outcome" not in trial.data.tags:
                self.open.add(number)

    def catch_up(self, records: Iterable[TrialRecord], ended: Collection[int]) -> None:
        """Tell what a search that was killed knew and had no time to tell: parameters, the
        accuracy of epochs, how trials ended."""
        for record in records:
            if record.number in self.trials and record.number not in self.open:
                continue
            self._try(partial(self._tell_curve, record))
            if record.number in ended:
                self.end_trial(record)

    def _tell_curve(self, record: TrialRecord) -> None:
        trial = self._trial(record.number, record.config)
        self._set(trial, _as_parameters(record.config.to_dict()))
        known = {point.step for point in self.client.get_metric_history(trial, ACCURACY)}
        for epoch, value in enumerate(record.curve, start=1):
            if epoch not in known:
                self._log(trial, {ACCURACY: value}, epoch)

    def on_epoch(self, number: int, config: TrainConfig, metrics: EpochMetrics) -> None:
        values: dict[str, float] = {}
        for name in CHARTS.values():
            value = getattr(metrics, name)
            if value is not None:
                values[name] = value

        self._try(lambda: self._log(self._trial(number, config), values, metrics.epoch))

    def end_trial(self, record: TrialRecord) -> None:
        def tell() -> None:
            trial = self._trial(record.number, record.config)
            if record.curve:
                self.client.log_metric(trial, "accuracy", record.accuracy)
            status = STATUS.get(record.outcome.partition(":")[0], "FINISHED")
            self.client.set_terminated(trial, status)
            # Last: nothing more is told of a trial that has it.
            self.client.set_tag(trial, "outcome", record.outcome)

        self._try(tell)

    def end(self, summary: dict[str, Any], report: Path) -> None:
        """Tell of the winner, once it is trained and tested."""

        def tell() -> None:
            values = {name: summary[name] for name in (ACCURACY, "test_accuracy", "peak_memory_mb")}
            for stage, seconds in summary["seconds"].items():
                values[f"seconds/{stage}"] = seconds
            parameters: dict[str, str] = {}
            for name, value in _as_parameters(summary["config"]).items():
                parameters[f"winner/{name}"] = value

            self._log(self.parent, values, 0)
            self._set(self.parent, parameters)
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
                "[yellow]MLflow does not answer; the search goes on without it:[/] "
                f"{first_line(error)}",
                soft_wrap=True,
            )

    def _trial(self, number: int, config: TrainConfig) -> str:
        """MLflow's run of a trial, started if there is none."""
        if number not in self.trials:
            name = f"{self.run.name} trial {number}"
            tags = {PARENT_TAG: self.parent, "trial": str(number)}
            self.trials[number] = self._start(name, _as_parameters(config.to_dict()), tags)
        return self.trials[number]

    def _start(self, name: str, parameters: dict[str, str], tags: dict[str, str]) -> str:
        run = self.client.create_run(self.experiment, tags=tags, run_name=name)
        run_id = str(run.info.run_id)
        self._set(run_id, parameters)
        return run_id

    def _set(self, run_id: str, parameters: dict[str, str]) -> None:
        """Set a run's parameters; to set them again changes nothing."""
        from mlflow.entities import Param  # Here: MLflow is an extra, and takes seconds.

        self.client.log_batch(run_id, params=[Param(*item) for item in parameters.items()])

    def _log(self, run_id: str, values: dict[str, float], epoch: int) -> None:
        from mlflow.entities import Metric  # Here: MLflow is an extra, and takes seconds.

        now_ms = int(time.time() * 1000)
        points = [Metric(name, float(value), now_ms, epoch) for name, value in values.items()]
        self.client.log_batch(run_id, metrics=points)


def _as_parameters(values: dict[str, Any]) -> dict[str, str]:
    return {key: str(value)[:LONGEST_VALUE] for key, value in values.items()}
