"""What an import has found: all that is wrong, in one report, and what to know of the set."""

import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from fmnist.cli import plural
from fmnist.data.importing.item import Fault, LeftOut
from fmnist.data.importing.words import first_of, shown
from fmnist.runs.files import read_json

SHOWN = 10
"""Faults of a kind that are shown; the whole list is in the file."""
REPORT_FILE = "import.json"
IMBALANCE = 10
"""Ratio of the largest class to the smallest from which it is told."""
SUFFIX = re.compile(r"\.[a-z][a-z0-9_-]{0,9}")
EVERY_LIST = ("faults", "left_out")


class Spool:
    """A list that may have millions of entries: it lies in a file without a name.

    Only the first of each kind, and how many there are, are held in memory.
    """

    def __init__(self, folder: Path) -> None:
        self.counts: Counter[str] = Counter()
        self.first: dict[str, list[dict[str, str]]] = {}
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (`close` closes it)

    def add(self, kind: str, entry: dict[str, str]) -> None:
        self.counts[kind] += 1
        first = self.first.setdefault(kind, [])
        if len(first) < SHOWN:
            first.append(entry)
        self._file.write(json.dumps(entry).encode() + b"\n")

    def lines(self) -> Iterator[str]:
        """Every entry, as JSON."""
        self._file.seek(0)
        for line in self._file:
            yield line.decode().rstrip("\n")

    def close(self) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self.counts.total()


@dataclass
class Report:
    """What was found; it grows while the import goes on.

    Args:
        folder: a folder with room for the lists.
    """

    folder: Path
    facts: dict[str, Any] = field(default_factory=dict[str, Any])
    """What import.json says besides the lists."""
    notes: list[str] = field(default_factory=list[str])
    """What the user should know of the set, in sentences."""

    def __post_init__(self) -> None:
        self.faults = Spool(self.folder)
        self.left_out = Spool(self.folder)

    def add(self, fault: Fault) -> None:
        self.faults.add(
            fault.kind, {"kind": fault.kind, "name": fault.name, "detail": fault.detail}
        )

    def leave_out(self, entry: LeftOut) -> None:
        kind = entry.kind
        if kind == "not read":
            kind = suffix_of(entry.name)
        self.left_out.add(kind, {"kind": entry.kind, "name": entry.name})

    @property
    def links(self) -> int:
        """Links to pictures that are counted already."""
        return self.left_out.counts["link"]

    @property
    def not_read(self) -> dict[str, int]:
        """Files that were not read, by suffix, the most frequent first."""
        counts = Counter(self.left_out.counts)
        del counts["link"], counts["empty folder"]
        return dict(counts.most_common())

    def close(self) -> None:
        self.faults.close()
        self.left_out.close()

    def write(self, folder: Path) -> Path:
        """Write import.json into a folder. Returns its path."""
        path = folder / REPORT_FILE
        facts = dict(self.facts)
        facts["notes"] = self.notes
        facts["links_counted_once"] = self.links
        facts["not_read"] = self.not_read
        facts["fault_counts"] = dict(self.faults.counts)

        # Line by line, since there may be millions of faults.
        temporary = path.with_name(f".{REPORT_FILE}")
        with temporary.open("w") as file:
            file.write(json.dumps(facts, indent=2).removesuffix("\n}"))
            for name, spool in zip(EVERY_LIST, (self.faults, self.left_out), strict=True):
                file.write(f',\n  "{name}": [')
                separator = "\n    "
                for line in spool.lines():
                    file.write(separator + line)
                    separator = ",\n    "
                file.write("]" if separator == "\n    " else "\n  ]")
            file.write("\n}\n")
        temporary.replace(path)
        return path


def suffix_of(name: str) -> str:
    """The suffix by which a file that was not read is counted."""
    suffix = Path(name).suffix.lower()
    if not suffix:
        return "without a suffix"
    # Numbers at the end of a name are no suffix, and there may be a million of them.
    return suffix if SUFFIX.fullmatch(suffix) else "of other suffixes"


def print_faults(
    counts: dict[str, int], first: dict[str, list[dict[str, str]]], console: Console
) -> None:
    """Print how many faults there are of each kind, and the first ten."""
    for kind, count in counts.items():
        console.print(f"[red]{count:,}[/] {kind}:")
        for fault in first[kind]:
            console.print(f"  {escape(shown(fault['name']))}: {escape(fault['detail'])}")
        if count > len(first[kind]):
            console.print(f"  and {count - len(first[kind]):,} more")


def first_of_each(faults: list[dict[str, str]]) -> dict[str, list[dict[str, str]]]:
    """The first ten faults of each kind, of the whole list that a report has."""
    first: dict[str, list[dict[str, str]]] = {}
    for fault in faults:
        of_kind = first.setdefault(fault["kind"], [])
        if len(of_kind) < SHOWN:
            of_kind.append(fault)
    return first


def not_read_note(report: Report) -> str | None:
    """Which files were not read, by suffix, with the first names."""
    if not report.not_read:
        return None
    parts: list[str] = []
    for suffix, count in list(report.not_read.items())[:SHOWN]:
        names = [entry["name"] for entry in report.left_out.first[suffix]]
        parts.append(f"{count:,} {suffix} ({first_of(names, 2)})")
    if len(report.not_read) > SHOWN:
        parts.append(f"{len(report.not_read) - SHOWN:,} other suffixes")
    return f"not read: {', '.join(parts)}"


def imbalance_note(counts: dict[str, int]) -> str | None:
    """What to do where some classes have many more images than others.

    Args:
        counts: training images of each class.
    """
    if not counts:
        return None
    largest = max(counts, key=counts.__getitem__)
    smallest = min(counts, key=counts.__getitem__)
    ratio = counts[largest] / max(counts[smallest], 1)
    if ratio < IMBALANCE:
        return None
    return (
        f"classes are unequal: {shown(largest)} has {counts[largest]:,} training images, "
        f"{shown(smallest)} {counts[smallest]:,} ({ratio:,.0f} : 1). Train with "
        "--class-weights balanced, and go by macro averages"
    )


def read_notes(report: Path) -> list[str]:
    """The notes of an import that has ended, and what it went on without."""
    saved = read_json(report)
    notes: list[str] = list(saved["notes"])
    faults: dict[str, int] = saved["fault_counts"]
    if faults:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in faults.items())
        total = plural(sum(faults.values()), "fault")
        notes.append(f"imported without {total} ({kinds}): see {report}")
    return notes
