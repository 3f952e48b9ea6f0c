"""What was found: the search in words, its figures, the winner's configuration, its origin."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fmnist.evaluation.metrics import accuracy_interval
from tune.page import figures
from tune.page.figures import Axis, Kind, kind_of
from tune.page.markup import Section, code, definitions, field_name, paragraphs, percent, text
from tune.page.run_files import Run
from tune.state import TrialRecord
from tune.words import duration

PACKAGES = ("python", "torch", "ray", "numpy", "scikit-learn")
"""Packages whose versions are shown; config.json has all."""


def section(run: Run, best: TrialRecord | None, parameters: Sequence[Axis]) -> Section:
    words = paragraphs(_searched(run), _spent(run), *_won(run, best))
    work = _facts(run, best) + _config(best, parameters) + _origin(run)
    return Section("found", "What was found", words, work)


def _facts(run: Run, best: TrialRecord | None) -> str:
    spent = figures.cost(run.records)
    facts: list[tuple[str, str]] = []
    # The test accuracy first: it is what most readers came for.
    if run.metrics:
        accuracy = percent(run.metrics["test"]["accuracy"])
        facts.append(("test accuracy", f"<strong>{accuracy}</strong>"))
    if best:
        facts.append(("validation accuracy", percent(best.accuracy)))
    facts.append(("trials", f"{len(run.records):,}"))
    facts.append(("epochs", f"{spent.epochs:,} <small>of {spent.full_epochs:,}</small>"))
    seconds = run.summary.get("seconds", {}).get("search")
    if seconds:
        facts.append(("search", text(duration(seconds))))

    return definitions(facts, "facts")


def _searched(run: Run) -> str:
    search = run.search
    base = run.config.get("train", {})
    models = sorted({text(record.config.model) for record in run.records})

    words = f"{len(run.records):,}"
    if search.get("trials", 0) > len(run.records):
        words += f" of {search['trials']:,} planned"
    words += " configurations"

    if "space" in search:
        # A space can be a file, whose name says enough.
        space = Path(search["space"]).name
        words += f" from the space “{text(space)}”"

    words += " were tried"
    if base.get("train_images"):
        words += f" on {base['train_images']:,} images"
    name = run.config.get("data", {}).get("name")
    if name:
        words += f" of {text(name)}"
    if base.get("validation_images"):
        words += f", and compared on {base['validation_images']:,} images held out"

    return f"{words}: {', '.join(models)}, for up to {run.epochs} epochs."


def _spent(run: Run) -> str:
    kinds = Counter(map(kind_of, run.records))
    fates: dict[Kind, str] = {
        "finished": "ran in full",
        "stopped": "stopped early",
        "failed": "failed",
        "ended": "ended by a limit",
    }
    if run.rungs:
        fates["stopped"] = "stopped at a rung"

    counts: list[str] = []
    for kind, fate in fates.items():
        if kind in kinds:
            counts.append(f"{kinds[kind]:,} {fate}")
    spent = figures.cost(run.records)
    # No epoch at all where every trial failed in its first.
    share = spent.epochs / max(spent.full_epochs, 1)
    words = (
        f"Of them {', '.join(counts)}. Together they trained {spent.epochs:,} epochs, "
        f"{share:.0%} of the {spent.full_epochs:,} that all in full would take."
    )
    seconds = run.summary.get("seconds", {}).get("search")
    if seconds:
        words += f" The search took {text(duration(seconds))}."

    return words


def _won(run: Run, best: TrialRecord | None) -> list[str]:
    if best is None:
        return ["No trial gave a result."]

    words = (
        f"The winner is trial {best.number}, with {percent(best.accuracy)} of the validation "
        "images right."
    )
    if run.metrics is None:
        resume = code(f"python -m tune.search --name {run.name} --resume")
        return [words, f"It is not retrained yet: {resume} goes on with that."]

    test = run.metrics["test"]
    right = round(test["accuracy"] * test["images"])
    low, high = accuracy_interval(right, test["images"])
    tested = (
        "Trained anew on all training images, it gets "
        f"<strong>{percent(test['accuracy'])}</strong> of {test['images']:,} test images right "
        f"(95% interval {percent(low)} to {percent(high)}). "
        "The test images were read once, and chose nothing."
    )

    return [words, tested]


def _config(best: TrialRecord | None, parameters: Sequence[Axis]) -> str:
    if best is None:
        return ""
    config = best.config.to_dict()
    # Without doubles: the network and the epochs may be parameters too.
    varied = [axis.field for axis in parameters]
    fields = dict.fromkeys(["model", "widths", *varied, "epochs"])
    rows: list[tuple[str, str]] = []
    for field in fields:
        value = figures.label(config[field])
        rows.append((field_name(field), text(value)))

    return f"<h3>The winner’s configuration</h3>{definitions(rows, 'pairs')}"


def _origin(run: Run) -> str:
    environment = run.config.get("environment", {})
    rows: list[tuple[str, str]] = []
    versions = _versions(environment)
    if versions:
        rows.append(("versions", text(versions)))
    if environment.get("platform"):
        rows.append(("machine", text(environment["platform"])))
    if environment.get("git_commit"):
        commit = code(environment["git_commit"][:12])
        if environment.get("git_dirty"):
            commit += ", with changes that are not committed"
        rows.append(("commit", commit))

    stages = run.summary.get("seconds", {})
    if stages:
        times = [f"{stage} {duration(seconds)}" for stage, seconds in stages.items()]
        rows.append(("time", text(", ".join(times))))
    if "peak_memory_mb" in run.summary:
        rows.append(("peak memory", f"{run.summary['peak_memory_mb']:,} MB"))

    if not rows:
        return ""
    return f"<h3>Where it comes from</h3>{definitions(rows, 'pairs')}"


def _versions(environment: dict[str, Any]) -> str:
    versions = environment.get("versions", {})
    shown = [f"{name} {versions[name]}" for name in PACKAGES if name in versions]
    return ", ".join(shown)
