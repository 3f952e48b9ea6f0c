"""`python -m benchmarks.report_page`: how soon a search's report is drawn in a browser; docs/results/report_page.json and .md."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from fmnist.cli import command
from fmnist.data import CLASSES
from fmnist.device import processor
from fmnist.run import write_atomic, write_json
from tests.browser import open_browser
from tests.tune.scripted import search_records, write_best, write_search
from tune.report import write_report

RESULTS = Path("docs/results")
GOAL_MS = 2000
DRAWN = "new Promise(done => requestAnimationFrame(() => done(performance.now())))"
"""Milliseconds from the start of loading to the first frame after all charts are there."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Open the report of a search of many trials in Chromium, several times, and time it."""

    trials: tuple[int, ...] = (20, 1000)
    """Trials of the searches, each with 27 epochs."""
    times: int = 7
    """Times that each report is opened."""


def measure(trials: int, times: int) -> dict[str, Any]:
    records = search_records(trials, 27)
    for one in records:  # the most that there can be: every trial in full
        one.curve += [round(one.curve[-1] + 0.001 * k, 4) for k in range(27 - len(one.curve))] if one.curve else []
        one.times = [round(one.number + 2.1 * k, 2) for k in range(len(one.curve))]
    taken: list[float] = []
    with tempfile.TemporaryDirectory() as folder, open_browser() as browser:
        page_file = write_report(write_best(write_search(Path(folder) / "r", records, CLASSES), classes=10, images=10_000))
        for _ in range(times):
            page = browser.new_page(viewport={"width": 1600, "height": 900})
            page.goto(page_file.as_uri())
            page.wait_for_selector("#fan-plot svg")
            taken.append(page.evaluate(DRAWN))
            page.close()
        size = page_file.stat().st_size
    return {"trials": trials, "kilobytes": round(size / 1024), "median_ms": round(median(taken)), "slowest_ms": round(max(taken))}


def main(options: Options) -> None:
    machine = processor()
    rows = [measure(trials, options.times) | {"processor": machine} for trials in options.trials]
    write_json(RESULTS / "report_page.json", rows)
    lines = [
        "# How soon a report is drawn",
        "",
        f"`python -m benchmarks.report_page`: headless Chromium on {machine}; goal: {GOAL_MS:,} ms for a thousand trials.",
        "",
        "| trials | kilobytes | median ms | slowest ms |",
        "|---|---|---|---|",
        *(f"| {row['trials']:,} | {row['kilobytes']:,} | {row['median_ms']:,} | {row['slowest_ms']:,} |" for row in rows),
        "",
    ]
    write_atomic(RESULTS / "report_page.md", "\n".join(lines))
    Console(highlight=False).print("\n".join(lines))


if __name__ == "__main__":
    command(Options, main)
