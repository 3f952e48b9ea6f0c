"""`python -m tune.report [RUN]`: the page that explains a search."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.console import Console

from fmnist.cli import Positional, command
from fmnist.runs.run_folder import find_run
from tune.journal import TRIALS


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Write RUN/report.html: what was searched and found, on one page that needs nothing else."""

    run: Annotated[str | None, Positional] = None
    """Run folder of a search; by default the newest that has a trial."""


def main(options: ReportOptions) -> None:
    # Here: PyTorch takes seconds to import, and --help does without.
    from tune.page.assemble import write_report

    run = find_run(options.run, suits=has_trials, with_what="a trial that is done")
    path = write_report(run)
    Console(highlight=False, soft_wrap=True).print(f"saved in {path}")


def has_trials(run: Path) -> bool:
    return (run / TRIALS).exists()


if __name__ == "__main__":
    command(ReportOptions, main)
