"""Words about files whose names come from outside."""

from collections.abc import Sequence

TEXTS = (
    *(".txt", ".md", ".rst", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml"),
    *(".html", ".htm", ".py", ".ipynb", ".log", ".pdf", ".cfg", ".ini", ".sh", ".doc", ".docx"),
)
"""Suffixes of what is written about pictures: a folder of such files alone is no class."""
SHOWN_LENGTH = 120
"""Characters of a name that are shown; its middle is left out where it has more."""


def shown(name: str) -> str:
    """A name in quotes that no terminal takes for anything else.

    What is not printable is escaped: line breaks, control characters, marks that turn the direction
    of writing, and bytes that are no UTF-8 (surrogates).
    """
    text = repr(name)
    if len(text) > SHOWN_LENGTH:
        half = SHOWN_LENGTH // 2
        return f"{text[:half]}…{text[-half:]}"
    return text


def first_of(names: Sequence[str], most: int) -> str:
    """The first names, and how many more there are."""
    text = ", ".join(shown(name) for name in names[:most])
    if len(names) > most:
        text += f" and {len(names) - most:,} more"
    return text


def is_text(name: str) -> bool:
    """Whether a file is surely none that was meant as a picture, by its suffix."""
    return name.lower().endswith(TEXTS)
