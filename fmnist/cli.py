"""What every command line shares: flags made from a dataclass, presets, and one clear line for bad input."""

import sys
from collections.abc import Mapping
from types import FunctionType
from typing import Any, TypeVar

import tyro
from rich.console import Console
from rich.markup import escape

from fmnist.errors import InputError

Options = TypeVar("Options")


def command(options: type[Options], main: FunctionType, default: Options | None = None) -> None:
    """Parse the command line into `options`, run `main`, and exit: 0 done, 2 bad input, 130 interrupted."""
    arguments: dict[str, Any] = {"prog": f"python -m {main.__globals__['__spec__'].name}"}
    if default is not None:
        arguments["default"] = default
    try:
        sys.exit(main(tyro.cli(options, **arguments)) or 0)
    except InputError as error:
        fail(error)
    except KeyboardInterrupt:
        hint = "; what is done is kept: the same command with --name and --resume goes on" if hasattr(options, "resume") else ""
        Console(stderr=True, soft_wrap=True).print(f"interrupted{hint}", highlight=False)
        sys.exit(130)


def chosen(flag: str, choices: Mapping[str, Options], default: str) -> Options:
    """The preset that `flag` names on the command line: its values become the defaults of all other flags."""
    name = default
    for position, argument in enumerate(sys.argv):
        if argument == flag and position + 1 < len(sys.argv):
            name = sys.argv[position + 1]
        elif argument.startswith(f"{flag}="):
            name = argument.partition("=")[2]
    if name not in choices:
        fail(InputError(f"{flag} {name}: it must be one of {', '.join(choices)}"))
    return choices[name]


def fail(error: Exception) -> None:
    """Print the one line a user needs, and exit 2."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"[red]error:[/] {escape(str(error))}")
    sys.exit(2)
