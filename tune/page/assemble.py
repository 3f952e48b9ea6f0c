"""The page from the figures: its sections, and the data that report.js draws."""

import hashlib
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from string import Template
from typing import Any

from tune.live import describe
from tune.page import figures, searched, won
from tune.page.figures import Axis, Run, kind_of
from tune.page.markup import Part, embed, field_name, section, text
from tune.state import TrialRecord, winner

FILES = Path(__file__).parent


def page(run: Run) -> str:
    """The whole report as one HTML file that needs nothing else."""
    best = winner(run.records)
    parameters = figures.axes(run.search.get("space_values"), run.records)
    style, script, skeleton = ((FILES / name).read_text() for name in ("report.css", "report.js", "report.html"))
    parts = [part for part in _sections(run, best, parameters) if part]
    return Template(skeleton).substitute(
        title=text(run.name),
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
        contents="".join(f'<li><a href="#{name}">{title}</a></li>' for name, title, _, _ in parts),
        sections="".join(section(*part) for part in parts),
        data=embed(data(run, best, parameters)),
    )


def _hash(source: str) -> str:
    """What a content security policy knows a script by."""
    return "sha256-" + b64encode(hashlib.sha256(source.encode()).digest()).decode()


def data(run: Run, best: TrialRecord | None, parameters: Sequence[Axis]) -> dict[str, Any]:
    """What report.js draws. Accuracies and times are as in the run's files."""
    return {
        "trials": [_trial(record, place, parameters) for place, record in enumerate(run.records)],
        "axes": [{"name": field_name(axis.field), "labels": axis.labels, "log": axis.log} for axis in parameters],
        "winner": best.number if best else None,
        "rungs": [
            {"epoch": leg.end, "came": leg.came, "on": after.came}
            for leg, after in pairwise(figures.legs(run.records, run.rungs, run.epochs))
        ],
        "epochs": run.epochs,
        "steps": [asdict(step) for step in figures.best_so_far(run.records)],
        "history": run.metrics.get("epochs", []) if run.metrics else [],
        "classes": run.classes,
        "roc": _roc(run),
        "auroc": run.metrics["test"]["auroc"]["per_class"] if run.metrics else [],
    }


def _trial(record: TrialRecord, place: int, parameters: Sequence[Axis]) -> dict[str, Any]:
    return {
        "n": record.number,
        "kind": kind_of(record),
        "curve": record.curve,
        "end": record.times[-1] if record.times else None,
        "accuracy": record.accuracy if record.curve else None,
        "at": [axis.values[place] for axis in parameters],
        "about": describe(record.config),
        "outcome": record.outcome,
    }


def _roc(run: Run) -> list[Any]:
    if run.predictions is None:
        return []
    return figures.roc(run.predictions["labels"], figures.probabilities(run.predictions["logits"]))


def _sections(run: Run, best: TrialRecord | None, parameters: Sequence[Axis]) -> Iterator[Part | None]:
    yield searched.found(run, best, parameters)
    yield searched.fan(run, best)
    yield searched.time(run)
    yield searched.parallel(parameters)
    yield searched.importance(run, parameters)
    yield searched.cost(run)
    yield searched.trials(run, best, parameters)
    yield won.winner(run)
    yield won.mistakes(run)
    yield won.export(run)
