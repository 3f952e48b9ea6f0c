"""Show several runs side by side, on the console and as figures."""

from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fmnist.evaluation import SplitName
from fmnist.evaluation.ensemble import Member
from fmnist.evaluation.metrics import accuracy_interval
from fmnist.evaluation.plots import plot_accuracies, plot_curves
from fmnist.evaluation.significance import SIGNIFICANCE
from fmnist.models import count_parameters


def comparison_row(member: Member, metrics: dict[str, Any]) -> dict[str, Any]:
    """Collect the figures of one run that are compared; `metrics` are `classification_metrics`."""
    images = metrics["images"]
    correct = round(metrics["accuracy"] * images)

    return {
        "run": member.name,
        "model": member.checkpoint.config.model,
        "parameters": count_parameters(member.checkpoint.model),
        "validation_accuracy": member.metrics.get("validation_accuracy"),
        "accuracy": metrics["accuracy"],
        "accuracy_interval": accuracy_interval(correct, images),
        "loss": metrics["loss"],
        "f1_macro": metrics["f1"]["macro"],
        "ece": metrics["ece"],
    }


def show_runs(rows: list[dict[str, Any]], split: SplitName, console: Console) -> None:
    """Print a table with a row for each run; `rows` come from `comparison_row`."""
    table = _empty_table()
    _add_name_column(table, "run (network)")
    # Heads of two lines, so that the table has room on 80 columns.
    for heading in (
        "para-\nmeters",
        "valid.\n%",
        f"{split}\n%",
        "95 %\ninterval",
        "loss",
        "macro\nF1 %",
        "ECE\n%",
    ):
        _add_number_column(table, heading)

    for row in rows:
        low, high = row["accuracy_interval"]
        # A run that was trained on all images has no validation accuracy.
        validation = "–"
        if row["validation_accuracy"] is not None:
            validation = f"{100 * row['validation_accuracy']:.2f}"

        table.add_row(
            f"{escape(row['run'])} ({row['model']})",
            f"{row['parameters']:,}",
            validation,
            f"[bold]{100 * row['accuracy']:.2f}",
            f"{100 * low:.2f}–{100 * high:.2f}",
            f"{row['loss']:.4f}",
            f"{100 * row['f1_macro']:.2f}",
            f"{100 * row['ece']:.2f}",
        )

    console.print(table)


def show_pairs(pairs: list[dict[str, Any]], console: Console) -> None:
    """Print a table with McNemar's test of each pair; `pairs` come from `compare_pairs`."""
    p_columns = {"p": "p"}
    note = ""
    # A single pair has nothing to correct for.
    if len(pairs) > 1:
        p_columns["p_holm"] = "p (Holm)"
        note = ", corrected for the number of pairs"

    table = _empty_table()
    _add_name_column(table, "first")
    _add_name_column(table, "second")
    for heading in ("first only\nright", "second only\nright", *p_columns.values()):
        _add_number_column(table, heading)
    _add_name_column(table, "difference")

    for pair in pairs:
        p_values = [f"{pair[key]:.2g}" for key in p_columns]
        table.add_row(
            escape(pair["first"]),
            escape(pair["second"]),
            f"{pair['b']:,}",
            f"{pair['c']:,}",
            *p_values,
            _verdict(pair),
        )

    console.print(table)
    console.print(
        "McNemar's exact test on the same images; "
        f"a difference counts below p = {SIGNIFICANCE}{note}. "
        "It judges these trained models, not other seeds of the same recipe"
    )


def _verdict(pair: dict[str, Any]) -> str:
    if not pair["significant"]:
        return "within chance"
    return "first better" if pair["b"] > pair["c"] else "second better"


def _empty_table() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)


def _add_name_column(table: Table, heading: str) -> None:
    """Add a column of words, which are folded where the terminal is narrow."""
    table.add_column(heading, overflow="fold")


def _add_number_column(table: Table, heading: str) -> None:
    """Add a column of numbers, which stay whole however narrow the terminal is."""
    table.add_column(heading, justify="right", no_wrap=True, overflow="fold")


def draw(members: list[Member], rows: list[dict[str, Any]], split: SplitName, folder: Path) -> None:
    """Draw the training curves and the accuracies of all runs as PNG files in `folder`."""
    # Runs whose epochs were not kept have no curve.
    curves = {member.name: member.epochs for member in members if member.epochs}
    if curves:
        plot_curves(curves, folder / "curves.png")

    scores: dict[str, tuple[float, float, float]] = {}
    for row in rows:
        low, high = row["accuracy_interval"]
        scores[row["run"]] = (row["accuracy"], low, high)
    title = f"Accuracy on the {split} set, with its 95 % interval"
    plot_accuracies(scores, folder / "compare.png", title)
