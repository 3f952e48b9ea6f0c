"""Find what an address names, and import it."""

from pathlib import Path

from fmnist.data.importing.engine import Origin, import_pictures
from fmnist.data.importing.options import ImportOptions
from fmnist.data.importing.recognise import recognise
from fmnist.data.importing.remote import fetch, is_remote

FETCHED = "fetched"
"""Folder beside the cache of imported sets for what comes from S3."""


def import_named(named: str, options: ImportOptions, cache: Path) -> Path:
    """Import what a path or an address names, unless it was imported before and has not changed.

    Args:
        named: a path, or an s3:// address, as the command line has it.
        cache: the folder of imported sets.

    Returns:
        the folder of a set in MNIST's format: of the import, or within the path.

    Raises:
        DataError: it is nothing known, or something is wrong with the pictures.
        FailedError: S3 does not answer.
    """
    argument = f"data={named!r}"
    path = fetch(named, cache.with_name(FETCHED)) if is_remote(named) else Path(named)
    found = recognise(path, argument)
    if isinstance(found, Path):
        return found

    real = path.resolve()
    name = real.stem if real.is_file() else real.name
    return import_pictures(Origin(found, name, argument, str(real)), options, cache)
