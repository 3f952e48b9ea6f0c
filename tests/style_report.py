"""`make style`: how densely the code is written, by room, beside what we aim for.

Not a gate: a table to look at. It counts, for each 100 lines of functions, conditional expressions,
comprehensions and blank lines; and, over all lines, those beyond 100 columns and comments.

    python -m tests.style_report [FOLDER…]
"""

import ast
import io
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

ROOMS = ("fmnist", "cluster", "tune", "export", "benchmarks", "tests")
COLUMNS = 100
LONG_FUNCTION = 60
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(slots=True)
class Counts:
    """What was counted in some files."""

    files: int = 0
    lines: int = 0
    long_lines: int = 0
    comments: int = 0
    functions: int = 0
    function_lines: int = 0
    long_functions: int = 0
    characters: int = 0
    """In the lines of functions that are not blank."""
    blank: int = 0
    """Blank lines in functions."""
    conditionals: int = 0
    comprehensions: int = 0

    def add(self, other: "Counts") -> None:
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))

    def per_100_function_lines(self, count: int) -> float:
        return 100 * count / max(self.function_lines, 1)

    def per_100_lines(self, count: int) -> float:
        return 100 * count / max(self.lines, 1)


def outermost_functions(node: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Functions and methods, without those inside another."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, FUNCTIONS):
            yield child
        else:
            yield from outermost_functions(child)


def count_file(path: Path) -> Counts:
    source = path.read_text()
    lines = source.splitlines()
    found = Counts(files=1, lines=len(lines))
    found.long_lines = sum(len(line) > COLUMNS for line in lines)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    found.comments = sum(token.type == tokenize.COMMENT for token in tokens)

    for function in outermost_functions(ast.parse(source)):
        assert function.end_lineno is not None
        own = lines[function.lineno - 1 : function.end_lineno]
        found.functions += 1
        found.function_lines += len(own)
        found.long_functions += len(own) > LONG_FUNCTION
        found.blank += sum(not line.strip() for line in own)
        found.characters += sum(len(line) for line in own)
        for node in ast.walk(function):
            found.conditionals += isinstance(node, ast.IfExp)
            found.comprehensions += isinstance(node, COMPREHENSIONS)
    return found


def count_folder(folder: Path) -> Counts:
    total = Counts()
    files = [folder] if folder.is_file() else sorted(folder.rglob("*.py"))
    for path in files:
        total.add(count_file(path))
    return total


def row(name: str, counts: Counts) -> list[str]:
    return [
        name,
        f"{counts.files}",
        f"{counts.lines:,}",
        f"{counts.per_100_function_lines(counts.conditionals):.1f}",
        f"{counts.per_100_function_lines(counts.comprehensions):.1f}",
        f"{counts.per_100_function_lines(counts.blank):.1f}",
        f"{counts.characters / max(counts.function_lines - counts.blank, 1):.0f}",
        f"{counts.per_100_lines(counts.long_lines):.1f}",
        f"{counts.per_100_lines(counts.comments):.1f}",
        f"{counts.long_functions}",
    ]


def main(folders: list[str]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("", no_wrap=True)
    for name in (
        "files",
        "lines",
        "cond.\nexpr.",
        "compre-\nhensions",
        "blank\nlines",
        "chars\na line",
        f"over\n{COLUMNS} %",
        "com-\nments %",
        f"over {LONG_FUNCTION}\nlines",
    ):
        table.add_column(name, justify="right", no_wrap=True)

    total = Counts()
    for folder in folders:
        counts = count_folder(Path(folder))
        total.add(counts)
        table.add_row(*row(folder, counts))
    table.add_section()
    table.add_row(*row("all", total))
    table.add_row("goal", "", "", "≤ 2", "≤ 3", "≥ 7", "", "0", "≥ 3", "")
    Console().print(table)


if __name__ == "__main__":
    main(sys.argv[1:] or list(ROOMS))
