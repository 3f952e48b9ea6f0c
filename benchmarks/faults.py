"""`python -m benchmarks.faults`: break a job in every way we know, and measure what is lost.

The faults are those of tests/harness/faults.py, which tests/cluster/test_faults.py runs too. Writes
docs/results/faults (.json and .md).
"""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.results import CONSOLE, Page, Row, Rows, machine
from fmnist.cli import command
from fmnist.errors import one_of
from tests.harness.bench import EPOCHS, Bench
from tests.harness.faults import FAULTS, HANG_S, PATIENCE_S, run_fault

SAME_WEIGHTS = {True: "yes", False: "NO", None: ""}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Break a job in every way we know, and measure what is lost."""

    only: str | None = None
    """One fault; its row replaces the old one."""

    def __post_init__(self) -> None:
        if self.only is not None:
            one_of("only", self.only, FAULTS)


def seconds(row: Row, field: str) -> str:
    value = row.get(field)
    return "" if value is None else f"{value:g} s"


def write_page(rows: list[Row]) -> None:
    page = Page("When things die")
    versions = dict.fromkeys(f"torch {row['torch']}, ray {row['ray']}" for row in rows)
    page.text(
        f"""`python -m benchmarks.faults`: {"; ".join(versions)}; 2 threads. The job: LeNet,
        {EPOCHS} epochs of 20,000 images by two workers, or a search of three trials of it."""
    )
    page.items(
        (
            "Detected: from the fault to the line that tells the user.",
            """Epochs lost: whole ones that had to be trained again; the one in flight is lost
            besides.""",
            """Recovered: from the fault, or from `--resume`, to the end of the next epoch; most of
            it is Ray's own start-up.""",
            f"""A worker that hangs is noticed after RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S,
            {HANG_S} here and 60 by default.""",
            f"""A storage that fails is given up after FMNIST_STORAGE_PATIENCE_S, {PATIENCE_S} here
            and 300 by default.""",
        )
    )

    shown: list[Row] = []
    for row in rows:
        words = {
            "trials_lost": row.get("trials_lost", ""),
            "detected": seconds(row, "detected_s"),
            "recovered": seconds(row, "recovered_s"),
            "same": SAME_WEIGHTS[row["same_weights"]],
            # The folders of this machine say nothing, and a bar would end the cell.
            "message": re.sub(r"/\S*/", "", row.get("said", "")).replace("|", "/"),
        }
        shown.append(row | words)

    page.row_table(
        "llllllll",
        "fault | detected in | epochs lost | trials lost | recovered in | left over | "
        "weights as undisturbed | it says",
        "{what} | {detected} | {epochs_lost} | {trials_lost} | {recovered} | {left_over} | "
        "{same} | {message}",
        shown,
    )
    page.write("faults")


def main(options: Options) -> None:
    rows = Rows("faults", "fault")
    where = machine("torch", "ray")
    versions = {name: where["versions"][name] for name in ("torch", "ray")}
    with tempfile.TemporaryDirectory(prefix="fm", ignore_cleanup_errors=True) as folder:
        bench = Bench(Path(folder))
        for name in FAULTS:
            if options.only in (None, name):
                CONSOLE.print(f"{name}: {FAULTS[name].__doc__}")
                rows.add(run_fault(name, bench) | versions | where | {"left_over": 0})

        # Once for all faults: it waits two minutes for what Ray leaves behind.
        left_over = bench.left_over()
        for row in rows.rows:
            if row["fault"] in left_over:
                row["left_over"] = len(left_over[row["fault"]])

    order = list(FAULTS)
    rows.rows.sort(key=lambda row: order.index(row["fault"]))
    rows.write()
    write_page(rows.rows)


if __name__ == "__main__":
    command(Options, main)
