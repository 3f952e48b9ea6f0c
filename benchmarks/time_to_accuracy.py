"""`python -m benchmarks.time_to_accuracy`: what each recipe reaches, and after how many seconds of training on this machine.

Two measurements. Curves: each recipe and seed is trained whole, resumably, in runs/time-to-accuracy; the validation images, where
the recipe holds any out, give its accuracy after every epoch, the test images, once, at the end. Rates: the recipes take turns of
some seconds, and with them report C's own way, its network in a plain float32 loop. Seconds are epochs times the median turn's, so
they compare although the machine is shared. A CPU's curves serve every CPU, each with rates of its own; what a GPU found stands
beside. Writes docs/results/accuracy/, a JSON for each curve and each machine's rates, accuracy.md, and a picture for each machine.
"""

import dataclasses
import math
import re
import statistics
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.ticker import ScalarFormatter
from rich.console import Console
from rich.progress import Progress
from torch import Tensor
from torch.optim import Adam

from benchmarks.pages import unmeasured
from benchmarks.train_speed import matmul_peak, reports_speed, usual_loader, write_for_torchvision
from fmnist.checkpoint import load_checkpoint
from fmnist.cli import command
from fmnist.config import TrainConfig
from fmnist.data import DataInfo, Split, find_data, load_info, load_test, load_train, split_train
from fmnist.device import default_device, hardware, resolve, set_threads
from fmnist.errors import check, one_of
from fmnist.evaluate import compute_logits
from fmnist.loop import start_training, train_epochs
from fmnist.models import count_parameters
from fmnist.plan import measure_speed
from fmnist.plots import color, figure, line, save_figure
from fmnist.recipes import RECIPES
from fmnist.run import environment, read_json, write_atomic, write_json
from fmnist.train import train_in

RESULTS = Path("docs/results")
FOUND = RESULTS / "accuracy"
PICTURES = Path("docs/images")
RUNS = Path("runs/time-to-accuracy")
MARKS = (0.90, 0.91, 0.92, 0.93, 0.9304, 0.94)
"""93.04 % is the best test accuracy that a report gives (C)."""
HELD_OUT = ", 5,000 held out"
GPU_PARTS = {"gpu-94": 1, "gpu-95": 1, "small": 3, "best": 6}
"""What waits for a GPU, and the part of `make gpu` that measures all its seeds."""
TURNS, TURN_S = 9, 3.0
REFERENCE_GFLOPS = 185.0
"""Matrix products (bf16) of the machine that the goals were set on: seconds are also given as it would have needed them."""
OWN_WAY = "report C's own way"
OWN_EPOCHS, OWN_BATCH, OWN_LR, OWN_STEPS = 12, 128, 1e-3, 3


@dataclass(frozen=True, slots=True)
class Goal:
    """The least test accuracy of one view, mean of the seeds; the most seconds of training; the least times that report C's own
    way, to its 93.04 %, must take as long."""

    accuracy: float
    seconds: float = math.inf
    times: float = 0.0


GOALS = {
    "cpu": {"cpu-93": Goal(0.9304, times=30), "cpu-10min": Goal(0.95, seconds=600)},
    "cuda": {
        "gpu-94": Goal(0.94, seconds=2),
        "gpu-95": Goal(0.95, seconds=8),
        "small": Goal(0.956),
        "best": Goal(0.96, seconds=240),
    },
}
"""Of two CPU threads, and of one H200."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Train recipes whole, time them in turns, and say when each reaches which accuracy.

    Example: python -m benchmarks.time_to_accuracy --recipes airnet-quick e-lenet-0.05 --seeds 1
    """

    recipes: tuple[str, ...] = (
        *("cpu-93", "cpu-10min", "airnet-quick", "airnet-long"),
        *("a-lenet5-sgd", "a-mycnn-sgd", "b-cnn-plain", "c-vgg", "d-1", "e-lenet-0.05"),
    )
    """By name; python -m fmnist.train --list-recipes shows them."""
    seeds: int = 3

    def __post_init__(self) -> None:
        check(self.seeds >= 1, f"seeds={self.seeds}: it must be at least 1")
        for name in self.recipes:
            one_of("recipes", name, RECIPES)


def config_of(name: str) -> TrainConfig:
    """Of a recipe; or, for its name and HELD_OUT, of one that trains on all images, with some held out to have a curve."""
    whole = RECIPES[name.removesuffix(HELD_OUT)].config
    return whole.replace(validation_images=None) if name.endswith(HELD_OUT) else whole


def curve(name: str, seed: int, everything: Split, test: Split, info: DataInfo, console: Console) -> dict[str, Any]:
    """Train one recipe whole: its accuracy after every epoch, and at the end on the test images."""
    device = default_device()
    whole = config_of(name)
    chosen = dataclasses.replace(RECIPES[name.removesuffix(HELD_OUT)], config=whole).shortened() if device.type == "cpu" else whole
    config, train, held_out = split_train(resolve(chosen.replace(seed=seed), device), everything)
    set_threads(config)
    folder = RUNS / f"{name.replace(HELD_OUT, '-held-out')}-seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    trained = train_in(folder, config, train, held_out, info, console)
    assert trained is not None, "it had no deadline"
    model, images = load_checkpoint(folder / "best").model.to(device), test.images.to(device)
    plain, mirrored = (compute_logits(model, view).softmax(1).cpu() for view in (images, images.flip(-1)))
    return {
        "recipe": name,
        "seed": seed,
        "device": device.type,
        "machine": hardware(),
        "precision": config.precision,
        "epochs_of": whole.epochs,
        "parameters": count_parameters(model),
        "first_epoch_s": trained["epochs"][0]["seconds"],
        "images_per_epoch": len(train) // config.global_batch_size * config.global_batch_size,
        "accuracies": [epoch["validation_accuracy"] for epoch in trained["epochs"]],
        "test_accuracy": accuracy(plain, test.labels),
        "test_accuracy_flips": accuracy(plain + mirrored, test.labels),
    }


def accuracy(said: Tensor, labels: Tensor) -> float:
    return (said.argmax(1) == labels).float().mean().item()


def rates(names: Sequence[str], everything: Split, test: Split, progress: Progress) -> dict[str, float]:
    """Images/s of each recipe, and of report C's own way, from turns that follow each other."""
    device = default_device()
    turns: dict[str, Any] = {}
    found: dict[str, list[float]] = {name: [] for name in (*names, OWN_WAY)}
    for name in names:
        config, train, _ = split_train(resolve(RECIPES[name].config.replace(lr=1e-6), device), everything)
        batch = config.global_batch_size
        images = min(max(int(TURN_S * measure_speed(config, train, 10, device)) // batch, 1) * batch, len(train) // batch * batch)
        few = Split(train.images[:images], train.labels[:images])
        turns[name] = train_epochs(config.replace(epochs=TURNS + 1), few, classes=10, device=device)
    own = start_training(
        TrainConfig(model="vgg_like", precision="fp32", channels_last=False), everything, 10, device
    ).trained.network
    optimizer = Adam(own.parameters(), OWN_LR)
    with tempfile.TemporaryDirectory() as temporary:
        write_for_torchvision(Path(temporary), everything, test)
        loader = usual_loader(Path(temporary), OWN_BATCH)
        for _ in progress.track(range(TURNS + 1), description="rates, in turns"):
            for name in names:
                metrics, _ = next(turns[name])
                found[name].append(metrics.images_per_s)
            found[OWN_WAY].append(reports_speed(own, optimizer, loader, OWN_STEPS, device))
    return {name: statistics.median(speeds[1:]) for name, speeds in found.items()}


def epoch_seconds(row: Mapping[str, Any], speeds: Mapping[str, float]) -> float:
    return row["images_per_epoch"] / speeds[row["recipe"].removesuffix(HELD_OUT)]


def seconds_to(mark: float, row: Mapping[str, Any], speeds: Mapping[str, float]) -> float | None:
    """Of training until validation accuracy first is as high; None if it never is, or nothing was held out."""
    epoch = next((number for number, value in enumerate(row["accuracies"], start=1) if (value or 0) >= mark), None)
    return None if epoch is None else epoch * epoch_seconds(row, speeds)


def training_seconds(mine: Sequence[Mapping[str, Any]], speeds: Mapping[str, float]) -> float:
    """Of one recipe, whole: the mean over its seeds."""
    return statistics.mean(len(row["accuracies"]) * epoch_seconds(row, speeds) for row in mine)


def own_seconds(speeds: Mapping[str, float]) -> float:
    return OWN_EPOCHS * 60_000 / speeds[OWN_WAY]


def mean_and_deviation(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.2f}" + (f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else "")


def seeds_of(mine: Sequence[Mapping[str, Any]], precision: str) -> str:
    """How many, and how many of them were trained in another precision: 3 (2 bf16)."""
    others = Counter(row["precision"] for row in mine if row["precision"] != precision)
    said = [other if count == len(mine) else f"{count} {other}" for other, count in sorted(others.items())]
    return f"{len(mine)}" + (f" ({', '.join(said)})" if said else "")


def by_recipe(curves: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    return {name: [row for row in curves if row["recipe"] == name] for name in dict.fromkeys(row["recipe"] for row in curves)}


def curves_on(timed: Mapping[str, Any], curves: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those of the machine's kind of device whose speed was measured on it."""
    return [
        row
        for row in curves
        if row["device"] == timed["device"] and row["recipe"].removesuffix(HELD_OUT) in timed["rates"].keys() - {OWN_WAY}
    ]


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower())


def read_curves() -> list[dict[str, Any]]:
    """Of all machines, in the order of the recipes."""
    order = list(RECIPES)
    return sorted(
        (read_json(path) for path in FOUND.glob("curve-*.json")),
        key=lambda row: (order.index(row["recipe"].removesuffix(HELD_OUT)), row["recipe"], row["seed"]),
    )


def read_rates() -> dict[str, dict[str, Any]]:
    """By machine."""
    return {found["machine"]: found for path in sorted(FOUND.glob("rates-*.json")) for found in [read_json(path)]}


def section(name: str, timed: Mapping[str, Any], curves: Sequence[Mapping[str, Any]]) -> list[str]:
    """The table of one machine."""
    speeds: dict[str, float] = timed["rates"]
    device = timed["device"]
    own = own_seconds(speeds)
    versions = ", ".join(f"{name} {version}" for name, version in timed["versions"].items())
    marks = " | ".join(f"{100 * mark:g} %" for mark in MARKS)
    there = "there | " if device == "cpu" else ""
    lines = [
        "",
        f"## {name}",
        "",
        f"{versions}. {timed['precision']} matrix products run at {timed['gflops']:,.0f} GFLOP/s"
        + (
            f", {timed['gflops'] / REFERENCE_GFLOPS:.2f} times as fast as bf16's where the goals were set: *there*, a training"
            " needs so many times its seconds."
            if device == "cpu"
            else "."
        ),
        f"R{OWN_WAY[1:]}: {speeds[OWN_WAY]:,.0f} images/s, so {own:,.0f} s for the 93.04 % it gives.",
        "",
        f"![Accuracy against seconds](../images/{picture_of(name).name})",
        "",
        f"| recipe | parameters | epochs | seeds | test, % | mirror image too | images/s | all, s | {there}C's own ÷ | {marks} |",
        f"|---|---:|---:|---:|---:|---:|---:|---:|{'---:|' * (device == 'cpu')}---:|{'---:|' * len(MARKS)}",
    ]
    for name, mine in by_recipe(curves_on(timed, curves)).items():
        epochs = max(len(row["accuracies"]) for row in mine)
        whole = training_seconds(mine, speeds)
        cells = [
            name,
            f"{mine[0]['parameters']:,}",
            f"{epochs}" if epochs == mine[0]["epochs_of"] else f"**{epochs} of {mine[0]['epochs_of']}**",
            seeds_of(mine, timed["precision"]),
            mean_and_deviation([100 * row["test_accuracy"] for row in mine]),
            mean_and_deviation([100 * row["test_accuracy_flips"] for row in mine]),
            f"{speeds[name.removesuffix(HELD_OUT)]:,.0f}",
            f"{whole:,.1f}" if whole < 100 else f"{whole:,.0f}",
            *([f"{whole * timed['gflops'] / REFERENCE_GFLOPS:,.0f}"] if device == "cpu" else []),
            f"{own / whole:.1f}",
        ]
        for mark in MARKS:
            times = [when for row in mine if (when := seconds_to(mark, row, speeds)) is not None]
            share = f" ({len(times)})" if 0 < len(times) < len(mine) else ""
            cells.append(f"{statistics.mean(times):,.1f}{share}" if times else "–")
        lines.append(f"| {' | '.join(cells)} |")
    lines += verdicts(timed, curves)
    if device == "cuda":
        lines += ["", "Apart from that, before the first epoch's end, compiling and warming up included, s:", ""]
        lines += [
            f"- {name}: {mean_and_deviation([row['first_epoch_s'] for row in mine])}"
            for name, mine in by_recipe(curves_on(timed, curves)).items()
        ]
    return lines


def verdicts(timed: Mapping[str, Any], curves: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which goals were met on one machine, a line each."""
    lines: list[str] = []
    grouped, speeds = by_recipe(curves_on(timed, curves)), timed["rates"]
    for name, goal in GOALS[timed["device"]].items():
        if name not in grouped:
            continue
        accuracy = statistics.mean(row["test_accuracy"] for row in grouped[name])
        seconds = training_seconds(grouped[name], speeds)
        times = own_seconds(speeds) / seconds
        met = accuracy >= goal.accuracy and seconds <= goal.seconds and times >= goal.times
        asked, found = [f"{100 * goal.accuracy:g} %"], [f"{100 * accuracy:.2f} %"]
        if goal.seconds < math.inf:
            asked.append(f"in {goal.seconds:g} s")
            found.append(f"in {seconds:,.1f} s")
        if goal.times:
            asked.append(f"{goal.times:g} times as fast as report C's own way")
            found.append(f"{times:.1f} times")
        lines.append(f"- {name}, {', '.join(asked)}: {'met' if met else '**missed**'} ({', '.join(found)})")
    return ["", "Goals:", "", *lines] if lines else []


def page(machines: Mapping[str, Mapping[str, Any]], curves: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "# Accuracy, and the time it takes",
        "",
        "`python -m benchmarks.time_to_accuracy`. Each recipe (`python -m fmnist.train --list-recipes`) was trained whole with so",
        "many seeds; the test set was read once a seed, at the end: mean ± deviation. Seconds are of training alone, from turns in",
        f"which the recipes and report C's own way (its network, float32, Adam at {OWN_LR}, batch {OWN_BATCH}, {OWN_EPOCHS} epochs",
        "of a plain loop over torchvision's data) follow each other; the last columns say when the validation images first gave so",
        "much: the mean over the seeds that reach it (how many, if not all). A recipe that trains on all images has none: one",
        "run more, with 5,000 held out, has its curve.",
        "**4 of 12** epochs: a network too big for this machine, trained for fewer than its report did. Seeds (bf16): trained in",
        "another precision than the speed is of, elsewhere.",
    ]
    for name, timed in machines.items():
        lines += section(name, timed, curves)
    measured = {row["recipe"] for row in curves if row["device"] == "cuda"}
    lines += unmeasured({name: f"make gpu PART={part}" for name, part in GPU_PARTS.items() if name not in measured})
    return "\n".join([*lines, ""])


def picture_of(name: str) -> Path:
    return PICTURES / f"accuracy-{slug(name)}.png"


def draw(name: str, timed: Mapping[str, Any], curves: Sequence[Mapping[str, Any]]) -> None:
    """Accuracy against seconds, the mean over the seeds. A star: nothing held out, so the test's."""
    title = f"Accuracy against seconds of training: {name}"
    fig, axes = figure(title, "seconds of training", "validation accuracy, %", (8, 4.6))
    grouped = by_recipe(curves_on(timed, curves))
    recipes = list(dict.fromkeys(name.removesuffix(HELD_OUT) for name in grouped))
    for recipe, mine in grouped.items():
        number = recipes.index(recipe.removesuffix(HELD_OUT))  # a star and its curve have one colour
        epochs = len(mine[0]["accuracies"])
        seconds = [epoch * epoch_seconds(mine[0], timed["rates"]) for epoch in range(1, epochs + 1)]
        look: dict[str, Any] = {"color": color(number), "label": recipe}
        if mine[0]["accuracies"][0] is None:  # its curve is that of the run with some held out
            axes.plot(seconds[-1:], [100 * statistics.mean(row["test_accuracy"] for row in mine)], "*", markersize=11, **look)
            continue
        several = [100 * statistics.mean(values) for values in zip(*(row["accuracies"] for row in mine), strict=False)]
        axes.plot(seconds[: len(several)], several, marker=".", linestyle=line(number), **look)
    axes.axhline(93.04, color="#777777", linewidth=1)
    axes.annotate(
        "93.04, the best report's test accuracy", (0.01, 93.04), (0, 3), ("axes fraction", "data"), "offset points", fontsize=8
    )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_ylim(bottom=80)
    axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    save_figure(fig, picture_of(name))


def main(options: Options) -> None:
    console = Console(highlight=False, soft_wrap=True)
    folder = find_data()
    info = load_info(folder)
    everything, test = load_train(folder, info), load_test(folder, info)
    device = default_device()
    known = {(row["device"], row["recipe"], row["seed"]) for row in read_curves()}
    shown = [f"{name}{HELD_OUT}" for name in options.recipes if RECIPES[name].config.validation_images == 0]
    for seed in range(options.seeds):
        for name in (*options.recipes, *(shown if seed == 0 else ())):
            if (device.type, name, seed) not in known:
                console.rule(f"{name}, seed {seed}", align="left")
                found = curve(name, seed, everything, test, info, console)
                write_json(FOUND / f"curve-{device.type}-{slug(name)}-seed{seed}.json", found)
    curves = read_curves()
    names = list(dict.fromkeys(row["recipe"].removesuffix(HELD_OUT) for row in curves if row["device"] == device.type))
    precision = resolve(TrainConfig(), device).precision
    machine = f"{hardware()}, {precision}"
    if {*names, OWN_WAY} - set(read_rates().get(machine, {"rates": ()})["rates"]):
        set_threads(TrainConfig())
        with Progress(console=console) as progress:
            speeds = rates(names, everything, test, progress)
        timed = {
            "machine": machine,
            "device": device.type,
            "precision": precision,
            "rates": speeds,
            "gflops": round(matmul_peak(precision, device) / 1e9, 1),
            "versions": {name: environment()["versions"].get(name) for name in ("python", "torch", "torchvision")},
        }
        write_json(FOUND / f"rates-{slug(machine)}.json", timed)
    machines = read_rates()
    draw(machine, machines[machine], curves)
    write_atomic(RESULTS / "accuracy.md", page(machines, curves))
    console.print(page(machines, curves))


if __name__ == "__main__":
    command(Options, main)
