"""`python -m benchmarks.import_speed --pictures FOLDER`: how fast pictures are imported.

Beside the import, in turns: a bare loop of Pillow's decoding and resizing on as many threads, which
is the bound; torchvision's ImageFolder through a DataLoader of as many processes; and, where
--ultralytics names a Python that has it, Ultralytics' check and cache of a classification set. The
pictures are copied first, without those that the import would refuse. Writes
docs/results/import_speed.md.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import Compose, Resize, ToTensor

from benchmarks.results import CONSOLE, ROOT, Page, Row, Rows, machine, machine_text
from fmnist.cli import command
from fmnist.data.image_file import ImageError, open_image
from fmnist.errors import FailedError, check
from fmnist.runs.threads import cpu_threads

FEWEST = 12
"""Pictures of a class."""
EMPTY_FILES = (2, 1_000_000)
SUFFIXES = (".png", ".jpg", ".jpeg")
OURS = """
import sys, time
from pathlib import Path
from fmnist.data.sources import Source, find_data
started = time.perf_counter()
find_data(Source(data=sys.argv[1], image_size=sys.argv[2]))
print(time.perf_counter() - started)
"""
REFUSED = """
import sys
from pathlib import Path
from fmnist.data.sources import Source, find_data
from fmnist.errors import DataError
try:
    find_data(Source(data=sys.argv[1]))
except DataError:
    # The high-water mark of this program, and not of the one that started it.
    print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
"""
ULTRALYTICS = """
import sys, time
from ultralytics.cfg import get_cfg
from ultralytics.data.dataset import ClassificationDataset
arguments = get_cfg(overrides={"imgsz": int(sys.argv[2]), "cache": "disk"})
started = time.perf_counter()
data = ClassificationDataset(sys.argv[1], arguments, augment=False, prefix="train")
for index in range(len(data)):
    data[index]
print(time.perf_counter() - started)
"""
WORDS = {
    "import": "our import",
    "bare": "bare Pillow loop, threads; transparency ignored",
    "laid": "bare Pillow loop, threads; transparency laid on white",
    "imagefolder": "torchvision's ImageFolder, one epoch of a DataLoader",
    "ultralytics": "Ultralytics: check, decode and cache at full size",
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure the import of a folder of pictures, and its peers."""

    pictures: Path
    """Folder of real pictures, such as that of Debian's openclipart-png."""
    count: int = 2000
    """Pictures that are taken, spread over the folder."""
    sizes: tuple[int, ...] = (64, 224)
    turns: int = 5
    ultralytics: Path | None = None
    """A Python that has Ultralytics."""

    def __post_init__(self) -> None:
        check(self.turns >= 1, f"turns={self.turns}: it must be at least 1")
        check(self.pictures.is_dir(), f"pictures={str(self.pictures)!r}: no such folder")


def copy_pictures(options: Options, folder: Path) -> list[Path]:
    """Copy pictures that can be read, each class in a folder of its own."""
    found = sorted(
        path
        for path in options.pictures.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.is_symlink()
    )
    copied: list[Path] = []
    step = max(len(found) // options.count, 1)
    for number, path in enumerate(found[::step]):
        try:
            open_image(path)
        except ImageError:
            continue
        label = path.relative_to(options.pictures).parts[0]
        target = folder / label / f"{number}{path.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        copied.append(target)

    # A class too small to be split would be refused.
    counts = Counter(path.parent for path in copied)
    for small, number in counts.items():
        if number < FEWEST:
            shutil.rmtree(small)
    return [path for path in copied if counts[path.parent] >= FEWEST]


def bare_loop(paths: list[Path], size: int, laid: bool) -> float:
    """Seconds to decode and resize every picture on all threads.

    Args:
        laid: lay transparent pictures on white, as an import must; else what is under their
            transparency is shown, which is mostly black.
    """

    def read(path: Path) -> bytes:
        with Image.open(path) as image:
            if laid and (image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info):
                whole = image.convert("RGBA").resize((size, size), Image.Resampling.LANCZOS)
                white = Image.new("RGBA", whole.size, "white")
                return Image.alpha_composite(white, whole).convert("RGB").tobytes()
            return image.convert("RGB").resize((size, size), Image.Resampling.LANCZOS).tobytes()

    started = time.perf_counter()
    with ThreadPoolExecutor(cpu_threads()) as pool:
        for _ in pool.map(read, paths):
            pass
    return time.perf_counter() - started


def image_folder(folder: Path, size: int) -> float:
    """Seconds of one epoch of torchvision's ImageFolder, as tutorials load it."""
    data = ImageFolder(str(folder), Compose([Resize((size, size)), ToTensor()]))
    loader = DataLoader(data, batch_size=64, num_workers=cpu_threads())
    started = time.perf_counter()
    for _ in loader:
        pass
    return time.perf_counter() - started


def in_process(python: Path | str, script: str, folder: Path, size: int, cache: Path) -> float:
    """Seconds that a script of its own process measures. Raises FailedError if that fails."""
    environment = dict(os.environ) | {"XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [str(python), "-c", script, str(folder), str(size)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder.parent,
    )
    if done.returncode:
        output = done.stderr.splitlines() or ["no output"]
        raise FailedError(f"{python}: {output[-1]}")
    return float(done.stdout.splitlines()[-1])


def measure(options: Options, folder: Path, paths: list[Path], size: int) -> list[Row]:
    """Take turns, each with an empty cache; the files themselves are in the kernel's."""
    seconds: dict[str, list[float]] = {name: [] for name in WORDS}
    for _ in range(options.turns):
        seconds["bare"].append(bare_loop(paths, size, False))
        seconds["laid"].append(bare_loop(paths, size, True))
        with tempfile.TemporaryDirectory() as cache:
            took = in_process(sys.executable, OURS, folder, size, Path(cache))
            seconds["import"].append(took)
        seconds["imagefolder"].append(image_folder(folder, size))
        if options.ultralytics is not None:
            # A copy, beside whose pictures it leaves its cache.
            with tempfile.TemporaryDirectory() as copied:
                target = Path(copied) / "train"
                shutil.copytree(folder, target)
                took = in_process(options.ultralytics, ULTRALYTICS, target, size, Path(copied))
                seconds["ultralytics"].append(took)

    bare, laid = statistics.median(seconds["bare"]), statistics.median(seconds["laid"])
    rows: list[Row] = []
    for name, values in seconds.items():
        if values:
            middle = statistics.median(values)
            rows.append(
                {
                    "size": size,
                    "way": name,
                    "pictures": len(paths),
                    "images_per_s": len(paths) / middle,
                    "ratio": bare / middle,
                    "ratio_laid": laid / middle,
                    "turns": len(values),
                    "threads": cpu_threads(),
                }
            )
    return rows


def refuse_empty_files(count: int) -> Row:
    """Let the import refuse a folder of empty files: its seconds and its peak memory."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "empty"
        for label in ("a", "b"):
            (folder / label).mkdir(parents=True)
            for number in range(count // 2):
                (folder / label / f"{number}.png").touch()

        environment = dict(os.environ) | {"XDG_CACHE_HOME": temporary, "PYTHONPATH": str(ROOT)}
        started = time.perf_counter()
        words = [sys.executable, "-c", REFUSED, str(folder)]
        done = subprocess.run(words, env=environment, capture_output=True, text=True)
        seconds = time.perf_counter() - started
    if not done.stdout:
        raise FailedError(f"{count:,} empty files were not refused")
    return {
        "size": 0,
        "way": f"empty {count}",
        "pictures": count,
        "seconds": seconds,
        "peak_mb": int(done.stdout.split()[-1]) / 1024,
        "threads": cpu_threads(),
    }


def write_page(rows: list[Row]) -> None:
    page = Page("The speed of an import")
    page.text(
        """`python -m benchmarks.import_speed --pictures FOLDER`: real pictures, decoded, fitted and
        written once (the import), beside bare loops that only decode and resize them on as many
        threads, and beside what peers do. They take turns; medians of images/s, and the ratios to
        the bare loops. Most of these pictures are transparent: one loop ignores that, and so shows
        what is under it; the other lays them on white, as an import must. The import pads and
        hashes each picture, and looks for damage, copies and names that clash besides. ImageFolder
        decodes in every epoch; the import's images are read from a file from then on."""
    )
    page.row_table(
        "rlrrrrr",
        "pixels a side | way | pictures | images/s | of the bare loop | laid on white | turns",
        "{size} | {words} | {pictures:,} | {images_per_s:,.0f} | {ratio:.2f} | {ratio_laid:.2f} | "
        "{turns}",
        [row | {"words": WORDS[row["way"]]} for row in rows if row["size"]],
    )
    page.heading("A folder of empty files")
    page.text("Refused in one report; the whole process, PyTorch not loaded.")
    page.row_table(
        "rrr",
        "files | s | peak memory, MB",
        "{pictures:,} | {seconds:.1f} | {peak_mb:,.0f}",
        [row for row in rows if not row["size"]],
    )
    page.items(dict.fromkeys(f"{machine_text(row)}, {row['threads']} threads" for row in rows))
    page.write("import_speed")


def main(options: Options) -> None:
    rows = Rows("import_speed", "size", "way")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "pictures"
        paths = copy_pictures(options, folder)
        CONSOLE.print(f"{len(paths):,} pictures")
        for size in options.sizes:
            for row in measure(options, folder, paths, size):
                rows.add(row | machine("pillow", "torchvision"))
                CONSOLE.print(
                    f"{size}: {WORDS[row['way']]}: {row['images_per_s']:,.0f} images/s, "
                    f"{row['ratio']:.2f}, {row['ratio_laid']:.2f}"
                )
    for count in EMPTY_FILES:
        rows.add(refuse_empty_files(count) | machine("pillow", "torchvision"))
    write_page(rows.rows)


if __name__ == "__main__":
    command(Options, main)
