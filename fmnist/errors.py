"""Errors that the user can mend, and checks that raise them."""

import difflib
import types
from collections.abc import Iterable, Sequence
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints


class InputError(ValueError):
    """Bad input: the message names the argument, its value, what is allowed and what to do.
    Commands print it and exit 2."""


class DataError(InputError):
    """The data cannot be had, or is not what it should be."""


class FailedError(RuntimeError):
    """Something broke that no flag mends, such as a machine, a disk or a network. Commands print
    the message and exit 1."""


def first_line(error: BaseException) -> str:
    """An error's message in one line; the error's type if it has none."""
    message = str(error).strip() or type(error).__name__
    return message.splitlines()[0][:300]


def check(ok: bool, message: str) -> None:
    """Raise `InputError` with `message` unless `ok`."""
    if not ok:
        raise InputError(message)


def one_of(argument: str, value: str, allowed: Iterable[str]) -> None:
    """Raise `InputError`, with the nearest name, unless `value` is one of those allowed."""
    names = list(allowed)
    check(
        value in names,
        f"{argument}={value!r}: {_nearest(value, names)}it must be one of {', '.join(names)}",
    )


def check_known(what: str, found: Iterable[str], known: Iterable[str]) -> None:
    """Raise `InputError`, with the nearest names, if one of those found is not known."""
    names = list(known)
    for name in sorted(set(found) - set(names)):
        raise InputError(
            f"{what} has no field {name!r}: {_nearest(name, names)}its fields are "
            f"{', '.join(names)}"
        )


def check_fields(what: str, found: Any, kind: type) -> None:
    """Raise `InputError` unless `found` is a dict of fields of the dataclass `kind`, each of its
    type; a list serves as tuple."""
    check(isinstance(found, dict), f"{what}: {str(found)[:60]!r} where its fields should be")

    hints = get_type_hints(kind)
    check_known(what, found, hints)
    for name, value in found.items():
        check(
            _fits(value, hints[name]),
            f"{what}: {name}={str(value)[:60]!r} is no {_type_name(hints[name])}",
        )


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value as JSON gives it is of the type `hint`."""
    kind = get_origin(hint) or hint
    arguments = get_args(hint)

    if kind in (types.UnionType, Union):
        return any(_fits(value, one) for one in arguments)
    if kind is Literal:
        return isinstance(value, str)  # Which names there are, __post_init__ checks.
    if kind is tuple:
        if not isinstance(value, list | tuple):
            return False
        # Configs have tuples of any length alone, such as tuple[int, ...].
        return all(_fits(one, arguments[0]) for one in cast(Sequence[Any], value))

    if kind is dict:
        if not isinstance(value, dict):
            return False
        for key, one in cast(dict[Any, Any], value).items():
            if not (_fits(key, arguments[0]) and _fits(one, arguments[1])):
                return False
        return True

    # Not isinstance: True is an int there.
    if kind is float:
        return type(value) in (int, float)
    return type(value) is kind


def _type_name(hint: Any) -> str:
    if isinstance(hint, type) and not get_args(hint):
        return hint.__name__
    return str(hint).replace("typing.", "")


def _nearest(value: str, names: list[str]) -> str:
    """A question with the nearest name, if one is near."""
    close = difflib.get_close_matches(value, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}? " if close else ""
