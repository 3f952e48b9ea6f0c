"""`python -m benchmarks.faults`: break a job in every way we know, and measure what is lost; docs/results/faults.md, .json.

The faults are those of tests/harness/faults.py, which tests/cluster/test_faults.py runs too.
"""

import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from fmnist.cli import command
from fmnist.errors import one_of
from fmnist.run import environment, write_atomic, write_json
from tests.harness.faults import EPOCHS, FAULTS, HANG_S, PATIENCE_S, Bench, Row

RESULTS = Path("docs/results")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Break a job in every way we know, and measure what is lost."""

    only: str | None = None
    """One fault; its row replaces the old one."""


HEADINGS = ("fault", "detected in", "epochs lost", "trials lost", "recovered in", "left over", "weights as undisturbed", "it says")


def table(rows: list[Row]) -> Iterator[str]:
    yield "| " + " | ".join(HEADINGS) + " |"
    yield "|" + "---|" * len(HEADINGS)
    for row in rows:
        detected, recovered = (f"{row[key]:g} s" if row.get(key) is not None else "" for key in ("detected_s", "recovered_s"))
        same = {True: "yes", False: "NO", None: ""}[row["same_weights"]]
        said = re.sub(r"/\S*/", "", row.get("said", "")).replace("|", "/")
        cells = (row["what"], detected, row["epochs_lost"], row.get("trials_lost", ""), recovered, row["left_over"], same, said)
        yield "| " + " | ".join(map(str, cells)) + " |"


def main(options: Options) -> None:
    if options.only is not None:
        one_of("only", options.only, FAULTS)
    path = RESULTS / "faults.json"
    old = {row["fault"]: row for row in json.loads(path.read_text())} if path.exists() else {}
    console = Console(highlight=False, soft_wrap=True)
    versions = environment()["versions"]
    with tempfile.TemporaryDirectory(prefix="fm", ignore_cleanup_errors=True) as name:
        bench = Bench(Path(name))
        for key, function in FAULTS.items():
            if options.only in (None, key):
                console.print(f"{key}: {function.__doc__}")
                old[key] = bench.run_fault(key) | {name: versions[name] for name in ("ray", "torch")}
                write_json(path, [old[key] for key in FAULTS if key in old])
        for key, left in bench.left_over().items():
            old[key]["left_over"] = len(left)
    rows = [old[key] for key in FAULTS if key in old]
    write_json(path, rows)
    lines = [
        "# When things die",
        "",
        f"`python -m benchmarks.faults`: torch {versions['torch']}, ray {versions['ray']}, Python {versions['python']}, 2 threads.",
        f"The job: LeNet, {EPOCHS} epochs of 20,000 images by two workers, or a search of three trials of it.",
        "",
        "- Detected: from the fault to the line that tells the user.",
        "- Epochs lost: whole ones that had to be trained again; the one in flight is lost besides.",
        "- Recovered: from the fault, or from `--resume`, to the end of the next epoch; most of it is Ray's own start-up.",
        f"- A worker that hangs is noticed after RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S, {HANG_S} here and 60 by default.",
        f"- A storage that fails is given up after FMNIST_STORAGE_PATIENCE_S, {PATIENCE_S} here and 300 by default.",
        "",
        *table(rows),
        "",
    ]
    write_atomic(RESULTS / "faults.md", "\n".join(lines))
    console.print("\n".join(lines))


if __name__ == "__main__":
    command(Options, main)
