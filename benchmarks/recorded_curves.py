"""Real learning curves for simulated searches: benchmarks/search_curves.jsonl, a line for each
candidate of the space quick, trained in full once.

Trials between them are interpolated (`interpolate`), or foretold from a candidate (`Surrogate`).
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from benchmarks.images import split_data
from benchmarks.results import CONSOLE, Row
from fmnist.config import TrainConfig
from fmnist.data.dataset import TrainingData
from fmnist.errors import check
from fmnist.runs.provenance import environment
from fmnist.runs.threads import cpu_threads
from fmnist.training.device import Rank, default_device, set_threads
from fmnist.training.loop import train_epochs
from fmnist.training.metrics import DivergedError
from tune.journal import JsonLines, read_lines
from tune.searchers.sobol import candidates
from tune.space import SPACES, Candidate, walk

CURVES = Path(__file__).with_name("search_curves.jsonl")
SPACE_NAME = "quick"
SPACE = SPACES[SPACE_NAME]
BASE = TrainConfig(epochs=9, train_images=6000)
EARLY_SHARE = 1 / 3
"""Share of the images that a first look is taken on."""
NEIGHBOURS = 10
CHANCE = 0.1
"""Accuracy that a curve counts as having once it diverged."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def record(count: int) -> None:
    """Train each of the first `count` candidates in full, and its first epoch on a share of the
    images; those that have a line are not trained again."""
    base, data = split_data(BASE)
    set_threads(base)
    known = {line["number"] for line in read_lines(CURVES)}
    drawn = list(enumerate(candidates(SPACE, count, seed=0)))
    missing = [(number, candidate) for number, candidate in drawn if number not in known]
    file = JsonLines(CURVES)

    for number, candidate in track(missing, "training in full", console=CONSOLE):
        config = base.replace(**candidate)
        curve, seconds = _train(config, data, config.epochs)
        first_look = config.replace(early_epochs=1, early_share=EARLY_SHARE)
        early, _ = _train(first_look, data, 1)
        line = {
            "number": number,
            "candidate": candidate,
            "curve": curve,
            "seconds": seconds,
            "early": early,
            "threads": cpu_threads(),
            "torch": environment()["versions"]["torch"],
        }
        file.append(line)

    CONSOLE.print(f"{len(known) + len(missing)} curves in {CURVES.name}")


def _train(config: TrainConfig, data: TrainingData, epochs: int) -> tuple[list[float], list[float]]:
    """Validation accuracy after each of so many epochs, until it diverges; seconds of each."""
    values: list[float] = []
    seconds: list[float] = []
    try:
        for metrics, _ in train_epochs(config, data, Rank(default_device())):
            values.append(round(metrics.validation_accuracy or 0.0, 4))
            seconds.append(round(metrics.seconds, 3))
            if metrics.epoch == epochs:
                break
    except DivergedError:
        pass

    return values, seconds


@cache
def recorded() -> list[Row]:
    """Every line. Raises InputError if there is none."""
    lines = read_lines(CURVES)
    check(bool(lines), f"{CURVES}: no curves; record them with --record")
    return lines


def epoch_seconds(lines: Sequence[Row]) -> list[float]:
    """Seconds of an epoch for each line: the median over all lines of its network and batch,
    since how busy the machine was is not the candidate's."""
    pooled: dict[str, list[float]] = {}
    for line in lines:
        pooled.setdefault(timing_key(line), []).extend(line["seconds"])
    return [statistics.median(pooled[timing_key(line)]) for line in lines]


def timing_key(line: Row) -> str:
    """Key that determines epoch time; timings are pooled per key."""
    fields = ("model", "widths", "global_batch_size")
    return str([line["candidate"][field] for field in fields])


@dataclass(frozen=True, slots=True)
class Curves:
    """Trials, each between two recorded ones that end alike."""

    values: Floats  # (recorded, epochs): NaN once diverged
    seconds: Floats  # (recorded,) of an epoch
    first: Integers  # (trials,)
    second: Integers  # (trials,)
    share: Floats  # (trials,) of the second

    def value(self, number: int, epoch: int) -> float:
        """Validation accuracy of a trial after an epoch."""
        return self._between(number, self.values[:, epoch - 1])

    def epoch_s(self, number: int, epoch: int) -> float:
        return self._between(number, self.seconds)

    def _between(self, number: int, column: Floats) -> float:
        share = self.share[number]
        first, second = column[self.first[number]], column[self.second[number]]
        return float((1 - share) * first + share * second)

    @property
    def best(self) -> float:
        """Final accuracy of the best trial."""
        first, second = self.values[self.first, -1], self.values[self.second, -1]
        return float(np.nanmax((1 - self.share) * first + self.share * second))


@cache
def _sorted_curves() -> tuple[Floats, Floats]:
    """Accuracies (recorded, epochs) and seconds of an epoch (recorded,), the best by final
    accuracy first, those that diverged last."""
    lines = recorded()
    values = np.full((len(lines), BASE.epochs), np.nan)
    for row, line in enumerate(lines):
        values[row, : len(line["curve"])] = line["curve"]

    order = np.argsort(-np.nan_to_num(values[:, -1]))
    return values[order], np.array(epoch_seconds(lines))[order]


def interpolate(trials: int, seed: int) -> Curves:
    """Make trials, each a mixture of a recorded one and one of its neighbours by final accuracy."""
    values, seconds = _sorted_curves()
    last = len(values) - 1
    source = np.random.default_rng(seed)
    first = source.integers(len(values), size=trials)
    # Neighbours end alike, so a mixture of both is a curve that there could be.
    apart = source.integers(-NEIGHBOURS, NEIGHBOURS + 1, size=trials)
    second = np.clip(first + apart, 0, last)
    diverged = np.isnan(values[first, -1]) | np.isnan(values[second, -1])
    second = np.where(diverged, first, second)

    return Curves(values, seconds, first, second, source.random(trials))


class Surrogate:
    """Foretells the learning curve of any candidate of the space from those recorded (after
    Eggensperger et al., 2015).

    Extremely randomised trees predict the logarithm of the share of errors. On top comes the error
    that they made on a recorded curve which they had not seen, and for which they had predicted
    about as much.
    """

    def __init__(self) -> None:
        # Here: a second to import.
        from sklearn.ensemble import ExtraTreesRegressor

        lines = recorded()
        # Trees need equal lengths; a curve that diverged ends at chance.
        padded = [(line["curve"] + [CHANCE] * BASE.epochs)[: BASE.epochs] for line in lines]
        inputs = np.array([features(line["candidate"]) for line in lines])
        outputs = np.column_stack((np.log(1 - np.array(padded)), epoch_seconds(lines)))
        self.forest = ExtraTreesRegressor(
            100, bootstrap=True, oob_score=True, min_samples_leaf=2, random_state=0
        )
        self.forest.fit(inputs, outputs)

        unseen = self.forest.oob_prediction_
        self.predicted = unseen[:, BASE.epochs - 1]
        self.errors = (outputs - unseen)[:, : BASE.epochs]
        final = outputs[:, BASE.epochs - 1]
        variance = ((final - final.mean()) ** 2).sum()
        self.r2 = 1 - float((self.errors[:, -1] ** 2).sum() / variance)

    def curve(self, candidate: Candidate, luck: int) -> tuple[Floats, float]:
        """Accuracy after each epoch, and seconds of one.

        Args:
            luck: decides whose error is added.
        """
        outputs = self.forest.predict([features(candidate)])[0]
        distance = np.abs(self.predicted - outputs[BASE.epochs - 1])
        alike = np.argsort(distance)[: 2 * NEIGHBOURS]
        error = self.errors[alike[luck % len(alike)]]

        return 1 - np.exp(outputs[:-1] + error), float(outputs[-1])


def features(candidate: Mapping[str, Any]) -> list[float]:
    """Place each value in its list or range, from 0 to 1."""
    places: list[float] = []

    def read(name: str, domain: Any) -> Any:
        value = candidate[name.partition(",")[0]]
        if isinstance(domain, list):
            places.append(domain.index(value) / max(len(domain) - 1, 1))
        else:
            low, high = math.log(domain["low"]), math.log(domain["high"])
            places.append((math.log(value) - low) / (high - low))

        return value

    walk(SPACE, read)
    return places
