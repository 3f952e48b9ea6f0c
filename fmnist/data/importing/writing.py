"""Write an imported set: see fmnist.data.formats for its files."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from fmnist.data.formats import (
    FILES_FILE,
    IMPORTED_NAME,
    SUMMARY_FILE,
    SUMS_FILE,
    known_hash,
)
from fmnist.data.idx import IdxWriter, label_type, write_idx
from fmnist.data.importing.records import Picture, encode
from fmnist.data.importing.report import Report
from fmnist.data.importing.selection import Selection
from fmnist.data.importing.store import FINAL, Store
from fmnist.data.importing.table import Table
from fmnist.runs.files import write_atomic, write_json


def write_set(
    target: Path,
    store: Store,
    table: Table,
    selection: Selection,
    report: Report,
    summary: dict[str, Any],
) -> None:
    """Write the set to the folder `target`, whole or not at all, and remove what is no longer used.

    Raises:
        OSError: the disk is full. What was read is kept.
    """
    final = store.folder / FINAL
    shutil.rmtree(final, ignore_errors=True)
    final.mkdir()

    _write_arrays(final, store, table, selection)
    _write_files(final / FILES_FILE, store, table, selection)
    report.write(final)
    _write_images(final, store, table, selection)
    _write_sums(final)
    # Last: its presence says that the set is whole.
    write_json(final / SUMMARY_FILE, summary)
    report.close()
    # A set that was there before is the same, or lacks its summary.
    shutil.rmtree(target, ignore_errors=True)
    final.replace(target)
    store.remove()


def _write_arrays(final: Path, store: Store, table: Table, selection: Selection) -> None:
    kind, word = label_type(len(selection.classes))
    write_idx(final / f"labels-idx1-{word}", selection.labels.astype(kind))
    write_idx(final / "splits-idx1-ubyte", selection.splits)
    write_idx(final / "groups-idx1-int", selection.groups.astype(np.int32))

    channels = 1 if _is_gray(table, selection) else 3
    np.save(final / "sums.npy", table.sums[selection.rows, :channels])


def _is_gray(table: Table, selection: Selection) -> bool:
    """Whether all images of the set are gray; among those left out may be colour."""
    return bool(table.gray[selection.rows].all())


def _write_files(path: Path, store: Store, table: Table, selection: Selection) -> None:
    """Write a line for each image, in their order."""
    kept = np.zeros(len(table), np.bool_)
    kept[selection.rows] = True
    row = -1
    with path.open("w") as file:
        for entry in store.entries():
            if not isinstance(entry, Picture):
                continue
            row += 1
            if not kept[row]:
                continue
            deep = table.deep.get(row)
            if deep is not None and deep.fitted is not None:
                entry = _with_fitted(entry, row, table)
            file.write(encode(entry))


def _with_fitted(entry: Picture, row: int, table: Table) -> Picture:
    """The record of a picture of more than 8 bits, with what was found when it was fitted."""
    fitted = table.deep[row].fitted
    assert fitted is not None, "the caller has looked"
    return dataclasses.replace(
        entry,
        digest=table.digests[row].ljust(16, b"\0").hex(),
        sums=table.sums[row, :1].tolist(),
        fitted=list(fitted),
    )


def _write_images(final: Path, store: Store, table: Table, selection: Selection) -> None:
    """Move the rows to their place, or copy them where some are left out."""
    gray = _is_gray(table, selection)
    target = final / f"images-idx{3 if gray else 4}-ubyte"
    if len(selection.rows) == len(table) and gray == store.is_gray:
        store.finish().replace(target)
        return

    shape = store.shape[-2:] if gray else store.shape
    with target.open("wb") as file:
        writer = IdxWriter(file, shape)
        for row in selection.rows.tolist():
            pixels = store.read(row)
            writer.write(pixels[0] if gray and pixels.ndim == 3 else pixels)
        writer.finish()
    store.close()


def _write_sums(final: Path) -> None:
    files = sorted(path for path in final.iterdir() if IMPORTED_NAME.fullmatch(path.name))
    lines = [f"{known_hash(path)}  {path.name}\n" for path in files]
    write_atomic(final / SUMS_FILE, "".join(lines))
