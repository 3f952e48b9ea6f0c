"""`python -m fmnist.compare RUN RUN…`: several runs on the same images, and whether they differ by more than chance.

McNemar's test (1947) looks only at the images that one model has right and the other wrong: two models that are alike
win them equally often.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from fmnist.cli import command
from fmnist.data import NOT_NAMED, Source
from fmnist.device import default_device
from fmnist.errors import check
from fmnist.evaluate import (
    Member,
    SplitName,
    accuracy_interval,
    classification_metrics,
    held_out_split,
    logits_of,
    open_members,
    output_folder,
)
from fmnist.models import count_parameters
from fmnist.plots import plot_accuracies, plot_curves
from fmnist.run import write_json

SIGNIFICANCE = 0.05


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """Compare runs of the same data: scores, McNemar's test of each pair, and their curves in one picture.

    Example: python -m fmnist.compare demo lenet
    """

    runs: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Run folders or checkpoint folders, two or more."""
    split: SplitName = "test"
    """The test set is for final models: never choose by it."""
    out: str | None = None
    """Folder for the JSON and the figures; by default runs/FIRST+SECOND…"""
    source: Annotated[Source, tyro.conf.arg(name="")] = NOT_NAMED
    """By default the data that the models were trained on."""


def mcnemar(first_right: Tensor, second_right: Tensor) -> tuple[int, int, float]:
    """McNemar's exact test on the same images.

    Args:
        first_right: (N,) bool, whether the first model has each image right.
        second_right: (N,) bool, the second.

    Returns:
        b (only the first is right), c (only the second), and the two-sided p-value; 1 where they never differ.
    """
    from scipy.stats import binomtest

    only_first, only_second = int((first_right & ~second_right).sum()), int((second_right & ~first_right).sum())
    differing = only_first + only_second
    return only_first, only_second, float(binomtest(only_first, differing).pvalue) if differing else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected for there being several tests (Holm, 1979), in the order given."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min((len(p_values) - rank) * p_values[index], 1.0))
        adjusted[index] = highest
    return adjusted


def compare_pairs(names: Sequence[str], right: Sequence[Tensor]) -> list[dict[str, Any]]:
    """McNemar's test of each pair: first, second, b, c, p, p_holm, and whether they differ beyond chance (p_holm below .05).

    Args:
        right: of each run (N,) bool, whether it has each image right.
    """
    pairs = list(itertools.combinations(range(len(names)), 2))
    tests = [mcnemar(right[first], right[second]) for first, second in pairs]
    corrected = holm([p for _, _, p in tests])
    return [
        {
            "first": names[first],
            "second": names[second],
            "b": b,
            "c": c,
            "p": p,
            "p_holm": p_holm,
            "significant": p_holm < SIGNIFICANCE,
        }
        for (first, second), (b, c, p), p_holm in zip(pairs, tests, corrected, strict=True)
    ]


def main(options: CompareOptions) -> None:
    check(len(options.runs) >= 2, f"runs={list(options.runs)}: name two or more to compare")
    members = open_members(options.runs, options.split)
    split = held_out_split(members[0].checkpoint, options.split, options.source)
    rows: list[dict[str, Any]] = []
    right: list[Tensor] = []
    for member in members:
        logits = logits_of(member.checkpoint, split, default_device()).cpu()
        right.append(logits.argmax(1) == split.labels)
        rows.append(_row(member, classification_metrics(logits, split.labels)))
    pairs = compare_pairs([member.name for member in members], right)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{len(split):,} {options.split} images of {escape(members[0].checkpoint.data.name)}")
    _show_runs(rows, options.split, console)
    _show_pairs(pairs, console)
    folder = output_folder(members, options.out)
    path = folder / f"comparison-{options.split}.json"
    write_json(path, {"split": options.split, "images": len(split), "runs": rows, "pairs": pairs})
    _draw(members, rows, options.split, folder / "figures")
    console.print(f"saved in {path} and {folder / 'figures'}")


def _row(member: Member, metrics: dict[str, Any]) -> dict[str, Any]:
    images = metrics["images"]
    return {
        "run": member.name,
        "model": member.checkpoint.config.model,
        "parameters": count_parameters(member.checkpoint.model),
        "validation_accuracy": member.metrics.get("validation_accuracy"),
        "accuracy": metrics["accuracy"],
        "accuracy_interval": accuracy_interval(round(metrics["accuracy"] * images), images),
        "loss": metrics["loss"],
        "f1_macro": metrics["f1"]["macro"],
        "ece": metrics["ece"],
    }


def _show_runs(rows: list[dict[str, Any]], split: SplitName, console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    columns = ("run (network)", "para-\nmeters", "valid.\n%", f"{split}\n%", "95 %\ninterval", "loss", "macro\nF1 %", "ECE\n%")
    for column in columns:
        first = column == columns[0]  # on a narrow terminal names fold; figures stay whole
        table.add_column(column, justify="left" if first else "right", no_wrap=not first, overflow="fold")
    for row in rows:
        low, high = row["accuracy_interval"]
        known = row["validation_accuracy"]
        table.add_row(
            f"{escape(row['run'])} ({row['model']})",
            f"{row['parameters']:,}",
            "–" if known is None else f"{100 * known:.2f}",
            f"[bold]{100 * row['accuracy']:.2f}",
            f"{100 * low:.2f}–{100 * high:.2f}",
            f"{row['loss']:.4f}",
            f"{100 * row['f1_macro']:.2f}",
            f"{100 * row['ece']:.2f}",
        )
    console.print(table)


def _show_pairs(pairs: list[dict[str, Any]], console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    corrected = ["p (Holm)"] if len(pairs) > 1 else []
    for number, column in enumerate(["first", "second", "first only\nright", "second only\nright", "p", *corrected, "difference"]):
        figures = 2 <= number < 5 + len(corrected)
        table.add_column(column, justify="right" if figures else "left", no_wrap=figures, overflow="fold")
    for pair in pairs:
        shown = [f"{pair[key]:.2g}" for key in ("p", "p_holm")[: 1 + len(corrected)]]
        verdict = f"{'first' if pair['b'] > pair['c'] else 'second'} better" if pair["significant"] else "within chance"
        table.add_row(escape(pair["first"]), escape(pair["second"]), f"{pair['b']:,}", f"{pair['c']:,}", *shown, verdict)
    console.print(table)
    console.print(
        f"McNemar's exact test on the same images; a difference counts below p = {SIGNIFICANCE}"
        f"{', corrected for the number of pairs' if corrected else ''}. It judges these models, not other seeds of the same recipe"
    )


def _draw(members: list[Member], rows: list[dict[str, Any]], split: SplitName, folder: Path) -> None:
    if curves := {member.name: member.epochs for member in members if member.epochs}:
        plot_curves(curves, folder / "curves.png")
    scores = {row["run"]: (row["accuracy"], *row["accuracy_interval"]) for row in rows}
    plot_accuracies(scores, folder / "compare.png", f"Accuracy on the {split} set, with its 95 % interval")


if __name__ == "__main__":
    command(CompareOptions, main)
