"""The runs so far: listed, shown, compared, and removed once somebody said yes."""

import contextlib
import os
import pty
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from fmnist.runs.files import read_json, write_json
from tests.conftest import Outcome
from tests.tune.scripted import search_records, write_best, write_search
from tune.runs import age_words, size_words

Call = Callable[..., Outcome]
DAY = 86400


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three runs: a complete one of yesterday, an unfinished one of ten days ago, and a newer
    one whose summary is damaged."""
    folder = tmp_path / "runs"
    for name, trials, days in (("whole", 8, 1.0), ("half", 3, 10.0), ("hurt", 5, 0.0)):
        run = write_search(folder / name, search_records(trials, 9))
        if name == "whole":
            write_best(run)
            # A run with weights is complete.
            shutil.copy(run / "summary.json", run / "best/model.safetensors")
            summary = read_json(run / "summary.json")
            accuracies = {"validation_accuracy": 0.9123, "test_accuracy": 0.9012}
            write_json(run / "summary.json", summary | accuracies)
        if name == "hurt":
            (run / "summary.json").write_text("{")
        when = time.time() - days * DAY
        for path in run.rglob("*"):
            os.utime(path, (when, when))

    (folder / "latest").symlink_to("hurt")
    (folder / "notes").mkdir()
    return folder


def names_in(outcome: Outcome) -> list[str]:
    """The folders that a table names, in its order."""
    names = ("whole", "half", "hurt", "notes", "latest")
    return [row[0] for row in rows(outcome) if row and row[0] in names and "is" not in row]


def rows(outcome: Outcome) -> list[list[str]]:
    return [line.split() for line in outcome.output.splitlines()]


@pytest.mark.usefixtures("runs")
def test_the_list_has_the_newest_first_with_age_size_and_figures(call: Call) -> None:
    outcome = call("tune.runs")
    assert outcome.code == 0
    assert names_in(outcome) == ["hurt", "whole", "half"]

    whole = next(row for row in rows(outcome) if row[:1] == ["whole"])
    assert whole[:6] == ["whole", "search", "complete", "8", "91.23", "90.12"]
    assert whole[-2:] == ["24", "h"]

    half = next(row for row in rows(outcome) if row[:1] == ["half"])
    assert half[:4] == ["half", "search", "unfinished", "3"]
    assert "hurt is damaged: runs/hurt/summary.json" in outcome.output
    assert "3 runs in runs" in outcome.output


LONG_NAMES = (
    "20251128-150301",
    "wideresnet28-imagenet-warm-start",
    "a_search.of_a_very_long_name-that_goes_beyond.what-80-columns-have_room_for.seed-12",
)


@pytest.mark.parametrize("name", LONG_NAMES)
@pytest.mark.parametrize("width", ["80", "120"])
def test_the_list_is_whole(
    call: Call, runs: Path, monkeypatch: pytest.MonkeyPatch, width: str, name: str
) -> None:
    (runs / "whole").rename(runs / name)
    monkeypatch.setenv("COLUMNS", width)
    lines = call("tune.runs").output.splitlines()
    table = lines[: lines.index("")]
    assert max(map(len, table)) <= int(width)
    assert "…" not in "".join(table)

    words = [word for line in table for word in line.split()]
    for word in ("unfinished", "complete", "damaged", "test", "90.12", "10", "days"):
        assert word in words
    # A long name is broken between its parts, never within one.
    shown = "".join(line.split("  ")[0].strip() for line in table)
    assert name in shown
    assert all(part in "\n".join(table) for part in re.findall(r"[^ ._-]+", name))


def test_show_says_what_was_found_and_what_is_next(call: Call, runs: Path) -> None:
    text = call("tune.runs", "show", "whole").output
    assert "8: " in text
    assert "90.12%" in text
    assert "python -m export.to_onnx runs/whole" in text
    assert "python -m tune.search --name half --resume" in call("tune.runs", "show", "half").output

    outcome = call("tune.runs", "show", "notes")
    assert outcome.code == 2
    assert "it is no run" in outcome.output


def test_compare_shows_the_settings_that_differ_alone(call: Call, runs: Path) -> None:
    config = read_json(runs / "half/config.json")
    config["search"]["reduction_factor"] = 4
    write_json(runs / "half/config.json", config)
    compared = rows(call("tune.runs", "compare", "whole", "half"))
    values = {row[0]: row[1:] for row in compared if row}
    assert values["reduction_factor"] == ["3", "4"]
    assert "grace_epochs" not in values
    assert values["trials"] == ["8", "3"]
    assert values["test"] == ["90.12%"]


def test_a_comparison_is_whole_at_80_columns(
    call: Call, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs that have no room beside the others stand in tables below."""
    names = list(LONG_NAMES)
    for seed, name in enumerate(names):
        shutil.copytree(runs / "whole", runs / name)
        config = read_json(runs / name / "config.json")
        config["search"]["search_seed"] = 1234567 + seed
        write_json(runs / name / "config.json", config)

    monkeypatch.setenv("COLUMNS", "80")
    outcome = call("tune.runs", "compare", "whole", *names)
    tables, _, _ = outcome.output.partition("Whether they differ")
    assert max(map(len, tables.splitlines())) <= 80
    assert tables.count("search_seed") >= 2

    for seed in range(len(names)):
        assert str(1234567 + seed) in tables.split()
    assert f"python -m fmnist.compare runs/whole runs/{names[0]}" in outcome.output


def test_show_is_whole_at_80_columns(
    call: Call, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = LONG_NAMES[-1]
    (runs / "whole").rename(runs / name)
    monkeypatch.setenv("COLUMNS", "80")
    lines = call("tune.runs", "show", name).output.splitlines()
    # Commands and paths stay in one line, to be copied.
    assert f"next: python -m tune.report runs/{name}" in lines
    assert max(len(line) for line in lines if name not in line) <= 80


def prune(runs: Path, *arguments: str, answer: str) -> str:
    """On a terminal, with an answer to the question."""
    terminal, end = pty.openpty()
    words = [sys.executable, "-m", "tune.runs", "prune", "--storage", str(runs), *arguments]
    with subprocess.Popen(words, stdin=end, stdout=end, stderr=end):
        os.close(end)
        os.write(terminal, f"{answer}\n".encode())
        output = b""
        # A terminal that was left raises OSError.
        with contextlib.suppress(OSError):
            while more := os.read(terminal, 4096):
                output += more

    os.close(terminal)
    return output.decode()


def test_pruning_asks_first(runs: Path) -> None:
    text = prune(runs, "half", answer="n")
    assert "half" in text
    assert "remove this run" in text
    assert "nothing removed" in text
    assert (runs / "half").is_dir()
    assert "removed half" in prune(runs, "half", answer="y")
    assert sorted(path.name for path in runs.iterdir()) == ["hurt", "latest", "notes", "whole"]


def test_pruning_without_a_terminal_needs_yes(
    call: Call, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Path(os.devnull).open() as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        outcome = call("tune.runs", "prune", "--keep", 1)
        assert outcome.code == 2
        assert "--yes" in outcome.output.splitlines()[-1]
        # The link named latest among them.
        assert len(list(runs.glob("*/config.json"))) == 4
        assert call("tune.runs", "prune", "--keep", 1, "--yes").code == 0

    assert sorted(path.name for path in runs.iterdir()) == ["hurt", "latest", "notes"]


def test_the_old_go_and_the_link_with_the_newest(call: Call, runs: Path) -> None:
    call("tune.runs", "prune", "--older-than-days", 5, "--yes")
    assert sorted(path.name for path in runs.iterdir()) == ["hurt", "latest", "notes", "whole"]
    call("tune.runs", "prune", "hurt", "--yes")
    # The link goes too: one that leads to nothing would mislead.
    assert sorted(path.name for path in runs.iterdir()) == ["notes", "whole"]


def test_what_another_process_works_on_stays(call: Call, runs: Path) -> None:
    with FileLock(runs / "half/.lock"):
        assert "running" in next(row for row in rows(call("tune.runs")) if row[:1] == ["half"])
        outcome = call("tune.runs", "prune", "half", "--yes")
        assert outcome.code == 2
        assert "in use" in outcome.output
        call("tune.runs", "prune", "--keep", 0, "--yes")

    assert sorted(path.name for path in runs.glob("*/")) == ["half", "notes"]


def test_a_removal_that_was_killed_is_finished_later(call: Call, runs: Path) -> None:
    (runs / "half").rename(runs / ".removing-half")
    assert "half" not in call("tune.runs").output
    call("tune.runs", "prune", "--keep", 9, "--yes")
    assert not (runs / ".removing-half").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("prune",), "name runs, or choose them"),
        (("prune", "whole", "--keep", 2), "name runs, or choose them"),
        (("prune", "--keep", -1), "keep=-1"),
        (("prune", "--older-than", 5), "--older-than is now --older-than-days"),
        (("prune", "nosuch", "--yes"), "no such folder"),
        (("prune", "notes", "--yes"), "no run of"),
        (("compare", "whole"), "two runs or more"),
        (("show", "a", "b"), "one run"),
        (("list", "--keep", 3), "for prune"),
        (("list", "--storage", "nowhere"), "nowhere"),
        (("lists",), "lists"),
    ],
)
@pytest.mark.usefixtures("runs")
def test_bad_input(call: Call, arguments: tuple[object, ...], words: str) -> None:
    outcome = call("tune.runs", *arguments)
    assert outcome.code == 2
    assert words in outcome.output
    assert len(outcome.output.splitlines()) == 1


def test_sizes_and_ages_in_words() -> None:
    sizes = {
        0: "0 B",
        999: "999 B",
        1500: "1.5 kB",
        25_000: "25 kB",
        3_456_000: "3.5 MB",
        7_800_000_000: "7.8 GB",
    }
    assert {size: size_words(size) for size in sizes} == sizes

    ages = {-1: "0 s", 5: "5 s", 150: "2 min", 8000: "2 h", 3 * DAY: "3 days"}
    assert {seconds: age_words(seconds) for seconds in ages} == ages
