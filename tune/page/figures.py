"""The numbers of the report. Accuracies are fractions, times are seconds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from tune.state import TrialRecord

Floats = NDArray[np.float64]
Kind = Literal["finished", "stopped", "failed", "ended"]

FEWEST_TRIALS = 10
"""Parameter importance needs so many: a forest that has seen fewer says nothing."""
FOREST_TREES = 100
SHUFFLES = 10
"""Times that each parameter is shuffled."""
ROC_POINTS = 160
"""Points of a class's ROC curve, at most."""
CONTINUOUS = 8
"""A number with more values than so many, in a run that does not say its space, is taken to be
from a range."""
LOG_RATIO = 5
"""A range whose ends lie this factor apart has a logarithmic axis."""


def kind_of(record: TrialRecord) -> Kind:
    """How a trial ended, which decides its colour."""
    if record.finished:
        return "finished"
    if record.failed:
        return "failed"
    if record.outcome.startswith("stopped"):
        return "stopped"
    return "ended"


@dataclass(frozen=True, slots=True)
class Axis:
    """A parameter of the space, and where each trial lies on it."""

    field: str
    labels: tuple[str, ...]
    """The values there are, in order; empty for a number from a range."""
    log: bool
    values: tuple[float, ...]
    """One for each trial: the number itself, or the place of its label."""


def axes(space: dict[str, Any] | None, records: Sequence[TrialRecord]) -> list[Axis]:
    """The parameters that differ between trials, in the space's order; without a space, all
    fields that differ."""
    configs = [record.config.to_dict() for record in records]
    differing: list[Axis] = []
    for field in space or configs[0]:
        values = [config[field] for config in configs]
        # Not a set: lists, such as widths, cannot be members of one.
        same = values.count(values[0]) == len(values)
        # The threads of a trial depend on the machine, and change nothing in its result.
        if same or field == "threads":
            continue

        continuous = _is_range(space[field]) if space else _looks_continuous(values)
        if continuous:
            differing.append(_number_axis(field, values))
        else:
            differing.append(_label_axis(field, values))

    return differing


def _number_axis(field: str, values: list[float]) -> Axis:
    low = min(values)
    high = max(values)
    log = low > 0 and high >= LOG_RATIO * low
    return Axis(field, (), log, tuple(map(float, values)))


def _label_axis(field: str, values: list[Any]) -> Axis:
    # By label: what reads alike, such as None and an empty list, shares a place on the axis.
    distinct = {label(value): value for value in values}
    ordered = sorted(distinct, key=lambda name: _sort_key(distinct[name]))

    places: list[float] = []
    for value in values:
        place = ordered.index(label(value))
        places.append(float(place))

    return Axis(field, tuple(ordered), False, tuple(places))


def _is_range(domain: Any) -> bool:
    """Whether a domain, or one of its branches, is a range of numbers."""
    if not isinstance(domain, dict):
        return False
    if "by" not in domain:
        return "low" in domain

    # The other keys are values of the field that "by" names, each with a domain of its own.
    return any(_is_range(branch) for branch in domain.values())


def _looks_continuous(values: list[Any]) -> bool:
    # By type, not isinstance: to Python, True and False are numbers too.
    numbers = {type(value) for value in values} <= {int, float}
    return numbers and len(set(values)) > CONTINUOUS


def _sort_key(value: Any) -> tuple[Any, ...]:
    """Nothing first, then numbers by size, lists by length and size, and words by the alphabet."""
    if value is None or value == []:
        return (0,)
    if isinstance(value, bool | int | float):
        return (1, value)
    if isinstance(value, list):
        return (2, len(value), [_sort_key(part) for part in value])

    return (3, str(value))


def label(value: Any) -> str:
    """A value of a config in a word."""
    if value is None or value == []:
        return "default"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | tuple):
        return "-".join(map(label, value))
    if isinstance(value, float):
        return f"{value:g}"

    return str(value)


@dataclass(frozen=True, slots=True)
class Leg:
    """The epochs from one rung to the next, and what they cost."""

    start: int
    end: int
    trained: int
    """Trials that trained in it."""
    epochs: int
    """Epochs of all of them together."""
    seconds: float
    best: float | None
    """The highest accuracy at its end; None if no trial came there."""


def legs(records: Sequence[TrialRecord], rung_epochs: Sequence[int], epochs: int) -> list[Leg]:
    """One leg for each rung, and one for the way to the end.

    A trial's seconds are spread evenly over its epochs.
    """
    ends = [0, *rung_epochs, epochs]
    return [_leg(records, start, end) for start, end in pairwise(ends)]


def _leg(records: Sequence[TrialRecord], start: int, end: int) -> Leg:
    counts: list[int] = []
    seconds: list[float] = []
    at_end: list[float] = []
    for record in records:
        trained = len(record.curve)
        if trained <= start:
            continue

        count = min(trained, end) - start
        counts.append(count)
        seconds.append(count * record.seconds / trained)
        if trained >= end:
            at_end.append(record.curve[end - 1])

    return Leg(
        start=start,
        end=end,
        trained=len(counts),
        epochs=sum(counts),
        seconds=sum(seconds),
        best=max(at_end, default=None),
    )


@dataclass(frozen=True, slots=True)
class Cost:
    """What the search took, and what the same trials would have taken in full, each at its own
    speed."""

    epochs: int
    seconds: float
    full_epochs: int
    full_seconds: float


def cost(records: Sequence[TrialRecord]) -> Cost:
    """Cost of the trials that have an epoch; one that failed before counts on neither side."""
    epochs = 0
    full_epochs = 0
    seconds: list[float] = []
    full_seconds: list[float] = []
    for record in records:
        trained = len(record.curve)
        if not trained:
            continue

        epochs += trained
        full_epochs += record.config.epochs
        seconds.append(record.seconds)
        full_seconds.append(record.config.epochs * record.seconds / trained)

    return Cost(epochs, sum(seconds), full_epochs, sum(full_seconds))


@dataclass(frozen=True, slots=True)
class Step:
    """A new best validation accuracy."""

    seconds: float
    accuracy: float
    number: int
    """Number of the trial."""
    epoch: int


def best_so_far(records: Sequence[TrialRecord]) -> list[Step]:
    """Each improvement, in the order of time. Trials that failed, and records of an early version
    without times, take no part."""
    steps: list[Step] = []
    for record in records:
        if record.failed or len(record.times) != len(record.curve):
            continue
        points = zip(record.times, record.curve, strict=True)
        for epoch, (seconds, accuracy) in enumerate(points, start=1):
            steps.append(Step(seconds, accuracy, record.number, epoch))

    improvements: list[Step] = []
    for step in sorted(steps, key=lambda step: step.seconds):
        if not improvements or step.accuracy > improvements[-1].accuracy:
            improvements.append(step)

    return improvements


@dataclass(frozen=True, slots=True)
class Importance:
    """How much a forest that predicts accuracy from the parameters loses when one is shuffled."""

    epoch: int
    """The accuracy predicted is that after this epoch."""
    trials: int
    explained: float
    """R² on trials that a tree had not seen: 1 is perfect, 0 or less no better than the mean."""
    rows: list[tuple[str, float, float]]
    """Field, mean and deviation of the loss of R², the most important first."""


def importance(
    records: Sequence[TrialRecord], parameters: Sequence[Axis], epoch: int
) -> Importance | None:
    """Permutation importance (Breiman, 2001) of each parameter for the accuracy after `epoch`.

    All trials that came so far count, also those that were stopped there.

    Returns:
        None if fewer than FEWEST_TRIALS trials came so far, if nothing differs between them, or
            if all have the same accuracy.
    """
    places: list[int] = []
    accuracies: list[float] = []
    for place, record in enumerate(records):
        if len(record.curve) >= epoch:
            places.append(place)
            accuracies.append(record.curve[epoch - 1])

    target = np.array(accuracies)
    if len(places) < FEWEST_TRIALS or not parameters or np.ptp(target) == 0:
        return None

    # Here: scikit-learn takes a second to import, and only this and the ROC curves need it.
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    columns = [_forest_inputs(axis)[places] for axis in parameters]
    inputs = np.column_stack(columns)
    # A third of the parameters at each split, as is usual for regression (Breiman, 2001).
    forest = RandomForestRegressor(FOREST_TREES, oob_score=True, max_features=1 / 3, random_state=0)
    forest.fit(inputs, target)
    losses: Any = permutation_importance(forest, inputs, target, n_repeats=SHUFFLES, random_state=0)

    rows = _most_important_first(parameters, losses)
    return Importance(epoch, len(places), float(forest.oob_score_), rows)


def _most_important_first(
    parameters: Sequence[Axis], losses: Any
) -> list[tuple[str, float, float]]:
    means: list[float] = losses.importances_mean.tolist()
    deviations: list[float] = losses.importances_std.tolist()
    rows: list[tuple[str, float, float]] = []
    for axis, mean, deviation in zip(parameters, means, deviations, strict=True):
        rows.append((axis.field, mean, deviation))

    return sorted(rows, key=lambda row: -row[1])


def _forest_inputs(axis: Axis) -> Floats:
    values = axis.values
    if axis.log:
        values = tuple(map(math.log, values))
    return np.array(values, dtype=np.float64)


def probabilities(logits: NDArray[np.float32]) -> Floats:
    """Softmax of logits, both (N, classes)."""
    return torch.from_numpy(logits).double().softmax(1).numpy()


def roc(
    labels: NDArray[Any], scores: Floats, classes: Sequence[int]
) -> list[list[tuple[float, float]]]:
    """ROC curves of some classes against the rest.

    Args:
        labels: (N,).
        scores: (N, classes).
        classes: their numbers.

    Returns:
        For each class at most ROC_POINTS points (false positive rate, true positive rate); none
            for a class that does not occur, or that is the only one.
    """
    # Here: scikit-learn takes a second to import, and only this and the importance need it.
    from sklearn.metrics import roc_curve

    curves: list[list[tuple[float, float]]] = []
    for number in classes:
        is_class = labels == number
        points: list[tuple[float, float]] = []
        if is_class.any() and not is_class.all():
            false_rates, true_rates, _ = roc_curve(is_class, scores[:, number])
            # Evenly spaced among the points there are, both ends among them.
            places = np.linspace(0, len(false_rates) - 1, ROC_POINTS).round().astype(int)
            for place in np.unique(places):
                false_rate = float(false_rates[place])
                true_rate = float(true_rates[place])
                points.append((round(false_rate, 5), round(true_rate, 5)))
        curves.append(points)

    return curves
