"""Random search: points of a scrambled Sobol sequence."""

import math
from typing import Any

import torch

from tune.space import Candidate, Space, walk

DRAWS = 64
"""Points drawn for each candidate: small spaces give the same candidate again and again."""


def candidates(space: Space, count: int, seed: int) -> list[Candidate]:
    """Draw the first `count` different candidates of a random search, or as many as there are.

    They are the points of a scrambled Sobol sequence (Owen, 1998), which leaves smaller gaps than
    independent draws do. The same seed gives the same candidates.
    """
    points = torch.quasirandom.SobolEngine(len(space), scramble=True, seed=seed)
    found: list[Candidate] = []
    for _ in range(count * DRAWS):
        point = points.draw(1, dtype=torch.float64)[0].tolist()
        candidate = _candidate_at(space, point)

        if candidate not in found:
            found.append(candidate)
        if len(found) == count:
            break

    return found


def _candidate_at(space: Space, point: list[float]) -> Candidate:
    """Return the candidate at a point of the unit cube, one coordinate a field."""
    shares = iter(point)
    return walk(space, lambda name, domain: _value_at(domain, next(shares)))


def _value_at(domain: Any, share: float) -> Any:
    """Return the value at `share` (0 to 1) of a list, or of a range in its logarithm."""
    if isinstance(domain, list):
        index = min(int(share * len(domain)), len(domain) - 1)
        return domain[index]

    low, high = math.log(domain["low"]), math.log(domain["high"])
    value = math.exp(low + share * (high - low))
    return float(f"{value:.3g}")
