"""audit.html: what was found, with the pictures, in one file that needs nothing else."""

import base64
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from fmnist.data.audit.catalogue import Catalogue
from fmnist.data.audit.findings import AuditReport, Copies, Picture
from fmnist.data.audit.oddities import KINDS
from fmnist.data.origins import printable
from fmnist.runs.files import write_atomic

TEMPLATE = Path(__file__).with_name("page.html")
MOST_GROUPS = 60
MOST_PICTURES = 8
"""Of a group. The page shows so many; audit.json has all."""
MOST_ODD = 60
MOST_SUSPECTS = 120
MOST_CLASSES = 100
LARGEST_SHOWN = 160
"""Pixels on a side of a picture in the page."""


def write_page(path: Path, report: AuditReport, catalogue: Catalogue) -> None:
    """Write the page; the pictures are read from the catalogue."""
    write_atomic(path, build_page(report, catalogue))


def build_page(report: AuditReport, catalogue: Catalogue) -> str:
    """The page as HTML."""
    # Here: the audit alone needs Jinja2, and --help does without.
    from jinja2 import Environment, StrictUndefined

    # Escaped: names of files and classes come from anyone.
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["printable"] = printable
    template = environment.from_string(TEMPLATE.read_text())
    content = _content(report)
    return template.render(report=report, **content, pixels=_Pixels(catalogue, _shown(content)))


def _content(report: AuditReport) -> dict[str, Any]:
    """The findings that the page has room for."""
    odd: dict[str, Any] = {}
    for kind, meaning in KINDS.items():
        found = [oddity for oddity in report.oddities if oddity.kind == kind]
        if found:
            odd[kind] = {"meaning": meaning, "count": len(found), "shown": found[:MOST_ODD]}
    return {
        "exact": report.exact[:MOST_GROUPS],
        "near": report.near[:MOST_GROUPS],
        "most_pictures": MOST_PICTURES,
        "odd": odd,
        "suspects": (report.suspects or ())[:MOST_SUSPECTS],
        "counts": report.counts[:MOST_CLASSES],
        "has_validation": any(count.validation for count in report.counts),
        "largest": max(count.train for count in report.counts),
    }


def _shown(content: dict[str, Any]) -> list[Picture]:
    pictures: list[Picture] = []
    groups: Sequence[Copies] = (*content["exact"], *content["near"])
    for group in groups:
        pictures += group.examples(MOST_PICTURES)
    for found in content["odd"].values():
        pictures += [oddity.picture for oddity in found["shown"]]
    pictures += [suspect.picture for suspect in content["suspects"]]
    return pictures


class _Pixels:
    """Pictures as data URIs; those that are shown are read at once."""

    def __init__(self, catalogue: Catalogue, pictures: Iterable[Picture]) -> None:
        numbers = sorted({picture.number for picture in pictures})
        self._uris: dict[int, str] = {}
        if numbers:
            images = catalogue.read(np.array(numbers))
            self._uris = dict(zip(numbers, map(data_uri, images), strict=True))

    def __call__(self, picture: Picture) -> str:
        return self._uris[picture.number]


def data_uri(image: Tensor) -> str:
    """A PNG of (H, W) or (3, H, W) uint8 pixels, as an address that holds it."""
    pixels = image.numpy()
    if pixels.ndim == 3:
        pixels = np.ascontiguousarray(pixels.transpose(1, 2, 0))
    picture = Image.fromarray(pixels)
    picture.thumbnail((LARGEST_SHOWN, LARGEST_SHOWN))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
