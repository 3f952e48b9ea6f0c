"""Sets as an import leaves them, for tests of what uses their file names and groups."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.data.formats import FILES_FILE, SPLITS, SUMMARY_FILE
from fmnist.data.idx import label_type, write_idx

Values = NDArray[Any]


def write_imported(
    folder: Path,
    images: NDArray[np.uint8],
    labels: Values,
    splits: Sequence[str],
    classes: Sequence[str],
) -> Path:
    """Write gray images (M, H, W) with their labels (M,) and splits; the file of row 7 is called
    7.png, in a folder of its class."""
    folder.mkdir()
    kind, word = label_type(len(classes))
    write_idx(folder / "images-idx3-ubyte", images)
    write_idx(folder / f"labels-idx1-{word}", labels.astype(kind))
    numbers = [SPLITS.index(split) for split in splits]
    write_idx(folder / "splits-idx1-ubyte", np.array(numbers, np.uint8))
    write_idx(folder / "groups-idx1-int", _groups(images))
    pixels = images.reshape(len(images), -1).astype(np.int64)
    np.save(folder / "sums.npy", np.stack((pixels.sum(1), (pixels**2).sum(1)), 1)[:, None])

    lines: list[str] = []
    for row, label in enumerate(labels.tolist()):
        lines.append(json.dumps({"file": f"{classes[label]}/{row}.png"}) + "\n")
    (folder / FILES_FILE).write_text("".join(lines))
    summary = {"name": "own", "classes": list(classes), "fit": "pad", "pad_colour": "edge"}
    (folder / SUMMARY_FILE).write_text(json.dumps(summary | {"pixel_range": None}))
    return folder


def _groups(images: NDArray[np.uint8]) -> Values:
    """For each image, the row of the first that is equal to it."""
    first: dict[bytes, int] = {}
    groups: list[int] = []
    for row, image in enumerate(images):
        digest = hashlib.sha256(image.tobytes()).digest()
        groups.append(first.setdefault(digest, row))
    return np.array(groups, np.int32)
