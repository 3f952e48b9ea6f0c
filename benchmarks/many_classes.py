"""`python -m benchmarks.many_classes`: 62, 1,000 and 20,000 classes through the whole chain.

The images are characters of the fonts that are installed (Debian's fonts-* packages), one image
for each font: EMNIST's 62 letters and digits in torchvision's layout, and Chinese characters in
Keras's. Test images are of font families that no training image is of. Each set is trained,
evaluated, searched, exported, verified and predicted by the commands a user types. Writes
docs/results/many_classes.md.
"""

import logging
import os
import string
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from fontTools.ttLib import TTCollection, TTFont
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from rich.progress import track

from benchmarks.results import CONSOLE, ROOT, Page, Row, Rows, machine, machine_text
from fmnist.cli import command
from fmnist.data.idx import write_idx
from fmnist.errors import FailedError, check
from fmnist.runs.files import read_json

LETTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase
IDEOGRAPHS = range(0x4E00, 0xA000)
"""Unicode's block of unified ideographs."""
SUFFIXES = (".ttf", ".otf", ".ttc")
TEST_SHARE = 6
"""One font family in so many is kept for the test."""
SIDE = 28
DRAWN = 96
"""Pixels a side at which a character is drawn before it is reduced."""
FEWEST_DIFFERENT = 3
"""A font whose characters look alike in more cases than one in so many has no such characters."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Take sets of many classes through the whole chain."""

    fonts: Path = Path("/usr/share/fonts")
    classes: tuple[int, ...] = (62, 1000, 20_000)
    most_fonts: int = 400
    """Fonts of a set, at most; of 10,000 classes and more eight."""
    folder: Path = Path("runs/many-classes")
    """Where the sets and their runs are made."""

    def __post_init__(self) -> None:
        check(self.fonts.is_dir(), f"fonts={str(self.fonts)!r}: no such folder")
        check(min(self.classes) >= 2, f"classes={self.classes}: each must be at least 2")


@dataclass(frozen=True, slots=True)
class Font:
    """A font file, and the characters that it has."""

    path: Path
    characters: frozenset[int]

    @property
    def family(self) -> str:
        """Files of one folder whose names begin alike are one family."""
        return f"{self.path.parent}/{self.path.stem[:6]}"


def find_fonts(folder: Path) -> list[Font]:
    """Every font below the folder that can be read."""
    logging.getLogger("fontTools").setLevel(logging.CRITICAL)
    fonts: list[Font] = []
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    for path in track(paths, "fonts", console=CONSOLE):
        try:
            collection = path.suffix.lower() == ".ttc"
            font = TTCollection(path, lazy=True).fonts[0] if collection else TTFont(path, lazy=True)
            fonts.append(Font(path, frozenset(font.getBestCmap() or {})))
        except Exception as error:  # fonts are damaged in many ways
            CONSOLE.print(f"{path.name} is left out: {error}")
    return fonts


def choose(fonts: Sequence[Font], count: int) -> list[int]:
    """The characters of a set: EMNIST's 62, or the ideographs that most fonts have."""
    if count == len(LETTERS):
        return [ord(letter) for letter in LETTERS]

    having = {code: sum(code in font.characters for font in fonts) for code in IDEOGRAPHS}
    most = sorted(IDEOGRAPHS, key=lambda code: (-having[code], code))
    return sorted(most[:count])


def draw_font(font: Font, characters: Sequence[int]) -> Pixels:
    """Draw each character bright on black, (N, SIDE, SIDE)."""
    pen = ImageFont.truetype(str(font.path), int(0.75 * DRAWN))
    images: list[Pixels] = []
    for code in characters:
        image = Image.new("L", (DRAWN, DRAWN))
        middle = (DRAWN / 2, DRAWN / 2)
        ImageDraw.Draw(image).text(middle, chr(code), fill=255, font=pen, anchor="mm")
        images.append(np.asarray(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)))
    return np.stack(images)


def by_turns(fonts: Sequence[Font]) -> list[Font]:
    """One font of each family, then another of each, and so on."""
    seen: Counter[str] = Counter()
    turns: list[tuple[int, Font]] = []
    for font in fonts:
        turns.append((seen[font.family], font))
        seen[font.family] += 1
    return [font for _, font in sorted(turns, key=lambda turn: turn[0])]


def drawn(fonts: Sequence[Font], characters: Sequence[int]) -> Iterator[tuple[Font, Pixels]]:
    """The fonts that have all characters, and draw them differently."""
    wanted = set(characters)
    for font in track(by_turns(fonts), "drawing", console=CONSOLE):
        if not wanted <= font.characters:
            continue
        try:
            pixels = draw_font(font, characters)
        except OSError:
            continue
        different = len({image.tobytes() for image in pixels})
        if different >= len(characters) * (1 - 1 / FEWEST_DIFFERENT):
            yield font, pixels


def make_set(fonts: Sequence[Font], count: int, options: Options) -> Path:
    """Write a set, unless it is there already. Returns what --data names."""
    folder = options.folder / f"set-{count}"
    raw = folder / "EMNIST/raw"
    named = raw / "emnist-byclass" if count == len(LETTERS) else folder
    if (folder / "made").exists():
        return named

    limit = options.most_fonts if count < 10_000 else 8
    characters = choose(fonts, count)
    parts: dict[bool, list[Pixels]] = {False: [], True: []}
    families: dict[str, bool] = {}
    for font, pixels in drawn(fonts, characters):
        test = families.setdefault(font.family, len(families) % TEST_SHARE == TEST_SHARE - 1)
        parts[test].append(pixels)
        if sum(map(len, parts.values())) >= limit:
            break

    check(bool(parts[True]), f"classes={count}: too few font families are installed")
    labels = np.arange(count)
    if count == len(LETTERS):
        raw.mkdir(parents=True, exist_ok=True)
        for test, images in parts.items():
            name = f"emnist-byclass-{'test' if test else 'train'}"
            # EMNIST's files hold each image turned on its side.
            turned = np.concatenate(images).swapaxes(1, 2)
            write_idx(raw / f"{name}-images-idx3-ubyte", np.ascontiguousarray(turned))
            values = np.tile(labels, len(images)).astype(np.uint8)
            write_idx(raw / f"{name}-labels-idx1-ubyte", values)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(
            folder / "characters.npz",
            x_train=np.concatenate(parts[False]),
            y_train=np.tile(labels, len(parts[False])),
            x_test=np.concatenate(parts[True]),
            y_test=np.tile(labels, len(parts[True])),
        )
        names = [chr(code) for code in characters]
        (folder / "labels.txt").write_text("\n".join(names) + "\n", encoding="utf-8")

    (folder / "made").touch()
    return named


def run(folder: Path, stage: str, module: str, *arguments: object) -> Row:
    """Run a command; its seconds and its peak memory. Raises FailedError if it fails."""
    words = [sys.executable, "-m", module, *map(str, arguments)]
    CONSOLE.print(" ".join(words[1:]))
    started = time.perf_counter()
    process = subprocess.Popen(
        words,
        cwd=folder,
        env=dict(os.environ) | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    output, _ = process.communicate()
    if process.returncode:
        raise FailedError(f"{module}: {output.splitlines()[-1] if output else 'no output'}")
    (folder / f"{stage}.txt").write_text(output)
    return {f"{stage}_s": time.perf_counter() - started}


def chain(count: int, data: Path, options: Options) -> Row:
    """Take a set through every command."""
    folder = options.folder / f"chain-{count}"
    folder.mkdir(parents=True, exist_ok=True)
    data = data.absolute()
    epochs = 6 if count < 10_000 else 3
    step = partial(run, folder)
    row: Row = {"classes": count}
    row |= step("data", "fmnist.data", "--data", data)
    if not (folder / "runs/one/best/model.safetensors").exists():
        flags = ("--no-flip", "--epochs", epochs, "--name", "one")
        row |= step("train", "fmnist.train", "--data", data, *flags)
    row |= step("evaluate", "fmnist.evaluate", "runs/one")
    row |= step("export", "export.to_onnx", "runs/one")
    row |= step("verify", "export.verify", "runs/one")

    evaluation = read_json(folder / "runs/one/evaluation-test.json")
    verified = read_json(folder / "runs/one/export/verify.json")
    figures = read_json(folder / "runs/one/best/metrics.json")
    row |= {
        "test_images": evaluation["images"],
        "accuracy": evaluation["accuracy"],
        "unseen_accuracy": evaluation["copies"]["accuracy_without"],
        "copies": evaluation["copies"]["images"],
        "top5": evaluation["top5"],
        "worst": evaluation["confused"][:3],
        "max_abs_diff": verified["max_abs_diff"],
        "epochs": len(figures["epochs"]),
    }
    if count < 10_000:
        searched = ("--trials", 4, "--train.epochs", 3, "--time-budget-min", 3)
        flags = ("--name", "two", "--train.no-flip", "--retrain-epochs", 1, *searched)
        summary = folder / "runs/two/summary.json"
        if not summary.exists():
            row |= step("search", "tune.search", "--preset", "laptop", "--data", data, *flags)
        row["search_accuracy"] = read_json(summary)["test_accuracy"]
    return row


def write_page(rows: list[Row]) -> None:
    page = Page("Many classes")
    page.text(
        """`python -m benchmarks.many_classes`: characters of the fonts installed, one image for
        each character and font; test images are of font families that no training image is of. 62
        classes are EMNIST's letters and digits, in torchvision's layout; the others are Chinese
        characters, in Keras's. Fonts of other families may still have drawn a character alike:
        such copies are counted. Seconds are of whole commands."""
    )
    page.row_table(
        "rrrrrrrrrrrr",
        "classes | test images | copies among them | epochs | accuracy | without copies | top-5 | "
        "train, s | evaluate, s | export, s | verify, s | largest difference of logits",
        "{classes:,} | {test_images:,} | {copies:,} | {epochs} | {accuracy:.2%} | {unseen} | "
        "{top5:.2%} | {train_s:.0f} | {evaluate_s:.1f} | {export_s:.1f} | {verify_s:.1f} | "
        "{max_abs_diff:.1e}",
        [row | {"unseen": unseen(row)} for row in rows],
    )
    for row in rows:
        pairs = [f"{pair['true']} for {pair['predicted']}" for pair in row["worst"]]
        searched = ""
        if "search_accuracy" in row:
            searched = f" A search of three minutes: {row['search_accuracy']:.2%}."
        page.text(f"{row['classes']:,} classes, most confused: {', '.join(pairs)}.{searched}")
    page.notes(rows)
    page.items(dict.fromkeys(machine_text(row) for row in rows))
    page.write("many_classes")


def unseen(row: Row) -> str:
    """Accuracy on test images that are no copies of training images."""
    accuracy = row["unseen_accuracy"]
    return "–" if accuracy is None else f"{accuracy:.2%}"


def main(options: Options) -> None:
    rows = Rows("many_classes", "classes")
    fonts: list[Font] = []
    for count in options.classes:
        if rows.measured(count):
            continue
        if not fonts and not (options.folder / f"set-{count}/made").exists():
            fonts = find_fonts(options.fonts)
        data = make_set(fonts, count, options)
        rows.add(chain(count, data, options) | machine("torch", "onnxruntime"))
    write_page(rows.rows)


if __name__ == "__main__":
    command(Options, main)
