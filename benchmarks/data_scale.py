"""`python -m benchmarks.data_scale --pictures FOLDER`: train on four times the memory allowed.

A set is made of random crops of the folder's pictures. Each measurement is a process of its own in
a control group that allows it so much memory, the kernel's page cache included: once on the set,
which begins outside of the cache, and once by the same loop on one constant batch. They take turns.
Linux, as root (it makes a control group). Writes docs/results/data_scale.md.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from benchmarks.memory import peak_memory, reset_peak
from benchmarks.results import CONSOLE, Page, Row, Rows, machine, machine_text
from fmnist.cli import command
from fmnist.config import TrainConfig
from fmnist.data.dataset import Split, TrainingData, load_info, load_train
from fmnist.data.idx import IdxWriter, map_idx, write_idx
from fmnist.data.images import Images, PixelFile
from fmnist.data.sources import Source, cache_folder, find_data
from fmnist.errors import FailedError, check
from fmnist.training.device import Rank, default_device, resolve, set_threads
from fmnist.training.loop import train_epochs

GIB = 2**30
MIB = 2**20
SIDE, MARGIN = 224, 32
BATCH = 64
EPOCHS = 4
"""Short ones; the first warms up."""
EPOCH_S = 10.0
GROUPS = Path("/sys/fs/cgroup")
SCRIPT = """
import json
from pathlib import Path
from benchmarks.data_scale import measure
print(json.dumps(measure(Path({folder!r}), {model!r}, {constant}, {steps})))
"""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure training on a set that is several times as large as the memory allowed."""

    pictures: Path
    """Folder of real pictures, such as that of Debian's openclipart-png."""
    models: tuple[str, ...] = ("lenet", "airnet", "resnet18_imagenet")
    memory_gb: float = 2.0
    """Memory that a process may have, in GiB, the page cache included."""
    times: float = 4.0
    """Size of the set, in times of that memory."""
    turns: int = 2

    def __post_init__(self) -> None:
        check(self.turns >= 1, f"turns={self.turns}: it must be at least 1")
        check(self.memory_gb > 0 < self.times, "memory_gb and times: they must be above 0")


def make_set(options: Options) -> Path:
    """Write images made of random crops of the pictures, unless they are there already."""
    count = int(options.times * options.memory_gb * GIB / (3 * SIDE * SIDE))
    folder = cache_folder() / f"data-scale-{count}"
    path = folder / "images"
    if path.exists():
        return path

    size = f"{SIDE + MARGIN}"
    source = Source(data=str(options.pictures), image_size=size, fit="crop", skip_bad=True)
    found = find_data(source)
    train = load_train(found, load_info(found))
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("w+b") as file:
        writer = IdxWriter(file, (3, SIDE, SIDE))
        for _ in track(range(count), "making the set", console=CONSOLE):
            picture = train.images[random.integers(len(train), size=1)][0].numpy()
            top, left = random.integers(MARGIN + 1, size=2)
            writer.write(picture[:, top : top + SIDE, left : left + SIDE])
        writer.finish()

    write_idx(folder / "labels", random.integers(10, size=count).astype(np.uint8))
    part.rename(path)
    return path


def measure(folder: Path, model: str, constant: bool, steps: int) -> Row:
    """Train in this process.

    Args:
        constant: on one batch that is in memory already.
        steps: of an epoch; 0 for as many as fit in EPOCH_S.

    Returns:
        images/s of each epoch, the peak of memory in each, and the number of steps.
    """
    device = default_device()
    source = PixelFile(folder / "images")
    labels = torch.from_numpy(map_idx(folder / "labels")[0].astype(np.int64))
    images = Images(source)
    if constant:
        rows = torch.arange(len(labels)) % BATCH
        images = Images(images[:BATCH].clone(), rows)
    statistics_of_batch = (torch.full((3, 1, 1), 128.0), torch.full((3, 1, 1), 64.0))
    data = TrainingData(Split(images, labels), None, 10, statistics_of_batch)

    config = TrainConfig(model=model, global_batch_size=BATCH, lr=1e-6, shift=4, flip=True)
    config = resolve(config.replace(epochs=EPOCHS, early_epochs=EPOCHS), device)
    set_threads(config)
    if not steps:
        steps = max(round(EPOCH_S * _probe(config, data, 4) / BATCH), 4)
    speeds, peaks = _epochs(config, data, steps)
    return {
        "images_per_s": speeds,
        "peak_mib": peaks,
        "steps": steps,
        "precision": config.precision,
    }


def _probe(config: TrainConfig, data: TrainingData, steps: int) -> float:
    """Images/s of a few steps."""
    speeds, _ = _epochs(config.replace(epochs=2, early_epochs=2), data, steps)
    return speeds[-1]


def _epochs(config: TrainConfig, data: TrainingData, steps: int) -> tuple[list[float], list[float]]:
    """Images/s and peak memory (MiB) of each epoch of so many steps."""
    config = config.replace(early_share=steps * BATCH / len(data.train))
    device = default_device()
    speeds: list[float] = []
    peaks: list[float] = []
    reset_peak(torch.device("cpu"))
    for metrics, _ in train_epochs(config, data, Rank(device)):
        speeds.append(metrics.images_per_s)
        peaks.append(peak_memory(torch.device("cpu")) / MIB)
        reset_peak(torch.device("cpu"))
    return speeds, peaks


@contextmanager
def memory_group(limit_bytes: int) -> Generator[Path]:
    """A control group whose processes may have so much memory: the file that takes their ids."""
    second = (GROUPS / "cgroup.controllers").exists()
    root = GROUPS if second else GROUPS / "memory"
    group = root / f"fmnist-{os.getpid()}"
    limit = "memory.max" if second else "memory.limit_in_bytes"
    try:
        group.mkdir()
        (group / limit).write_text(str(limit_bytes))
    except OSError as error:
        raise FailedError(f"{group}: no control group can be made here ({error})") from error
    try:
        yield group / "cgroup.procs"
    finally:
        group.rmdir()


def forget(path: Path) -> None:
    """Take a file out of the kernel's page cache."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def measure_apart(path: Path, options: Options, model: str, constant: bool, steps: int) -> Row:
    """Measure in a process of its own, in a control group."""
    forget(path)
    script = SCRIPT.format(folder=str(path.parent), model=model, constant=constant, steps=steps)
    with memory_group(int(options.memory_gb * GIB)) as members:

        def join() -> None:
            members.write_text(str(os.getpid()))

        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, preexec_fn=join
        )
    if done.returncode:
        output = done.stderr.splitlines() or [f"ended by signal {-done.returncode}"]
        raise FailedError(f"{model}, constant={constant}: {output[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(path: Path, options: Options, model: str) -> Row:
    """Take turns between the set and a constant batch."""
    steps = 0
    bound: list[float] = []
    reached: list[float] = []
    own_mib: list[float] = []
    found: Row = {}
    for _ in range(options.turns):
        found = measure_apart(path, options, model, True, steps)
        steps = found["steps"]
        bound += found["images_per_s"][1:]
        own_mib.append(max(found["peak_mib"]))

        found = measure_apart(path, options, model, False, steps)
        reached += found["images_per_s"][1:]

    ours, constant = statistics.median(reached), statistics.median(bound)
    return {
        "model": model,
        "memory_gb": options.memory_gb,
        "set_gb": path.stat().st_size / GIB,
        "images": int((path.stat().st_size) / (3 * SIDE * SIDE)),
        "images_per_s": ours,
        "constant_images_per_s": constant,
        "ratio": ours / constant,
        "mib_per_s": ours * 3 * SIDE * SIDE / MIB,
        "network_mib": max(own_mib),
        "epoch_peaks_mib": found["peak_mib"],
        "above_mib": max(found["peak_mib"]) - max(own_mib),
        "turns": options.turns,
        "steps": steps,
        "precision": found["precision"],
    }


def write_page(rows: list[Row]) -> None:
    page = Page("A set larger than memory")
    page.text(
        f"""`python -m benchmarks.data_scale --pictures FOLDER`: images of {SIDE}×{SIDE} in colour,
        random crops of real pictures, read in random order from a set that is larger than the
        memory allowed to the process, the page cache included, and is outside of that cache at
        first. Beside it, in turns, the same loop on one constant batch in memory. Images/s are
        medians over all epochs but each process's first. Peak: the process's high-water mark of
        resident memory in each epoch of the last turn; the network's own is that with the constant
        batch."""
    )
    page.row_table(
        "lrrrrrrrl",
        "network | memory, GiB | set, GiB | images/s | constant batch | ratio | read, MiB/s | "
        "peak above the network's own, MiB | peaks by epoch, MiB",
        "{model} ({precision}) | {memory_gb:g} | {set_gb:.1f} | {images_per_s:,.0f} | "
        "{constant_images_per_s:,.0f} | {ratio:.3f} | {mib_per_s:,.0f} | {above_mib:+,.0f} | "
        "{peaks}",
        [row | {"peaks": _peaks(row)} for row in rows],
    )
    page.notes(rows)
    page.items(dict.fromkeys(machine_text(row) for row in rows))
    page.write("data_scale")


def _peaks(row: Row) -> str:
    return ", ".join(f"{peak:,.0f}" for peak in row["epoch_peaks_mib"])


def main(options: Options) -> None:
    rows = Rows("data_scale", "model", "memory_gb")
    path = make_set(options)
    needed = path.stat().st_size
    check(needed > options.memory_gb * GIB, f"{path}: it would fit in the memory allowed")
    for model in options.models:
        row = compare(path, options, model)
        rows.add(row | machine("torch"))
        CONSOLE.print(
            f"{model}: {row['images_per_s']:,.0f} images/s, {row['ratio']:.3f} of the constant "
            f"batch's; peak {row['above_mib']:+,.0f} MiB"
        )
    write_page(rows.rows)
    CONSOLE.print(f"{path.parent} holds the set: delete it when you are done")


if __name__ == "__main__":
    command(Options, main)
