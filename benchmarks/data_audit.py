"""`python -m benchmarks.data_audit`: what the audit finds in Fashion-MNIST, how sure it is, and how
long it takes.

Finds what is there without training; with --labels also what networks say of the labels, from the
folds that `python -m fmnist.audit` has trained, or trains them. With --folder a folder of
pictures is audited too. Where cleanvision is installed, it is run on the same images. Writes
docs/results/audit (.json and .md) and docs/images/audit.png.
"""

import io
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from itertools import chain, combinations
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from benchmarks.results import CONSOLE, IMAGES, Page, Row, Rows, machine, machine_text
from fmnist.audit import fold_config
from fmnist.cli import Flag, command
from fmnist.data.audit.catalogue import Catalogue
from fmnist.data.audit.collect import collect
from fmnist.data.audit.copies import likeness
from fmnist.data.audit.findings import AuditReport, Copies, Picture, Suspect
from fmnist.data.dataset import load_info
from fmnist.data.idx import write_idx
from fmnist.data.sources import Source, find_data
from fmnist.evaluation.label_issues import Groups, find_suspects
from fmnist.runs.files import write_atomic
from fmnist.runs.run_folder import RUNS

OUT = RUNS / "audit-fashion-mnist"
COMMAND = "python -m benchmarks.data_audit"
CHANGED = 2000
"""Images, the first ones of the training set, that are changed and looked for."""
LOOKED_AT = 57
"""Pairs that the audit finds in Fashion-MNIST; all were looked at."""
SHOWN = 8
FOLDS = 5

Change = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Audit Fashion-MNIST, and measure what the audit finds of copies that were planted."""

    labels: Annotated[bool, Flag] = False
    """Also judge labels by networks that were not trained on the image."""
    folder: str | None = None
    """A folder of pictures for each class, to be audited too."""
    named: str = "a folder of pictures"
    """What the page calls it."""


def jpeg(quality: int) -> Change:
    def change(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
        return np.asarray(Image.open(buffer))

    return change


def one_pixel(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    changed = pixels.copy()
    changed[14, 14] ^= 64
    return changed


def darker(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return (pixels * 0.8).astype(np.uint8)


def mirrored(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pixels[:, ::-1]


def moved(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.roll(pixels, 1, 1)


CHANGES: dict[str, Change] = {
    "one pixel changed": one_pixel,
    "a fifth darker": darker,
    "saved as JPEG, quality 90": jpeg(90),
    "saved as JPEG, quality 75": jpeg(75),
    "saved as JPEG, quality 50": jpeg(50),
    "moved by a pixel": moved,
    "mirrored": mirrored,
}


def measure_recall(catalogue: Catalogue, rows: Rows) -> None:
    """Make sets whose test images are changed training images, and count those that are found."""
    images = catalogue.read(np.arange(CHANGED))
    labels = catalogue.labels[:CHANGED].astype(np.uint8)
    for words, change in CHANGES.items():
        changed = np.stack([change(image) for image in images.numpy()])
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for prefix, pixels in (("train", images.numpy()), ("t10k", changed)):
                write_idx(folder / f"{prefix}-images-idx3-ubyte", pixels)
                write_idx(folder / f"{prefix}-labels-idx1-ubyte", labels)
            report = collect(Catalogue(folder, load_info(folder)), words, CONSOLE)
        found = int((report.groups[:CHANGED] == report.groups[CHANGED:]).sum())
        rows.add({"what": "planted", "name": words, "found": found, "of": CHANGED} | machine())


def audit_set(name: str, folder: Path, rows: Rows, labels: bool) -> tuple[AuditReport, Catalogue]:
    """Audit a set, and write what was found as rows."""
    info = load_info(folder)
    started, cpu_started = time.perf_counter(), time.process_time()
    catalogue = Catalogue(folder, info)
    report = collect(catalogue, name, CONSOLE)
    spent = {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu_started,
    }
    rows.add({"what": "time", "name": name, "images": report.images} | spent | machine())

    if labels:

        def find(groups: Groups) -> list[Suspect]:
            config = fold_config(None, None)
            return find_suspects(config, folder, info, groups, OUT, folds=FOLDS, console=CONSOLE)

        report = collect(catalogue, name, CONSOLE, find)
    for finding, count, of in list_findings(report):
        row = {"what": "finding", "name": f"{name}: {finding}", "set": name, "finding": finding}
        rows.add(row | {"count": count, "of": of} | machine())
    return report, catalogue


def list_findings(report: AuditReport) -> list[tuple[str, int, int]]:
    """What was found, how many images, and of how many."""
    found: list[tuple[str, int, int]] = []
    for words, copies in (
        ("images with an exact copy", report.exact),
        ("in groups of near copies", report.near),
    ):
        found.append((words, count_images(copies), report.images))
        differ = [one for one in copies if len(one.labels) > 1]
        found.append((f"{words}, under different labels", count_images(differ), report.images))
    for leak in report.leaks:
        words = f"{leak.split} images that are {leak.copies} copies of training images"
        found.append((words, leak.images, leak.of))
    kinds = Counter(oddity.kind for oddity in report.oddities)
    named = ("one colour", "nearly blank", "blurred", "dark", "bright")
    usual = [words.partition(":")[0] for words in report.usual]
    found += [(kind, kinds[kind], report.images) for kind in named if kind not in usual]
    if report.suspects is not None:
        for split, of in split_sizes(report).items():
            suspects = [one for one in report.suspects if one.picture.split == split]
            found.append((f"{split} labels that predictions contradict", len(suspects), of))
            sure = [one for one in suspects if one.label_confidence < 0.01]
            found.append((f"{split} labels given less than 1 %", len(sure), of))
    return found


def count_images(copies: Sequence[Copies]) -> int:
    return sum(len(one.pictures) for one in copies)


def split_sizes(report: AuditReport) -> dict[str, int]:
    sizes: Counter[str] = Counter()
    for count in report.counts:
        sizes["train"] += count.train
        sizes["test"] += count.test
    return dict(sizes)


def run_cleanvision(catalogue: Catalogue, rows: Rows) -> None:
    """Run cleanvision on the same images, where it is installed."""
    if find_spec("cleanvision") is None:
        return
    # By name: it is no dependency of the project's, and no type checker need know it.
    cleanvision: Any = import_module("cleanvision")
    pixels = torch.cat(list(catalogue.batches())).numpy()

    class Pictures:
        """The images as torchvision's data sets give them."""

        def __len__(self) -> int:
            return len(pixels)

        def __getitem__(self, index: int) -> tuple[Image.Image, int]:
            return Image.fromarray(pixels[index]), int(catalogue.labels[index])

    started = time.process_time()
    lab = cleanvision.Imagelab(torchvision_dataset=Pictures())
    lab.find_issues(n_jobs=1, verbose=False)
    cpu_seconds = time.process_time() - started

    pairs: list[tuple[int, int]] = []
    for group in lab.info["near_duplicates"]["sets"]:
        pairs += combinations(group, 2)
    first, second = np.array(pairs).T
    correlation, _ = likeness(catalogue.read(first), catalogue.read(second))
    row: Row = {
        "what": "cleanvision",
        "version": version("cleanvision"),
        "name": "near copies",
        "images": len(pixels),
        "cpu_seconds": cpu_seconds,
        "pairs": len(pairs),
        "correlate_above_95": int((correlation > 0.95).sum()),
        "median_correlation": float(np.median(correlation)),
        "low_information": int(lab.issues["is_low_information_issue"].sum()),
    }
    rows.add(row | machine())


def draw(report: AuditReport, catalogue: Catalogue) -> None:
    """Draw the near copies across splits, others, and the labels most contradicted."""
    across = [one for one in report.near if len(one.splits) > 1]
    within = [one for one in report.near if len(one.splits) == 1]
    lines: list[list[tuple[Picture, str]]] = []
    for copies in (across, within):
        pairs = [one.pictures[:1] + one.pictures[-1:] for one in copies[: SHOWN // 2]]
        pictures = list(chain.from_iterable(pairs))
        lines.append([(one, f"{one.label}\n{one.name}") for one in pictures])
    for split in ("train", "test"):
        chosen = [one for one in report.suspects or () if one.picture.split == split][:SHOWN]
        line: list[tuple[Picture, str]] = []
        for one in chosen:
            words = f"{one.picture.label}?\nseen: {one.predicted}\n{one.picture.name}"
            line.append((one.picture, words))
        if line:
            lines.append(line)

    figure = Figure(figsize=(1.25 * SHOWN, 1.75 * len(lines)), layout="constrained")
    axes = figure.subplots(len(lines), SHOWN, squeeze=False)
    for row, line in zip(axes, lines, strict=True):
        for axis in row:
            axis.axis("off")
        for axis, (picture, words) in zip(row, line, strict=False):
            pixels = catalogue.read(np.array([picture.number]))[0]
            axis.imshow(pixels, cmap="gray", vmin=0, vmax=255)
            axis.set_title(words, fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_atomic(IMAGES / "audit.png", buffer.getvalue())


def write_page(rows: Rows) -> None:
    page = Page("Audit of a data set")
    timed = rows_of(rows, "time")
    page.text(
        f"`{COMMAND} --labels --folder FOLDER` on {machine_text(timed[0])}. The audit itself is "
        "`python -m fmnist.audit`; it leaves a page with the pictures."
    )
    for each in timed:
        name = each["name"]
        page.heading(name)
        page.text(
            f"{each['images']:,} images in {each['seconds']:.1f} s, {each['cpu_seconds']:.1f} s of "
            "CPU time (other work ran beside it): all but the training."
        )
        findings = [row for row in rows_of(rows, "finding") if row["set"] == name]
        page.row_table("lrr", "found | images | of", "{finding} | {count:,} | {of:,}", findings)
        if each is timed[0]:
            _write_fashion(page)

    page.heading("Are near copies found, and only those?")
    page.text(
        f"The first {CHANGED:,} training images, each with a changed copy among them. A copy that "
        "is moved by a pixel or mirrored is another image, as augmentation makes them."
    )
    page.row_table(
        "lrr", "change | found | of", "{name} | {found:,} | {of:,}", rows_of(rows, "planted")
    )
    for row in rows_of(rows, "cleanvision"):
        page.heading("Beside cleanvision")
        page.text(
            f"cleanvision {row['version']} takes {row['cpu_seconds']:.0f} s of CPU time for the "
            f"same images. Its near copies are equal hashes: {row['pairs']:,} pairs, of which "
            f"{row['correlate_above_95']:,} correlate above .95 (half of them below "
            f"{row['median_correlation']:.2f}): most show other shoes. It calls "
            f"{row['low_information']:,} images low in information, and knows no splits."
        )
    page.write("audit")


def _write_fashion(page: Page) -> None:
    page.text(
        "No two of the 70,000 images are equal. The near copies look like one photo saved twice, "
        f"or one product: {LOOKED_AT} pairs, all looked at; none is plainly another garment. The "
        "labels are judged by five networks (recipe airnet-quick, 4 epochs each), each on the "
        "images that it was not trained on; the test images by all five, those with copies in "
        "training by the one that saw none.",
        "By eye, the labels at the top of the list are wrong (an ankle boot is called Sneaker, "
        "test 2914) or cannot be told from so small a picture (Shirt against Pullover).",
        "Below: near copies across training and test set; within the training set; the training "
        "labels, and the test labels, that the networks contradict most.",
    )
    page.image("Near copies, and suspected labels", "audit.png")


def rows_of(rows: Rows, what: str) -> list[Row]:
    return [row for row in rows.rows if row["what"] == what]


def main(options: Options) -> None:
    rows = Rows("audit", "what", "name")
    report, catalogue = audit_set("Fashion-MNIST", find_data(), rows, options.labels)
    draw(report, catalogue)
    measure_recall(catalogue, rows)
    run_cleanvision(catalogue, rows)
    if options.folder is not None:
        source = Source(
            data=options.folder, image_size="64", skip_bad=True, min_images_per_class=12
        )
        audit_set(options.named, find_data(source), rows, labels=False)
    write_page(rows)


if __name__ == "__main__":
    command(Options, main)
