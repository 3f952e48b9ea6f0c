"""docs/results/reports.md and .json, from rows written by hand."""

import json
from pathlib import Path
from typing import Any

from fmnist.reports.table import CURVES, FACTORS, draw, known_rows, render, write_reports
from tests.fmnist.reports.rows import ensemble_row, row

EPOCH = {
    "epoch": 1,
    "train_loss": 0.5,
    "train_accuracy": 0.8,
    "validation_loss": 0.5,
    "validation_accuracy": 0.8,
}


def page(*rows: dict[str, Any]) -> str:
    return "\n".join(render(list(rows)))


def cells_of(text: str, recipe: str) -> list[str]:
    """The cells of a recipe's line."""
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {recipe} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_mean_deviation_and_difference() -> None:
    text = page(row("d-1", 0, 0.90), row("d-1", 1, 0.92, hardware="a fast one"))
    cells = cells_of(text, "d-1")
    assert cells[2:6] == ["91.00", "**91.00 ± 1.41**", "+0.00", "91.00"]
    assert "71 → 60" in cells
    assert "90.00 → 91.00" in cells
    assert cells[-2:] == ["2", "1, 2"]
    assert "\n1. a fast one (fp32, torch 2.0)\n2. a slow one (fp32, torch 2.0)\n" in text
    assert "| Shirt | 0.71 → 0.91 |" in text


def test_one_run_has_no_deviation() -> None:
    assert cells_of(page(row("d-1", 0, 0.90)), "d-1")[3] == "**90.00**"


def test_a_training_that_was_cut_short_says_so() -> None:
    text = page(row("a-vgg16-sgd", 0, 0.9, epochs=3, epochs_trained=2, shortened=True))
    cells = cells_of(text, "a-vgg16-sgd")
    assert "**3 of 20**, stopped after 2" in cells
    assert "– → 90.00" in cells


def test_differences_of_more_than_a_point_are_explained() -> None:
    text = page(
        row("d-1", 0, 0.91),
        row("d-3", 0, 0.10),
        row("c-vgg", 0, 0.80, epochs=4, shortened=True),
        row("b-cnn", 0, 0.80),
    )
    assert "- d-3, -57.00: Adam at .1 hardly trains" in text
    assert "- c-vgg, -13.04: 4 of 12 epochs\n" in text
    assert "- b-cnn, -12.75: not explained yet." in text
    assert "- d-1, " not in text


def test_what_was_not_run_is_there_all_the_same() -> None:
    text = page(row("d-1", 0, 0.9))
    assert cells_of(text, "d-2")[3] == "not run yet"
    assert len(cells_of(text, "d-2")) == len(cells_of(text, "d-1"))
    assert "none yet" in page()


def test_an_ensemble_has_neither_epochs_nor_hardware() -> None:
    text = page(row("d-1", 0, 0.9), ensemble_row("d-ensemble-vote", 0.93))
    cells = cells_of(text, "d-ensemble-vote")
    assert cells[2:5] == ["", "**93.00**", ""]
    assert cells[-3:] == ["", "1", ""]
    assert text.count("a slow one") == 1


def test_the_choice_by_validation_is_named_once_a_family_is_there() -> None:
    rates = {"0.1": 0.80, "0.05": 0.82, "0.01": 0.81}
    rows: list[dict[str, Any]] = []
    for rate, accuracy in rates.items():
        rows.append(row(f"e-lenet-{rate}", 0, accuracy, validation_accuracy=1 - accuracy))
    text = page(*rows)
    assert "Best lenet by our validation images: e-lenet-0.1 (by our test images it" in text
    assert "it would be e-lenet-0.05; the report's best on its test images: e-lenet-0.05)" in text
    assert "Best lenet" not in page(*rows[:2])


def test_rows_replace_those_of_the_same_recipe_seed_and_data_and_no_others(tmp_path: Path) -> None:
    path = tmp_path / "reports.md"
    write_reports([row("d-1", 0, 0.5), row("d-1", 1, 0.6)], path)
    write_reports([row("d-1", 0, 0.7), row("d-1", 0, 0.8, data="letters")], path)
    accuracies = {(each["data"], each["seed"]): each["test_accuracy"] for each in known_rows(path)}
    assert accuracies == {
        ("Fashion-MNIST", 0): 0.7,
        ("Fashion-MNIST", 1): 0.6,
        ("letters", 0): 0.8,
    }
    assert "| letters | d-1 | 80.00 |" in path.read_text()


def test_rows_stand_in_the_order_of_the_reports(tmp_path: Path) -> None:
    path = tmp_path / "reports.md"
    rows = [row(name, 0, 0.5) for name in ("e-lenet-0.1", "gone", "d-1", "a-lenet5-sgd")]
    write_reports([*rows, ensemble_row("d-ensemble-vote", 0.5)], path)
    saved = json.loads(path.with_suffix(".json").read_text())
    order = ["a-lenet5-sgd", "d-1", "e-lenet-0.1", "d-ensemble-vote"]
    assert [each["recipe"] for each in saved] == order


def test_figures_of_curves_are_drawn_once_all_they_show_is_there(tmp_path: Path) -> None:
    rows = [row("d-1", 0, 0.9), row("d-2", 0, 0.8)]
    draw(rows, {"c-vgg": [EPOCH], "d-1": [EPOCH]}, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"report_d.png"}

    histories = {name: [EPOCH] for name in CURVES["C"]}
    draw([row("e-lenet-0.1", 0, 0.9)], histories, tmp_path)
    drawn = {"report_c.png", "report_d.png", "report_e.png"}
    assert {path.name for path in tmp_path.iterdir()} == drawn


def test_losses_of_report_d_are_drawn_once_every_group_is_there(tmp_path: Path) -> None:
    histories: dict[str, list[dict[str, Any]]] = {}
    for values in FACTORS.values():
        histories.update({recipe: [EPOCH] for recipe in values.values()})
    draw([], histories, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"report_d_losses.png"}
