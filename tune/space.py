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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from fmnist.config import TrainConfig, field_names
from fmnist.errors import InputError, check, check_known, one_of

Space = dict[str, Any]
DRAWS = 64
"""Points looked at for each candidate: small spaces give the same one again and again."""

BATCH_NORM_NETS: Space = {
    "optimizer": ["nesterov", "adamw"],
    "lr": {"by": "optimizer", "nesterov": {"low": 0.02, "high": 0.4}, "adamw": {"low": 0.001, "high": 0.01}},
    "weight_decay": {"by": "optimizer", "nesterov": {"low": 1e-4, "high": 2e-3}, "adamw": {"low": 0.01, "high": 0.1}},
    "global_batch_size": [128, 256, 512],
    "schedule": ["onecycle", "cosine"],
    "shift": [1, 2],
}

AS_REPORTED: Space = {
    "schedule": ["constant"],
    "warmup": [0.0],
    "label_smoothing": [0.0],
    "flip": [False],
    "shift": [0],
}
"""What the course reports have in common: nothing but the network, the optimiser and its numbers."""

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
    # The reports' own grids, for --searcher grid: A's networks and optimisers, D's one-factor study crossed, E's learning rates.
    "report-a": {
        "model": ["lenet5", "alexnet", "vgg16_bn", "mycnn", "mycnn_fixed"],
        "optimizer": ["momentum", "adam"],
        "lr": {"by": "optimizer", "momentum": [0.01, 0.001], "adam": [0.001, 0.0001]},
        "weight_decay": [0.0],
        "global_batch_size": [64],
        **AS_REPORTED,
    },
    "report-d": {
        "model": ["threeconv"],
        "optimizer": ["adam"],
        "normalisation": ["unit"],
        "lr": [0.001, 0.01, 0.1],
        "global_batch_size": [64, 128, 256],
        "weight_decay": [1e-4, 1e-3, 1e-2],
        **AS_REPORTED,
    },
    "report-e": {
        "model": ["lenet", "resnet18_imagenet", "resnet34_imagenet"],
        "optimizer": ["sgd"],
        "init": ["xavier"],
        "lr": [0.01, 0.05, 0.1],
        "weight_decay": [0.0],
        "global_batch_size": [256],
        **AS_REPORTED,
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


def walk(space: Space, choose: Callable[[str, Any], Any]) -> dict[str, Any]:
    """One candidate: values for TrainConfig's fields.

    Args:
        choose: gives the value of a list or a range, by a name that is one domain's alone, such as "lr" or "lr, optimizer=adamw".
    """
    chosen: dict[str, Any] = {}
    for field, domain in space.items():
        name = field
        while isinstance(domain, dict) and "by" in domain:
            by = domain["by"]
            name, domain = f"{name}, {by}={chosen[by]}", domain[str(chosen[by])]
        chosen[field] = choose(name, domain)
    return chosen


def parameter(config: TrainConfig, name: str) -> Any:
    """The value in a config of what `walk` calls `name`, as a space has it."""
    value = getattr(config, name.partition(",")[0])
    return list(value) if isinstance(value, tuple) else value


def candidates(space: Space, count: int, seed: int) -> list[dict[str, Any]]:
    """The first `count` different candidates of a random search, or as many as there are; the same for the same seed.

    They are the points of a scrambled Sobol sequence (Owen, 1998), which leaves smaller gaps than independent draws do.
    """
    points = torch.quasirandom.SobolEngine(len(space), scramble=True, seed=seed)
    found: list[dict[str, Any]] = []
    for _ in range(count * DRAWS):
        candidate = _candidate_at(space, points.draw(1, dtype=torch.float64)[0].tolist())
        if candidate not in found:
            found.append(candidate)
        if len(found) == count:
            break
    return found


def _candidate_at(space: Space, point: list[float]) -> dict[str, Any]:
    shares = iter(point)
    return walk(space, lambda name, domain: _at(domain, next(shares)))


def _at(domain: Any, share: float) -> Any:
    """The value at `share` (0 to 1) of a list, or of a range in its logarithm."""
    if isinstance(domain, list):
        return domain[min(int(share * len(domain)), len(domain) - 1)]
    low, high = math.log(domain["low"]), math.log(domain["high"])
    return float(f"{math.exp(low + share * (high - low)):.3g}")


def grid(space: Space, seed: int) -> list[dict[str, Any]]:
    """Every candidate of a space of lists, shuffled: ASHA compares a trial with those before it, so order must mean nothing.

    Raises:
        InputError: a field has a range.
    """
    found: list[dict[str, Any]] = []
    ways: list[list[int]] = [[]]
    while ways:
        way = ways.pop()
        candidate, branches = _follow(space, way)
        ways += [[*way, branch] for branch in range(branches)]
        if not branches and candidate not in found:
            found.append(candidate)
    random.Random(seed).shuffle(found)
    return found


def _follow(space: Space, way: list[int]) -> tuple[dict[str, Any], int]:
    """The candidate at the end of `way`, the index taken at each list; and how many ways lead on from there, 0 at the end."""
    taken, branches = iter(way), [0]

    def choose(name: str, domain: Any) -> Any:
        check(isinstance(domain, list), f"searcher='grid': {name} has a range, {domain}; give it a list, or search at random")
        index = next(taken, None)
        if index is None and not branches[0]:
            branches[0] = len(domain)
        return domain[index or 0]

    return walk(space, choose), branches[0]


def candidate_of(space: Space, config: TrainConfig) -> dict[str, Any] | None:
    """The candidate of `space` that `config` is, or None if it is outside."""
    inside = True

    def read(name: str, domain: Any) -> Any:
        nonlocal inside
        value = parameter(config, name)
        inside = inside and (value in domain if isinstance(domain, list) else domain["low"] <= value <= domain["high"])
        return value

    try:
        candidate = walk(space, read)
    except KeyError:  # a value by which another field's domain goes
        return None
    return candidate if inside else None


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
