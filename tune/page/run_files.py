"""What the report reads: the files that a search left in its run folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from fmnist.errors import InputError, check
from fmnist.evaluation.many_classes import SHOWN_CLASSES, worst_classes
from fmnist.evaluation.metrics import MANY_CLASSES
from fmnist.evaluation.predictions import PREDICTIONS
from fmnist.runs.files import read_json
from fmnist.runs.summary import SUMMARY, read_summary
from tune.journal import TRIALS
from tune.rules.asha import rungs
from tune.state import TrialRecord, read_trials

WITHOUT_RUNGS = ("median", "none")
"""Schedulers that compare no trials at rungs."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """The content of a run folder; None or empty where a file is not there yet."""

    name: str
    config: dict[str, Any]
    """config.json."""
    records: list[TrialRecord]
    summary: dict[str, Any]
    metrics: dict[str, Any] | None = None
    """best/metrics.json."""
    predictions: dict[str, NDArray[Any]] | None = None
    """best/test_predictions.npz."""
    parity: dict[str, Any] | None = None
    """export/verify.json."""
    latency: dict[str, Any] | None = None
    """export/benchmark.json."""

    @property
    def search(self) -> dict[str, Any]:
        return self.config.get("search", {})

    @property
    def epochs(self) -> int:
        """Epochs of a full trial."""
        return max(record.config.epochs for record in self.records)

    @property
    def rungs(self) -> list[int]:
        """Epochs at which trials were compared; none if the run does not say, or was searched
        without rungs."""
        search = self.search
        # A run that names no scheduler is of an early version, which had only ASHA.
        scheduler = search.get("scheduler", "asha")
        if "grace_epochs" not in search or scheduler in WITHOUT_RUNGS:
            return []

        return rungs(search["grace_epochs"], search["reduction_factor"], self.epochs)

    @property
    def classes(self) -> list[str]:
        """Names of the classes; numbers if the run does not say."""
        data = self.config.get("data", {})
        if "classes" in data:
            return list(data["classes"])
        if not self.metrics:
            return []

        count = len(self.metrics["test"]["support"])
        return list(map(str, range(count)))

    @property
    def shown(self) -> list[int]:
        """Numbers of the classes that the page shows; of many, those with the lowest F1."""
        numbers = list(range(len(self.classes)))
        if len(numbers) <= MANY_CLASSES:
            return numbers
        if self.metrics is None:
            return []
        return worst_classes(self.metrics["test"])[:SHOWN_CLASSES]


def read_run(run: Path) -> Run:
    """Read a run folder.

    Raises:
        InputError: no trial of the run is done yet, or a file is damaged.
    """
    records = read_trials(run / TRIALS)
    check(
        bool(records),
        f"run={str(run)!r}: {run / TRIALS} has no trial that is done; name the run of a search",
    )

    config = read_json(run / "config.json")
    summary: dict[str, Any] = {}
    if (run / SUMMARY).exists():
        summary = read_summary(run)

    return Run(
        name=run.name,
        config=config,
        records=records,
        summary=summary,
        metrics=_read_if_there(run / "best/metrics.json"),
        predictions=_read_predictions(run / "best" / PREDICTIONS),
        parity=_read_if_there(run / "export/verify.json"),
        latency=_read_if_there(run / "export/benchmark.json"),
    )


def _read_if_there(path: Path) -> Any:
    if not path.exists():
        return None
    return read_json(path)


def _read_predictions(path: Path) -> dict[str, NDArray[Any]] | None:
    if not path.exists():
        return None
    try:
        # A pickle in the file could run any code: a run may come from somebody else.
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, BadZipFile) as error:
        raise InputError(
            f"{path} is damaged: {error}; delete it, and the report leaves out what needs it"
        ) from error
