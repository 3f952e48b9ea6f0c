"""MODEL_CARD.md, written from a bundle's manifest (after Mitchell et al., 2019).

The card says what the model is for, and how far to trust it.
"""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from export.bundle.layout import variant_file
from fmnist.evaluation.metrics import accuracy_interval, confused_pairs

FOLDER = Path(__file__).parent
TEMPLATE = "MODEL_CARD.md.j2"


def model_card(manifest: dict[str, Any]) -> str:
    """The card, in Markdown."""
    # A template reads as the card does; built from strings in Python, its shape could not be seen.
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    return environment.get_template(TEMPLATE).render(
        manifest,
        commas=commas,
        confused_pairs=confused_pairs,
        fixed=fixed,
        interval=interval,
        percent=percent,
        variant_file=variant_file,
    )


def interval(share: float, images: int) -> tuple[float, float]:
    """95 % interval of a share of some images; all there is if there are none."""
    if images == 0:
        return 0.0, 1.0
    return accuracy_interval(round(share * images), images)


def commas(number: float) -> str:
    return f"{number:,.0f}"


def fixed(number: float, digits: int) -> str:
    return f"{number:.{digits}f}"


def percent(share: float, digits: int) -> str:
    return f"{share:.{digits}%}"
