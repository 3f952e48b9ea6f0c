"""docs/results/reports.md and .json: our figures beside those of the five reports. `fmnist.reproduce` writes them."""

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fmnist.data import CLASSES
from fmnist.recipes import ENSEMBLES, GROUPS, RECIPES, TITLES, Ensemble, Recipe, Report
from fmnist.run import read_json, write_atomic, write_json

REPORTS = Path("docs/results/reports.md")
POINT = 0.01
Row = dict[str, Any]

HEAD = """# The five reports: their figures and ours

Written by `python -m fmnist.reproduce`; one experiment again: `python -m fmnist.reproduce --recipe NAME`, or
`python -m fmnist.train --recipe NAME`. The rows, one a run, are in reports.json. What every figure has in common:

- Accuracy on the 10,000 official test images, in per cent, of the corrected data; mean ± standard deviation where there are two
runs or
  more. The test set is read once, when a training has ended, and chooses nothing. Reports A, D and E chose on it.
- 5,000 of the 60,000 training images are held out to choose by, which the reports (but B, which held out 12,000) trained on: that
  costs about .1 to .3 points.
- *Epochs*: "3 of 20" is a network that is too big for the machine at hand, trained for 3 epochs where the report trained for 20,
  with its learning-rate steps moved in proportion. Such figures say what the network does, not how far it goes; `--full` trains it
  all.
- Weight decay leaves out biases and batch norm's weights. *images/s* is the median over the epochs, augmentation included.
"""


def write_reports(rows: list[Row], path: Path = REPORTS) -> None:
    """Put the rows in the place of those of the same recipe, seed and data that are there, and write both files."""
    known = path.with_suffix(".json")
    merged = {_key(row): row for row in (read_json(known) if known.exists() else [])} | {_key(row): row for row in rows}
    order = list(RECIPES | ENSEMBLES)
    every = sorted(
        (row for row in merged.values() if row["recipe"] in order), key=lambda row: (order.index(row["recipe"]), _key(row))
    )
    write_json(known, every)
    write_atomic(path, "\n".join(render(every)) + "\n")


def render(rows: list[Row]) -> Iterator[str]:
    """The lines of reports.md."""
    yield HEAD
    machines = sorted({f"{row['hardware']} ({row['precision']}, torch {row['torch']})" for row in rows if "precision" in row})
    yield f"Hardware: {'; '.join(machines) or 'none yet'}.\n"
    own = [row for row in rows if row["data"] == "Fashion-MNIST"]
    for report, title in TITLES.items():
        yield f"## {report}. {title}\n"
        yield from _report(report, own)
    yield from _other_data([row for row in rows if row["data"] != "Fashion-MNIST"])


def _report(report: Report, rows: list[Row]) -> Iterator[str]:
    yield (
        "| recipe | what | test, report | test, ours | difference | validation | train, report | ours | macro F1, report | ours |"
        " AUROC | images/s, report | ours | epochs | runs |"
    )
    yield f"|---|---|{'---:|' * 13}"
    experiments = {name: chosen for name, chosen in (RECIPES | ENSEMBLES).items() if chosen.report == report}
    for name, chosen in experiments.items():
        yield _line(name, chosen, [row for row in rows if row["recipe"] == name])
    yield ""
    yield from _differences(experiments, rows)
    if report == "D":
        yield from _class_f1(rows)
    yield from _choices(report, rows)
    said: dict[str, list[str]] = {}
    for name, chosen in experiments.items():
        if isinstance(chosen, Recipe) and chosen.assumed:
            said.setdefault(chosen.assumed, []).append(name)
    yield "Assumed, where the report does not say:\n"
    for assumed, names in said.items():
        yield f"- {', '.join(names)}: {assumed}"
    yield ""


def _line(name: str, chosen: Recipe | Ensemble, own: list[Row]) -> str:
    reported = chosen.reported if isinstance(chosen, Recipe) else {}
    cells = [name, chosen.about]
    if not own:
        return _cells([*cells, _percent(reported.get("test_accuracy")), "not run yet", *[""] * 11])
    theirs, ours = reported.get("test_accuracy"), _mean(own, "test_accuracy")
    assert ours is not None, "every row has it"
    first = own[0]
    shortened = [row for row in own if row["shortened"]]
    planned = chosen.config.epochs if isinstance(chosen, Recipe) else 0
    epochs = "" if not planned else f"**{first['epochs']} of {planned}**" if shortened else f"{planned}"
    stopped = sorted({row.get("epochs_trained", 0) for row in own if row.get("epochs_trained", 0) < row.get("epochs", 0)})
    cells += [
        _percent(theirs),
        f"**{_mean_and_deviation(own, 'test_accuracy')}**",
        "" if theirs is None else f"{100 * (ours - theirs):+.2f}",
        _percent(_mean(own, "validation_accuracy")),
        _percent(reported.get("train_accuracy")),
        _percent(_mean(own, "train_accuracy")),
        _percent(reported.get("macro_f1")),
        _percent(_mean(own, "macro_f1")),
        f"{_mean(own, 'auroc'):.4f}",
        _count(reported.get("images_per_s")),
        _count(_mean(own, "images_per_s")),
        epochs + (f", stopped after {', '.join(map(str, stopped))}" if stopped else ""),
        str(len(own)),
    ]
    return _cells(cells)


def _differences(experiments: dict[str, Recipe | Ensemble], rows: list[Row]) -> Iterator[str]:
    """A sentence for each row that is more than a point from the report's."""
    found = False
    for name, chosen in experiments.items():
        own = [row for row in rows if row["recipe"] == name]
        theirs = chosen.reported.get("test_accuracy") if isinstance(chosen, Recipe) else None
        ours = _mean(own, "test_accuracy")
        if theirs is None or ours is None or abs(ours - theirs) <= POINT or not isinstance(chosen, Recipe):
            continue
        if not found:
            yield "More than a point apart:\n"
        found = True
        yield f"- {name}, {100 * (ours - theirs):+.2f}: {chosen.difference or 'not explained yet.'}"
    if found:
        yield ""


def _class_f1(rows: list[Row]) -> Iterator[str]:
    groups = {group: [row for row in rows if row["recipe"] == f"d-{group}"] for group in GROUPS}
    if not any(groups.values()):
        return
    yield "F1 of each class, the report's → ours:\n"
    yield f"| class | {' | '.join(groups)} |"
    yield f"|---|{'---|' * len(groups)}"
    for number, label in enumerate(CLASSES):
        cells = [label]
        for group, own in groups.items():
            mean = statistics.mean(row["class_f1"][number] for row in own) if own else None
            cells.append(f"{GROUPS[group][2][number]:.2f} → {'–' if mean is None else f'{mean:.2f}'}")
        yield _cells(cells)
    yield ""


def _choices(report: Report, rows: list[Row]) -> Iterator[str]:
    """What one would choose by validation images, where the report chose by test images."""
    if report == "D":
        families = {"group": [f"d-{group}" for group in GROUPS]}
    elif report == "E":
        families = {
            model: [name for name in RECIPES if name.startswith(f"e-{model}-")] for model in ("lenet", "resnet18", "resnet34")
        }
    else:
        return
    for family, names in families.items():
        means = {name: [row for row in rows if row["recipe"] == name] for name in names}
        if not all(means.values()):
            continue
        by = {
            score: max(names, key=lambda name: _mean(means[name], score) or 0.0)
            for score in ("validation_accuracy", "test_accuracy")
        }
        theirs = max(names, key=lambda name: RECIPES[name].reported["test_accuracy"])
        yield (
            f"Best {family} by our validation images: {by['validation_accuracy']} (by our test images it would be "
            f"{by['test_accuracy']}; the report's best on its test images: {theirs}).\n"
        )


def _other_data(rows: list[Row]) -> Iterator[str]:
    if not rows:
        return
    yield "## Another data set (future work of E)\n"
    yield "`python -m fmnist.reproduce --recipe NAME --data DIR`, for any data set in MNIST's file format.\n"
    yield "| data | recipe | test | validation | macro F1 | epochs | runs |"
    yield "|---|---|---:|---:|---:|---:|---:|"
    for data, recipe in dict.fromkeys((row["data"], row["recipe"]) for row in rows):
        own = [row for row in rows if (row["data"], row["recipe"]) == (data, recipe)]
        scores = [
            _mean_and_deviation(own, "test_accuracy"),
            *(_percent(_mean(own, key)) for key in ("validation_accuracy", "macro_f1")),
        ]
        yield _cells([data, recipe, *scores, str(own[0].get("epochs", "")), str(len(own))])
    yield ""


def _key(row: Row) -> tuple[str, str, int]:
    return row["data"], row["recipe"], row["seed"]


def _mean(rows: list[Row], key: str) -> float | None:
    values = [row[key] for row in rows if row.get(key) is not None]
    return statistics.mean(values) if values else None


def _mean_and_deviation(rows: list[Row], key: str) -> str:
    values = [100 * row[key] for row in rows]
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{deviation}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"


def _count(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _cells(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
