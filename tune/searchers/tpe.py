"""Optuna's tree-structured Parzen estimator (TPE)."""

import random
import warnings
from collections.abc import Mapping
from typing import Any

from tune.space import Candidate, Space, parameter, walk
from tune.state import RUNNING, TrialRecord

STARTUP = 10
"""Candidates that TPE takes from the random search before it has enough reports to learn from;
Optuna's own default."""


class Tpe:
    """Optuna's tree-structured Parzen estimator (Bergstra et al., 2011), multivariate, on all
    reports so far.

    Trials that were stopped count as pruned: they rank below those that ran in full, and among
    themselves by how far they came. The study is built anew for each candidate, from the records
    and a seed of the candidate's own, so that a resumed search proposes the same.

    Args:
        startup: candidates to propose first.
        trials: number of candidates in all.
    """

    def __init__(self, space: Space, startup: list[Candidate], trials: int, seed: int) -> None:
        self.space = space
        self.startup = startup
        self.trials = trials
        self.seed = seed

    def __call__(self, number: int, records: Mapping[int, TrialRecord]) -> Candidate | None:
        if number >= self.trials:
            return None
        if number < len(self.startup):
            return self.startup[number]

        # Here: Optuna takes a second to import, and the other searchers do without.
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        seed = random.Random(f"{self.seed} {number}").getrandbits(32)
        with warnings.catch_warnings():
            # Optuna calls these options experimental. `group` is for spaces in which one field
            # decides on another.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                multivariate=True, group=True, constant_liar=True, n_startup_trials=0, seed=seed
            )

        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.add_trials([_frozen_trial(self.space, record) for record in records.values()])
        trial = study.ask()
        return walk(self.space, lambda name, domain: suggest(trial, name, domain))


def suggest(trial: Any, name: str, domain: Any) -> Any:
    """Return the value that an Optuna trial chooses from a list or a range."""
    if isinstance(domain, list):
        index = trial.suggest_categorical(name, list(range(len(domain))))
        return domain[index]

    value = trial.suggest_float(name, domain["low"], domain["high"], log=True)
    return float(f"{value:.3g}")


def _frozen_trial(space: Space, record: TrialRecord) -> Any:
    """Convert a record into Optuna's frozen trial."""
    import optuna
    from optuna.distributions import CategoricalDistribution, FloatDistribution
    from optuna.trial import TrialState

    parameters: dict[str, Any] = {}
    distributions: dict[str, Any] = {}

    def read(name: str, domain: Any) -> Any:
        value = parameter(record.config, name)
        if isinstance(domain, list):
            parameters[name] = domain.index(value)
            distributions[name] = CategoricalDistribution(list(range(len(domain))))
        else:
            # Rounding to three digits may have moved it beyond the range's end.
            low, high = domain["low"], domain["high"]
            parameters[name] = min(max(value, low), high)
            distributions[name] = FloatDistribution(low, high, log=True)
        return value

    walk(space, read)
    final_value = None
    if record.finished and record.curve:
        state = TrialState.COMPLETE
        final_value = record.accuracy
    elif record.outcome == RUNNING:
        state = TrialState.RUNNING
    else:
        state = TrialState.PRUNED
    return optuna.trial.create_trial(
        state=state,
        value=final_value,
        params=parameters,
        distributions=distributions,
        intermediate_values=dict(enumerate(record.curve, start=1)),
    )
