"""`python -m fmnist.reproduce`: real trainings on the small data set; and the table, from rows written by hand."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fmnist.recipes import ENSEMBLES, GROUPS, RECIPES
from fmnist.reports import draw, render, write_reports
from tests.conftest import CommandLine, Outcome, runs
from tests.gates import Gates

TABLE = Path("docs/results/reports.md")


def rows_in(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / TABLE.with_suffix(".json")).read_text())


def test_every_experiment_of_the_reports_is_there() -> None:
    counts = {report: sum(recipe.report == report and bool(recipe.reported) for recipe in RECIPES.values()) for report in "ABCDE"}
    # A: three networks with a figure, each under two optimisers; B: two networks, as published and as meant; C: one; D: nine and
    # the final one; E: three networks at three rates.
    assert counts == {"A": 6, "B": 4, "C": 1, "D": 10, "E": 9}
    for ensemble in ENSEMBLES.values():
        assert set(ensemble.members) <= set(RECIPES)
        assert {RECIPES[member].report for member in ensemble.members} == {ensemble.report}
    assert all(len(class_f1) == 10 for _, _, class_f1 in GROUPS.values())


def test_shortened_recipes_keep_the_share_of_epochs_before_the_step() -> None:
    recipe = RECIPES["a-alexnet-sgd"]
    short = recipe.shortened()
    assert short.epochs == recipe.cpu_epochs < recipe.config.epochs
    assert short.step_epochs / short.epochs == recipe.config.step_epochs / recipe.config.epochs
    assert RECIPES["e-lenet-0.1"].shortened() == RECIPES["e-lenet-0.1"].config


@pytest.mark.full
def test_one_recipe_is_trained_tested_and_written_up_once(call: Callable[..., Outcome], tmp_path: Path) -> None:
    listed = call("fmnist.reproduce", "--recipe", "e-lenet-0.1", "--list")
    assert "0 of 1" in listed.output
    assert "1 trainings left" in listed.output
    done = call("fmnist.reproduce", "--recipe", "e-lenet-0.1")
    assert done.code == 0, done.output
    (row,) = rows_in(tmp_path)
    assert row["recipe"] == "e-lenet-0.1"
    assert row["epochs"] == row["epochs_trained"] == 10
    assert not row["shortened"]
    assert 0.2 < row["test_accuracy"] <= 1
    assert row["images_per_s"] > 0
    assert "| e-lenet-0.1 |" in (tmp_path / TABLE).read_text()
    again = call("fmnist.reproduce", "--recipe", "e-lenet-0.1", "--list")
    assert "1 of 1" in again.output
    before = (tmp_path / TABLE).read_bytes()
    assert "0 of 1 trainings left" in call("fmnist.reproduce", "--recipe", "e-lenet-0.1").output
    assert (tmp_path / TABLE).read_bytes() == before
    evaluated = call("fmnist.evaluate", next((tmp_path / "runs/reports").glob("*e-lenet*")))
    assert f"{row['test_accuracy']:.2%}" in evaluated.output


@pytest.mark.full
@pytest.mark.processes
def test_killed_it_goes_on_after_the_last_whole_epoch(command: CommandLine, gates: Gates, tmp_path: Path) -> None:
    gates.close(1.5)
    process = command.start("fmnist.reproduce", "--recipe", "a-lenet5-sgd")
    gates.wait_for(1, runs(process))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    gates.open()
    assert not (tmp_path / TABLE).exists() or "a-lenet5-sgd" not in {row["recipe"] for row in rows_in(tmp_path)}
    resumed = command("fmnist.reproduce", "--recipe", "a-lenet5-sgd")
    assert resumed.returncode == 0, resumed.stderr
    assert "epoch  1/20" not in resumed.stdout
    assert "epoch 20/20" in resumed.stdout
    (row,) = rows_in(tmp_path)
    assert row["epochs_trained"] == 20
    assert not list(tmp_path.glob("runs/reports/*/last.pt"))


@pytest.mark.full
def test_ensembles_combine_their_members_without_training(call: Callable[..., Outcome], tmp_path: Path) -> None:
    done = call("fmnist.reproduce", "--recipe", "d-ensemble-average")
    assert done.code == 0, done.output
    rows = {row["recipe"]: row for row in rows_in(tmp_path)}
    assert set(rows) == {"d-ensemble-average", *ENSEMBLES["d-ensemble-average"].members}
    members = [rows[name]["test_accuracy"] for name in ENSEMBLES["d-ensemble-average"].members]
    assert rows["d-ensemble-average"]["test_accuracy"] >= sum(members) / len(members)
    assert rows["d-ensemble-average"]["best_member"] == max(members)
    voted = call("fmnist.reproduce", "--recipe", "d-ensemble-vote")
    assert "0 of 4 trainings left" in voted.output
    assert {"d-ensemble-average", "d-ensemble-vote"} <= {row["recipe"] for row in rows_in(tmp_path)}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--recipe", "e-lenet-0.2"), "recipe='e-lenet-0.2': did you mean 'e-lenet-0.1'"),
        (("--recipe", "airnet-quick"), "recipe='airnet-quick': "),
        (("--report", "F"), "--report"),
        (("--seeds", "0"), "seeds=0: it must be at least 1"),
        (("--time-budget", "0"), "time_budget=0.0: minutes, above 0"),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[str, ...], words: str, call: Callable[..., Outcome], tmp_path: Path) -> None:
    outcome = call("fmnist.reproduce", *arguments)
    assert outcome.code == 2
    assert words in outcome.output
    assert outcome.output.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_time_budget_begins_nothing_that_cannot_end(call: Callable[..., Outcome], tmp_path: Path) -> None:
    outcome = call("fmnist.reproduce", "--recipe", "a-lenet5-sgd", "--time-budget", "0.0001")
    assert outcome.code == 0, outcome.output
    assert "more than are left" in outcome.output
    assert rows_in(tmp_path) == []


def row(recipe: str, seed: int, accuracy: float, **more: Any) -> dict[str, Any]:
    values = {"test_accuracy": accuracy, "validation_accuracy": accuracy, "train_accuracy": accuracy, "macro_f1": accuracy}
    about = {"data": "Fashion-MNIST", "epochs": 10, "epochs_trained": 10, "shortened": False, "images_per_s": 100, "auroc": 0.99}
    values |= {"macro_precision": accuracy, "test_loss": 0.3, "train_s": 60.0}
    machine = {"hardware": "a slow one", "precision": "fp32", "torch": "2.0", "class_f1": [accuracy] * 10}
    return {"recipe": recipe, "seed": seed} | values | about | machine | more


def line_of(text: str, recipe: str) -> list[str]:
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {recipe} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_gives_mean_deviation_and_difference() -> None:
    text = "\n".join(
        render(
            [
                row("d-1", 0, 0.90),
                row("d-1", 1, 0.92, hardware="a fast one"),
                row("d-3", 0, 0.10),
                row("a-vgg16-sgd", 0, 0.9, epochs=3, shortened=True),
            ]
        )
    )
    cells = line_of(text, "d-1")
    assert cells[2:6] == ["91.00", "**91.00 ± 1.41**", "+0.00", "91.00"]
    assert cells[-2:] == ["2", "1, 2"]
    assert "\n1. a fast one (fp32, torch 2.0)\n2. a slow one (fp32, torch 2.0)\n" in text
    assert "71 → 60" in cells
    assert "90.00 → 91.00" in cells
    assert "**3 of 20**" in line_of(text, "a-vgg16-sgd")
    assert "– → 90.00" in line_of(text, "a-vgg16-sgd")
    assert line_of(text, "d-2")[3] == "not run yet"
    assert "- d-3, -57.00:" in text
    assert "- d-1, +" not in text
    assert "| Shirt | 0.71 → 0.91 |" in text


def test_missing_is_what_no_machine_has_done(call: Callable[..., Outcome], tmp_path: Path, small_data: Path) -> None:
    (tmp_path / TABLE.parent).mkdir(parents=True)
    name = small_data.name
    write_reports([row("e-lenet-0.1", 0, 0.5, data=name), row("e-lenet-0.05", 0, 0.5, data=name, epochs=9)], tmp_path / TABLE)
    for recipe, seeds, left in (("e-lenet-0.1", 1, 0), ("e-lenet-0.1", 3, 2), ("e-lenet-0.05", 1, 1), ("e-lenet-0.01", 1, 1)):
        listed = call("fmnist.reproduce", "--recipe", recipe, "--seeds", seeds, "--missing", "--list")
        assert f"{left} trainings left" in listed.output
    assert "1 trainings left" in call("fmnist.reproduce", "--recipe", "e-lenet-0.1", "--list").output


def test_rows_replace_those_of_the_same_recipe_seed_and_data_and_no_others(tmp_path: Path) -> None:
    path = tmp_path / "reports.md"
    write_reports([row("d-1", 0, 0.5), row("d-1", 1, 0.6)], path)
    write_reports([row("d-1", 0, 0.7), row("d-1", 0, 0.8, data="letters")], path)
    rows = json.loads(path.with_suffix(".json").read_text())
    assert {(row["data"], row["seed"]): row["test_accuracy"] for row in rows} == {
        ("Fashion-MNIST", 0): 0.7,
        ("Fashion-MNIST", 1): 0.6,
        ("letters", 0): 0.8,
    }
    assert "| letters | d-1 | 80.00 |" in path.read_text()


def test_figures_of_curves_are_drawn_once_all_they_show_is_there(tmp_path: Path) -> None:
    epoch = {"epoch": 1, "train_loss": 0.5, "train_accuracy": 0.8, "validation_loss": 0.5, "validation_accuracy": 0.8}
    draw([row("d-1", 0, 0.9), row("d-2", 0, 0.8)], {"c-vgg": [epoch], "d-1": [epoch]}, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"report_d.png"}
    draw([row("e-lenet-0.1", 0, 0.9)], {name: [epoch] for name in ("c-vgg", "c-vgg-dropout", "c-vgg-weighted")}, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"report_c.png", "report_d.png", "report_e.png"}
