"""The numbers of report.html, from what a run left in its files. Accuracies are fractions, times are seconds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from tune.asha import rungs
from tune.state import TrialRecord

Floats = NDArray[np.float64]
Kind = Literal["finished", "stopped", "failed", "ended"]

FEWEST_TRIALS = 10
"""For parameter importance: a forest that has seen fewer says nothing."""
FOREST = 100
"""Trees."""
SHUFFLES = 10
"""Times each parameter is shuffled."""
ROC_POINTS = 160
"""Of a class's curve, at most."""
CONTINUOUS = 8
"""A number with more values than so many, in a run that does not say its space, is taken to be from a range."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run folder holds; None or nothing for what is not made yet."""

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
        """Of a full trial."""
        return max(record.config.epochs for record in self.records)

    @property
    def rungs(self) -> list[int]:
        """Epochs at which trials were compared; none if the run does not say, or was searched without rungs."""
        if "grace_epochs" not in self.search or self.search.get("scheduler", "asha") in ("median", "none"):
            return []
        return rungs(self.search["grace_epochs"], self.search["reduction_factor"], self.epochs)

    @property
    def classes(self) -> list[str]:
        """Their names; numbers if the run does not say."""
        count = len(self.metrics["test"]["support"]) if self.metrics else 0
        return list(self.config.get("data", {}).get("classes", map(str, range(count))))


def kind_of(record: TrialRecord) -> Kind:
    """How a trial ended, for its colour."""
    if record.finished:
        return "finished"
    if record.failed:
        return "failed"
    return "stopped" if record.outcome.startswith("stopped") else "ended"


@dataclass(frozen=True, slots=True)
class Axis:
    """A parameter of the space, and where each trial lies on it."""

    field: str
    labels: tuple[str, ...]
    """The values there are, in order; empty for a number from a range."""
    log: bool
    values: tuple[float, ...]
    """Of each trial: the number itself, or the place of its label."""


def axes(space: dict[str, Any] | None, records: Sequence[TrialRecord]) -> list[Axis]:
    """The parameters that differ between trials, in the space's order; without a space, all fields that differ."""
    configs = [record.config.to_dict() for record in records]
    found: list[Axis] = []
    for field in space or configs[0]:
        values = [config[field] for config in configs]
        if field != "threads" and any(value != values[0] for value in values):
            found.append(_axis(field, values, _is_range(space[field]) if space else _looks_continuous(values)))
    return found


def _axis(field: str, values: list[Any], continuous: bool) -> Axis:
    if continuous:
        return Axis(field, (), min(values) > 0 and max(values) >= 5 * min(values), tuple(map(float, values)))
    distinct = {label(value): value for value in values}
    ordered = sorted(distinct, key=lambda name: _rank(distinct[name]))
    return Axis(field, tuple(ordered), False, tuple(float(ordered.index(label(value))) for value in values))


def _is_range(domain: Any) -> bool:
    """Whether a domain, or one of its branches, is a range of numbers."""
    if not isinstance(domain, dict):
        return False
    if "by" in domain:
        return any(_is_range(branch) for key, branch in domain.items() if key != "by")
    return "low" in domain


def _looks_continuous(values: list[Any]) -> bool:
    return all(type(value) in (int, float) for value in values) and len(set(values)) > CONTINUOUS


def _rank(value: Any) -> tuple[Any, ...]:
    """Nothing first, then numbers by size, lists by length and size, and words by the alphabet."""
    if value is None or value == []:
        return (0,)
    if isinstance(value, (bool, int, float)):
        return (1, value)
    return (2, len(value), [_rank(part) for part in value]) if isinstance(value, list) else (3, str(value))


def label(value: Any) -> str:
    """A value of a config in a word."""
    if value is None or value == []:
        return "default"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (list, tuple)):
        return "-".join(map(label, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, slots=True)
class Leg:
    """The epochs from one rung to the next, and what they cost."""

    start: int
    end: int
    came: int
    """Trials that trained in it."""
    epochs: int
    """Of all of them together."""
    seconds: float
    best: float | None
    """The highest accuracy at its end; None if no trial came there."""


def legs(records: Sequence[TrialRecord], rung_epochs: Sequence[int], epochs: int) -> list[Leg]:
    """One for each rung, and one for the way to the end. A trial's seconds are spread evenly over its epochs."""
    found: list[Leg] = []
    for start, end in pairwise([0, *rung_epochs, epochs]):
        inside = [(record, min(len(record.curve), end) - start) for record in records if len(record.curve) > start]
        found.append(Leg(
            start=start,
            end=end,
            came=len(inside),
            epochs=sum(count for _, count in inside),
            seconds=sum(count * record.seconds / len(record.curve) for record, count in inside),
            best=max((record.curve[end - 1] for record, _ in inside if len(record.curve) >= end), default=None),
        ))  # fmt: skip
    return found


@dataclass(frozen=True, slots=True)
class Cost:
    """What the search took, and what the same trials would have taken in full, each at its own speed."""

    epochs: int
    seconds: float
    full_epochs: int
    full_seconds: float


def cost(records: Sequence[TrialRecord]) -> Cost:
    """Of the trials that have an epoch; one that failed before counts on neither side."""
    tried = [record for record in records if record.curve]
    return Cost(
        epochs=sum(len(record.curve) for record in tried),
        seconds=sum(record.seconds for record in tried),
        full_epochs=sum(record.config.epochs for record in tried),
        full_seconds=sum(record.config.epochs * record.seconds / len(record.curve) for record in tried),
    )


@dataclass(frozen=True, slots=True)
class Step:
    """A new best validation accuracy."""

    seconds: float
    accuracy: float
    number: int
    epoch: int


def best_so_far(records: Sequence[TrialRecord]) -> list[Step]:
    """Each improvement, in time. Trials that failed, and records without times, take no part."""
    steps = [
        Step(seconds, accuracy, record.number, epoch)
        for record in records
        if kind_of(record) != "failed" and len(record.times) == len(record.curve)
        for epoch, (seconds, accuracy) in enumerate(zip(record.times, record.curve, strict=True), start=1)
    ]
    found: list[Step] = []
    for step in sorted(steps, key=lambda step: step.seconds):
        if not found or step.accuracy > found[-1].accuracy:
            found.append(step)
    return found


@dataclass(frozen=True, slots=True)
class Importance:
    """What shuffling a parameter takes from a forest that predicts accuracy from the parameters."""

    epoch: int
    """The accuracy predicted is that after this epoch."""
    trials: int
    explained: float
    """R² on trials that a tree had not seen: 1 is perfect, 0 or less no better than the mean."""
    rows: list[tuple[str, float, float]]
    """Field, mean and deviation of the loss of R², the most important first."""


def importance(records: Sequence[TrialRecord], parameters: Sequence[Axis], epoch: int) -> Importance | None:
    """Permutation importance (Breiman, 2001) of each parameter for the accuracy after `epoch`, which trials of every fate have.

    None if fewer than FEWEST_TRIALS trials came so far, if nothing differs between them, or if all have the same accuracy.
    """
    there = [place for place, record in enumerate(records) if len(record.curve) >= epoch]
    target = np.array([records[place].curve[epoch - 1] for place in there])
    if len(there) < FEWEST_TRIALS or not parameters or np.ptp(target) == 0:
        return None
    from sklearn.ensemble import RandomForestRegressor  # here: slow to import, and workers do without
    from sklearn.inspection import permutation_importance

    inputs = np.column_stack([[_forest_value(axis, place) for place in there] for axis in parameters])
    forest = RandomForestRegressor(FOREST, oob_score=True, max_features=1 / 3, random_state=0).fit(inputs, target)
    found: Any = permutation_importance(forest, inputs, target, n_repeats=SHUFFLES, random_state=0)
    rows = zip([axis.field for axis in parameters], found.importances_mean.tolist(), found.importances_std.tolist(), strict=True)
    return Importance(epoch, len(there), float(forest.oob_score_), sorted(rows, key=lambda row: -row[1]))


def _forest_value(axis: Axis, place: int) -> float:
    return math.log(axis.values[place]) if axis.log else axis.values[place]


def probabilities(logits: NDArray[np.float32]) -> Floats:
    """(N, classes)."""
    return torch.from_numpy(logits).double().softmax(1).numpy()


def roc(labels: NDArray[Any], scores: Floats) -> list[list[tuple[float, float]]]:
    """Of each class against the rest: points (false positive rate, true positive rate), thinned to ROC_POINTS; empty for a class
    that does not occur, or that is the only one.

    Args:
        labels: (N,).
        scores: (N, classes).
    """
    from sklearn.metrics import roc_curve

    curves: list[list[tuple[float, float]]] = []
    for number in range(scores.shape[1]):
        truth = labels == number
        if truth.all() or not truth.any():
            curves.append([])
            continue
        false_rate, true_rate, _ = roc_curve(truth, scores[:, number])
        kept = np.unique(np.linspace(0, len(false_rate) - 1, ROC_POINTS).round().astype(int))
        curves.append([(round(float(false_rate[i]), 5), round(float(true_rate[i]), 5)) for i in kept])
    return curves
