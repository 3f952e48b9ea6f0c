"""The search in tables: what each rung cost, and all trials."""

from collections.abc import Sequence

from tune.page import figures
from tune.page.figures import Axis, Cost, Leg
from tune.page.markup import (
    Cell,
    Row,
    Section,
    field_name,
    number,
    number_heads,
    paragraphs,
    percent,
    table,
    text,
)
from tune.page.run_files import Run
from tune.state import TrialRecord
from tune.words import duration

LONG = 100
"""A table with more rows is laid out only once it comes into sight, or a search of 1,000 trials
would open slowly."""


def cost(run: Run) -> Section:
    legs = figures.legs(run.records, run.rungs, run.epochs)
    spent = figures.cost(run.records)
    saved = 0.0
    if spent.full_seconds:
        saved = 1 - spent.seconds / spent.full_seconds

    words = paragraphs(
        "What the trials took from one rung to the next, all together. "
        "A trial’s seconds are spread evenly over its epochs; "
        "where trials run side by side, they add up to more than the search took.",
        f"Had every trial run in full at its own speed, it would be {spent.full_epochs:,} epochs "
        f"and {text(duration(spent.full_seconds))}: {saved:.0%} of the time was saved.",
    )

    return Section("cost", "What each rung cost", words, _cost_table(legs, spent))


def _cost_table(legs: Sequence[Leg], spent: Cost) -> str:
    rows: list[Row] = []
    for leg in legs:
        first = leg.start + 1
        epochs = str(leg.end)
        if leg.end > first:
            epochs = f"{first} to {leg.end}"

        cells = [
            Cell(epochs),
            number(leg.trained, f"{leg.trained:,}"),
            number(leg.epochs, f"{leg.epochs:,}"),
            number(leg.seconds, f"{leg.seconds:,.1f}"),
            number(leg.best, percent(leg.best)),
        ]
        rows.append(Row(cells))

    rows.append(_sum_row("all", spent.epochs, spent.seconds))
    rows.append(_sum_row("in full", spent.full_epochs, spent.full_seconds))

    numbers = number_heads("trials", "trained", "seconds", "best at its end")

    return table("Epochs and seconds from rung to rung", [Cell("epochs"), *numbers], rows)


def _sum_row(name: str, epochs: int, seconds: float) -> Row:
    # Without values to sort by: a sum stays at the end.
    shown = [number(None, f"{epochs:,}"), number(None, f"{seconds:,.1f}")]
    return Row([Cell(name), Cell(""), *shown, Cell("")], ' class="sum"')


def trials(run: Run, best: TrialRecord | None, parameters: Sequence[Axis]) -> Section:
    words = paragraphs(
        "The best first. A column’s head sorts by it; once more turns the order round."
    )
    bar = '<p class="filter"><span id="listed"></span></p>'
    heads = number_heads("trial", "validation", "epochs")
    heads.append(Cell("how it ended"))
    for axis in parameters:
        heads.append(Cell(text(field_name(axis.field)), style=_style(axis)))
    heads += number_heads("seconds", "images/s")

    rows: list[Row] = []
    for place in _best_first(run.records):
        record = run.records[place]
        rows.append(_trial_row(record, place, parameters, best))

    style = "sortable tall"
    if len(rows) > LONG:
        style += " long"

    return Section("trials", "All trials", words, bar + table("All trials", heads, rows, style))


def _best_first(records: Sequence[TrialRecord]) -> list[int]:
    """Places of the records by accuracy; those without an epoch come last."""

    def key(place: int) -> float:
        record = records[place]
        if record.curve:
            return -record.accuracy
        # Behind every accuracy, which are at most 0 here.
        return 1.0

    return sorted(range(len(records)), key=key)


def _trial_row(
    record: TrialRecord, place: int, parameters: Sequence[Axis], best: TrialRecord | None
) -> Row:
    config = record.config.to_dict()
    epochs = len(record.curve)
    # A trial that failed before its first epoch has none.
    accuracy = record.accuracy if epochs else None
    cells = [
        number(record.number, str(record.number)),
        number(accuracy, percent(accuracy)),
        number(epochs, str(epochs)),
        Cell(text(record.outcome), style="end"),
    ]
    for axis in parameters:
        shown = text(figures.label(config[axis.field]))
        cells.append(Cell(shown, axis.values[place], _style(axis)))

    cells.append(number(record.seconds, f"{record.seconds:,.1f}"))
    cells.append(number(record.images_per_s, f"{record.images_per_s:,.0f}"))

    attributes = f' data-n="{record.number}"'
    if record is best:
        attributes += ' class="won"'

    return Row(cells, attributes)


def _style(axis: Axis) -> str:
    """Class of a parameter's cells: numbers are set to the right."""
    return "" if axis.labels else "n"
