"""Errors that are the user's to mend."""

import difflib
import types
from collections.abc import Iterable, Sequence
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints


class InputError(ValueError):
    """Bad input: the message names the argument, its value, what is allowed and what to do. Commands print it and exit 2."""


class FailedError(RuntimeError):
    """Something broke that no flag mends (a machine, a disk, a network): the message says what. Commands print it, and exit 1."""


def first_line(error: BaseException) -> str:
    """What an error says, in one line; its kind if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def check(ok: bool, message: str) -> None:
    """Raise `InputError` with `message` unless `ok`."""
    if not ok:
        raise InputError(message)


def one_of(argument: str, value: str, allowed: Iterable[str]) -> None:
    """Raise `InputError`, with the nearest name, unless `value` is one of those allowed."""
    names = list(allowed)
    check(value in names, f"{argument}={value!r}: {_nearest(value, names)}it must be one of {', '.join(names)}")


def check_known(what: str, found: Iterable[str], known: Iterable[str]) -> None:
    """Raise `InputError`, with the nearest names, if one of those found is not known."""
    names = list(known)
    for name in sorted(set(found) - set(names)):
        raise InputError(f"{what} has no field {name!r}: {_nearest(name, names)}its fields are {', '.join(names)}")


def check_fields(what: str, found: Any, kind: type) -> None:
    """Raise `InputError` unless `found` is a dict of fields of the dataclass `kind`, each of its type; a list serves as tuple."""
    check(isinstance(found, dict), f"{what}: {str(found)[:60]!r} where its fields should be")
    hints = get_type_hints(kind)
    check_known(what, found, hints)
    for name, value in found.items():
        check(_fits(value, hints[name]), f"{what}: {name}={str(value)[:60]!r} is no {_said(hints[name])}")


def _fits(value: Any, hint: Any) -> bool:
    kind, arguments = get_origin(hint) or hint, get_args(hint)
    if kind in (types.UnionType, Union):
        return any(_fits(value, one) for one in arguments)
    if kind is Literal:
        return isinstance(value, str) and value in arguments
    if kind is tuple:
        return isinstance(value, list | tuple) and all(_fits(one, arguments[0]) for one in cast(Sequence[Any], value))
    if kind is dict:
        items = cast(dict[Any, Any], value).items() if isinstance(value, dict) else [(None, None)]
        return all(_fits(key, arguments[0]) and _fits(one, arguments[1]) for key, one in items)
    return type(value) in (int, float) if kind is float else type(value) is kind


def _said(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint).replace("typing.", "")


def _nearest(value: str, names: list[str]) -> str:
    close = difflib.get_close_matches(value, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}? " if close else ""
