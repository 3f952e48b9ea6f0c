"""`python -m fmnist.compare RUN RUN…`: compare runs on the same images, by McNemar's test too."""

from dataclasses import dataclass
from typing import Annotated

from rich.console import Console
from rich.markup import escape

from fmnist.cli import Positional, Topics, command
from fmnist.data.sources import NOT_NAMED, Source
from fmnist.errors import check
from fmnist.evaluation import SplitName
from fmnist.runs.files import write_json


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """Compare runs of the same data: scores, McNemar's test of each pair, and their curves in one
    figure.

    Example: python -m fmnist.compare demo lenet
    """

    runs: Annotated[tuple[str, ...], Positional] = ()
    """Run folders or checkpoint folders, two or more."""
    split: SplitName = "test"
    """The test set is for final models: select nothing on it."""
    out: str | None = None
    """Folder for the JSON and the figures; by default runs/FIRST+SECOND…"""
    source: Annotated[Source, Topics()] = NOT_NAMED
    """By default the data that the models were trained on."""


def main(options: CompareOptions) -> None:
    # Here: PyTorch takes seconds to import, and --help does without.
    from fmnist.evaluation.comparison import comparison_row, draw, show_pairs, show_runs
    from fmnist.evaluation.ensemble import open_members, output_folder
    from fmnist.evaluation.held_out import held_out_split, split_logits
    from fmnist.evaluation.metrics import classification_metrics
    from fmnist.evaluation.significance import compare_pairs

    check(len(options.runs) >= 2, f"runs={list(options.runs)}: name two or more to compare")
    members = open_members(options.runs, options.split)
    data = members[0].checkpoint.data
    split = held_out_split(members[0].checkpoint, options.split, options.source)

    rows = []
    right = []
    for member in members:
        logits = split_logits(member.checkpoint, split)
        right.append(logits.argmax(1) == split.labels)
        rows.append(comparison_row(member, classification_metrics(logits, split.labels)))
    pairs = compare_pairs([member.name for member in members], right)

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{len(split):,} {options.split} images of {escape(data.name)}")
    show_runs(rows, options.split, console)
    show_pairs(pairs, console)

    folder = output_folder(members, options.out)
    path = folder / f"comparison-{options.split}.json"
    write_json(path, {"split": options.split, "images": len(split), "runs": rows, "pairs": pairs})
    draw(members, rows, options.split, folder / "figures")
    console.print(f"saved in {path} and {folder / 'figures'}")


if __name__ == "__main__":
    command(CompareOptions, main)
