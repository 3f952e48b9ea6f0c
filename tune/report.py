"""What shows a search: a picture of all its trials, and `python -m tune.report [RUN]`, a page that explains it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from zipfile import BadZipFile

import numpy as np
import tyro
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from rich.console import Console

from fmnist.cli import command
from fmnist.errors import InputError, check
from fmnist.evaluate import PREDICTIONS
from fmnist.plots import color, figure, save_figure
from fmnist.run import find_run, read_json, write_atomic
from fmnist.summary import SUMMARY, read_summary
from tune.journal import TRIALS
from tune.live import describe
from tune.page.assemble import page
from tune.page.figures import Run
from tune.state import TrialRecord, read_trials, winner

REPORT = "report.html"


def plot_search(records: list[TrialRecord], path: Path) -> None:
    """The fan: every trial's validation accuracy by epoch; stopped trials end early, the winner stands out."""
    fig, axes = figure("Search: each line is a trial", "epoch", "validation accuracy, %")
    best = winner(records)
    curves = [record for record in records if record.curve]
    for record in sorted(curves, key=lambda r: r is best):
        epochs = range(1, len(record.curve) + 1)
        values = [100 * value for value in record.curve]
        if record is best:
            axes.plot(epochs, values, "o-", color=color(1), linewidth=2.5, label=f"winner: {describe(record.config)}")
        else:
            ink = color(0) if record.finished else color(5)
            axes.plot(epochs, values, ".-", color=ink, linewidth=1)
    if curves:
        worst = sorted(value for record in curves for value in record.curve)[len(curves) // 4]
        axes.set_ylim(max(100 * worst - 5, 0), None)
        axes.legend(loc="lower right", fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    save_figure(fig, path)


def write_report(run: Path) -> Path:
    """Write RUN/report.html from whatever is in the run folder; give its path.

    Raises:
        InputError: no trial of the run is done yet, or a file is damaged.
    """
    path = run / REPORT
    write_atomic(path, page(read_run(run)))
    return path


def read_run(run: Path) -> Run:
    """What the run folder holds. Raises InputError if no trial is done yet, or a file is damaged."""
    records = read_trials(run / TRIALS)
    check(bool(records), f"run={str(run)!r}: {run / TRIALS} has no trial that is done; name the run of a search")
    return Run(
        name=run.name,
        config=read_json(run / "config.json"),
        records=records,
        summary=read_summary(run) if (run / SUMMARY).exists() else {},
        metrics=_read_if_there(run / "best/metrics.json"),
        predictions=_read_predictions(run / "best" / PREDICTIONS),
        parity=_read_if_there(run / "export/verify.json"),
        latency=_read_if_there(run / "export/benchmark.json"),
    )


def _read_if_there(path: Path) -> Any:
    return read_json(path) if path.exists() else None


def _read_predictions(path: Path) -> dict[str, NDArray[Any]] | None:
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, BadZipFile) as error:
        raise InputError(f"{path} is damaged: {error}; delete it, and the page leaves out what needs it") from error


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Write RUN/report.html: what was searched and found, on one page that needs nothing else."""

    run: Annotated[str | None, tyro.conf.Positional] = None
    """Run folder; by default the newest run."""


def main(options: ReportOptions) -> None:
    path = write_report(find_run(options.run))
    Console(highlight=False, soft_wrap=True).print(f"saved in {path}")


if __name__ == "__main__":
    command(ReportOptions, main)
