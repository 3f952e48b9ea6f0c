"""docs/results/reports.md and .json: our figures beside those of the five reports. `fmnist.reproduce` writes them."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fmnist.data import CLASSES
from fmnist.plots import Panel, Point, plot_curves, plot_factor, plot_losses
from fmnist.recipes import ASSUMED, DIFFERENCES, ENSEMBLES, GROUPS, RATES, RECIPES, TITLES, Ensemble, Recipe, Report
from fmnist.run import read_json, write_atomic, write_json

REPORTS = Path("docs/results/reports.md")
IMAGES = Path("docs/images")
FACTORS = {
    "epochs": {"5": "d-8", "10": "d-1", "15": "d-9"},
    "batch size": {"64": "d-6", "128": "d-1", "256": "d-7"},
    "weight decay": {"0.0001": "d-1", "0.001": "d-4", "0.01": "d-5"},
    "learning rate": {"0.001": "d-1", "0.01": "d-2", "0.1": "d-3"},
}
"""Report D's comparisons: the values of each factor, and whose groups they are."""
CURVES: dict[Report, tuple[str, ...]] = {
    "A": ("a-lenet5-sgd", "a-alexnet-sgd", "a-mycnn-sgd", "a-mycnn-fixed-sgd"),
    "B": ("b-cnn", "b-cnn-published", "b-cnn-plain", "b-resnet18-published", "b-resnet18-scratch"),
    "C": ("c-vgg", "c-vgg-dropout", "c-vgg-weighted"),
}
"""The trainings whose curves stand in one figure."""
POINT = 0.01
Row = dict[str, Any]

HEAD = """# The five reports: their figures and ours

Written by `python -m fmnist.reproduce`; one experiment again: `python -m fmnist.reproduce --recipe NAME`, or
`python -m fmnist.train --recipe NAME`. The rows, one a run, are in reports.json. What every figure has in common:

- Accuracy on the 10,000 official test images, in per cent, of the corrected data; mean ± standard deviation where there are two
  runs or more. The test set is read once, when a training has ended, and chooses nothing. Reports A, D and E chose on it.
- *Runs*: three seeds, or one where that took over ten minutes on the hardware of its row.
- 5,000 of the 60,000 training images are held out to choose by, which the reports (but B, which held out 12,000) trained on: that
  costs about .1 to .3 points.
- *Epochs*: "3 of 20" is a network that is too big for the machine at hand, trained for 3 epochs where the report trained for 20,
  with its learning-rate steps moved in proportion. Such figures say what the network does, not how far it goes; `--full` trains
  it all.
- Training accuracy is the running one of the epoch whose weights are kept, macro averages weigh every class alike, AUROC is the
  mean over the classes of one against the rest. Weight decay leaves out biases and batch norm's weights.
- *images/s* is the median over the epochs, augmentation included. Where another process ran on the same core, as it did for the
  rows of "1 thread", it is a lower bound, and no measure of the network. *Hardware* is a number of this list:
"""


def known_rows(path: Path = REPORTS) -> list[Row]:
    """The rows of the table, from whichever machine."""
    known = path.with_suffix(".json")
    return read_json(known) if known.exists() else []


def write_reports(rows: list[Row], path: Path = REPORTS) -> None:
    """Put the rows in the place of those of the same recipe, seed and data that are there, and write both files."""
    merged = {_key(row): row for row in known_rows(path)} | {_key(row): row for row in rows}
    order = list(RECIPES | ENSEMBLES)
    every = sorted(
        (row for row in merged.values() if row["recipe"] in order), key=lambda row: (order.index(row["recipe"]), _key(row))
    )
    write_json(path.with_suffix(".json"), every)
    write_atomic(path, "\n".join(render(every)) + "\n")


def draw(rows: list[Row], histories: Mapping[str, Sequence[Mapping[str, Any]]], folder: Path = IMAGES) -> None:
    """The figures that reports.md shows; one of curves only when all its trainings are there.

    Args:
        histories: of each recipe, each epoch's EpochMetrics as dicts.
    """
    for report, names in CURVES.items():
        if set(names) <= set(histories):
            plot_curves({name: histories[name] for name in names}, folder / f"report_{report.lower()}.png")
    if {recipe for values in FACTORS.values() for recipe in values.values()} <= set(histories):
        losses = {name: {value: histories[recipe] for value, recipe in values.items()} for name, values in FACTORS.items()}
        plot_losses(losses, folder / "report_d_losses.png", "Report D: validation loss")
    own = [row for row in rows if row["data"] == "Fashion-MNIST"]
    comparisons = {
        "d": ([_factor(name, values, own) for name, values in FACTORS.items()], "one factor at a time"),
        "e": ([_rates(model, own) for model in RATES], "learning rates"),
    }
    for report, (panels, title) in comparisons.items():
        if any(row["recipe"].startswith(f"{report}-") for row in own):
            plot_factor(panels, folder / f"report_{report}.png", f"Report {report.upper()}: {title}")


def _factor(name: str, values: Mapping[str, str], rows: list[Row]) -> Panel:
    theirs = [(RECIPES[recipe].reported["test_accuracy"], None) for recipe in values.values()]
    ours = [_point(rows, recipe, "test_accuracy") for recipe in values.values()]
    return Panel(name, list(values), {"report, test": theirs, "ours, test": ours})


def _rates(model: str, rows: list[Row]) -> Panel:
    names = {f"{lr:g}": f"e-{model}-{lr:g}" for lr in sorted(RATES[model])}
    series: dict[str, list[Point]] = {}
    for part in ("train", "test"):
        series[f"report, {part}"] = [(RECIPES[recipe].reported[f"{part}_accuracy"], None) for recipe in names.values()]
        series[f"ours, {part}"] = [_point(rows, recipe, f"{part}_accuracy") for recipe in names.values()]
    return Panel(model, list(names), series)


def _point(rows: list[Row], recipe: str, key: str) -> Point:
    values = [row[key] for row in rows if row["recipe"] == recipe]
    if not values:
        return None
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None


def render(rows: list[Row]) -> Iterator[str]:
    """The lines of reports.md."""
    yield HEAD
    machines = _machines(rows)
    yield "\n".join(f"{number}. {machine}" for number, machine in enumerate(machines, start=1)) or "none yet"
    yield ""
    own = [row for row in rows if row["data"] == "Fashion-MNIST"]
    for report, title in TITLES.items():
        yield f"## {report}. {title}\n"
        yield from _report(report, own, machines)
    yield from _other_data([row for row in rows if row["data"] != "Fashion-MNIST"])


def _machine(row: Row) -> str:
    return f"{row['hardware']} ({row['precision']}, torch {row['torch']})"


def _machines(rows: list[Row]) -> list[str]:
    return sorted({_machine(row) for row in rows if "precision" in row})


def _report(report: Report, rows: list[Row], machines: list[str]) -> Iterator[str]:
    experiments = {name: chosen for name, chosen in (RECIPES | ENSEMBLES).items() if chosen.report == report}
    given = {key for chosen in experiments.values() if isinstance(chosen, Recipe) for key in chosen.reported}
    scores = [key for key in SCORES if key in given or key == "images_per_s"]
    names = [f"{SCORES[key][0]}{', report → ours' if key in given else ''}" for key in scores]
    yield _cells(
        ["recipe", "what", "test, report", "test, ours", "difference", "validation", *names, "AUROC", "epochs", "runs", "hardware"]
    )
    yield f"|---|---|{'---:|' * (8 + len(names))}"
    for name, chosen in experiments.items():
        yield _line(name, chosen, [row for row in rows if row["recipe"] == name], scores, given, machines)
    yield ""
    yield from _differences(experiments, rows)
    if report == "D":
        yield from _class_f1(rows)
    yield from _choices(report, rows)
    for figure in {"D": ("report_d", "report_d_losses")}.get(report, (f"report_{report.lower()}",)):
        if (IMAGES / f"{figure}.png").exists():
            yield f"![Report {report}](../images/{figure}.png)\n"
    yield f"Assumed, where the report does not say:\n\n- all: {ASSUMED[report]}"
    said: dict[str, list[str]] = {}
    for name, chosen in experiments.items():
        if isinstance(chosen, Recipe) and chosen.assumed:
            said.setdefault(chosen.assumed, []).append(name)
    for assumed, names in said.items():
        yield f"- {', '.join(names)}: {assumed}"
    yield ""


def _line(name: str, chosen: Recipe | Ensemble, own: list[Row], scores: list[str], given: set[str], machines: list[str]) -> str:
    reported = chosen.reported if isinstance(chosen, Recipe) else {}
    theirs, ours = reported.get("test_accuracy"), _mean(own, "test_accuracy")
    start = [name, chosen.about, _percent(theirs)]
    if ours is None:
        return _cells([*start, "not run yet", *[""] * (len(scores) + 6)])
    between = [_theirs_and_ours(key, reported, own, key in given) for key in scores]
    trained = [row for row in own if "precision" in row]  # an ensemble's members were, not it
    return _cells([
        *start,
        f"**{_mean_and_deviation(own, 'test_accuracy')}**",
        "" if theirs is None else f"{100 * (ours - theirs):+.2f}",
        _percent(_mean(own, "validation_accuracy")),
        *between,
        f"{_mean(own, 'auroc'):.4f}",
        _epochs(chosen, own) if isinstance(chosen, Recipe) else "",
        str(len(own)),
        ", ".join(str(number) for number, machine in enumerate(machines, start=1) if machine in map(_machine, trained)),
    ])  # fmt: skip


def _theirs_and_ours(key: str, reported: Mapping[str, float], own: list[Row], compared: bool) -> str:
    """ "report → ours", or ours alone where the report gives that figure of no row."""
    show = SCORES[key][1]
    theirs, ours = show(reported.get(key)), show(_mean(own, key))
    return f"{theirs or '–'} → {ours or '–'}" if compared and (theirs or ours) else ours


def _epochs(recipe: Recipe, own: list[Row]) -> str:
    """ "10", or "**3 of 20**" of those that were cut short, or "40, stopped after 17"."""
    planned, trained = recipe.config.epochs, own[0]["epochs"]
    stopped = sorted({row["epochs_trained"] for row in own if row["epochs_trained"] < row["epochs"]})
    said = f"{planned}" if trained == planned else f"**{trained} of {planned}**"
    return said + (f", stopped after {', '.join(map(str, stopped))}" if stopped else "")


def _differences(experiments: dict[str, Recipe | Ensemble], rows: list[Row]) -> Iterator[str]:
    """A sentence for each row that is more than a point from the report's."""
    found = False
    for name, chosen in experiments.items():
        own = [row for row in rows if row["recipe"] == name]
        theirs = chosen.reported.get("test_accuracy") if isinstance(chosen, Recipe) else None
        ours = _mean(own, "test_accuracy")
        if theirs is None or ours is None or abs(ours - theirs) <= POINT:
            continue
        if not found:
            yield "More than a point apart:\n"
        found = True
        assert isinstance(chosen, Recipe), "an ensemble is in no report"
        short = f"{own[0]['epochs']} of {chosen.config.epochs} epochs" if own[0]["shortened"] else ""
        because = DIFFERENCES.get(name, "" if short else "not explained yet.")
        yield f"- {name}, {100 * (ours - theirs):+.2f}: {'; '.join(part for part in (short, because) if part)}"
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
        families = {model: [f"e-{model}-{lr:g}" for lr in rates] for model, rates in RATES.items()}
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


def _loss(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"


def _count(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _cells(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


SCORES: dict[str, tuple[str, Callable[[float | None], str]]] = {
    "train_accuracy": ("train", _percent),
    "macro_f1": ("macro F1", _percent),
    "macro_precision": ("macro precision", _percent),
    "test_loss": ("test loss", _loss),
    "train_s": ("training s", _count),
    "images_per_s": ("images/s", _count),
}
"""Further columns, each shown where a report gives it; and how."""
