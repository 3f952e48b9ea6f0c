"""The page from a run folder: its sections, and the data that the charts draw."""

import hashlib
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from string import Template
from typing import Any

from fmnist.runs.files import write_atomic
from tune.page import figures
from tune.page.figures import Axis, kind_of
from tune.page.markup import Section, embed, field_name, text
from tune.page.run_files import Run, read_run
from tune.page.sections import overview, search_charts, trial_tables, winner_model
from tune.state import TrialRecord, winner
from tune.words import describe

REPORT = "report.html"
FILES = Path(__file__).parent
CHARTS = (
    *("data", "linking", "drawing", "exploring"),
    *("fan", "time", "parallel_axes", "range_control", "parallel"),
    *("tables", "lines", "roc", "start"),
)
"""Files of charts/, in the order in which they are joined: they share one scope."""


def write_report(run: Path) -> Path:
    """Write RUN/report.html from whatever is in the run folder; give its path.

    Raises:
        InputError: no trial of the run is done yet, or a file is damaged.
    """
    path = run / REPORT
    write_atomic(path, build_page(read_run(run)))
    return path


def build_page(run: Run) -> str:
    """The whole report as one HTML file that needs nothing else."""
    best = winner(run.records)
    parameters = figures.axes(run.search.get("space_values"), run.records)
    style = (FILES / "report.css").read_text()
    script = _script()

    links: list[str] = []
    sections: list[str] = []
    for section in _sections(run, best, parameters):
        links.append(f'<li><a href="#{section.name}">{section.title}</a></li>')
        sections.append(section.markup)

    skeleton = Template((FILES / "report.html").read_text())
    # By the hashes the page's policy runs this script alone, whatever else gets into the page.
    return skeleton.substitute(
        title=text(run.name),
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
        contents="".join(links),
        sections="".join(sections),
        data=embed(_chart_data(run, best, parameters)),
    )


def _script() -> str:
    """The charts' files as one script, whose names nothing outside of it sees."""
    files = [(FILES / "charts" / f"{name}.js").read_text() for name in CHARTS]
    joined = "\n".join(files)
    return f'"use strict";\n(() => {{\n{joined}}})();\n'


def _hash(source: str) -> str:
    """The name by which a content security policy knows a script or a style."""
    digest = hashlib.sha256(source.encode()).digest()
    return f"sha256-{b64encode(digest).decode()}"


def _chart_data(run: Run, best: TrialRecord | None, parameters: Sequence[Axis]) -> dict[str, Any]:
    """The data that charts/*.js draw; accuracies and times are as in the run's files."""
    trials: list[dict[str, Any]] = []
    for place, record in enumerate(run.records):
        values = [axis.values[place] for axis in parameters]
        trials.append(_trial_data(record, values))

    axes: list[dict[str, Any]] = []
    for axis in parameters:
        name = field_name(axis.field)
        axes.append({"name": name, "labels": axis.labels, "log": axis.log})

    # As many trials go on at a rung as train in the leg after it.
    rungs: list[dict[str, int]] = []
    for leg, after in pairwise(figures.legs(run.records, run.rungs, run.epochs)):
        rungs.append({"epoch": leg.end, "came": leg.trained, "on": after.trained})

    return {
        "trials": trials,
        "axes": axes,
        "winner": best.number if best else None,
        "rungs": rungs,
        "epochs": run.epochs,
        "steps": [asdict(step) for step in figures.best_so_far(run.records)],
        "classes": [run.classes[number] for number in run.shown],
        **_winner_data(run),
    }


def _trial_data(record: TrialRecord, values: list[float]) -> dict[str, Any]:
    # Null where the trial has no epoch, or its record no times.
    end: float | None = None
    accuracy: float | None = None
    if record.times:
        end = record.times[-1]
    if record.curve:
        accuracy = record.accuracy

    # Short names: a page of 1,000 trials has each of them 1,000 times.
    return {
        "n": record.number,
        "kind": kind_of(record),
        "curve": record.curve,
        "end": end,
        "accuracy": accuracy,
        "at": values,
        "about": describe(record.config),
        "outcome": record.outcome,
    }


def _winner_data(run: Run) -> dict[str, Any]:
    """The winner's training and its ROC curves; empty lists for what is not there yet."""
    found: dict[str, Any] = {"history": [], "auroc": [], "roc": []}
    if run.metrics is not None:
        found["history"] = run.metrics.get("epochs", [])
        areas = run.metrics["test"]["auroc"]["per_class"]
        found["auroc"] = [areas[number] for number in run.shown]
    # Of many images and classes the logits are not kept.
    if run.predictions is not None and "logits" in run.predictions:
        scores = figures.probabilities(run.predictions["logits"])
        found["roc"] = figures.roc(run.predictions["labels"], scores, run.shown)

    return found


def _sections(run: Run, best: TrialRecord | None, parameters: Sequence[Axis]) -> Iterator[Section]:
    yield overview.section(run, best, parameters)
    yield search_charts.fan(run, best)
    yield search_charts.time(run)
    yield search_charts.parallel(parameters)
    yield search_charts.importance(run, parameters)
    yield trial_tables.cost(run)
    yield trial_tables.trials(run, best, parameters)
    yield winner_model.winner(run)
    # A run of an early version kept no predictions; then the winner's section says so.
    if run.predictions is not None:
        yield winner_model.mistakes(run, run.predictions)
    yield winner_model.export(run)
