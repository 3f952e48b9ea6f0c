"""Search spaces: which values a search may give to which fields of TrainConfig.

A space maps a field to one of
    a list                                 one of these, equally likely
    {"low": a, "high": b}                  a number from a to b, uniform in its logarithm
    {"by": field, VALUE: …, VALUE: …}      one of the above, by the value of a field that stands before it
It is a name in SPACES, or a TOML file of the same shape (`--space FILE`).
"""

import math
import random
import tomllib
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fmnist.config import TrainConfig, field_names
from fmnist.errors import InputError, check, check_known, one_of

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


def load_space(name: str, base: TrainConfig) -> Space:
    """The space called `name`, or the one in the TOML file of that name, each of its values checked as a change to `base`.

    Raises:
        InputError: no such space or file, or a field, a value or a range that cannot be.
    """
    if not name.endswith(".toml"):
        one_of("space", name, SPACES)
        space = SPACES[name]
    else:
        try:
            space = tomllib.loads(Path(name).read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"space={name!r} cannot be read: {error}; a name in --list-spaces, or a TOML file") from error
        check(bool(space), f"space={name!r}: it is empty; give at least one field of TrainConfig a list of values")
    check_known(f"space {name!r}: TrainConfig", space, field_names(TrainConfig))
    earlier: list[str] = []
    for field, domain in space.items():
        _check_domain(f"space {name!r}: {field}", field, domain, base, space, earlier)
        earlier.append(field)
    return space


def _check_domain(what: str, field: str, domain: Any, base: TrainConfig, space: Space, earlier: list[str]) -> None:
    if isinstance(domain, dict) and "by" in domain:
        by = domain["by"]
        check(by in earlier, f"{what}: by={by!r} must be a field that stands before it; those are {', '.join(earlier) or 'none'}")
        values = space[by] if isinstance(space[by], list) else []
        for value in values:
            check(str(value) in domain, f"{what}: it has nothing for {by}={value!r}; add the key {str(value)!r}")
            _check_domain(f"{what}, {by}={value!r}", field, domain[str(value)], base, space, earlier)
    elif isinstance(domain, dict):
        low, high = domain.get("low"), domain.get("high")
        numbers = set(domain) == {"low", "high"} and all(type(end) in (int, float) for end in (low, high))
        check(numbers and 0 < low < high, f"{what}={domain!r}: a range is {{low = a, high = b}} with 0 < a < b")  # pyright: ignore
        _try(what, field, [low, high], base)
    else:
        check(
            isinstance(domain, list) and bool(domain), f"{what}={domain!r}: give a list of values, a range or a choice by a field"
        )
        _try(what, field, domain, base)


def _try(what: str, field: str, values: list[Any], base: TrainConfig) -> None:
    for value in values:
        kind, given = type(getattr(base, field)), type(value)
        same = given is kind or (kind, given) in ((float, int), (tuple, list)) or field in ("class_weights", "validation_images")
        check(same, f"{what}: {value!r} is a {given.__name__}, but {field} is a {kind.__name__}")
        try:
            base.replace(**{field: value})
        except InputError as error:
            raise InputError(f"{what}: {error}") from error


def sample(space: Space, source: random.Random) -> dict[str, Any]:
    """One candidate: values for TrainConfig's fields, drawn from `space`."""
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
        return _draw(domain[str(chosen[domain["by"]])], chosen, source)
    value = math.exp(source.uniform(math.log(domain["low"]), math.log(domain["high"])))
    return float(f"{value:.3g}")


def list_spaces(console: Console) -> None:
    for name, space in SPACES.items():
        table = Table("field", "values", box=None, title=f"--space {name}", title_justify="left", pad_edge=False)
        for field, domain in space.items():
            table.add_row(field, _shown(domain))
        console.print(table)


def _shown(domain: Any) -> str:
    if isinstance(domain, list):
        return ", ".join("-".join(map(str, value)) or "–" if isinstance(value, list) else str(value) for value in domain)
    if "by" in domain:
        cases = (f"{case}: {_shown(values)}" for case, values in domain.items() if case != "by")
        return f"by {domain['by']}: " + "; ".join(cases)
    return f"{domain['low']:g} to {domain['high']:g}, log-uniform"
