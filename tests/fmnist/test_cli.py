"""The command-line grammar that all commands share, on a small command of its own."""

import dataclasses
import errno
import importlib.metadata
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
from tyro import _errors as tyro_errors

from fmnist.cli import Flag, Positional, Presets, Topics, command, plural
from fmnist.config import topic
from fmnist.errors import FailedError, InputError, one_of
from fmnist.runs.lock import HELD, hold, release
from tests.conftest import ROOT, Outcome

PROG = f"python -m {__name__}"


@dataclass(frozen=True, kw_only=True)
class Network:
    """Stands for TrainConfig."""

    widths: tuple[int, ...] = topic("network", ())
    """Channels of each stage."""
    weighting: Literal["equal", "balanced"] | tuple[float, ...] = topic("network", "equal")
    """Weight of each class."""
    max_lr: float = topic("optimiser", 0.1)
    """Peak learning rate; this help is so long that it does not fit into one line of eighty columns
    however it is set."""
    flip: bool = topic("augmentation", True)
    """Mirror images."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Do nothing with a network, in words that fill more than one line of a terminal that is eighty
    columns wide.

    Example: python -m nothing first --train.max-lr 0.2
    """

    runs: Annotated[tuple[str, ...], Positional] = ()
    """Run folders."""
    recipe: str = "slow"
    """Named network."""
    split: Literal["test", "validation"] | None = None
    """Images."""
    time_budget_min: float | None = None
    """Minutes."""
    resume: Annotated[bool, Flag] = False
    """Go on."""
    network: Annotated[Network, Topics("train.")] = field(default_factory=Network)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """The flags that decide the defaults."""

    recipe: str = "slow"
    resume: Annotated[bool, Flag] = False


RECIPES = {"slow": Network(), "fast": Network(widths=(8, 16), max_lr=0.5)}
RENAMED = {"--base.": "--train.", "--time-budget": "--time-budget-min"}


def default_options(preset: Preset) -> Options:
    one_of("--recipe", preset.recipe, RECIPES)
    if preset.resume:
        return Options(network=Network(max_lr=0.7))
    return Options(network=RECIPES[preset.recipe])


@pytest.fixture(autouse=True)
def as_in_a_new_process() -> Iterator[None]:
    """Forgets runs that earlier tests hold, and gives Ctrl-C back to pytest in the end."""
    for run in list(HELD):
        release(run)
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@dataclass
class Command:
    """Runs the small command in this process, and keeps the options that it was given."""

    run: Callable[..., Outcome]
    given: list[Options]

    def __call__(self, *arguments: object) -> Outcome:
        return self.run(*arguments)

    def options(self, *arguments: object) -> Options:
        outcome = self.run(*arguments)
        assert outcome.code == 0, outcome.output
        return self.given[-1]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    given: list[Options] = []

    def main(options: Options) -> None:
        given.append(options)

    def run(*arguments: object, main: Callable[[Options], int | None] = main) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
        presets = Presets(Preset, default_options)
        with pytest.raises(SystemExit) as ended:
            command(Options, main, presets=presets, renamed=RENAMED)
        captured = capsys.readouterr()
        return Outcome(int(ended.value.code or 0), captured.out + captured.err)

    return Command(run, given)


def test_flags_of_nested_dataclasses(cli: Command) -> None:
    options = cli.options(
        "a", "b", "--train.widths", 8, 16, "--train.no-flip", "--split=test", "--resume"
    )
    assert options.runs == ("a", "b")
    assert options.split == "test"
    assert options.resume
    assert options.network == Network(widths=(8, 16), max_lr=0.7, flip=False)


@pytest.mark.parametrize(
    ("arguments", "widths"),
    [
        (["--train.widths", 8, 16, 32], (8, 16, 32)),
        (["--train.widths=8"], (8,)),
        (["--train.widths"], ()),
    ],
)
def test_tuples(arguments: list[object], widths: tuple[int, ...], cli: Command) -> None:
    assert cli.options(*arguments).network.widths == widths


def test_a_value_may_be_of_several_types(cli: Command) -> None:
    assert cli.options("--train.weighting", "balanced").network.weighting == "balanced"
    assert cli.options("--train.weighting", 1, 2.5).network.weighting == (1.0, 2.5)


def test_presets_decide_defaults_and_flags_override_them(cli: Command) -> None:
    assert cli.options().network == RECIPES["slow"]
    assert cli.options("--recipe", "fast").network == RECIPES["fast"]
    assert cli.options("--recipe=fast").network == RECIPES["fast"]
    changed = cli.options("--train.max-lr", 0.2, "--recipe", "fast").network
    assert changed == dataclasses.replace(RECIPES["fast"], max_lr=0.2)


def test_underscores_and_negative_numbers_are_understood(cli: Command) -> None:
    assert cli.options("--train.max_lr", -3).network.max_lr == -3
    assert cli.options("--time_budget_min=2").time_budget_min == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trian.max-lr", 1], "--trian.max-lr: no such option. Did you mean --train.max-lr?"),
        (["--trian.widths=3"], "--trian.widths: no such option. Did you mean --train.widths?"),
        (["--no-train.flip"], "--no-train.flip: no such option. Did you mean --train.flip?"),
        (["--time-budget", 3], "--time-budget is now --time-budget-min."),
        (["--time_budget=3"], "--time-budget is now --time-budget-min."),
        (["--base.max-lr", 3], "--base.max-lr is now --train.max-lr."),
        (["--base.no-flip"], "--base.no-flip is now --train.no-flip."),
        (["--train.max-lr", "fast"], "--train.max-lr fast: it takes FLOAT."),
        (["--train.max-lr=fast"], "--train.max-lr fast: it takes FLOAT."),
        (["--train.max-lr"], "--train.max-lr: it takes FLOAT."),
        (["--time-budget-min", "x"], "--time-budget-min x: it takes FLOAT."),
        (["--train.widths", 8, "x"], "--train.widths 8 x: it takes [INT [INT ...]]."),
        (["--split", "train"], "--split: 'train' is not one of test, validation."),
        (["--split"], "--split: it takes {test,validation}."),
        (["--recipe"], "--recipe: it takes STR."),
        (["--resume=no"], "--resume=no: it is a switch and takes no value."),
        (["--train.no-flip=1"], "--train.no-flip=1: it is a switch and takes no value."),
    ],
)
def test_bad_input_is_one_line(arguments: list[object], message: str, cli: Command) -> None:
    outcome = cli(*arguments)
    assert outcome.code == 2
    assert outcome.output == f"error: {message} See {PROG} --help\n"
    assert not cli.given


def test_values_of_several_types_are_refused_in_one_line(cli: Command) -> None:
    outcome = cli("--train.weighting", "heavy")
    assert outcome.code == 2
    assert outcome.output.startswith("error: --train.weighting heavy: it takes {equal,balanced}|")
    assert outcome.output.count("\n") == 1


def test_a_bad_preset_is_one_line(cli: Command) -> None:
    outcome = cli("--recipe", "fats")
    assert outcome.code == 2
    assert outcome.output.startswith("error: --recipe='fats': did you mean 'fast'?")
    assert outcome.output.count("\n") == 1


@dataclass(frozen=True, kw_only=True)
class Required:
    """One flag has no default."""

    name: str
    """Needed."""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--name: required."),
        (["--nmae", "x"], "--nmae: no such option. Did you mean --name?"),
        (["--name", "x", "y"], "'y': not expected here."),
    ],
)
def test_a_flag_without_default_is_required(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    with pytest.raises(SystemExit, match="2"):
        command(Required, lambda options: None)
    assert capsys.readouterr().err == f"error: {message} See {PROG} --help\n"


def test_help_is_grouped_by_topic_and_fits_80_columns(cli: Command) -> None:
    outcome = cli("--help", "--recipe", "fast")
    assert outcome.code == 0
    headings = re.findall(
        r"^\W*(positional arguments|.*\boptions)\W*$", outcome.output, flags=re.MULTILINE
    )
    topics = ["network options", "optimiser options", "augmentation options"]
    assert headings == ["positional arguments", "options", *topics]
    assert max(map(len, outcome.output.splitlines())) <= 80

    assert outcome.output.startswith(f"usage: {PROG} ")
    assert "\nExample: python -m nothing first --train.max-lr 0.2\n" in outcome.output
    assert "Channels of each stage. (default: 8 16)" in outcome.output
    assert "--train.flip, --train.no-flip" in outcome.output
    assert "--no-resume" not in outcome.output


def test_help_does_not_look_for_the_run_to_resume(cli: Command) -> None:
    assert "(default: 0.1)" in " ".join(cli("--resume", "--help").output.split())


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("lr=0: above 0"), 2, "error: lr=0: above 0"),
        (FailedError("a [node] is gone"), 1, "error: a [node] is gone."),
        (KeyboardInterrupt(), 130, "interrupted."),
        (
            OSError(errno.ENOSPC, "full", "runs/a"),
            2,
            "error: runs/a cannot be written: the disk is full; make room.",
        ),
        (
            OSError(errno.EACCES, "denied"),
            2,
            "error: the run folder cannot be written: permission denied; choose a folder that can "
            "be written to.",
        ),
    ],
)
def test_what_goes_wrong_is_one_line(
    error: BaseException, code: int, message: str, cli: Command
) -> None:
    def main(options: Options) -> None:
        raise error

    outcome = cli.run(main=main)
    assert outcome.code == code
    assert outcome.output == f"{message}\n"


def test_other_errors_keep_their_traceback(cli: Command) -> None:
    def main(options: Options) -> None:
        raise OSError(errno.EIO, "broken")

    with pytest.raises(OSError, match="broken"):
        cli.run(main=main)


def test_an_interrupted_run_says_how_to_go_on(cli: Command, tmp_path: Path) -> None:
    run = tmp_path / "first"
    run.mkdir()

    def main(options: Options) -> None:
        hold(run)
        raise KeyboardInterrupt

    try:
        outcome = cli.run("--resume", "--train.max-lr", 1, main=main)
    finally:
        release(run)
    assert outcome.output == (
        f"interrupted. What is done is kept; go on with: {PROG} --train.max-lr 1 --name first "
        "--resume\n"
    )


def test_the_exit_code_is_what_main_returns(cli: Command) -> None:
    assert cli.run(main=lambda options: 7).code == 7


def test_plural() -> None:
    counts = [plural(1, "epoch"), plural(0, "epoch"), plural(1234, "epoch")]
    assert counts == ["1 epoch", "0 epochs", "1,234 epochs"]


@pytest.mark.parametrize("module", ["fmnist.train", "fmnist.reproduce", "fmnist.summary"])
def test_help_imports_nothing_that_takes_seconds(module: str) -> None:
    slow = ("torch", "sklearn", "matplotlib", "onnx", "ray")
    script = f"import sys, {module}; print(*set({slow}) & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert done.stdout == "\n"


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("on_parse_error", ()),
        ("ParseErrorEvent", ()),
        ("UnrecognizedArgs", ("tokens",)),
        ("MissingArgs", ("missing_arguments", "unrecognized_tokens")),
        ("InvalidChoice", ("argument", "value", "choices")),
        ("BadValue", ("argument",)),
        ("InstantiationFailure", ("argument", "message")),
    ],
)
def test_tyro_has_the_private_names_that_we_use(name: str, attributes: tuple[str, ...]) -> None:
    remedy = f"bound tyro in pyproject.toml below {importlib.metadata.version('tyro')}"
    assert hasattr(tyro_errors, name), f"tyro._errors has no {name}: {remedy}"
    if attributes:
        fields = {each.name for each in dataclasses.fields(getattr(tyro_errors, name))}
        assert set(attributes) <= fields, f"tyro._errors.{name} has {sorted(fields)}: {remedy}"
