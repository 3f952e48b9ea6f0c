"""HTML from values: everything that comes from data is escaped here."""

import base64
import html
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

NAMES = {"lr": "learning rate", "global_batch_size": "batch size", "train_images": "training images"}
"""Of fields, where the field's own would puzzle."""
Part = tuple[str, str, str, str]
"""Of the page: id, title, words beside it, and the work itself; the last two are markup."""


def text(value: object) -> str:
    return html.escape(str(value))


def percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2%}"


def code(command: str) -> str:
    return f"<code>{text(command)}</code>"


def paragraphs(*sentences: str) -> str:
    """Of markup; empty ones are left out."""
    return "".join(f"<p>{sentence}</p>" for sentence in sentences if sentence)


def definitions(rows: Iterable[tuple[str, str]], style: str) -> str:
    """Args: rows: a name, and markup."""
    return f'<dl class="{style}">' + "".join(f"<div><dt>{text(name)}</dt><dd>{value}</dd></div>" for name, value in rows) + "</dl>"


class Cell(str):
    """Markup of a cell of a table; a number is set to the right, and may be sorted by what is not shown of it."""

    __slots__ = ("style", "value")

    style: str
    value: float | None

    def __new__(cls, markup: str, value: float | None = None, style: str = "") -> "Cell":
        cell = super().__new__(cls, markup)
        cell.value, cell.style = value, style
        return cell


def number(value: float | None, shown: str) -> Cell:
    """A cell for a number, which is missing if None."""
    return Cell(text(shown), value, "n")


def table(caption: str, heads: Sequence[Cell | str], rows: Iterable[tuple[Sequence[str], str]], style: str = "") -> str:
    """A table in a box of its own, which scrolls if there is no room.

    Args:
        caption: text; also what the box is called.
        heads: markup of each column's head; a Cell's style "n" sets it to the right.
        rows: cells, the first of which is the row's head, and attributes of the row.
        style: classes of the table: "sortable" makes heads that sort.
    """
    head = "".join(f'<th scope="col"{_style(cell)}>{cell}</th>' for cell in heads)
    body = "".join(f"<tr{attributes}>{_cells(cells)}</tr>" for cells, attributes in rows)
    inside = f"<caption>{text(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    title = f'<p class="title" aria-hidden="true">{text(caption)}</p>'  # beside the box, or it would scroll with it
    box = f'<div class="box" tabindex="0" role="group" aria-label="{text(caption)}"><table class="{style}">{inside}</table></div>'
    return title + box


def _cells(cells: Sequence[str]) -> str:
    first, *rest = cells
    return f'<th scope="row"{_style(first)}>{first}</th>' + "".join(f"<td{_style(cell)}>{cell}</td>" for cell in rest)


def _style(cell: str) -> str:
    if not isinstance(cell, Cell):
        return ""
    value = "" if cell.value is None else f' data-v="{cell.value!r}"'
    return (f' class="{cell.style}"' if cell.style else "") + value


def picture(image: NDArray[np.uint8]) -> str:
    """A PNG of an image (H, W) or (3, H, W), as an address that holds all of it."""
    buffer = io.BytesIO()
    Image.fromarray(image if image.ndim == 2 else image.transpose(1, 2, 0)).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def embed(value: Any) -> str:
    """JSON that can stand in a script element: nothing in it ends the element or opens a comment."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def section(name: str, title: str, words: str, work: str) -> str:
    return (
        f'<section id="{name}" aria-labelledby="{name}-title"><div class="words"><h2 id="{name}-title">{title}</h2>{words}</div>'
        f'<div class="work">{work}</div></section>'
    )


def chart(name: str, heading: str, hint: str = "") -> str:
    """The place of a chart, which report.js fills; a hint says how to look closer."""
    said = f'<p class="said" aria-live="polite" data-hint="{text(hint)}">{text(hint)}</p>' if hint else ""
    return f'<figure class="chart"><figcaption>{heading}</figcaption>{said}<div class="plot" id="{name}"></div></figure>'


def field_name(field: str) -> str:
    return NAMES.get(field, field.replace("_", " "))
