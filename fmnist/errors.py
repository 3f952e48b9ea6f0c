"""Errors that are the user's to mend."""


class InputError(ValueError):
    """Bad input: the message names the argument, its value, what is allowed and what to do. Commands print it and exit 2."""


def check(ok: bool, message: str) -> None:
    """Raise `InputError` with `message` unless `ok`."""
    if not ok:
        raise InputError(message)
