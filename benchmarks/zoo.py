"""`python -m benchmarks.zoo`: every network, several widths and ensembles: trained, exported,
verified, timed.

Each is trained for some minutes on the CPU, so the large ones see few images: what they reach in
full is in reports.md. Goes on where it stopped. Writes docs/results/zoo (.json and .md) and
docs/images/pareto.png. `make verify-zoo` only verifies: it trains each network for seconds and
writes nothing.
"""

import dataclasses
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from rich.progress import Progress

from benchmarks.images import info, split_data, test_images, train_images
from benchmarks.results import CONSOLE, IMAGES, Page, Row, Rows, machine, percents, versions_text
from export.bundle.integrity import VerificationError, check_bundle
from export.bundle.layout import MODEL, variant_file
from export.bundle.parity import verify
from export.bundle.writer import Bundled, write_bundle
from export.graph.conversion import averaged, exported, to_onnx
from export.latency.backends import on_cpu, pytorch
from export.latency.charts import Shipped, plot_pareto
from export.session import SessionChoice
from export.timing import Predict, measure, percentile
from export.variants.gate import Variant
from export.variants.samples import samples
from export.variants.selection import try_variants
from fmnist.cli import Flag, command
from fmnist.config import TrainConfig
from fmnist.data.dataset import Split, TrainingData
from fmnist.data.sources import NOT_NAMED
from fmnist.errors import check, first_line, one_of
from fmnist.models import MODELS, count_parameters
from fmnist.recipes import RECIPES
from fmnist.runs.provenance import environment
from fmnist.runs.threads import cpu_threads
from fmnist.training.checkpoint import Checkpoint
from fmnist.training.device import Rank, default_device, processor, set_threads
from fmnist.training.inference import compute_logits
from fmnist.training.loop import train_epochs
from fmnist.training.throughput import measure_speed

VERIFY_S, JUDGE_S = 20.0, 60.0
"""PyTorch answers for about so long at most: slow networks are verified on fewer test images,
and int8 judged by fewer others."""
FEWEST_VERIFIED = 1000
PROBE = 100
"""Images that PyTorch is timed on beforehand."""
TIMED_S = 1.0
VERIFY_ONLY_MIN = 0.05
FEWEST_STEPS = 100
"""Fewer leave batch norm's running statistics far from the batches': smaller batches, and a rate
as much smaller, give as many."""
BY_RECIPE = {
    "alexnet": "a-alexnet-sgd",
    "inception": "d-inception",
    "lenet": "e-lenet-0.05",
    "lenet5": "a-lenet5-sgd",
    "mycnn": "a-mycnn-sgd",
    "mycnn_fixed": "a-mycnn-fixed-sgd",
    "resnet18": "resnet18",
    "resnet18_imagenet": "e-resnet18-0.05",
    "resnet20": "resnet20",
    "resnet34_imagenet": "e-resnet34-0.05",
    "threeconv": "d-6",
    "twoconv": "b-cnn-plain",
    "twoconv_published": "b-cnn-published",
    "vgg16": "a-vgg16-sgd",
    "vgg16_bn": "a-vgg16-bn",
    "vgg_like": "c-vgg",
    "vgg_like_weighted": "c-vgg-weighted",
}
"""Recipe that trains a network; the others are trained by TrainConfig's defaults."""
SUMMARY = (
    "{name}: {verified_images:,} images differ by at most {max_abs_diff:.1e}, "
    "accuracy {accuracy:.2%}, {onnxruntime_us:,.0f} µs; {nodes_before} → {nodes} nodes"
)
WIDTHS = ((8, 16, 32), (16, 32, 64), (48, 128, 256))


@dataclass(frozen=True, slots=True)
class Entry:
    """A network that is exported, or several as one."""

    config: TrainConfig
    seeds: tuple[int, ...] = (0,)
    flips: bool = False


def entries() -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for name in MODELS:
        config = TrainConfig(model=name)
        if name in BY_RECIPE:
            config = RECIPES[BY_RECIPE[name]].config
        found[name] = Entry(config)

    airnet = TrainConfig(epochs=30)
    found["airnet"] = Entry(airnet)
    for widths in WIDTHS:
        found[f"airnet {'-'.join(map(str, widths))}"] = Entry(airnet.replace(widths=widths))

    found["airnet flips"] = Entry(airnet, flips=True)
    found["airnet ensemble of 3"] = Entry(airnet, seeds=(0, 1, 2))
    return found


ENTRIES = entries()


@dataclass(frozen=True, kw_only=True)
class Options:
    """Train, export, verify and time every network of the zoo.

    Example: python -m benchmarks.zoo --only lenet airnet --minutes 1
    """

    minutes: float = 2.0
    """Minutes of training, each."""
    only: tuple[str, ...] = ()
    """Names; by default all."""
    verify_only: Annotated[bool, Flag] = False
    """Train for seconds, write nothing, and go on where one fails: exit code 1 then."""

    def __post_init__(self) -> None:
        check(self.minutes > 0, f"minutes={self.minutes}: it must be above 0")
        for name in self.only:
            one_of("only", name, ENTRIES)


def fitting(config: TrainConfig, minutes: float) -> tuple[TrainConfig, TrainingData, float]:
    """The config for a training of about so many minutes, its images, and its epochs: less than
    one where it sees a part of the images."""
    whole, data = split_data(config)
    full = len(data.train)
    speed = measure_speed(config, data, Rank(default_device()))
    images = int(speed * 60 * minutes)
    if images >= full:
        epochs = min(images // full, config.epochs)
        return whole.replace(epochs=epochs), data, epochs

    # So small a batch that there are FEWEST_STEPS of them.
    batch = max(min(config.global_batch_size, images // FEWEST_STEPS), 4)
    smaller = config.replace(
        global_batch_size=batch,
        lr=config.lr * batch / config.global_batch_size,
        train_images=max(images // batch, 2) * batch,
        epochs=1,
    )
    whole, data = split_data(smaller)

    return whole, data, len(data.train) / full


def train_for(config: TrainConfig, minutes: float) -> tuple[Checkpoint, float]:
    """Train for about so many minutes; the checkpoint, and the epochs that were."""
    set_threads(config)
    config, data, epochs = fitting(config, minutes)
    *_, (_, state) = train_epochs(config, data, Rank(default_device()))
    model = state.model.cpu().eval()
    return Checkpoint(model, state.config, info(), environment()), epochs


def images_per_s(members: Sequence[Checkpoint], flips: bool) -> float:
    """PyTorch's speed on all threads."""
    model, images = averaged(members, flips), test_images().images[:PROBE]
    compute_logits(model, images)
    started = time.perf_counter()
    compute_logits(model, images)
    return PROBE / (time.perf_counter() - started)


def take_at_most(split: Split, count: float) -> Split:
    """The first images, but never below a thousand."""
    return split.take(np.arange(min(len(split), max(int(count), FEWEST_VERIFIED))))


def verify_bundle(
    folder: Path, bundled: Bundled, variants: list[Variant], test: Split
) -> tuple[dict[str, Any], list[Variant]]:
    """Write and verify a bundle. Where an int8 graph fails, it goes, as a user would export again
    without it. Raises VerificationError if the float32 graph fails."""
    write_bundle(folder, bundled, variants)
    members, seen = bundled.members, train_images()
    try:
        found = verify(folder, check_bundle(folder, "cpu"), members, seen, test, "cpu")
    except VerificationError as error:
        if not variants[0].model:
            raise
        variants = [dataclasses.replace(variants[0], model=None, why=first_line(error))]
        write_bundle(folder, bundled, variants)
        found = verify(folder, check_bundle(folder, "cpu"), members, seen, test, "cpu")

    return found, variants


def measure_entry(name: str, entry: Entry, minutes: float) -> Row:
    """Train, export, verify and time. Raises VerificationError if what was exported is not what
    was trained."""
    started = time.perf_counter()
    trained = [train_for(entry.config.replace(seed=seed), minutes) for seed in entry.seeds]
    train_s = time.perf_counter() - started
    members = [checkpoint for checkpoint, _ in trained]

    # Members of an ensemble have the same split.
    golden, calibration, judge = samples(members[0], NOT_NAMED)
    speed = images_per_s(members, entry.flips)
    test = take_at_most(test_images(), speed * VERIFY_S)
    judge = take_at_most(judge, speed * JUDGE_S)
    raw, model = exported(members, entry.flips), to_onnx(members, entry.flips)
    variants = list(try_variants(model, judge, calibration, ("int8",), "cpu"))

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bundled = Bundled(model, members, [name] * len(members), entry.flips, golden)
        found, variants = verify_bundle(folder, bundled, variants, test)
        times_us = time_graphs(folder, members, entry.flips, variants)
        size = (folder / MODEL).stat().st_size

    return {
        "name": name,
        "parameters": sum(count_parameters(member.model) for member in members),
        "minutes": minutes,
        "epochs": round(trained[0][1], 2),
        "train_s": round(train_s, 1),
        "verified_images": found["images"],
        "accuracy": found["onnx_accuracy"],
        "pytorch_accuracy": found["pytorch_accuracy"],
        "max_abs_diff": found["max_abs_diff"],
        "tolerance": found["tolerance"],
        "int8_accuracy": found["variants"].get("int8", {}).get("accuracy"),
        "int8_why_not": variants[0].why,
        "nodes_before": len(raw.graph.node),
        "nodes": len(model.graph.node),
        "bytes_before": raw.ByteSize(),
        "bytes": size,
        **times_us,
    }


def time_graphs(
    folder: Path, members: Sequence[Checkpoint], flips: bool, variants: Sequence[Variant]
) -> dict[str, float]:
    """Median microseconds of one image on one thread, as fields of a row."""
    threads = torch.get_num_threads()
    # One thread for PyTorch too, as for ONNX Runtime.
    torch.set_num_threads(1)
    choice = SessionChoice()
    calls: dict[str, Predict] = {
        "pytorch_us": pytorch(averaged(members, flips), "cpu"),
        "onnxruntime_us": on_cpu(folder / MODEL, choice)(1),
    }

    for variant in variants:
        if variant.model:
            graph = folder / variant_file(variant.name)
            calls[f"onnxruntime_{variant.name}_us"] = on_cpu(graph, choice)(1)

    shape = members[0].data.problem.image_shape
    pixels = np.random.default_rng(0).integers(0, 256, (1, *shape), np.uint8)
    found = measure(calls, pixels, TIMED_S)
    torch.set_num_threads(threads)

    return {name: round(1e6 * percentile(found[name].times, 50), 1) for name in calls}


def draw(rows: Sequence[Row]) -> None:
    points: list[Shipped] = []
    for row in rows:
        points.append(Shipped(row["name"], "float32", row["onnxruntime_us"], row["accuracy"]))
        if row["int8_accuracy"] is not None:
            latency_us = row["onnxruntime_int8_us"]
            points.append(Shipped(row["name"], "int8", latency_us, row["int8_accuracy"]))

    plot_pareto(points, "one CPU thread", IMAGES / "pareto.png")


def write_page(rows: Sequence[Row]) -> None:
    first = rows[0]
    # Rows of an older version do not say: they had one.
    minutes = first.get("minutes", 1)
    page = Page("Every network, exported and verified")
    page.text(
        f"""`python -m benchmarks.zoo --minutes {minutes:g}` on {first["processor"]},
        {first["threads"]} threads; {versions_text(first)}. Each was trained for about {minutes:g}
        minutes, so the large ones saw few images: what they reach in full is in
        [reports.md](reports.md). Where {FEWEST_STEPS} steps were too many, batch and rate are
        smaller. Verified: the bundle's own checks, and the logits of so many test images against
        PyTorch's, at four batch sizes. Times: p50 of one image on one thread, taken in turns. Nodes
        and size: as PyTorch's exporter leaves the graph, and as it ships
        (`export/graph/fusing.py`)."""
    )
    page.image("Accuracy against latency", "pareto.png")
    page.row_table(
        "lrrrrrrrrrrrr",
        "network | parameters | epochs | verified | differ by | test, % | int8, % | PyTorch, µs | "
        "ONNX | × | int8 | nodes | kB",
        "{name} | {parameters:,} | {epochs:g} | {verified_images:,} | {max_abs_diff:.1e} | "
        "{accuracy:.2f} | {int8} | {pytorch_us:,.0f} | {onnxruntime_us:,.0f} | {ratio:.1f} | "
        "{int8_us} | {nodes_before} → {nodes} | {kb_before:,.0f} → {kb:,.0f}",
        [with_words(row) for row in sorted(rows, key=lambda row: row["onnxruntime_us"])],
    )
    known = {row["name"] for row in rows}
    missing = [name for name in ENTRIES if name not in known]
    if missing:
        page.text(f"Not run yet: {', '.join(missing)}.")
    reasons = {row["name"]: row["int8_why_not"] for row in rows if row["int8_why_not"]}
    if reasons:
        page.text("Why there is no int8:")
        page.items(f"{name}: {reason}." for name, reason in reasons.items())

    page.write("zoo")


def with_words(row: Row) -> Row:
    """The row with what its line in the table shows."""
    words: Row = {
        "int8": "–",
        "int8_us": "–",
        "ratio": row["pytorch_us"] / row["onnxruntime_us"],
        "kb_before": row["bytes_before"] / 1000,
        "kb": row["bytes"] / 1000,
    }
    if row["int8_accuracy"] is not None:
        words["int8"] = f"{100 * row['int8_accuracy']:.2f}"
        words["int8_us"] = f"{row['onnxruntime_int8_us']:,.0f}"

    return percents(row, "accuracy") | words


def main(options: Options) -> int:
    rows = Rows("zoo", "name")
    where = {
        **machine("torch", "onnxruntime-gpu"),
        "processor": processor(),
        "threads": cpu_threads(),
    }
    minutes = VERIFY_ONLY_MIN if options.verify_only else options.minutes
    chosen = list(options.only or ENTRIES)
    if not options.verify_only:
        chosen = [name for name in chosen if not rows.measured(name)]

    failed: list[str] = []
    with Progress(console=CONSOLE) as progress:
        for name in progress.track(chosen, description="zoo"):
            try:
                row = measure_entry(name, ENTRIES[name], minutes)
            except Exception as error:
                if not options.verify_only:
                    raise
                failed.append(name)
                CONSOLE.print(f"{name}: {type(error).__name__}: {error}", markup=False)
                continue

            CONSOLE.print(SUMMARY.format_map(row))
            if not options.verify_only:
                rows.add(row | where)

    if failed:
        CONSOLE.print(f"not verified: {', '.join(failed)}")
        return 1

    if not options.verify_only:
        draw(rows.rows)
        write_page(rows.rows)

    return 0


if __name__ == "__main__":
    command(Options, main)
