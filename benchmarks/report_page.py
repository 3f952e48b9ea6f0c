"""`python -m benchmarks.report_page`: how soon a search's report is drawn in a browser.

Writes docs/results/report_page (.json and .md).
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.results import Page, Row, machine, write_rows
from fmnist.cli import command
from fmnist.data.formats import CLASSES
from fmnist.training.device import processor
from tests.browser import open_browser
from tests.tune.scripted import search_records, write_best, write_search
from tune.page.assemble import write_report

GOAL_MS = 2000
EPOCHS = 27
DRAWN = "new Promise(done => requestAnimationFrame(() => done(performance.now())))"
"""Milliseconds from the start of loading to the first frame after all charts are there."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Open the report of a search of many trials in Chromium, several times, and time it."""

    trials: tuple[int, ...] = (20, 1000)
    """Trials of the searches, each with 27 epochs."""
    times: int = 7
    """Times that each report is opened."""


def write_example(folder: Path, trials: int) -> Path:
    """Write the report of a search in which every trial ran in full, the most there can be."""
    records = search_records(trials, EPOCHS)
    for record in records:
        missing = EPOCHS - len(record.curve)
        if record.curve:
            last = record.curve[-1]
            record.curve += [round(last + 0.001 * step, 4) for step in range(missing)]
        record.times = [round(record.number + 2.1 * epoch, 2) for epoch in range(len(record.curve))]

    run = write_search(folder / "r", records, CLASSES)
    return write_report(write_best(run, classes=10, images=10_000))


def measure(trials: int, times: int) -> Row:
    taken: list[float] = []
    with tempfile.TemporaryDirectory() as folder, open_browser() as browser:
        report = write_example(Path(folder), trials)
        for _ in range(times):
            # A new page each time, so that nothing is cached.
            page = browser.new_page(viewport={"width": 1600, "height": 900})
            page.goto(report.as_uri())
            page.wait_for_selector("#fan-plot svg")
            taken.append(page.evaluate(DRAWN))
            page.close()
        size = report.stat().st_size

    return {
        "trials": trials,
        "kilobytes": round(size / 1024),
        "median_ms": round(median(taken)),
        "slowest_ms": round(max(taken)),
        "processor": processor(),
    }


def write_page(rows: list[Row]) -> None:
    page = Page("How soon a report is drawn")
    page.text(
        f"""`python -m benchmarks.report_page`: headless Chromium on {rows[0]["processor"]}; goal:
        {GOAL_MS:,} ms for a thousand trials."""
    )
    page.row_table(
        "rrrr",
        "trials | kilobytes | median ms | slowest ms",
        "{trials:,} | {kilobytes:,} | {median_ms:,} | {slowest_ms:,}",
        rows,
    )
    page.write("report_page")


def main(options: Options) -> None:
    rows = [measure(trials, options.times) | machine() for trials in options.trials]
    write_rows("report_page", rows)
    write_page(rows)


if __name__ == "__main__":
    command(Options, main)
