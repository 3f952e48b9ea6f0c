"""One command-line grammar for all commands: flags made from dataclasses, one line for bad input.

A command is an options dataclass and a `main` that takes one. Fields that carry a `topic` (see
fmnist.config.topic) stand under that heading of `--help`. Where a preset, a recipe or a run that is
resumed decides the defaults, those few flags are parsed first.
"""

import ast
import dataclasses
import difflib
import errno
import inspect
import itertools
import os
import shlex
import shutil
import signal
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Annotated, Any, Generic, NoReturn, TypeVar, cast, get_args, get_type_hints

import tyro
from rich.console import Console
from rich.markup import escape
from tyro import _errors as tyro_errors  # Private: tests/fmnist/test_cli.py fails if it changes.

from fmnist.errors import FailedError, InputError, first_line
from fmnist.runs.lock import HELD

Options = TypeVar("Options")
Preset = TypeVar("Preset")

DONE, BROKEN, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
"""Exit codes."""
NO_ROOM = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
}
NO_ACCESS = {
    errno.EROFS: "it is on a read-only disk",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
}

OLD_SPELLINGS = {"--from-folder": "--data"}
"""Flags of every command that were renamed, where it has the new one."""

Flag = tyro.conf.FlagCreatePairsOff
"""Marks a switch that has no --no-… form: `resume: Annotated[bool, Flag] = False`."""
Positional = tyro.conf.Positional


@dataclass(frozen=True, slots=True)
class Topics:
    """Marks a dataclass whose fields are flags of the command itself, by topic.

    `config: Annotated[TrainConfig, Topics()]` gives --lr, `Topics("train.")` gives --train.lr.
    """

    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Presets(Generic[Preset, Options]):
    """Flags that decide the defaults of the others.

    Args:
        flags: a dataclass of those flags alone, each with a default.
        options: makes the options whose values are the defaults.
    """

    flags: type[Preset]
    options: Callable[[Preset], Options]


def command(
    options: type[Options],
    main: Callable[[Options], int | None],
    *,
    presets: Presets[Any, Options] | None = None,
    renamed: Mapping[str, str] | None = None,
) -> NoReturn:
    """Parse the command line into `options`, run `main`, and exit.

    Exit codes: 0 done, 1 something broke, 2 bad input, 130 interrupted.

    Args:
        options: dataclass of the flags; its docstring opens --help, and the string under a field
            says what the flag is.
        main: the command; its module's name is what the user typed after `python -m`.
        presets: flags that decide the defaults of the others.
        renamed: old spellings of flags and their new ones; "--base." renames all that begin so.
    """
    module = _module_of(main)
    arguments = sys.argv[1:]
    resume = _Resume(module, arguments, hasattr(options, "resume"))
    signal.signal(signal.SIGINT, _stop_at_second())

    try:
        parser = _Parser(options, f"python -m {module}", renamed or {})
        sys.exit(main(parser.parse(arguments, presets)) or DONE)
    except InputError as error:
        fail(error)
    except FailedError as error:
        _say(f"[red]error:[/] {escape(str(error))}.{resume.advice()}")
        sys.exit(BROKEN)
    except OSError as error:
        reason = (NO_ROOM | NO_ACCESS).get(error.errno or 0)
        if reason is None:
            raise

        remedy = "make room" if error.errno in NO_ROOM else "choose a folder that can be written to"
        where = error.filename or "the run folder"
        fail(InputError(f"{where} cannot be written: {reason}; {remedy}.{resume.advice()}"))
    except KeyboardInterrupt:
        _say(f"interrupted.{resume.advice()}")
        sys.exit(INTERRUPTED)


def fail(error: Exception) -> NoReturn:
    """Print the one line a user needs, and exit 2."""
    _say(f"[red]error:[/] {escape(str(error))}")
    sys.exit(BAD_INPUT)


def _say(line: str) -> None:
    """Print one line of markup on standard error."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(line)


def _module_of(main: Callable[..., Any]) -> str:
    """The name after `python -m`: `__name__` is "__main__" there, and the spec still has it."""
    spec = inspect.unwrap(main).__globals__["__spec__"]
    return spec.name.removesuffix(".__main__")


def _stop_at_second() -> Callable[[int, FrameType | None], None]:
    """Handler of Ctrl-C: the first lets everything close, the second ends the process at once."""
    pressed = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            os._exit(INTERRUPTED)
        pressed = True
        raise KeyboardInterrupt

    return handle


@dataclass(frozen=True, slots=True)
class _Resume:
    """How to go on with the run that this process works on."""

    module: str
    arguments: Sequence[str]
    possible: bool

    def advice(self) -> str:
        """What to type; empty if nothing was begun or the command cannot resume."""
        if not HELD or not self.possible:
            return ""

        words: list[str] = []
        skip = False  # The next word is the value of --name.
        for argument in self.arguments:
            if skip:
                skip = False
            elif argument == "--name":
                skip = True
            elif argument != "--resume" and not argument.startswith("--name="):
                words.append(argument)

        name = list(HELD)[-1].name
        typed = shlex.join(["python", "-m", self.module, *words, "--name", name, "--resume"])
        return f" What is done is kept; go on with: {typed}"


@dataclass(frozen=True, slots=True)
class _FlagField:
    """A field of the options, or of a dataclass in them, as a flag."""

    path: tuple[str, ...]
    """Names of the fields that lead to it."""
    names: tuple[str, ...]
    """How it may be typed, such as --train.flip and --train.no-flip; empty for a positional."""
    hint: Any
    topic: str
    default: Any

    @property
    def attribute(self) -> str:
        return "__".join(self.path)

    @property
    def is_switch(self) -> bool:
        return get_args(self.hint)[0] is bool


class _Parser(Generic[Options]):
    """Turns a command line into an options object by tyro.

    Args:
        options: dataclass of the options.
        prog: how the command is called.
        renamed: see `command`.
    """

    def __init__(self, options: type[Options], prog: str, renamed: Mapping[str, str]) -> None:
        self.options = options
        self.prog = prog
        self.renamed = renamed

    def parse(
        self, arguments: Sequence[str], presets: Presets[Any, Options] | None = None
    ) -> Options:
        """Raises InputError, in one line, on what cannot be parsed; exits after --help."""
        default: Options | None = None
        if presets is not None:
            default = presets.options(_parse_presets(arguments, presets.flags))

        fields = _expand(self.options, default)
        self._check_switches(arguments, fields)
        flags = _as_dataclass(self.options, fields)
        description = _wrapped(self.options.__doc__ or "")
        try:
            with tyro_errors.on_parse_error(self._refuse(arguments, fields)):
                parsed = tyro.cli(flags, prog=self.prog, description=description, args=arguments)
        except BrokenPipeError:
            # --help | head: the reader has enough, and Python would fail again as it flushes.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(BROKEN)
        return _rebuild(self.options, fields, parsed)

    def _check_switches(self, arguments: Sequence[str], fields: Sequence[_FlagField]) -> None:
        """Refuse --switch=value: tyro turns the switch on, and takes the value as a positional."""
        switches: set[str] = set()
        for one in fields:
            if one.is_switch:
                switches.update(one.names)

        for argument in arguments:
            flag, equals, value = argument.partition("=")
            if equals and flag.replace("_", "-") in switches:
                raise self._error(f"{flag}={value}: it is a switch and takes no value")

    def _refuse(
        self, arguments: Sequence[str], fields: Sequence[_FlagField]
    ) -> Callable[[tyro_errors.ParseErrorEvent], None]:
        """The hook that tyro calls when it is about to reject the command line."""

        def refuse(event: tyro_errors.ParseErrorEvent) -> None:
            match event:
                case tyro_errors.UnrecognizedArgs():
                    message = self._unrecognized(event.tokens, fields)
                case tyro_errors.MissingArgs() if event.unrecognized_tokens:
                    # The missing flag is probably there, and mistyped.
                    message = self._unrecognized(event.unrecognized_tokens, fields)
                case tyro_errors.MissingArgs():
                    names = [_typed_name(missing.arg) for missing in event.missing_arguments]
                    message = f"{', '.join(names)}: required"
                case tyro_errors.InvalidChoice():
                    choices = sorted(set(event.choices) - {"None"})
                    message = (
                        f"{_typed_name(event.argument)}: {event.value!r} is not one of "
                        f"{', '.join(choices)}"
                    )
                case tyro_errors.BadValue():
                    message = f"{_typed_name(event.argument)}: it takes {_metavar(event.argument)}"
                case tyro_errors.InstantiationFailure():
                    message = _not_parsed(event, arguments)
                case _:
                    message = f"the options cannot be parsed ({type(event).__name__})"
            raise self._error(message)

        return refuse

    def _error(self, message: str) -> InputError:
        end = "" if message.endswith("?") else "."
        return InputError(f"{message.rstrip('.')}{end} See {self.prog} --help")

    def _unrecognized(self, tokens: Sequence[str], fields: Sequence[_FlagField]) -> str:
        """What to say of words that no flag and no positional takes."""
        flags = [token.partition("=")[0] for token in tokens if token.startswith("-")]
        if not flags:
            return f"{tokens[0]!r}: not expected here"

        flag = flags[0].replace("_", "-")
        for old, new in self.renamed.items():
            if flag == old or (old.endswith(".") and flag.startswith(old)):
                return f"{flag} is now {flag.replace(old, new, 1)}"

        known = ["--help"]
        for one in fields:
            known += one.names
        if OLD_SPELLINGS.get(flag) in known:
            return f"{flag} is now {OLD_SPELLINGS[flag]}"
        nearest = difflib.get_close_matches(flag, known, 1, cutoff=0.0)
        return f"{flag}: no such option. Did you mean {nearest[0]}?"


def _parse_presets(arguments: Sequence[str], flags: type[Preset]) -> Preset:
    """Parse the flags that decide the defaults; what is wrong with them the whole parser finds."""
    try:
        parsed, unknown = tyro.cli(
            flags,
            args=arguments,
            return_unknown_args=True,
            add_help=False,
            console_outputs=False,
        )
    except SystemExit:
        return flags()

    # --help shows the recipe's defaults; it needs no run, and must not fail for want of one.
    if {"-h", "--help"} & set(unknown) and hasattr(parsed, "resume"):
        return cast(Preset, dataclasses.replace(cast(Any, parsed), resume=False))
    return parsed


def _typed_name(argument: Any) -> str:
    """How an argument of tyro's is typed; its metavar if it is positional."""
    names = argument.lowered.name_or_flags
    return names[0] if names else str(argument.lowered.metavar)


def _metavar(argument: Any) -> str:
    """What an argument of tyro's takes, such as FLOAT; None, which many take, goes unsaid."""
    return str(argument.lowered.metavar).removeprefix("{None}|").replace("{None,", "{")


def _not_parsed(event: tyro_errors.InstantiationFailure, arguments: Sequence[str]) -> str:
    """What to say of values that are not of the flag's type."""
    reason = first_line(ValueError(event.message))
    if event.argument is None:
        return f"options: {reason}"

    name = _typed_name(event.argument)
    values = _values_of(name, arguments)
    if not values:  # A positional.
        return f"{name}: {reason}"
    return f"{name} {' '.join(values)}: it takes {_metavar(event.argument)}"


def _values_of(name: str, arguments: Sequence[str]) -> list[str]:
    """The words that were typed after the flag `name`, or after its equals sign."""
    values: list[str] = []
    for position, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag.replace("_", "-") != name:
            continue
        following = arguments[position + 1 :]
        if equals:
            values = [value]
        else:
            values = list(itertools.takewhile(lambda word: not word.startswith("--"), following))
    return values


def _expand(
    options: type, default: Any, prefix: str = "", path: tuple[str, ...] = ()
) -> list[_FlagField]:
    """The flags of a dataclass, those of dataclasses marked Topics in their place."""
    hints = get_type_hints(options, include_extras=True)
    helps = _field_docstrings(options)
    fields: list[_FlagField] = []
    for one in dataclasses.fields(options):
        hint = hints[one.name]
        marks = getattr(hint, "__metadata__", ())
        here = (*path, one.name)
        value = _default_of(one, default)

        topics = [mark for mark in marks if isinstance(mark, Topics)]
        if topics:
            fields += _expand(get_args(hint)[0], value, prefix + topics[0].prefix, here)
            continue

        name: str | None = f"{prefix}{one.name}".replace("_", "-")
        names = [f"--{name}"]
        if hint is bool:  # Not marked Flag: tyro makes a pair.
            names.append(f"--{prefix}no-{one.name}".replace("_", "-"))
        if Positional in marks:
            name = None
            names = []
        hint = Annotated[hint, tyro.conf.arg(name=name, help=helps.get(one.name))]
        topic = one.metadata.get("topic", "")
        fields.append(_FlagField(here, tuple(names), hint, topic, value))
    return fields


def _default_of(one: dataclasses.Field[Any], default: Any) -> Any:
    """A field's value in `default`, or else its own default; MISSING if it has none."""
    if default is not None and default is not dataclasses.MISSING:
        return getattr(default, one.name)
    if one.default_factory is not dataclasses.MISSING:
        return one.default_factory()
    return one.default


def _field_docstrings(cls: type) -> dict[str, str]:
    """The string under each field of a dataclass; none where the source is not at hand."""
    try:
        source = inspect.getsource(cls)
    except (OSError, TypeError):  # as in a zip file, or a module that was run by runpy
        return {}
    tree = ast.parse(textwrap.dedent(source))
    body = cast(ast.ClassDef, tree.body[0]).body
    docstrings: dict[str, str] = {}
    for statement, following in itertools.pairwise(body):
        match statement, following:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                docstrings[name] = " ".join(text.split())
            case _:
                pass
    return docstrings


def _as_dataclass(options: type, fields: Sequence[_FlagField]) -> type:
    """A dataclass of the flags for tyro: one field a flag, and a dataclass a topic."""
    topics: dict[str, list[tuple[str, Any, Any]]] = {}
    for one in fields:
        default = field(default=one.default)  # MISSING makes the flag required.
        topics.setdefault(one.topic, []).append((one.attribute, one.hint, default))

    members = topics.pop("", [])
    for topic, flags in topics.items():
        nested = dataclasses.make_dataclass(topic, flags, frozen=True, kw_only=True)
        hint = tyro.conf.OmitArgPrefixes[nested]
        members.append((topic, hint, field(default_factory=nested)))

    return dataclasses.make_dataclass(options.__name__, members, frozen=True, kw_only=True)


def _wrapped(text: str) -> str:
    """A docstring with no line wider than the terminal; tyro wraps the help of flags only."""
    columns = shutil.get_terminal_size().columns
    lines: list[str] = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        pieces = [" ".join(paragraph.split())]
        if paragraph.startswith("Example"):
            pieces = paragraph.splitlines()

        # Indented: tyro joins a line that begins with a letter to the line before.
        wrapper = textwrap.TextWrapper(columns, subsequent_indent="  ", break_long_words=False)
        for number, piece in enumerate(pieces):
            wrapper.initial_indent = "  " if number else ""
            lines += wrapper.wrap(piece)
        lines.append("")
    return "\n".join(lines)


def _rebuild(options: type[Options], fields: Sequence[_FlagField], parsed: Any) -> Options:
    """The options, and the dataclasses in them, from what tyro parsed."""
    values: dict[tuple[str, ...], Any] = {}
    for one in fields:
        holder = getattr(parsed, one.topic) if one.topic else parsed
        values[one.path] = getattr(holder, one.attribute)
    return _build(options, values, ())


def _build(cls: type[Any], values: Mapping[tuple[str, ...], Any], path: tuple[str, ...]) -> Any:
    """A dataclass from the values of its flags, and of those of the dataclasses in it."""
    hints = get_type_hints(cls)
    arguments: dict[str, Any] = {}
    for one in dataclasses.fields(cls):
        here = (*path, one.name)
        if here in values:
            arguments[one.name] = values[here]
        else:
            arguments[one.name] = _build(hints[one.name], values, here)
    return cls(**arguments)


def plural(count: int, noun: str) -> str:
    """ "1 epoch", "2 epochs"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
