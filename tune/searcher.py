"""Which candidates a search tries: random, a grid, or Optuna's TPE; each a function of the seed and of what is known."""

import random
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from tune.space import Space, candidates, grid, parameter, walk
from tune.state import RUNNING, Candidate, Propose, TrialRecord

STARTUP = 10
"""Candidates that TPE takes from the random search before it has enough to go by; Optuna's own default."""


def build_searcher(name: str, space: Space, trials: int, seed: int, first: Sequence[Candidate] = ()) -> Propose:
    """What proposes up to `trials` candidates.

    Args:
        first: candidates to begin with, those of an earlier search.
    """
    drawn = grid(space, seed) if name == "grid" else candidates(space, trials, seed)
    listed = [*first, *(one for one in drawn if one not in first)][:trials]
    if name == "tpe":
        return Tpe(space, listed, trials, seed, len(first) + STARTUP)
    return lambda number, records: listed[number] if number < len(listed) else None


class Tpe:
    """Optuna's tree-structured Parzen estimator (Bergstra et al., 2011), multivariate, on all reports so far.

    Trials that were stopped count as pruned: below those that ran in full, and among themselves by how far they came. The study is
    made anew for each candidate, from the records and a seed of the candidate's own, so that a resumed search proposes the same.
    """

    def __init__(self, space: Space, listed: list[Candidate], trials: int, seed: int, startup: int) -> None:
        self.space, self.listed, self.trials, self.seed, self.startup = space, listed, trials, seed, startup

    def __call__(self, number: int, records: Mapping[int, TrialRecord]) -> Candidate | None:
        if number >= self.trials:
            return None
        if number < min(self.startup, len(self.listed)):
            return self.listed[number]
        import optuna  # a second of import, which the other searchers spare

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        seed = random.Random(f"{self.seed} {number}").getrandbits(32)
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", optuna.exceptions.ExperimentalWarning
            )  # of spaces in which one field decides on another
            sampler = optuna.samplers.TPESampler(multivariate=True, group=True, constant_liar=True, n_startup_trials=0, seed=seed)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.add_trials([_known(self.space, record) for record in records.values()])
        asked = study.ask()
        return walk(self.space, lambda name, domain: suggest(asked, name, domain))


def suggest(trial: Any, name: str, domain: Any) -> Any:
    """What an Optuna trial chooses of a list or a range."""
    if isinstance(domain, list):
        return domain[trial.suggest_categorical(name, list(range(len(domain))))]
    return float(f"{trial.suggest_float(name, domain['low'], domain['high'], log=True):.3g}")


def _known(space: Space, record: TrialRecord) -> Any:
    """A record as Optuna's frozen trial."""
    import optuna
    from optuna.distributions import CategoricalDistribution, FloatDistribution
    from optuna.trial import TrialState

    parameters: dict[str, Any] = {}
    distributions: dict[str, Any] = {}

    def read(name: str, domain: Any) -> Any:
        value = parameter(record.config, name)
        if isinstance(domain, list):
            parameters[name], distributions[name] = domain.index(value), CategoricalDistribution(list(range(len(domain))))
        else:
            parameters[name] = min(max(value, domain["low"]), domain["high"])  # it was rounded
            distributions[name] = FloatDistribution(domain["low"], domain["high"], log=True)
        return value

    walk(space, read)
    full = record.finished and bool(record.curve)
    state = TrialState.COMPLETE if full else TrialState.RUNNING if record.outcome == RUNNING else TrialState.PRUNED
    return optuna.trial.create_trial(
        state=state,
        value=record.accuracy if full else None,
        params=parameters,
        distributions=distributions,
        intermediate_values=dict(enumerate(record.curve, start=1)),
    )
