"""Search spaces: which values a search may give to which fields of TrainConfig.

A space maps each field to one of
    a list                             one of its values, all equally likely
    {"low": a, "high": b}              a number from a to b, uniform in its logarithm
    {"by": field, VALUE: …, …}         one of the above, chosen by the value of an earlier field
It is a name in SPACES, or a TOML file of the same shape (`--space FILE`).
"""

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fmnist.config import TrainConfig, field_names
from fmnist.errors import InputError, check, check_known, one_of

Space = dict[str, Any]
Candidate = dict[str, Any]
"""Values of TrainConfig's fields: one point of a space."""

ALSO_TAKEN = ((float, int), (tuple, list))
"""Types of a field, and what a TOML file may give in their place."""
OF_SEVERAL_TYPES = ("class_weights", "validation_images")
"""Fields whose values may have another type than their default."""

BATCH_NORM_NETS: Space = {
    "optimizer": ["nesterov", "adamw"],
    "lr": {
        "by": "optimizer",
        "nesterov": {"low": 0.02, "high": 0.4},
        "adamw": {"low": 0.001, "high": 0.01},
    },
    "weight_decay": {
        "by": "optimizer",
        "nesterov": {"low": 1e-4, "high": 2e-3},
        "adamw": {"low": 0.01, "high": 0.1},
    },
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
"""Common to all course reports: no augmentation, no smoothing, a constant learning rate."""

SPACES: dict[str, Space] = {
    # Nets that a CPU trains in seconds an epoch.
    "quick": {
        "model": ["airnet", "airnet", "lenet"],
        "widths": {"by": "model", "airnet": [[16, 32, 64], [24, 64, 128]], "lenet": [[]]},
        "erase": [0.0, 0.25],
        **BATCH_NORM_NETS,
        "global_batch_size": [128, 256],  # Short runs need many steps.
    },
    # The same networks and a narrow ResNet-18, for longer runs.
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
    # The reports' own grids, for --searcher grid: A's networks and optimisers, the full product of
    # D's one-factor studies, E's learning rates.
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
    """Return the space called `name`, or the one in the TOML file of that name.

    Each of its values is checked as a change to `base`.

    Raises:
        InputError: no such space or file, or a field, a value or a range that is not allowed.
    """
    if name.endswith(".toml"):
        space = _read_space(name)
    else:
        one_of("space", name, SPACES)
        space = SPACES[name]

    # Built-in spaces are checked too: a value may contradict --train.
    check_known(f"space {name!r}: TrainConfig", space, field_names(TrainConfig))
    checker = _Checker(base, space)
    for field, domain in space.items():
        checker.check(f"space {name!r}: {field}", field, domain)

    return space


def _read_space(name: str) -> Space:
    try:
        space = tomllib.loads(Path(name).read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"space={name!r} cannot be read: {error}; give a name of --list-spaces, or a TOML file"
        ) from error

    check(
        bool(space),
        f"space={name!r}: it is empty; give at least one field of TrainConfig a list of values",
    )
    return space


@dataclass(frozen=True, slots=True)
class _Checker:
    """Checks the domains of a space, each value as a change to `base`.

    Its methods raise InputError with a message that begins with `what`.
    """

    base: TrainConfig
    space: Space

    def check(self, what: str, field: str, domain: Any) -> None:
        match domain:
            case {"by": by}:
                self._check_cases(what, field, domain, by)
            case dict():
                self._check_range(what, field, domain)
            case [_, *_]:
                self._check_values(what, field, domain)
            case _:
                raise InputError(
                    f"{what}={domain!r}: give a list of values, a range or a choice by a field"
                )

    def _check_cases(self, what: str, field: str, cases: dict[str, Any], by: str) -> None:
        fields = list(self.space)
        earlier = fields[: fields.index(field)]
        check(
            by in earlier,
            f"{what}: by={by!r} must be a field that stands before it; "
            f"those are {', '.join(earlier) or 'none'}",
        )

        deciding = self.space[by]
        if not isinstance(deciding, list):
            return  # A range or another choice: its values are not known here.

        for value in deciding:
            key = str(value)
            check(key in cases, f"{what}: it has nothing for {by}={value!r}; add the key {key!r}")
            self.check(f"{what}, {by}={value!r}", field, cases[key])

    def _check_range(self, what: str, field: str, domain: dict[str, Any]) -> None:
        match domain:
            case {"low": int() | float() as low, "high": int() | float() as high, **rest}:
                valid = not rest and 0 < low < high
            case _:
                valid = False
        check(valid, f"{what}={domain!r}: a range is {{low = a, high = b}} with 0 < a < b")
        self._check_values(what, field, [domain["low"], domain["high"]])

    def _check_values(self, what: str, field: str, values: Sequence[Any]) -> None:
        kind = type(getattr(self.base, field))
        for value in values:
            given = type(value)
            check(
                given is kind or (kind, given) in ALSO_TAKEN or field in OF_SEVERAL_TYPES,
                f"{what}: {value!r} is a {given.__name__}, but {field} is a {kind.__name__}",
            )

            # The config itself knows which values are in range.
            try:
                self.base.replace(**{field: value})
            except InputError as error:
                raise InputError(f"{what}: {error}") from error


def walk(space: Space, choose: Callable[[str, Any], Any]) -> Candidate:
    """Choose one candidate: a value for each field of a space.

    Args:
        choose: gives the value of a list or a range. Its first argument names that domain alone,
            such as "lr" or "lr, optimizer=adamw".
    """
    chosen: Candidate = {}
    for field, domain in space.items():
        name = field
        while isinstance(domain, dict) and "by" in domain:
            by = domain["by"]
            name = f"{name}, {by}={chosen[by]}"
            domain = domain[str(chosen[by])]

        chosen[field] = choose(name, domain)

    return chosen


def parameter(config: TrainConfig, name: str) -> Any:
    """Return the value that a config has for a domain of `walk`, in the form of a space."""
    field, _, _ = name.partition(",")
    value = getattr(config, field)
    return list(value) if isinstance(value, tuple) else value


def candidate_of(space: Space, config: TrainConfig) -> Candidate | None:
    """Return the candidate of `space` that a config equals, or None if it lies outside."""
    inside = True

    def read(name: str, domain: Any) -> Any:
        nonlocal inside
        value = parameter(config, name)
        if isinstance(domain, list):
            inside = inside and value in domain
        else:
            inside = inside and domain["low"] <= value <= domain["high"]
        return value

    try:
        candidate = walk(space, read)
    except KeyError:  # A field decides on another, and has a value that the space does not list.
        return None
    return candidate if inside else None


def list_spaces(console: Console) -> None:
    for name, space in SPACES.items():
        table = Table(
            "field",
            "values",
            box=None,
            title=f"--space {name}",
            title_justify="left",
            pad_edge=False,
        )
        for field, domain in space.items():
            table.add_row(field, _domain_text(domain))
        console.print(table)


def _domain_text(domain: Any) -> str:
    if isinstance(domain, list):
        return ", ".join(map(_value_text, domain))
    if "by" not in domain:
        return f"{domain['low']:g} to {domain['high']:g}, log-uniform"

    cases = dict(domain)
    by = cases.pop("by")
    texts = [f"{case}: {_domain_text(values)}" for case, values in cases.items()]
    return f"by {by}: " + "; ".join(texts)


def _value_text(value: Any) -> str:
    if not isinstance(value, list):
        return str(value)
    return "-".join(map(str, value)) or "–"
