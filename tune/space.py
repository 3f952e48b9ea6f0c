"""Search spaces: which values a search may give to which fields of TrainConfig.

A space maps a field to one of
    a list                                 one of these, equally likely
    {"low": a, "high": b}                  a number from a to b, uniform in its logarithm
    {"by": field, VALUE: …, VALUE: …}      one of the above, by the value of a field that stands before it
"""

import math
import random
from typing import Any

from fmnist.config import TrainConfig, reject_unknown_keys

Space = dict[str, Any]

BATCH_NORM_NETS: Space = {
    "optimizer": ["nesterov", "adamw"],
    "lr": {"by": "optimizer", "nesterov": {"low": 0.02, "high": 0.4}, "adamw": {"low": 0.001, "high": 0.01}},
    "weight_decay": {"by": "optimizer", "nesterov": {"low": 1e-4, "high": 2e-3}, "adamw": {"low": 0.01, "high": 0.1}},
    "global_batch_size": [128, 256, 512],
    "schedule": ["onecycle", "cosine"],
    "shift": [1, 2],
}

SPACES: dict[str, Space] = {
    # Nets that a CPU trains in seconds an epoch.
    "quick": {
        "model": ["airnet", "airnet", "lenet"],
        "widths": {"by": "model", "airnet": [[16, 32, 64], [24, 64, 128]], "lenet": [[]]},
        "erase": [0.0, 0.25],
        **BATCH_NORM_NETS,
        "global_batch_size": [128, 256],  # short runs need many steps
    },
    # The same with a narrow ResNet-18, and room for longer runs.
    "standard": {
        "model": ["airnet", "lenet", "resnet18"],
        "widths": {
            "by": "model",
            "airnet": [[16, 32, 64], [24, 64, 128], [32, 96, 192]],
            "lenet": [[]],
            "resnet18": [[16, 32, 64, 128]],
        },
        "erase": [0.0, 0.25, 0.5],
        **BATCH_NORM_NETS,
    },
    # For a GPU: full widths.
    "wide": {
        "model": ["airnet", "resnet18"],
        "widths": {
            "by": "model",
            "airnet": [[24, 64, 128], [64, 128, 256], [128, 256, 512]],
            "resnet18": [[32, 64, 128, 256], [64, 128, 256, 512]],
        },
        "erase": [0.0, 0.25, 0.5],
        **BATCH_NORM_NETS,
    },
}


def sample(space: Space, source: random.Random) -> dict[str, Any]:
    """One candidate: values for TrainConfig's fields, drawn from `space`.

    Raises:
        InputError: the space names a field that TrainConfig lacks.
    """
    reject_unknown_keys(TrainConfig, space)
    chosen: dict[str, Any] = {}
    for field, domain in space.items():
        chosen[field] = _draw(domain, chosen, source)
    return chosen


def candidates(space: Space, count: int, seed: int) -> list[dict[str, Any]]:
    """The first `count` candidates of a random search; the same for the same seed."""
    source = random.Random(seed)
    return [sample(space, source) for _ in range(count)]


def _draw(domain: Any, chosen: dict[str, Any], source: random.Random) -> Any:
    if isinstance(domain, list):
        return source.choice(domain)
    if "by" in domain:
        return _draw(domain[chosen[domain["by"]]], chosen, source)
    value = math.exp(source.uniform(math.log(domain["low"]), math.log(domain["high"])))
    return float(f"{value:.3g}")
