"""`python -m fmnist.summary [RUN]`: the panel that closes a run."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from fmnist.cli import Positional, command
from fmnist.errors import check
from fmnist.runs.run_folder import find_run
from fmnist.runs.summary import SUMMARY, read_summary

OWN_FILES = {"weights": "best/model.safetensors", "figures": "figures"}
"""Files that any run may have; stages add theirs (see fmnist.runs.summary)."""


@dataclass(frozen=True, kw_only=True)
class SummaryOptions:
    """Show what a run found."""

    run: Annotated[str | None, Positional] = None
    """Run folder; by default the newest run that has a summary."""


def main(options: SummaryOptions) -> None:
    run = find_run(options.run, suits=has_summary, with_what="a summary")
    check(has_summary(run), f"run={str(run)!r}: it has no {SUMMARY}; let its first stage finish")
    Console().print(closing_panel(run, read_summary(run)))


def has_summary(run: Path) -> bool:
    return (run / SUMMARY).exists()


def closing_panel(run: Path, summary: dict[str, Any]) -> Panel:
    """Best config, accuracies, what the stages added, time, memory and files.

    What is not done yet is left out.
    """
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for title, text in _rows(run, summary):
        table.add_row(escape(title), text)
    name = f"[bold]{escape(str(run))}[/]"
    return Panel(table, title=name, title_align="left", border_style="green", expand=False)


def _rows(run: Path, summary: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Titles and lines of markup."""
    if "config" in summary:
        yield from _config_rows(summary["config"])
    yield from _accuracy_rows(summary)
    for title, text in summary.get("panel", {}).items():
        yield title, escape(text)

    seconds = summary.get("seconds", {})
    stages = ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items())
    yield "time", f"{sum(seconds.values()) / 60:.1f} min: {escape(stages)}"
    yield "peak memory", f"{summary.get('peak_memory_mb', 0):,} MB"

    files = OWN_FILES | summary.get("files", {})
    for title, path in files.items():
        if (run / path).exists():
            yield title, escape(str(run / path))


def _config_rows(saved: dict[str, Any]) -> Iterator[tuple[str, str]]:
    # Not a TrainConfig, which refuses the fields of another version.
    config = defaultdict(lambda: "?", saved)
    widths = "-".join(map(str, config["widths"]))
    network = f"{config['model']} {widths}".strip()
    yield (
        "best config",
        f"{network}, {config['optimizer']}, lr {config['lr']}, batch {config['global_batch_size']}",
    )
    yield (
        "",
        f"{config['schedule']}, weight decay {config['weight_decay']}, shift {config['shift']}, "
        f"erase {config['erase']}, {config['epochs']} epochs",
    )


def _accuracy_rows(summary: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if summary.get("validation_accuracy") is not None:
        trial = ""
        if "trial_images" in summary:
            trial = f" (of the trial, on {summary['trial_images']:,} images)"
        yield "validation", f"{summary['validation_accuracy']:.2%}{trial}"

    if "test_accuracy" in summary:
        accuracy = f"[bold green]{summary['test_accuracy']:.2%}[/]"
        yield "test", f"{accuracy} of {summary['test_images']:,} images, read once"


if __name__ == "__main__":
    command(SummaryOptions, main)
