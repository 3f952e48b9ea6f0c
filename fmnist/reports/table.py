"""docs/results/reports.md and .json: our figures beside those of the five reports.

`fmnist.reproduce` writes them. A row is one run of one experiment, as reports.json has it.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fmnist.data.formats import CLASSES
from fmnist.evaluation.plots import Panel, Point, plot_curves, plot_factor, plot_losses
from fmnist.reports.recipes import (
    ASSUMED,
    DIFFERENCES,
    EXPERIMENTS,
    GROUPS,
    RATES,
    REPORT_RECIPES,
    TITLES,
    Experiment,
    Recipe,
    Report,
)
from fmnist.runs.files import read_json, write_atomic, write_json

REPORTS = Path("docs/results/reports.md")
IMAGES = Path("docs/images")
OFFICIAL_DATA = "Fashion-MNIST"
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
EXPLAINED_FROM = 0.01
"""Difference in test accuracy above which the table says why."""
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Score:
    """A column of the table, and how a value of it is written."""

    title: str
    form: str
    scale: float = 1

    def show(self, value: float | None) -> str:
        if value is None:
            return ""
        return f"{self.scale * value:{self.form}}"


PERCENT = Score("", ".2f", scale=100)
SCORES = {
    "train_accuracy": Score("train", ".2f", scale=100),
    "macro_f1": Score("macro F1", ".2f", scale=100),
    "macro_precision": Score("macro precision", ".2f", scale=100),
    "test_loss": Score("test loss", ".4f"),
    "train_s": Score("training s", ",.0f"),
    "images_per_s": Score("images/s", ",.0f"),
}
"""Further columns, each shown where a report gives it; images/s always."""

HEAD = """# The five reports: their figures and ours

Written by `python -m fmnist.reproduce`; one experiment again:
`python -m fmnist.reproduce --recipe NAME`, or `python -m fmnist.train --recipe NAME`. The rows, one
a run, are in reports.json. What every figure has in common:

- Accuracy on the 10,000 official test images, in per cent, of the corrected data; mean ± standard
  deviation where there are two runs or more. The test set is read once, when a training has ended,
  and chooses nothing. Reports A, D and E chose on it.
- *Runs*: three seeds, or one where that took over ten minutes on the hardware of its row.
- 5,000 of the 60,000 training images are held out to choose by, which the reports (but B, which
  held out 12,000) trained on: that costs about .1 to .3 points.
- *Epochs*: "3 of 20" is a network that is too big for the machine at hand, trained for 3 epochs
  where the report trained for 20, with its learning-rate steps moved in proportion. Such figures
  say what the network does, not how far it goes; `--full` trains it all.
- Training accuracy is the running one of the epoch whose weights are kept, macro averages weigh
  every class alike, AUROC is the mean over the classes of one against the rest. Weight decay leaves
  out biases and batch norm's weights.
- *images/s* is the median over the epochs, augmentation included. Where another process ran on the
  same core, as it did for the rows of "1 thread", it is a lower bound, and no measure of the
  network. *Hardware* is a number of this list:
"""


def known_rows(path: Path = REPORTS) -> list[Row]:
    """The rows of the table, from whichever machine."""
    file = path.with_suffix(".json")
    if not file.exists():
        return []
    return read_json(file)


def write_reports(rows: list[Row], path: Path = REPORTS) -> None:
    """Put rows in the place of those of the same data, recipe and seed, and write both files."""
    merged: dict[tuple[str, str, int], Row] = {}
    for row in (*known_rows(path), *rows):
        # An experiment that was renamed leaves rows that nobody can make again.
        if row["recipe"] in EXPERIMENTS:
            merged[_key(row)] = row

    places = {name: place for place, name in enumerate(EXPERIMENTS)}
    ordered = sorted(merged.values(), key=lambda row: (places[row["recipe"]], _key(row)))
    # The rows first: from them the page can be written again.
    write_json(path.with_suffix(".json"), ordered)
    write_atomic(path, "\n".join(render(ordered)) + "\n")


def _key(row: Row) -> tuple[str, str, int]:
    return row["data"], row["recipe"], row["seed"]


def draw(
    rows: list[Row], histories: Mapping[str, Sequence[Mapping[str, Any]]], folder: Path = IMAGES
) -> None:
    """Draw the figures that reports.md shows; one of curves only when all its trainings are there.

    Args:
        rows: the table.
        histories: of each recipe, each epoch's EpochMetrics as dicts.
        folder: for the PNG files.
    """
    for report, names in CURVES.items():
        if set(names) <= set(histories):
            curves = {name: histories[name] for name in names}
            plot_curves(curves, folder / f"report_{report.lower()}.png")

    _draw_losses(histories, folder)

    official = _official(rows)
    # The first letter of a recipe is its report's.
    reports = {row["recipe"][0] for row in official}
    if "d" in reports:
        factors: list[Panel] = []
        for name, values in FACTORS.items():
            factors.append(_factor_panel(name, values, official))
        plot_factor(factors, folder / "report_d.png", "Report D: one factor at a time")

    if "e" in reports:
        networks = [_rates_panel(model, official) for model in RATES]
        plot_factor(networks, folder / "report_e.png", "Report E: learning rates")


def _draw_losses(histories: Mapping[str, Sequence[Mapping[str, Any]]], folder: Path) -> None:
    """The validation losses of report D's groups, once all are there."""
    losses: dict[str, dict[str, Sequence[Mapping[str, Any]]]] = {}
    for factor, values in FACTORS.items():
        # A figure in which a factor lacks a curve would compare nothing.
        if not set(values.values()) <= set(histories):
            return

        losses[factor] = {value: histories[recipe] for value, recipe in values.items()}

    plot_losses(losses, folder / "report_d_losses.png", "Report D: validation loss")


def _official(rows: list[Row]) -> list[Row]:
    """The rows of the data that the reports used."""
    return [row for row in rows if row["data"] == OFFICIAL_DATA]


def _factor_panel(name: str, values: Mapping[str, str], rows: list[Row]) -> Panel:
    series: dict[str, list[Point]] = {"report, test": [], "ours, test": []}
    for recipe in values.values():
        # The reports trained each recipe once, so their figures have no deviation.
        theirs = REPORT_RECIPES[recipe].reported["test_accuracy"]
        series["report, test"].append((theirs, None))
        series["ours, test"].append(_point(rows, recipe, "test_accuracy"))

    return Panel(name, list(values), series)


def _rates_panel(model: str, rows: list[Row]) -> Panel:
    series: dict[str, list[Point]] = {
        "report, train": [],
        "ours, train": [],
        "report, test": [],
        "ours, test": [],
    }
    rates: list[str] = []
    for lr in sorted(RATES[model]):
        rates.append(f"{lr:g}")
        recipe = f"e-{model}-{lr:g}"

        for part in ("train", "test"):
            score = f"{part}_accuracy"
            theirs = REPORT_RECIPES[recipe].reported[score]
            series[f"report, {part}"].append((theirs, None))
            series[f"ours, {part}"].append(_point(rows, recipe, score))

    return Panel(model, rates, series)


def _point(rows: list[Row], recipe: str, key: str) -> Point:
    """Mean and standard deviation of a recipe's rows."""
    values = _values(_rows_of(recipe, rows), key)
    if not values:
        return None

    mean = statistics.mean(values)
    if len(values) < 2:
        return mean, None
    return mean, statistics.stdev(values)


def _rows_of(recipe: str, rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["recipe"] == recipe]


def render(rows: list[Row]) -> Iterator[str]:
    """The lines of reports.md."""
    yield HEAD
    # HEAD ends where the list of machines begins.
    machines = sorted(_machines(rows))
    for number, machine in enumerate(machines, start=1):
        yield f"{number}. {machine}"
    if not machines:
        yield "none yet"
    yield ""

    official = _official(rows)
    for report, title in TITLES.items():
        yield f"## {report}. {title}\n"
        yield from _report(report, official, machines)

    yield from _other_data([row for row in rows if row["data"] != OFFICIAL_DATA])


def _machines(rows: list[Row]) -> set[str]:
    """The machines that trained; an ensemble's row names none, since its members were trained."""
    machines: set[str] = set()
    for row in rows:
        if "precision" in row:
            machines.add(f"{row['hardware']} ({row['precision']}, torch {row['torch']})")

    return machines


def _report(report: Report, rows: list[Row], machines: list[str]) -> Iterator[str]:
    """One report's section."""
    experiments = {name: each for name, each in EXPERIMENTS.items() if each.report == report}
    yield from _table(experiments, rows, machines)
    yield ""

    yield from _differences(experiments, rows)
    if report == "D":
        yield from _class_f1(rows)
    yield from _choices(report, rows)

    figures = [f"report_{report.lower()}"]
    if report == "D":
        figures.append("report_d_losses")
    for figure in figures:
        # A figure whose trainings are not all there yet was not drawn.
        if (IMAGES / f"{figure}.png").exists():
            yield f"![Report {report}](../images/{figure}.png)\n"

    yield from _assumptions(report, experiments)


def _table(
    experiments: dict[str, Experiment], rows: list[Row], machines: list[str]
) -> Iterator[str]:
    """A line for each experiment; further columns where the report gives such a figure."""
    compared: set[str] = set()
    for experiment in experiments.values():
        compared.update(_reported(experiment))
    scores = [key for key in SCORES if key in compared or key == "images_per_s"]

    header = _header(scores, compared)
    yield _cells(header)
    # Names and words to the left, numbers to the right.
    yield f"|---|---|{'---:|' * (len(header) - 2)}"

    for name, experiment in experiments.items():
        own = _rows_of(name, rows)
        reported = _reported(experiment)
        theirs = reported.get("test_accuracy")
        start = [name, experiment.about, PERCENT.show(theirs)]
        # In the table all the same, so that nobody takes it for left out in silence.
        if not own:
            empty = [""] * (len(header) - len(start) - 1)
            yield _cells([*start, "not run yet", *empty])
            continue

        between = [_theirs_and_ours(key, reported, own, key in compared) for key in scores]
        end = _end_cells(experiment, own, machines)
        yield _cells([*start, *_test_cells(theirs, own), *between, *end])


def _header(scores: Sequence[str], compared: set[str]) -> list[str]:
    """Heads of the columns; one of `compared` holds two figures."""
    header = ["recipe", "what", "test, report", "test, ours", "difference", "validation"]
    for key in scores:
        title = SCORES[key].title
        if key in compared:
            title += ", report → ours"
        header.append(title)

    header += ["AUROC", "epochs", "runs", "hardware"]
    return header


def _reported(experiment: Experiment) -> dict[str, float]:
    """The report's figures; it has none of ensembles."""
    if isinstance(experiment, Recipe):
        return experiment.reported
    return {}


def _test_cells(theirs: float | None, own: list[Row]) -> list[str]:
    """Our test accuracy, its difference from the report's, and our validation accuracy."""
    difference = ""
    if theirs is not None:
        ours = statistics.mean(_values(own, "test_accuracy"))
        difference = f"{100 * (ours - theirs):+.2f}"

    return [
        f"**{_mean_and_deviation(own, 'test_accuracy')}**",
        difference,
        PERCENT.show(_mean(own, "validation_accuracy")),
    ]


def _end_cells(experiment: Experiment, own: list[Row], machines: list[str]) -> list[str]:
    """AUROC, epochs, runs, and the numbers of the machines."""
    used = _machines(own)
    numbers: list[str] = []
    for number, machine in enumerate(machines, start=1):
        if machine in used:
            numbers.append(str(number))

    epochs = ""
    if isinstance(experiment, Recipe):
        epochs = _epochs(experiment, own)

    return [
        f"{_mean(own, 'auroc'):.4f}",
        epochs,
        str(len(own)),
        ", ".join(numbers),
    ]


def _theirs_and_ours(
    key: str, reported: Mapping[str, float], own: list[Row], compared: bool
) -> str:
    """ "report → ours", or ours alone where the report gives that figure of no experiment."""
    score = SCORES[key]
    theirs = score.show(reported.get(key))
    ours = score.show(_mean(own, key))
    if compared and (theirs or ours):
        return f"{theirs or '–'} → {ours or '–'}"
    return ours


def _epochs(recipe: Recipe, own: list[Row]) -> str:
    """ "10", or "**3 of 20**" of those that were cut short, or "40, stopped after 17"."""
    planned = recipe.config.epochs
    trained = own[0]["epochs"]
    words = str(planned)
    if trained != planned:
        words = f"**{trained} of {planned}**"

    # By early stopping, which each seed may do at another epoch.
    early: set[int] = set()
    for row in own:
        if row["epochs_trained"] < row["epochs"]:
            early.add(row["epochs_trained"])

    if early:
        words += f", stopped after {', '.join(map(str, sorted(early)))}"
    return words


def _differences(experiments: dict[str, Experiment], rows: list[Row]) -> Iterator[str]:
    """A sentence for each experiment that is more than a point from the report's."""
    sentences: list[str] = []
    for name, experiment in experiments.items():
        own = _rows_of(name, rows)
        theirs = _reported(experiment).get("test_accuracy")
        ours = _mean(own, "test_accuracy")
        if theirs is None or ours is None or abs(ours - theirs) <= EXPLAINED_FROM:
            continue

        assert isinstance(experiment, Recipe), "no report has figures of an ensemble"
        reasons: list[str] = []
        if own[0]["shortened"]:
            reasons.append(f"{own[0]['epochs']} of {experiment.config.epochs} epochs")
        if name in DIFFERENCES:
            reasons.append(DIFFERENCES[name])

        because = "; ".join(reasons) or "not explained yet."
        sentences.append(f"- {name}, {100 * (ours - theirs):+.2f}: {because}")

    if sentences:
        yield "More than a point apart:\n"
        yield from sentences
        yield ""


def _class_f1(rows: list[Row]) -> Iterator[str]:
    """Report D's second table: F1 by class and group."""
    rows_of_group = {number: _rows_of(f"d-{number}", rows) for number in GROUPS}
    if not any(rows_of_group.values()):
        return

    yield "F1 of each class, the report's → ours:\n"
    yield f"| class | {' | '.join(GROUPS)} |"
    yield f"|---|{'---|' * len(GROUPS)}"

    for index, label in enumerate(CLASSES):
        cells = [label]
        for number, group in GROUPS.items():
            values = [row["class_f1"][index] for row in rows_of_group[number]]
            ours = f"{statistics.mean(values):.2f}" if values else "–"
            cells.append(f"{group.class_f1[index]:.2f} → {ours}")
        yield _cells(cells)

    yield ""


def _choices(report: Report, rows: list[Row]) -> Iterator[str]:
    """The recipe that validation images would choose, where the report chose by test images."""
    families: dict[str, list[str]] = {}
    if report == "D":
        families["group"] = [f"d-{number}" for number in GROUPS]
    elif report == "E":
        for model, rates in RATES.items():
            families[model] = [f"e-{model}-{lr:g}" for lr in rates]

    for family, names in families.items():
        validation: dict[str, float] = {}
        test: dict[str, float] = {}
        reported: dict[str, float] = {}
        for name in names:
            own = _rows_of(name, rows)
            reported[name] = REPORT_RECIPES[name].reported["test_accuracy"]
            if own:
                validation[name] = _mean(own, "validation_accuracy") or 0.0
                test[name] = _mean(own, "test_accuracy") or 0.0

        # The best of some would be no choice among all.
        if len(test) < len(names):
            continue

        yield (
            f"Best {family} by our validation images: {_best(validation)} (by our test images it "
            f"would be {_best(test)}; the report's best on its test images: {_best(reported)}).\n"
        )


def _best(scores: Mapping[str, float]) -> str:
    """The name of the highest score, the first of equals."""
    return max(scores, key=lambda name: scores[name])


def _assumptions(report: Report, experiments: dict[str, Experiment]) -> Iterator[str]:
    """Our choices for the whole report, and those for single recipes."""
    names_of: dict[str, list[str]] = {}
    for name, experiment in experiments.items():
        if isinstance(experiment, Recipe) and experiment.assumed:
            names_of.setdefault(experiment.assumed, []).append(name)

    yield f"Assumed, where the report does not say:\n\n- all: {ASSUMED[report]}"
    for assumed, names in names_of.items():
        yield f"- {', '.join(names)}: {assumed}"

    yield ""


def _other_data(rows: list[Row]) -> Iterator[str]:
    """The rows of other data sets than the reports'."""
    if not rows:
        return

    yield "## Another data set (future work of E)\n"
    yield (
        "`python -m fmnist.reproduce --recipe NAME --data DIR`, for any data set in MNIST's file "
        "format.\n"
    )
    yield "| data | recipe | test | validation | macro F1 | epochs | runs |"
    yield "|---|---|---:|---:|---:|---:|---:|"

    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["data"], row["recipe"]), []).append(row)

    for (data, recipe), own in groups.items():
        cells = [
            data,
            recipe,
            _mean_and_deviation(own, "test_accuracy"),
            PERCENT.show(_mean(own, "validation_accuracy")),
            PERCENT.show(_mean(own, "macro_f1")),
            # An ensemble's rows have none.
            str(own[0].get("epochs", "")),
            str(len(own)),
        ]
        yield _cells(cells)

    yield ""


def _values(rows: list[Row], key: str) -> list[float]:
    """A column, without the rows that lack it."""
    values = [row.get(key) for row in rows]
    return [value for value in values if value is not None]


def _mean(rows: list[Row], key: str) -> float | None:
    values = _values(rows, key)
    if not values:
        return None
    return statistics.mean(values)


def _mean_and_deviation(rows: list[Row], key: str) -> str:
    """Mean ± standard deviation in per cent; the value itself if there is one row."""
    values = [100 * value for value in _values(rows, key)]
    mean = f"{statistics.mean(values):.2f}"
    # One value has no deviation.
    if len(values) < 2:
        return mean
    return f"{mean} ± {statistics.stdev(values):.2f}"


def _cells(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
