"""The search in charts: every trial, the best so far, parameters, and which of them matter."""

from collections.abc import Sequence

from tune.page import figures
from tune.page.figures import FEWEST_TRIALS, Axis, Importance
from tune.page.markup import (
    Cell,
    Row,
    Section,
    chart,
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

LINE_HINT = "Point at a line, or go through the trials with the arrow keys."
DOT_HINT = "Point at a dot, or go through the trials with the arrow keys."
LITTLE_EXPLAINED = 0.2
"""R² below which the order of the parameters is not to be trusted."""


def fan(run: Run, best: TrialRecord | None) -> Section:
    colors = '<b class="finished">Blue</b> ran in full, <b class="stopped">gray</b> ended before'
    if best:
        colors += ', and <b class="won">the thick line</b> won'
    words = [
        f"Each line is a trial: its accuracy on the validation images after each epoch. {colors}."
    ]

    if run.rungs:
        words.append(
            "At a rung, a dashed line, a trial goes on only if it is among the best 1 in "
            f"{run.search['reduction_factor']} of those that have come there."
        )
    failed = sum(record.failed for record in run.records)
    if failed:
        words.append(f"A cross ends a trial that failed; {failed} did.")
    plot = chart("fan-plot", "Validation accuracy by epoch", LINE_HINT)

    return Section("fan", "Every trial", paragraphs(*words), plot)


def time(run: Run) -> Section:
    title = "Best so far"
    steps = figures.best_so_far(run.records)
    if not steps:
        words = "The trials of this run have no times; searches made from now on keep them."
        return Section("time", title, paragraphs(words))

    last = steps[-1]
    words = paragraphs(
        "The best validation accuracy seen at each moment, after any epoch of any trial. "
        f"Its last gain came {text(duration(last.seconds))} after the start: "
        f"{percent(last.accuracy)}, from trial {last.number} after epoch {last.epoch}.",
        "Each dot is the end of a trial.",
    )
    plot = chart("time-plot", "Validation accuracy by time", DOT_HINT)

    return Section("time", title, words, plot)


def parallel(parameters: Sequence[Axis]) -> Section:
    title = "Parameters"
    if not parameters:
        return Section("parallel", title, paragraphs("All trials had the same parameters."))

    words = paragraphs(
        "Each line is a trial, through its value of each parameter and down to its accuracy. "
        '<b class="finished">Blue</b> is the best quarter, and <b class="won">the thick line</b> '
        "the winner.",
        "Drag along an axis to keep the trials in a range, click it to keep all. "
        "With the keyboard, Tab goes to the ends of an axis, and the arrow keys move them.",
        'The filter holds for every chart and for <a href="#trials">the table of all trials</a>, '
        "which has the values as text.",
    )
    plot = chart("parallel-plot", "Parameters and accuracy", LINE_HINT)
    button = '<button type="button" id="all" hidden>Keep all</button>'
    bar = f'<p class="filter"><span id="shown" role="status"></span> {button}</p>'

    return Section("parallel", title, words, plot + bar)


def importance(run: Run, parameters: Sequence[Axis]) -> Section:
    title = "Which parameters matter"
    # The first rung, as no later one has so many trials to learn from.
    epoch = run.rungs[0] if run.rungs else run.epochs
    losses = figures.importance(run.records, parameters, epoch)
    if losses is None:
        words = (
            f"This needs at least {FEWEST_TRIALS} trials that differ and came to epoch {epoch}; "
            "search with more --trials."
        )
        return Section("importance", title, paragraphs(words))

    trust = (
        "The bars say what it rests on, not which values are good: "
        "for that, see the parameters above."
    )
    if losses.explained < LITTLE_EXPLAINED:
        trust = "That is too little to trust the order of the bars."
    # Below 0 the forest is worse than the mean, which explains nothing.
    explained = max(losses.explained, 0)

    words = paragraphs(
        f"A random forest learned to predict a trial’s accuracy after epoch {epoch} from its "
        f"parameters. All {losses.trials:,} trials that came there count, however soon they were "
        "stopped. A bar is what is lost when one parameter is shuffled.",
        "On trials that its trees had not seen, the forest explains "
        f"{explained:.0%} of the differences. {trust}",
    )

    return Section("importance", title, words, _bars(losses))


def _bars(losses: Importance) -> str:
    means = [mean for _, mean, _ in losses.rows]
    # The bars of a forest that rests on nothing stay empty.
    most = max(1e-9, *means)
    rows: list[Row] = []
    for field, mean, deviation in losses.rows:
        width = 100 * max(mean, 0) / most
        bar = (
            '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
            f'<rect width="{width:.1f}" height="10"/></svg>'
        )
        loss = number(mean, f"{mean:.3f} ± {deviation:.3f}")
        rows.append(Row([Cell(text(field_name(field))), loss, Cell(bar)]))

    bar_head = Cell('<span class="unseen">as a bar</span>')
    heads = [Cell("parameter"), *number_heads("loss of R²"), bar_head]

    return table("Loss of R² when a parameter is shuffled, mean ± deviation", heads, rows, "bars")
