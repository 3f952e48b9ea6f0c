"""`python -m fmnist.reproduce`: real trainings on the small data set."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fmnist.reports.recipes import ENSEMBLES
from fmnist.reports.table import REPORTS, write_reports
from tests.conftest import CommandLine, Outcome, runs
from tests.fmnist.reports.rows import row
from tests.gates import Gates

REPRODUCE = "fmnist.reproduce"


def rows_in(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / REPORTS.with_suffix(".json")).read_text())


@pytest.mark.full
def test_one_recipe_is_trained_tested_and_written_up_once(
    call: Callable[..., Outcome], tmp_path: Path
) -> None:
    recipe = ("--recipe", "e-lenet-0.1")
    listed = call(REPRODUCE, *recipe, "--list")
    assert "0 of 1" in listed.output
    assert "trainings left: 1 of 1" in listed.output

    done = call(REPRODUCE, *recipe)
    assert done.code == 0, done.output
    (row,) = rows_in(tmp_path)
    assert row["recipe"] == "e-lenet-0.1"
    assert row["epochs"] == row["epochs_trained"] == 10
    assert not row["shortened"]
    assert 0.2 < row["test_accuracy"] <= 1
    assert row["images_per_s"] > 0
    assert "| e-lenet-0.1 |" in (tmp_path / REPORTS).read_text()

    again = call(REPRODUCE, *recipe, "--list")
    assert "1 of 1" in again.output
    before = (tmp_path / REPORTS).read_bytes()
    assert "trainings left: 0 of 1" in call(REPRODUCE, *recipe).output
    assert (tmp_path / REPORTS).read_bytes() == before

    evaluated = call("fmnist.evaluate", next((tmp_path / "runs/reports").glob("*e-lenet*")))
    assert f"{row['test_accuracy']:.2%}" in evaluated.output


@pytest.mark.full
@pytest.mark.processes
def test_killed_it_goes_on_after_the_last_whole_epoch(
    command: CommandLine, gates: Gates, tmp_path: Path
) -> None:
    gates.close(1.5)
    process = command.start(REPRODUCE, "--recipe", "a-lenet5-sgd")
    gates.wait_for(1, runs(process))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    gates.open()
    assert rows_in(tmp_path) == []

    resumed = command(REPRODUCE, "--recipe", "a-lenet5-sgd")
    assert resumed.returncode == 0, resumed.stderr
    assert "epoch  1/20" not in resumed.stdout
    assert "epoch 20/20" in resumed.stdout
    (row,) = rows_in(tmp_path)
    assert row["epochs_trained"] == 20
    assert not list(tmp_path.glob("runs/reports/*/last.pt"))


@pytest.mark.full
def test_ensembles_combine_their_members_without_training(
    call: Callable[..., Outcome], tmp_path: Path
) -> None:
    done = call(REPRODUCE, "--recipe", "d-ensemble-average")
    assert done.code == 0, done.output
    rows = {row["recipe"]: row for row in rows_in(tmp_path)}
    names = ENSEMBLES["d-ensemble-average"].members
    assert set(rows) == {"d-ensemble-average", *names}
    members = [rows[name]["test_accuracy"] for name in names]
    assert rows["d-ensemble-average"]["test_accuracy"] >= sum(members) / len(members)
    assert rows["d-ensemble-average"]["best_member"] == max(members)

    voted = call(REPRODUCE, "--recipe", "d-ensemble-vote")
    assert "trainings left: 0 of 4" in voted.output
    assert {"d-ensemble-average", "d-ensemble-vote"} <= {row["recipe"] for row in rows_in(tmp_path)}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--recipe", "e-lenet-0.2"), "recipe='e-lenet-0.2': did you mean 'e-lenet-0.1'"),
        (("--recipe", "airnet-quick"), "recipe='airnet-quick': "),
        (("--report", "F"), "--report: 'F' is not one of A, B, C, D, E"),
        (("--seeds", "0"), "seeds=0: it must be at least 1"),
        (("--time-budget-min", "0"), "time_budget_min=0: it must be above 0 minutes"),
        (("--time-budget", "5"), "--time-budget is now --time-budget-min"),
    ],
)
def test_bad_input_is_one_line(
    arguments: tuple[str, ...], words: str, call: Callable[..., Outcome], tmp_path: Path
) -> None:
    outcome = call(REPRODUCE, *arguments)
    assert outcome.code == 2
    assert words in outcome.output
    assert outcome.output.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_time_budget_begins_nothing_that_cannot_end(
    call: Callable[..., Outcome], tmp_path: Path
) -> None:
    outcome = call(REPRODUCE, "--recipe", "a-lenet5-sgd", "--time-budget-min", "0.0001")
    assert outcome.code == 0, outcome.output
    assert "more than are left" in outcome.output
    assert rows_in(tmp_path) == []


def test_missing_is_what_no_machine_has_done(
    call: Callable[..., Outcome], tmp_path: Path, small_data: Path
) -> None:
    (tmp_path / REPORTS.parent).mkdir(parents=True)
    data = small_data.name
    whole = row("e-lenet-0.1", 0, 0.5, data=data)
    too_short = row("e-lenet-0.05", 0, 0.5, data=data, epochs=9)
    write_reports([whole, too_short], tmp_path / REPORTS)

    def left(recipe: str, *flags: object) -> str:
        """How many trainings are left."""
        output = call(REPRODUCE, "--recipe", recipe, *flags, "--list").output
        return output.partition("trainings left: ")[2].split()[0]

    assert left("e-lenet-0.1", "--missing") == "0"
    assert left("e-lenet-0.1", "--missing", "--seeds", 3) == "2"
    assert left("e-lenet-0.05", "--missing") == "1"
    assert left("e-lenet-0.01", "--missing") == "1"
    assert left("e-lenet-0.1") == "1"
