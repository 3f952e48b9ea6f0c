"""Audit a data set, and leave what was found as audit.json and audit.html."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from fmnist.data.audit.catalogue import Catalogue
from fmnist.data.audit.collect import FindSuspects, collect
from fmnist.data.audit.findings import AuditReport, Copies
from fmnist.data.audit.page import write_page
from fmnist.data.info import DataInfo
from fmnist.runs.files import write_json
from fmnist.runs.run_folder import RUNS

JSON_FILE, PAGE_FILE = "audit.json", "audit.html"


def audit(
    folder: Path,
    info: DataInfo,
    out: Path,
    *,
    console: Console,
    find_suspects: FindSuspects | None = None,
) -> AuditReport:
    """Audit the set in `folder`, leave audit.json and audit.html in `out`, and say what was found.

    Args:
        info: describes the set.
        find_suspects: trains, to judge labels; None judges none.

    Raises:
        DataError: a file is not the one that `info` describes.
    """
    catalogue = Catalogue(folder, info)
    report = collect(catalogue, info.name, console, find_suspects)
    write_json(out / JSON_FILE, report.to_dict())
    write_page(out / PAGE_FILE, report, catalogue)

    for line in summary(report):
        # Names of files and classes may hold what Rich takes for markup.
        console.print(line, markup=False)
    console.print(f"saved in {out / PAGE_FILE} and {out / JSON_FILE}", markup=False)
    return report


def audit_folder(name: str) -> Path:
    """Where the audit of a set is left: of "Fashion-MNIST" in runs/audit-fashion-mnist."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:100]
    return RUNS / f"audit-{plain or 'set'}"


def summary(report: AuditReport) -> list[str]:
    """What was found, in a few lines."""
    lines = [f"{report.name}: {report.images:,} images audited"]
    if report.clean:
        return [*lines, "nothing found"]

    lines += _copies_lines("exact copies", report.exact)
    lines += _copies_lines("near copies", report.near)
    for leak in report.leaks:
        if leak.images:
            lines.append(f"  {leak.words}")
    for kind, count in Counter(oddity.kind for oddity in report.oddities).items():
        lines.append(f"{kind}: {count:,}")
    lines += report.usual
    lines += report.imbalance
    if report.suspects:
        lines.append(f"labels that out-of-fold predictions contradict: {len(report.suspects):,}")
    return lines


def _copies_lines(what: str, copies: Sequence[Copies]) -> list[str]:
    if not copies:
        return []
    images = sum(len(one.pictures) for one in copies)
    across = sum(len(one.splits) > 1 for one in copies)
    differ = sum(len(one.labels) > 1 for one in copies)
    return [
        f"{what}: {len(copies):,} groups of {images:,} images; "
        f"{across:,} across splits, {differ:,} under different labels"
    ]
