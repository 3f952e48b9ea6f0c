"""The page's sections of the search: words and tables, and places for the charts."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from fmnist.evaluate import accuracy_interval
from tune.live import duration
from tune.page import figures
from tune.page.figures import FEWEST_TRIALS, Axis, Importance, Run, kind_of
from tune.page.markup import Cell, Part, chart, code, definitions, field_name, number, paragraphs, percent, table, text
from tune.state import TrialRecord

PACKAGES = ("python", "torch", "ray", "numpy", "scikit-learn")
"""Whose versions are shown; config.json has all."""
LONG = 100
"""Rows of a table that is laid out only once it comes into sight, or a search of 1,000 trials would open slowly."""
HINT = "Point at a line, or go through the trials with the arrow keys."


def found(run: Run, best: TrialRecord | None, parameters: Sequence[Axis]) -> Part:
    spent = figures.cost(run.records)
    seconds = run.summary.get("seconds", {})
    facts = [("trials", f"{len(run.records):,}"), ("epochs", f"{spent.epochs:,} <small>of {spent.full_epochs:,}</small>")]
    if "search" in seconds:
        facts.append(("search", text(duration(seconds["search"]))))
    if best:
        facts.insert(0, ("validation accuracy", percent(best.accuracy)))
    if run.metrics:
        facts.insert(0, ("test accuracy", f"<strong>{percent(run.metrics['test']['accuracy'])}</strong>"))
    work = definitions(facts, "facts") + _config(run, best, parameters) + _origin(run)
    return "found", "What was found", paragraphs(_searched(run), _spent(run), *_won(run, best)), work


def _searched(run: Run) -> str:
    search, base = run.search, run.config.get("train", {})
    space = f" from the space “{text(Path(search['space']).name)}”" if "space" in search else ""
    models = ", ".join(sorted({text(record.config.model) for record in run.records}))
    images = f" on {base['train_images']:,} images" if base.get("train_images") else ""
    held = f", and compared on {base['validation_images']:,} images held out" if base.get("validation_images") else ""
    data_name = run.config.get("data", {}).get("name")
    of = f" of {text(data_name)}" if data_name else ""
    planned = f" of {search['trials']:,} planned" if search.get("trials", 0) > len(run.records) else ""
    tried = f"{len(run.records):,}{planned} configurations{space} were tried"
    return f"{tried}{images}{of}{held}: {models}, for up to {run.epochs} epochs."


def _spent(run: Run) -> str:
    kinds = [kind_of(record) for record in run.records]
    spent = figures.cost(run.records)
    stopped = "stopped at a rung" if run.rungs else "stopped early"
    words = {"finished": "ran in full", "stopped": stopped, "failed": "failed", "ended": "ended by a limit"}
    said = [f"{kinds.count(kind):,} {fate}" for kind, fate in words.items() if kind in kinds]
    seconds = run.summary.get("seconds", {}).get("search")
    took = f" The search took {text(duration(seconds))}." if seconds else ""
    share = spent.epochs / spent.full_epochs if spent.full_epochs else 0
    return (
        f"Of them {', '.join(said)}. Together they trained {spent.epochs:,} epochs, {share:.0%} of the {spent.full_epochs:,} that "
        f"all in full would take.{took}"
    )


def _won(run: Run, best: TrialRecord | None) -> Iterator[str]:
    if best is None:
        yield "No trial gave a result."
        return
    yield f"The winner is trial {best.number}, with {percent(best.accuracy)} of the validation images right."
    if run.metrics is None:
        yield f"It is not retrained yet: {code(f'python -m tune.search --name {run.name} --resume')} goes on with that."
        return
    test = run.metrics["test"]
    low, high = accuracy_interval(round(test["accuracy"] * test["images"]), test["images"])
    yield (
        f"Trained anew on all training images, it gets <strong>{percent(test['accuracy'])}</strong> of {test['images']:,} test "
        f"images right (95% interval {percent(low)} to {percent(high)}). The test images were read once, and chose nothing."
    )


def _config(run: Run, best: TrialRecord | None, parameters: Sequence[Axis]) -> str:
    if best is None:
        return ""
    config = best.config.to_dict()
    fields = ["model", "widths", *(axis.field for axis in parameters if axis.field not in ("model", "widths")), "epochs"]
    rows = [(field_name(field), text(figures.label(config[field]))) for field in dict.fromkeys(fields)]
    return f"<h3>The winner’s configuration</h3>{definitions(rows, 'pairs')}"


def _origin(run: Run) -> str:
    environment = run.config.get("environment", {})
    versions = environment.get("versions", {})
    rows = [("versions", text(", ".join(f"{name} {versions[name]}" for name in PACKAGES if name in versions)))]
    if "platform" in environment:
        rows.append(("machine", text(environment["platform"])))
    if environment.get("git_commit"):
        changed = ", with changes that are not committed" if environment.get("git_dirty") else ""
        rows.append(("commit", f"{code(environment['git_commit'][:12])}{changed}"))
    seconds = run.summary.get("seconds", {})
    if seconds:
        rows.append(("time", text(", ".join(f"{stage} {duration(value)}" for stage, value in seconds.items()))))
    if "peak_memory_mb" in run.summary:
        rows.append(("peak memory", f"{run.summary['peak_memory_mb']:,} MB"))
    shown = [(name, value) for name, value in rows if value]
    return f"<h3>Where it comes from</h3>{definitions(shown, 'pairs')}" if shown else ""


def fan(run: Run, best: TrialRecord | None) -> Part:
    words = [
        "Each line is a trial: its accuracy on the validation images after each epoch. "
        '<b class="finished">Blue</b> ran in full, <b class="stopped">gray</b> ended before'
        + (', and <b class="won">the thick line</b> won.' if best else ".")
    ]
    if run.rungs:
        factor = run.search["reduction_factor"]
        words.append(
            f"At a rung, a dashed line, a trial goes on only if it is among the best 1 in {factor} of those that have come there."
        )
    failed = sum(kind_of(record) == "failed" for record in run.records)
    words.append(f"A cross ends a trial that failed; {failed} did." if failed else "")
    return "fan", "Every trial", paragraphs(*words), chart("fan-plot", "Validation accuracy by epoch", HINT)


def time(run: Run) -> Part:
    steps = figures.best_so_far(run.records)
    if not steps:
        words = paragraphs("The trials of this run have no times; searches made from now on keep them.")
        return "time", "Best so far", words, ""
    last = steps[-1]
    words = paragraphs(
        "The best validation accuracy seen at each moment, after any epoch of any trial. Its last gain came "
        f"{text(duration(last.seconds))} after the start: "
        f"{percent(last.accuracy)}, from trial {last.number} after epoch {last.epoch}.",
        "Each dot is the end of a trial.",
    )
    return "time", "Best so far", words, chart("time-plot", "Validation accuracy by time", HINT.replace("line", "dot"))


def parallel(parameters: Sequence[Axis]) -> Part:
    if not parameters:
        return "parallel", "Parameters", paragraphs("All trials had the same parameters."), ""
    words = paragraphs(
        'Each line is a trial, through its value of each parameter and down to its accuracy. <b class="finished">Blue</b> is the '
        'best quarter, and <b class="won">the thick line</b> the winner.',
        "Drag along an axis to keep the trials in a range, click it to keep all. With the keyboard, Tab goes to the ends of an "
        "axis, and the arrow keys move them.",
        'The filter holds for every chart and for <a href="#trials">the table of all trials</a>, which has the values as text.',
    )
    bar = '<p class="filter"><span id="shown" role="status"></span> <button type="button" id="all" hidden>Keep all</button></p>'
    return "parallel", "Parameters", words, chart("parallel-plot", "Parameters and accuracy", HINT) + bar


def importance(run: Run, parameters: Sequence[Axis]) -> Part:
    title = "Which parameters matter"
    epoch = (run.rungs or [run.epochs])[0]
    found = figures.importance(run.records, parameters, epoch)
    if found is None:
        words = f"This needs at least {FEWEST_TRIALS} trials that differ and came to epoch {epoch}; search with more --trials."
        return "importance", title, paragraphs(words), ""
    trust = (
        "That is too little to trust the order of the bars."
        if found.explained < 0.2
        else "The bars say what it rests on, not which values are good: for that, see the parameters above."
    )
    words = paragraphs(
        f"A random forest learned to predict a trial’s accuracy after epoch {epoch} from its parameters. All {found.trials:,} "
        "trials that came there count, however soon they were stopped. A bar is what is lost when one parameter is shuffled.",
        f"On trials that its trees had not seen, the forest explains {max(found.explained, 0):.0%} of the differences. {trust}",
    )
    return "importance", title, words, _bars(found)


def _bars(found: Importance) -> str:
    most = max(max(mean for _, mean, _ in found.rows), 1e-9)
    rows = [
        (
            (
                text(field_name(field)),
                number(mean, f"{mean:.3f} ± {deviation:.3f}"),
                f'<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"><rect '
                f'width="{100 * max(mean, 0) / most:.1f}" height="10"/></svg>',
            ),
            "",
        )
        for field, mean, deviation in found.rows
    ]
    heads = ("parameter", Cell("loss of R²", style="n"), '<span class="unseen">as a bar</span>')
    return table("Loss of R² when a parameter is shuffled, mean ± deviation", heads, rows, "bars")


def cost(run: Run) -> Part:
    found, spent = figures.legs(run.records, run.rungs, run.epochs), figures.cost(run.records)
    rows = [
        (
            (
                f"{leg.start + 1} to {leg.end}" if leg.end > leg.start + 1 else str(leg.end),
                number(leg.came, f"{leg.came:,}"),
                number(leg.epochs, f"{leg.epochs:,}"),
                number(leg.seconds, f"{leg.seconds:,.1f}"),
                number(leg.best, percent(leg.best)),
            ),
            "",
        )
        for leg in found
    ]
    sums = ("all", "", number(None, f"{spent.epochs:,}"), number(None, f"{spent.seconds:,.1f}"), "")
    full = ("in full", "", number(None, f"{spent.full_epochs:,}"), number(None, f"{spent.full_seconds:,.1f}"), "")
    heads = ("epochs", *(Cell(name, style="n") for name in ("trials", "trained", "seconds", "best at its end")))
    saved = 1 - spent.seconds / spent.full_seconds if spent.full_seconds else 0.0
    words = paragraphs(
        "What the trials took from one rung to the next, all together. A trial’s seconds are spread evenly over its epochs; where "
        "trials run side by side, they add up to more than the search took.",
        f"Had every trial run in full at its own speed, it would be {spent.full_epochs:,} epochs and "
        f"{text(duration(spent.full_seconds))}: {saved:.0%} of the time was saved.",
    )
    caption = "Epochs and seconds from rung to rung"
    return "cost", "What each rung cost", words, table(caption, heads, [*rows, (sums, ' class="sum"'), (full, ' class="sum"')])


def trials(run: Run, best: TrialRecord | None, parameters: Sequence[Axis]) -> Part:
    heads = (
        Cell("trial", style="n"),
        Cell("validation", style="n"),
        Cell("epochs", style="n"),
        "how it ended",
        *(Cell(text(field_name(axis.field)), style="" if axis.labels else "n") for axis in parameters),
        Cell("seconds", style="n"),
        Cell("images/s", style="n"),
    )
    ranked = sorted(enumerate(run.records), key=lambda pair: -pair[1].accuracy if pair[1].curve else 1.0)
    rows = [(_row(record, place, parameters), _row_attributes(record, best)) for place, record in ranked]
    words = paragraphs("The best first. A column’s head sorts by it; once more turns the order round.")
    bar = '<p class="filter"><span id="listed"></span></p>'
    return "trials", "All trials", words, bar + table("All trials", heads, rows, "sortable tall" + " long" * (len(rows) > LONG))


def _row(record: TrialRecord, place: int, parameters: Sequence[Axis]) -> list[str]:
    config = record.config.to_dict()
    return [
        number(record.number, str(record.number)),
        number(record.accuracy, percent(record.accuracy)) if record.curve else number(None, "–"),
        number(len(record.curve), str(len(record.curve))),
        Cell(text(record.outcome), style="end"),
        *(Cell(text(figures.label(config[axis.field])), axis.values[place], "" if axis.labels else "n") for axis in parameters),
        number(record.seconds, f"{record.seconds:,.1f}"),
        number(record.images_per_s, f"{record.images_per_s:,.0f}"),
    ]


def _row_attributes(record: TrialRecord, best: TrialRecord | None) -> str:
    return f' data-n="{record.number}"' + (' class="won"' if record is best else "")
