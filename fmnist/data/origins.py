"""Where images came from: the file names that an import has written down."""

import json
from collections.abc import Sequence
from pathlib import Path

from fmnist.data.formats import FILES_FILE
from fmnist.errors import DataError


def file_names(folder: Path | str, rows: Sequence[int]) -> list[str] | None:
    """Name the files that some images of an imported set were read from.

    Args:
        folder: where the set lies.
        rows: row numbers of the images, in any order.

    Returns:
        a name for each row, as the import wrote it; None where the set was not imported.

    Raises:
        DataError: the list of files is damaged.
    """
    path = Path(folder) / FILES_FILE
    if not path.is_file():
        return None

    wanted = set(rows)
    last = max(wanted, default=-1)
    names: dict[int, str] = {}
    # Line by line, and no further than needed: a large set has millions of lines.
    with path.open("rb") as lines:
        for row, line in enumerate(lines):
            if row > last:
                break
            if row in wanted:
                names[row] = _name_in(line, path, row)

    missing = wanted - names.keys()
    if missing:
        raise DataError(f"{path} has no line {min(missing) + 1:,}: it was cut short; import again")
    return [names[row] for row in rows]


def _name_in(line: bytes, path: Path, row: int) -> str:
    try:
        return str(json.loads(line)["file"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}, line {row + 1:,} names no file ({error}); import again"
        ) from error


def printable(name: str) -> str:
    """A file's name with an escape in place of every character that cannot be shown.

    Names may hold line breaks, marks that turn the direction of writing, and bytes of no encoding.
    """
    characters: list[str] = []
    for character in name:
        if not character.isprintable():
            character = character.encode("unicode_escape").decode()
        characters.append(character)
    return "".join(characters)
