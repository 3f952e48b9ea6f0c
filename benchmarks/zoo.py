"""`python -m benchmarks.zoo`: every network, several widths, an ensemble and flip averaging, trained, exported, verified, timed.

Each is trained for some minutes on the CPU, so the large ones see few images: what they reach in full is in reports.md. Goes on
where it stopped. Writes docs/results/zoo.json and .md, and docs/images/pareto.png. `make verify-zoo` only verifies: it trains each
network for seconds and writes nothing.
"""

import dataclasses
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from export.backends import on_cpu, pytorch
from export.benchmark import Shipped, plot_pareto
from export.bundle import Bundled, variant_file, write_bundle
from export.check import VerificationError, check_bundle
from export.graph import averaged, exported, to_onnx
from export.session import SessionChoice
from export.timing import Predict, measure, percentile
from export.to_onnx import samples, try_variants
from export.verify import verify
from fmnist.checkpoint import Checkpoint
from fmnist.cli import command
from fmnist.config import TrainConfig
from fmnist.data import NOT_NAMED, DataInfo, Split, find_data, load_info, load_test, load_train, split_train
from fmnist.device import cpu_threads, default_device, processor, set_threads
from fmnist.errors import check, first_line
from fmnist.evaluate import compute_logits
from fmnist.loop import train_epochs
from fmnist.models import MODELS, count_parameters
from fmnist.plan import measure_speed
from fmnist.recipes import RECIPES
from fmnist.run import MODEL, environment, read_json, write_atomic, write_json

RESULTS = Path("docs/results")
ROWS = RESULTS / "zoo.json"
PICTURE = Path("docs/images/pareto.png")
VERIFY_S, JUDGE_S = 20.0, 60.0
"""PyTorch answers for about so long at most: slow networks are verified on fewer test images, and int8 judged by fewer others."""
TIMED_S = 1.0
FEWEST_STEPS = 100
"""Fewer leave batch norm's running statistics far from the batches': smaller batches, and a rate as much smaller, give as many."""
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
"""How a network is trained; those that are not here as TrainConfig has it."""
WIDTHS = ((8, 16, 32), (16, 32, 64), (48, 128, 256))


@dataclass(frozen=True, slots=True)
class Entry:
    """What is exported: a network, or several as one."""

    config: TrainConfig
    seeds: tuple[int, ...] = (0,)
    flips: bool = False


def entries() -> dict[str, Entry]:
    networks = {name: Entry(RECIPES[BY_RECIPE[name]].config if name in BY_RECIPE else TrainConfig(model=name)) for name in MODELS}
    air = TrainConfig(epochs=30)
    widths = {f"airnet {'-'.join(map(str, several))}": Entry(air.replace(widths=several)) for several in WIDTHS}
    together = {"airnet flips": Entry(air, flips=True), "airnet ensemble of 3": Entry(air, seeds=(0, 1, 2))}
    return networks | {"airnet": Entry(air)} | widths | together


def trained(config: TrainConfig, train: Split, info: DataInfo, minutes: float) -> tuple[Checkpoint, float]:
    """A network after about so many minutes, and the epochs that were: less than one where it sees a part of the images."""
    device = default_device()
    set_threads(config)
    whole, training, _ = split_train(config, train)
    classes = len(info.classes)
    full, images = len(training), int(measure_speed(config, training, classes, device) * 60 * minutes)
    if images < full:
        batch = max(min(config.global_batch_size, images // FEWEST_STEPS), 4)
        smaller = config.replace(global_batch_size=batch, lr=config.lr * batch / config.global_batch_size)
        whole, training, _ = split_train(smaller.replace(train_images=max(images // batch, 2) * batch), train)
    epochs = min(max(images // full, 1), config.epochs)
    *_, (_, state) = train_epochs(whole.replace(epochs=epochs), training, classes=classes, device=device)
    return Checkpoint(state.model.cpu().eval(), state.config, info, environment()), epochs * len(training) / full


def row_of(name: str, entry: Entry, train: Split, test: Split, info: DataInfo, minutes: float) -> dict[str, Any]:
    """Train, export, verify and time. Raises VerificationError if what was exported is not what was trained."""
    started = time.perf_counter()
    made = [trained(entry.config.replace(seed=seed), train, info, minutes) for seed in entry.seeds]
    took = time.perf_counter() - started
    members = [checkpoint for checkpoint, _ in made]
    golden, calibration, judge = samples(members[0], NOT_NAMED)
    rate = images_per_s(members, entry.flips, test)
    few, judge = (
        all_of.take(np.arange(fitting(rate * seconds, all_of))) for all_of, seconds in ((test, VERIFY_S), (judge, JUDGE_S))
    )
    raw, model = exported(members, entry.flips), to_onnx(members, entry.flips)
    variants = try_variants(model, judge, calibration, ("int8",), "cpu")
    with tempfile.TemporaryDirectory() as temporary:
        bundle = Path(temporary)
        bundled = Bundled(model, members, [name] * len(members), entry.flips, golden)
        write_bundle(bundle, bundled, variants)
        try:
            found = verify(bundle, check_bundle(bundle, "cpu"), members, few, "cpu")
        except VerificationError as error:  # as a user does then: export again without the variant
            if not variants[0].model:
                raise
            variants = [dataclasses.replace(variants[0], model=None, why=first_line(error))]
            write_bundle(bundle, bundled, variants)
            found = verify(bundle, check_bundle(bundle, "cpu"), members, few, "cpu")
        times = timed(bundle, members, entry.flips, [variant.name for variant in variants if variant.model])
        size = (bundle / MODEL).stat().st_size
    return {
        "name": name,
        "parameters": sum(count_parameters(member.model) for member in members),
        "epochs": round(made[0][1], 2),
        "train_s": round(took, 1),
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
        **{f"{backend}_us": value for backend, value in times.items()},
        "processor": processor(),
        "threads": cpu_threads(),
        "versions": {name: environment()["versions"].get(name) for name in ("python", "torch", "onnxruntime-gpu")},
    }


def images_per_s(members: Sequence[Checkpoint], flips: bool, images: Split) -> float:
    """Of PyTorch, on all threads."""
    model, probe = averaged(members, flips), 100
    compute_logits(model, images.images[:probe])
    began = time.perf_counter()
    compute_logits(model, images.images[:probe])
    return probe / (time.perf_counter() - began)


def fitting(number: float, images: Split) -> int:
    """At least a thousand, at most all."""
    return min(len(images), max(int(number), 1000))


def timed(bundle: Path, members: Sequence[Checkpoint], flips: bool, variants: Sequence[str]) -> dict[str, float]:
    """Median microseconds of one image on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    graphs = {"onnxruntime": bundle / MODEL} | {f"onnxruntime_{name}": bundle / variant_file(name) for name in variants}
    calls: dict[str, Predict] = {"pytorch": pytorch(averaged(members, flips), "cpu")}
    calls |= {backend: on_cpu(path, SessionChoice())(1) for backend, path in graphs.items()}
    pixels = np.random.default_rng(0).integers(0, 256, (1, *members[0].data.problem.image_shape), np.uint8)
    found = measure(calls, pixels, TIMED_S)
    torch.set_num_threads(threads)
    return {name: round(1e6 * percentile(found[name].times, 50), 1) for name in calls}


def points(rows: Sequence[Mapping[str, Any]]) -> list[Shipped]:
    several: list[Shipped] = []
    for row in rows:
        several.append(Shipped(row["name"], "float32", row["onnxruntime_us"], row["accuracy"]))
        if row["int8_accuracy"] is not None:
            several.append(Shipped(row["name"], "int8", row["onnxruntime_int8_us"], row["int8_accuracy"]))
    return several


def page(rows: Sequence[Mapping[str, Any]], minutes: float) -> str:
    first = rows[0]
    versions = ", ".join(f"{name} {version}" for name, version in first["versions"].items() if version)
    lines = [
        "# Every network, exported and verified",
        "",
        f"`python -m benchmarks.zoo --minutes {minutes:g}` on {first['processor']}, {first['threads']} threads; {versions}.",
        f"Each was trained for about {minutes:g} minutes, so the large ones saw few images: what they reach in full is in",
        f"[reports.md](reports.md). Where {FEWEST_STEPS} steps were too many, batch and rate are smaller. Verified: the bundle's",
        "own checks, and the logits of so many test images against PyTorch's, at four batch sizes. Times: p50 of one image on one",
        "thread, taken in turns. Nodes and size: as PyTorch's exporter leaves the graph, and as it ships (`export/fuse.py`).",
        "",
        "![Accuracy against latency](../images/pareto.png)",
        "",
        "| network | parameters | epochs | verified | differ by | test, % | int8, % | PyTorch, µs | ONNX | × | int8 | nodes | kB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in sorted(rows, key=lambda row: row["onnxruntime_us"]):
        int8 = row["int8_accuracy"]
        cells = (
            row["name"],
            f"{row['parameters']:,}",
            f"{row['epochs']:g}",
            f"{row['verified_images']:,}",
            f"{row['max_abs_diff']:.1e}",
            f"{100 * row['accuracy']:.2f}",
            "–" if int8 is None else f"{100 * int8:.2f}",
            f"{row['pytorch_us']:,.0f}",
            f"{row['onnxruntime_us']:,.0f}",
            f"{row['pytorch_us'] / row['onnxruntime_us']:.1f}",
            "–" if int8 is None else f"{row['onnxruntime_int8_us']:,.0f}",
            f"{row['nodes_before']} → {row['nodes']}",
            f"{row['bytes_before'] / 1000:,.0f} → {row['bytes'] / 1000:,.0f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    if left := [name for name in entries() if name not in {row["name"] for row in rows}]:
        lines += ["", f"Not run yet: {', '.join(left)}."]
    why = {row["name"]: row["int8_why_not"] for row in rows if row["int8_why_not"]}
    lines += ["", "Why there is no int8:", "", *(f"- {name}: {reason}." for name, reason in why.items())] if why else []
    return "\n".join([*lines, ""])


@dataclass(frozen=True, kw_only=True)
class Options:
    """Train, export, verify and time every network of the zoo.

    Example: python -m benchmarks.zoo --only lenet airnet --minutes 1
    """

    minutes: float = 2.0
    """Of training, each."""
    only: tuple[str, ...] = ()
    """Names; by default all."""
    verify_only: bool = False
    """Train for seconds, write nothing, and go on where one fails: exit code 1 then."""

    def __post_init__(self) -> None:
        check(self.minutes > 0, f"minutes={self.minutes}: it must be above 0")
        for name in self.only:
            check(name in entries(), f"only={name!r}: it must be one of {', '.join(entries())}")


def main(options: Options) -> int:
    console = Console(highlight=False, soft_wrap=True)
    folder = find_data()
    info = load_info(folder)
    train, test = load_train(folder, info), load_test(folder, info)
    minutes = 0.05 if options.verify_only else options.minutes
    rows: list[dict[str, Any]] = read_json(ROWS) if ROWS.exists() and not options.verify_only else []
    known = {row["name"] for row in rows}
    chosen = {name: entry for name, entry in entries().items() if name in (options.only or entries()) and name not in known}
    failed: list[str] = []
    with Progress(console=console) as progress:
        task = progress.add_task("zoo", total=len(chosen))
        for name, entry in chosen.items():
            progress.update(task, description=name)
            try:
                row = row_of(name, entry, train, test, info, minutes)
            except Exception as error:
                if not options.verify_only:
                    raise
                failed.append(name)
                console.print(f"[red]{name}[/]: {type(error).__name__}: {error}")
            else:
                console.print(
                    f"{name}: {row['verified_images']:,} images differ by at most {row['max_abs_diff']:.1e}, accuracy "
                    f"{row['accuracy']:.2%}, {row['onnxruntime_us']:,.0f} µs; {row['nodes_before']} → {row['nodes']} nodes"
                )
                rows.append(row)
                if not options.verify_only:
                    write_json(ROWS, rows)
            progress.advance(task)
    if failed:
        console.print(f"not verified: {', '.join(failed)}")
        return 1
    if not options.verify_only:
        plot_pareto(points(rows), "one CPU thread", PICTURE)
        write_atomic(RESULTS / "zoo.md", page(rows, minutes))
        console.print(f"written: {RESULTS / 'zoo.md'}, {PICTURE}")
    return 0


if __name__ == "__main__":
    command(Options, main)
