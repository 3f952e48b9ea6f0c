"""`python -m fmnist.reproduce`: run the experiments of the five reports, and write our figures
beside theirs.

Every training is a run of its own, runs/reports/RECIPE-seedN, and goes on after its last whole
epoch if it was interrupted. What is done adds a row to docs/results/reports.json; reports.md is
written from those rows and from fmnist/reports/recipes.py.
"""

import math
import time
from dataclasses import dataclass
from typing import Annotated

from rich.console import Console

from fmnist.cli import Flag, Topics, command
from fmnist.data.sources import NOT_NAMED, Source
from fmnist.errors import check
from fmnist.reports.recipes import Report


@dataclass(frozen=True, kw_only=True)
class ReproduceOptions:
    """Run the experiments of the five reports, and write docs/results/reports.md: our figure beside
    theirs.

    What the table lacks comes first; of that the first seeds, and of those the cheapest.
    Interrupted or killed, the same command goes on where it stopped; on another machine --missing
    goes on with the rows that are there.

    Example: python -m fmnist.reproduce --report E --seeds 3
    """

    report: Report | None = None
    """One report's experiments only."""
    recipe: str | None = None
    """One experiment only: --list shows their names."""
    seeds: int = 1
    """Runs of each experiment; one of every experiment comes before the second of any."""
    time_budget_min: float | None = None
    """Stop after so many minutes; begin nothing that is not expected to end by then."""
    missing: Annotated[bool, Flag] = False
    """Only what docs/results/reports.json has no row of, whichever machine the others are from."""
    full: Annotated[bool, Flag] = False
    """Train the big networks for all their epochs on a CPU too, where they take hours; always so
    on a GPU."""
    list: Annotated[bool, Flag] = False
    """Show what is done here, what the table has, what is left and the minutes it will take, and
    stop."""
    source: Annotated[Source, Topics()] = NOT_NAMED


def main(options: ReproduceOptions) -> None:
    check(options.seeds >= 1, f"seeds={options.seeds}: it must be at least 1")
    budget_s = math.inf
    if options.time_budget_min is not None:
        given = f"time_budget_min={options.time_budget_min:g}"
        check(options.time_budget_min > 0, f"{given}: it must be above 0 minutes")
        budget_s = 60 * options.time_budget_min

    # Here: PyTorch takes seconds to import, and --help does without.
    from fmnist.data.dataset import load_info, load_train
    from fmnist.data.sources import find_data
    from fmnist.reports import runner

    console = Console(highlight=False, soft_wrap=True)
    experiments = runner.select_experiments(options.report, options.recipe)
    folder = find_data(options.source)
    info = load_info(folder)
    data = runner.Data(folder, info, load_train(folder, info))
    tasks = runner.plan_tasks(experiments, options.seeds, options.full, info)
    if options.missing:
        known = runner.tasks_in_table(tasks, info)
        tasks = [task for task in tasks if task not in known]

    plan = runner.Plan(experiments, options.seeds, tasks)
    expected = runner.expected_seconds(tasks, data, console)
    if options.list:
        runner.show_list(plan, expected, info, console)
        return
    deadline = time.monotonic() + budget_s
    runner.run_all(plan, expected, data, deadline, console)


if __name__ == "__main__":
    command(ReproduceOptions, main, renamed={"--time-budget": "--time-budget-min"})
