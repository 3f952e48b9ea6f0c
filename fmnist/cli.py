"""What every command line shares: flags made from a dataclass, presets, one clear line for bad input, and Ctrl-C."""

import contextlib
import difflib
import errno
import io
import itertools
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType, FunctionType
from typing import Any, NoReturn, TypeVar

import tyro
from rich.console import Console
from rich.markup import escape

from fmnist.errors import FailedError, InputError, one_of
from fmnist.lock import HELD
from fmnist.run import read_json, run_to_resume

Options = TypeVar("Options")
INTERRUPTED = 130
NO_ROOM = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}
NO_ACCESS = {errno.EROFS: "it is on a read-only disk", errno.EACCES: "permission denied", errno.EPERM: "permission denied"}


def command(options: type[Options], main: FunctionType, default: Callable[[], Options] | None = None) -> NoReturn:
    """Parse the command line into `options`, run `main`, and exit: 0 done, 1 something broke, 2 bad input, 130 interrupted.

    Args:
        default: makes the options whose values are the flags' defaults.
    """
    module = main.__globals__["__spec__"].name
    signal.signal(signal.SIGINT, _stop_at_second())
    try:
        sys.exit(main(_parse(options, f"python -m {module}", default() if default else None)) or 0)
    except InputError as error:
        fail(error)
    except FailedError as error:
        _say(f"[red]error:[/] {escape(str(error))}.{_how_to_go_on(module, options)}")
        sys.exit(1)
    except OSError as error:
        if (reason := (NO_ROOM | NO_ACCESS).get(error.errno or 0)) is None:
            raise
        remedy = "make room" if error.errno in NO_ROOM else "choose a folder that can be written to"
        fail(
            InputError(
                f"{error.filename or 'the run folder'} cannot be written: {reason}; {remedy}.{_how_to_go_on(module, options)}"
            )
        )
    except KeyboardInterrupt:
        _say(f"interrupted.{_how_to_go_on(module, options)}")
        sys.exit(INTERRUPTED)


def chosen(flag: str, choices: Mapping[str, Options], default: str) -> Options:
    """The preset that `flag` names on the command line. Raises InputError on an unknown name."""
    name = value_of(flag) or default
    one_of(flag, name, choices)
    return choices[name]


def resumed_config(preset_flag: str, find: Callable[[str | None], Path | None] = run_to_resume) -> dict[str, Any] | None:
    """config.json of the run that the command line resumes: what it started with are the flags' defaults.

    Args:
        find: the run folder that --name means.

    None if nothing is resumed, if the run is still to be made, or if a preset is named, which then gives the defaults.
    """
    if "--resume" not in sys.argv or value_of(preset_flag) or "--help" in sys.argv:
        return None
    run = find(value_of("--name"))
    return read_json(run / "config.json") if run and (run / "config.json").exists() else None


def value_of(flag: str) -> str | None:
    for position, argument in enumerate(sys.argv):
        if argument == flag and position + 1 < len(sys.argv):
            return sys.argv[position + 1]
        if argument.startswith(f"{flag}="):
            return argument.partition("=")[2]
    return None


def fail(error: Exception) -> NoReturn:
    """Print the one line a user needs, and exit 2."""
    _say(f"[red]error:[/] {escape(str(error))}")
    sys.exit(2)


def _say(line: str) -> None:
    Console(stderr=True, soft_wrap=True, highlight=False).print(line)


def _stop_at_second() -> Any:
    """A handler of Ctrl-C: the first interrupts, which lets everything close; the second ends the process on the spot."""
    pressed = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            os._exit(INTERRUPTED)
        pressed = True
        raise KeyboardInterrupt

    return handle


def _how_to_go_on(module: str, options: type) -> str:
    """What to type to resume the run that this process works on, if it can be resumed."""
    if not HELD or not hasattr(options, "resume"):
        return ""
    words = re.sub(r"(^| )--(name[= ]\S+|resume)(?= |$)", "", shlex.join(sys.argv[1:])).strip()
    name = list(HELD)[-1].name
    return f" What is done is kept; go on with: python -m {module} {words} --name {name} --resume".replace("  ", " ")


def _parse(options: type[Options], prog: str, default: Options | None) -> Options:
    """tyro's parsing, with its box of complaints made one line."""
    arguments: dict[str, Any] = {"prog": prog} | ({} if default is None else {"default": default})
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(options, **arguments)
    except SystemExit as ended:
        if ended.code != 2:
            raise
    # A box, of lines or of ASCII: its title, the message, a rule, perhaps flags of similar names, a rule, where to find help.
    words = [line.strip("│╭╮╰╯|+ ") for line in said.getvalue().splitlines()]
    body = itertools.dropwhile(lambda line: not set(line) - set("─-"), words[1:])
    message = " ".join(itertools.takewhile(lambda line: set(line) - set("─-"), body))
    hints = [line.split(" ")[0].rstrip(",") for line in words if re.match("--[a-z]", line)]
    given = re.search(r"--\S+?(?=,|$| )", message)
    nearest = ""
    if hints and given and message.startswith("Unrecognized"):
        nearest = f" Did you mean {difflib.get_close_matches(given[0], hints, 1, cutoff=0.0)[0]}?"
    fail(InputError(f"{message.rstrip('.')}.{nearest} See {prog} --help"))
