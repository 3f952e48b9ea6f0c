"""Tables for the terminal that are whole at any width: columns are left out, never cut."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich import box
from rich.cells import cell_len
from rich.table import Table

GAP = 2
"""Blanks between two columns."""


@dataclass(slots=True)
class Column:
    """A column of a table."""

    head: str
    cells: list[str] = field(default_factory=list)
    right: bool = False
    """Set to the right, as numbers are."""
    rank: int = 0
    """0: always shown; others are left out where there is no room, the highest first."""

    @property
    def width(self) -> int:
        lines = "\n".join([self.head, *self.cells]).splitlines()
        return max(map(cell_len, lines))


def total_width(columns: Sequence[Column]) -> int:
    return sum(column.width for column in columns) + GAP * (len(columns) - 1)


def fitting_table(
    columns: Sequence[Column], width: int, wrapped: str, styles: Sequence[str] = ()
) -> Table:
    """A table of the columns that there is room for.

    Args:
        columns: each with as many cells.
        width: of the terminal.
        wrapped: head of the column that is broken into lines if not even the columns of rank 0
            have room.
        styles: one for each row.
    """
    shown = list(columns)
    while total_width(shown) > width:
        least_needed = max(shown, key=lambda column: column.rank)
        if least_needed.rank == 0:
            break
        shown.remove(least_needed)

    for place, column in enumerate(shown):
        if column.head == wrapped:
            room = width - (total_width(shown) - column.width)
            shown[place] = _broken(column, room)

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column in shown:
        justify = "right" if column.right else "left"
        # Rich would cut what has no room. Only a part of a name that is wider than the terminal
        # has none.
        table.add_column(column.head, justify=justify, overflow="fold")

    cells = [column.cells for column in shown]
    for number, row in enumerate(zip(*cells, strict=True)):
        table.add_row(*row, style=styles[number] if styles else None)

    return table


def _broken(column: Column, width: int) -> Column:
    """The column in lines of at most `width`."""
    cells = [break_name(cell, width) for cell in column.cells]
    return Column(break_name(column.head, width), cells, column.right)


def break_name(name: str, width: int) -> str:
    """A name in lines of at most `width`, broken after a blank, hyphen, dot or underscore; a part
    that is longer stays whole."""
    lines = [""]
    for part in re.findall(r"[^ ._-]*[ ._-]?", name):
        # A blank at the end of a line takes no room.
        if lines[-1] and len(lines[-1] + part.rstrip()) > width:
            lines.append("")
        lines[-1] += part

    return "\n".join(line.rstrip() for line in lines)
