"""Results of a benchmark: rows in docs/results/NAME.json, and the page NAME.md made of them.

A row is written as soon as it is measured, so that an interrupted benchmark goes on where it
stopped. A page is made from rows alone.
"""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console

from fmnist.runs.files import read_json, write_atomic, write_json
from fmnist.runs.provenance import environment
from fmnist.training.device import hardware

ROOT = Path(__file__).parents[1]
"""On the path of the processes that benchmarks start."""
RESULTS = Path("docs/results")
IMAGES = Path("docs/images")
CONSOLE = Console(highlight=False, soft_wrap=True)
WIDTH = 100

Row = dict[str, Any]


def read_rows(name: str) -> list[Row]:
    """The rows of docs/results/NAME.json, none if there is no such file."""
    path = RESULTS / f"{name}.json"
    return read_json(path) if path.exists() else []


def write_rows(name: str, rows: Sequence[Row]) -> None:
    write_json(RESULTS / f"{name}.json", list(rows))


class Rows:
    """The rows of docs/results/NAME.json.

    Args:
        name: the file's name, without its folder and suffix.
        key: fields that tell one measurement from another.
    """

    def __init__(self, name: str, *key: str) -> None:
        self.name = name
        self.key = key
        self.rows = read_rows(name)

    def measured(self, *values: object) -> bool:
        """Return whether there is a row with these values of the key."""
        return any(self._key(row) == values for row in self.rows)

    def add(self, row: Row) -> None:
        """Write a row at once; it replaces one of the same key."""
        # A measurement that is repeated keeps its place in the table.
        places = [self._key(each) for each in self.rows]
        if self._key(row) in places:
            self.rows[places.index(self._key(row))] = row
        else:
            self.rows.append(row)

        self.write()

    def write(self) -> None:
        write_rows(self.name, self.rows)

    def _key(self, row: Row) -> tuple[object, ...]:
        return tuple(row[field] for field in self.key)


@cache
def machine(*packages: str) -> Row:
    """Fields of a row: what it was measured on, by which versions and commit."""
    found = environment()
    versions: dict[str, str] = {}
    for name in ("python", *packages):
        if name in found["versions"]:
            versions[name] = found["versions"][name]

    return {"machine": hardware(), "versions": versions, "commit": found["git_commit"]}


def versions_text(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in row["versions"].items())


def machine_text(row: Mapping[str, Any]) -> str:
    """The machine and the versions; rows of older benchmarks have both in `machine`."""
    if "versions" not in row:
        return row["machine"]
    return f"{row['machine']}; {versions_text(row)}"


def percents(row: Row, *fields: str) -> Row:
    """The row with some of its fractions as per cent, or points."""
    return row | {field: 100 * row[field] for field in fields}


class Page:
    """A page in Markdown, put together block by block."""

    def __init__(self, title: str) -> None:
        self.blocks = [f"# {title}"]

    def heading(self, words: str) -> None:
        self.blocks.append(f"## {words}")

    def text(self, *paragraphs: str) -> None:
        """Paragraphs; their own line breaks do not matter."""
        self.blocks += [_filled(paragraph) for paragraph in paragraphs]

    def items(self, items: Iterable[str]) -> None:
        """A bullet list."""
        self.blocks.append("\n".join(_filled(item, "- ", "  ") for item in items))

    def table(self, align: str, headings: str, rows: Iterable[Sequence[object]]) -> None:
        """A table.

        Args:
            align: a letter for each column: l or r.
            headings: separated by " | ".
        """
        rules = [{"l": "---", "r": "---:"}[side] for side in align]
        lines = [f"| {headings} |", f"|{'|'.join(rules)}|"]
        lines += [f"| {' | '.join(map(str, cells))} |" for cells in rows]
        self.blocks.append("\n".join(lines))

    def row_table(self, align: str, headings: str, template: str, rows: Iterable[Row]) -> None:
        """A table with a line for each row.

        Args:
            template: the cells, separated by " | ", with fields in braces: "{model} | {turns:,}".
        """
        self.table(align, headings, [[template.format_map(row)] for row in rows])

    def image(self, words: str, name: str) -> None:
        self.blocks.append(f"![{words}](../images/{name})")

    def notes(self, rows: Iterable[Row]) -> None:
        """Paragraphs of the rows' `note`, each once."""
        found = [row["note"] for row in rows if "note" in row]
        self.text(*dict.fromkeys(found))

    def not_measured(self, commands: Mapping[str, str], device: str = "cuda") -> None:
        """List what waits for a machine with such a device, and the commands that measure it."""
        if commands:
            where = {"cuda": "a GPU", "cpu": "a CPU"}[device]
            self.heading(f"Not measured yet, for want of {where}")
            self.items(f"{what}: `{command}`" for what, command in commands.items())

    def write(self, name: str) -> None:
        """Write docs/results/NAME.md, and print it."""
        text = "\n\n".join(self.blocks) + "\n"
        write_atomic(RESULTS / f"{name}.md", text)
        CONSOLE.print(text, markup=False)


def _filled(words: str, first: str = "", rest: str = "") -> str:
    return textwrap.fill(
        " ".join(words.split()),
        WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
