"""Folders of pictures to be imported, and what is looked at afterwards."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fmnist.data.dataset import Split, load_info, load_test, load_train
from fmnist.data.info import DataInfo
from fmnist.data.sources import Source, find_data


def draw(folder: Path, count: int, mode: str = "L", seed: int = 0) -> list[Path]:
    """Write pictures of as many sizes and aspects, all different. Returns their paths."""
    source = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for number in range(count):
        height, width = source.integers(10, 60, 2)
        pixels = source.integers(0, 256, (height, width, 3), np.uint8)
        suffix = "png" if number % 2 else "tiff"
        paths.append(folder / f"{number:03}.{suffix}")
        Image.fromarray(pixels).convert(mode).save(paths[-1])
    return paths


def draw_classes(folder: Path, names: Iterable[str], count: int, mode: str = "L") -> None:
    """Write a folder of different pictures for each class."""
    for seed, name in enumerate(names):
        draw(folder / name, count, mode, seed + 1)


@dataclass(frozen=True)
class Imported:
    """A set that was imported."""

    folder: Path
    info: DataInfo
    train: Split
    test: Split

    @property
    def report(self) -> dict[str, Any]:
        return json.loads((self.folder / "import.json").read_text())

    @property
    def files(self) -> list[str]:
        """The file of each row."""
        lines = (self.folder / "files.jsonl").read_text().splitlines()
        return [json.loads(line)["file"] for line in lines]

    @property
    def all_bytes(self) -> dict[str, bytes]:
        """The content of the files that make the set."""
        kept: dict[str, bytes] = {}
        for path in sorted(self.folder.iterdir()):
            if path.name not in ("import.json", ".hashes.json"):
                kept[path.name] = path.read_bytes()
        return kept

    def class_names(self, split: Split) -> list[str]:
        """The class of each image of a split."""
        return [self.info.classes[label] for label in split.labels.tolist()]


def open_set(folder: Path, size: str = "16", **options: Any) -> Imported:
    """Import a folder, unless it was imported before, and load it."""
    found = find_data(Source(data=str(folder), image_size=size, **options))
    info = load_info(found)
    return Imported(found, info, load_train(found, info), load_test(found, info))


def faults_of(cache: Path) -> list[tuple[str, str]]:
    """Kind and name of all faults of the one import in a cache."""
    (report,) = cache.rglob("import.json")
    return [(fault["kind"], fault["name"]) for fault in json.loads(report.read_text())["faults"]]
