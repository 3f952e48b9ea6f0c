"""Errors that are the user's to mend."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input: the message names the argument, its value, what is allowed and what to do. Commands print it and exit 2."""


class FailedError(RuntimeError):
    """Something broke that no flag mends (a machine, a disk, a network): the message says what. Commands print it, and exit 1."""


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


def _nearest(value: str, names: list[str]) -> str:
    close = difflib.get_close_matches(value, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}? " if close else ""
