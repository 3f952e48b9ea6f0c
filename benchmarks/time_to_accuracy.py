"""`python -m benchmarks.time_to_accuracy`: what each recipe reaches, and after how many seconds of
training on this machine.

Two measurements. Curves: each recipe and seed is trained whole, resumably, in
runs/time-to-accuracy; the validation images, where the recipe holds any out, give its accuracy
after every epoch, the test images, once, at the end. Rates: the recipes take turns of some seconds,
and with them report C's own way, its network in a plain float32 loop. Seconds are epochs times the
median turn's, so they compare although the machine is shared. A CPU's curves serve every CPU, each
with rates of its own; what a GPU found stands beside. Writes docs/results/accuracy/, a JSON for
each curve and each machine's rates, accuracy.md, and a picture for each machine.
"""

import dataclasses
import math
import re
import statistics
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import ScalarFormatter
from rich.progress import track
from torch import Tensor
from torch.optim import Adam

from benchmarks.images import CLASSES, info, split_data, test_images, train_images
from benchmarks.results import CONSOLE, IMAGES, RESULTS, Page, Row, machine, versions_text
from benchmarks.train_speed import matmul_flops_per_s
from benchmarks.usual_ways import plain_loop_speed, usual_loader, write_idx_files
from fmnist.cli import command
from fmnist.config import TrainConfig
from fmnist.data.dataset import TrainingData
from fmnist.errors import check, one_of
from fmnist.evaluation.plots import color, figure, line, save_figure
from fmnist.models import count_parameters
from fmnist.recipes import RECIPES
from fmnist.runs.files import read_json, write_json
from fmnist.training.device import Rank, default_device, hardware, resolve, set_threads
from fmnist.training.inference import compute_logits
from fmnist.training.loop import start_training, train_epochs
from fmnist.training.session import train_in
from fmnist.training.throughput import measure_speed

CURVES = RESULTS / "accuracy"
RUNS = Path("runs/time-to-accuracy")
BEST_REPORT = 0.9304
"""The best test accuracy that a report gives (C)."""
MARKS = (0.90, 0.91, 0.92, 0.93, BEST_REPORT, 0.94)
HELD_OUT = ", 5,000 held out"
"""Ends the name of a run of a recipe that else holds out none: so that it has a curve."""
GPU_PARTS = {"gpu-94": "time-to-94", "gpu-95": "time-to-94", "small": "small", "best": "best"}
"""Recipes that wait for a GPU, and the part of `make gpu` that measures them."""
TURNS, TURN_S = 9, 3.0
REFERENCE_GFLOPS = 185.0
"""Matrix products (bf16) of the machine that the goals were set on: seconds are also given as it
would have needed them."""
OWN_WAY = "report C's own way"
OWN_EPOCHS, OWN_BATCH, OWN_LR, OWN_STEPS = 12, 128, 1e-3, 3


@dataclass(frozen=True, slots=True)
class Goal:
    """Goal of a recipe."""

    accuracy: float
    """The least test accuracy of one view, mean of the seeds."""
    seconds: float = math.inf
    """The most seconds of training."""
    times: float = 0.0
    """The least time of report C's own way to its accuracy, as a multiple of the recipe's."""


GOALS = {
    "cpu": {"cpu-93": Goal(BEST_REPORT, times=30), "cpu-10min": Goal(0.95, seconds=600)},
    "cuda": {
        "gpu-94": Goal(0.94, seconds=2),
        "gpu-95": Goal(0.95, seconds=8),
        "small": Goal(0.956),
        "best": Goal(0.96, seconds=240),
    },
}
"""Goals on two CPU threads, and on one H200."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Train recipes whole, time them in turns, and say when each reaches which accuracy.

    Example: python -m benchmarks.time_to_accuracy --recipes airnet-quick e-lenet-0.05 --seeds 1
    """

    recipes: tuple[str, ...] = (
        *("cpu-93", "cpu-10min", "airnet-quick", "airnet-long"),
        *("a-lenet5-sgd", "a-mycnn-sgd", "b-cnn-plain", "c-vgg", "d-1", "e-lenet-0.05"),
    )
    """Recipes by name; python -m fmnist.train --list-recipes shows them."""
    seeds: int = 3

    def __post_init__(self) -> None:
        check(self.seeds >= 1, f"seeds={self.seeds}: it must be at least 1")
        for name in self.recipes:
            one_of("recipes", name, RECIPES)


def recipe_of(name: str) -> str:
    return name.removesuffix(HELD_OUT)


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower())


def train_curve(name: str, seed: int) -> Row:
    """Train one recipe whole: its accuracy after every epoch, and at the end on the test images.

    Args:
        name: a recipe, or its name and HELD_OUT.
    """
    device = default_device()
    recipe = RECIPES[recipe_of(name)]
    whole = recipe.config
    if name.endswith(HELD_OUT):
        whole = whole.replace(validation_images=None)
    chosen = whole
    if device.type == "cpu":
        chosen = dataclasses.replace(recipe, config=whole).shortened()

    config, data = split_data(resolve(chosen.replace(seed=seed), device))
    set_threads(config)
    folder = RUNS / f"{name.replace(HELD_OUT, '-held-out')}-seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    result = train_in(folder, config, data, info(), CONSOLE)
    assert result is not None, "it had no deadline"

    test = test_images()
    model, images = result.model.to(device), test.images.tensor()
    # Test images are read here for the first time, after the last epoch.
    plain = compute_logits(model, images).softmax(1)
    mirrored = compute_logits(model, images.flip(-1)).softmax(1)
    epochs = [report.metrics for report in result.history]
    batch = config.global_batch_size

    return {
        "recipe": name,
        "seed": seed,
        "device": device.type,
        "machine": hardware(),
        "precision": config.precision,
        "epochs_of": whole.epochs,
        "parameters": count_parameters(model),
        "first_epoch_s": epochs[0].seconds,
        "images_per_epoch": len(data.train) // batch * batch,
        "accuracies": [metrics.validation_accuracy for metrics in epochs],
        "test_accuracy": accuracy(plain, test.labels),
        "test_accuracy_flips": accuracy(plain + mirrored, test.labels),
    }


def accuracy(scores: Tensor, labels: Tensor) -> float:
    return (scores.argmax(1) == labels).float().mean().item()


def recipe_turns(name: str) -> Iterator[float]:
    """Images/s of a recipe, in turns of about TURN_S seconds."""
    rank = Rank(default_device())
    config, data = split_data(resolve(RECIPES[name].config.replace(lr=1e-6), rank.device))
    batch = config.global_batch_size
    fitting = len(data.train) // batch
    batches = int(TURN_S * measure_speed(config, data, rank)) // batch
    images = min(max(batches, 1), fitting) * batch
    few = data.train.first(images)
    turns = config.replace(epochs=TURNS + 1)
    for metrics, _ in train_epochs(turns, TrainingData(few, None, CLASSES), rank):
        yield metrics.images_per_s


def own_way_turns(folder: Path) -> Iterator[float]:
    """Images/s of report C's own way, over torchvision's files in `folder`."""
    device = default_device()
    config = TrainConfig(model="vgg_like", precision="fp32", channels_last=False)
    data = TrainingData(train_images(), None, CLASSES)
    network = start_training(config, data, device).trained.network
    optimizer = Adam(network.parameters(), OWN_LR)
    loader = usual_loader(folder, OWN_BATCH)
    while True:
        yield plain_loop_speed(network, optimizer, loader, OWN_STEPS, device)


def measure_rates(names: Sequence[str]) -> dict[str, float]:
    """Images/s of each recipe, and of report C's own way, from turns that follow each other."""
    speeds: dict[str, list[float]] = {name: [] for name in (*names, OWN_WAY)}
    with tempfile.TemporaryDirectory() as folder:
        write_idx_files(Path(folder))
        turns = {name: recipe_turns(name) for name in names}
        turns[OWN_WAY] = own_way_turns(Path(folder))
        # Turns follow each other, so that all see the machine equally busy.
        for _ in track(range(TURNS + 1), "rates, in turns", console=CONSOLE):
            for name, several in turns.items():
                speeds[name].append(next(several))

    # The first turn is warm-up.
    return {name: statistics.median(several[1:]) for name, several in speeds.items()}


def read_curves() -> list[Row]:
    """The curves of all machines, in the order of the recipes."""
    order = list(RECIPES)
    curves = [read_json(path) for path in CURVES.glob("curve-*.json")]
    curves.sort(key=lambda row: (order.index(recipe_of(row["recipe"])), row["recipe"], row["seed"]))
    return curves


def read_rates() -> dict[str, Row]:
    """Rates by machine."""
    several = [read_json(path) for path in sorted(CURVES.glob("rates-*.json"))]
    return {rates["machine"]: rates for rates in several}


@dataclass(frozen=True, slots=True)
class Seeds:
    """The seeds of one recipe, as long as they take on one machine."""

    name: str
    rows: list[Row]
    images_per_s: float

    @property
    def seconds(self) -> float:
        """Mean seconds of training it whole."""
        return statistics.mean(len(row["accuracies"]) * self.epoch_s(row) for row in self.rows)

    def epoch_s(self, row: Row) -> float:
        return row["images_per_epoch"] / self.images_per_s

    def mean(self, field: str) -> float:
        return statistics.mean(row[field] for row in self.rows)

    def seconds_to(self, mark: float) -> list[float]:
        """Seconds until validation accuracy first is as high, of the seeds that reach it."""
        found: list[float] = []
        for row in self.rows:
            for epoch, value in enumerate(row["accuracies"], start=1):
                if (value or 0) >= mark:
                    found.append(epoch * self.epoch_s(row))
                    break

        return found

    def count(self, precision: str) -> str:
        """Count the seeds, and those trained in another precision: 3 (2 bf16)."""
        others = Counter(row["precision"] for row in self.rows)
        # Seeds in the precision of the rates need no note.
        del others[precision]
        notes: list[str] = []
        for other, count in sorted(others.items()):
            notes.append(other if count == len(self.rows) else f"{count} {other}")

        return f"{len(self.rows)} ({', '.join(notes)})" if notes else f"{len(self.rows)}"


def seeds_on(rates: Row, curves: Sequence[Row]) -> list[Seeds]:
    """The recipes trained on such a device whose speed was measured on the machine."""
    by_name: dict[str, list[Row]] = {}
    for row in curves:
        timed = recipe_of(row["recipe"]) in rates["rates"]
        if timed and row["device"] == rates["device"]:
            by_name.setdefault(row["recipe"], []).append(row)

    speeds = rates["rates"]
    return [Seeds(name, rows, speeds[recipe_of(name)]) for name, rows in by_name.items()]


def own_seconds(rates: Row) -> float:
    return OWN_EPOCHS * 60_000 / rates["rates"][OWN_WAY]


def mean_and_deviation(values: Sequence[float]) -> str:
    mean = f"{statistics.mean(values):.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


def write_page() -> None:
    curves = read_curves()
    page = Page("Accuracy, and the time it takes")
    page.text(
        f"""`python -m benchmarks.time_to_accuracy`. Each recipe (`python -m fmnist.train
        --list-recipes`) was trained whole with so many seeds; the test set was read once a seed, at
        the end: mean ± deviation. Seconds are of training alone, from turns in which the recipes
        and report C's own way (its network, float32, Adam at {OWN_LR}, batch {OWN_BATCH},
        {OWN_EPOCHS} epochs of a plain loop over torchvision's data) follow each other; the last
        columns say when the validation images first gave so much: the mean over the seeds that
        reach it (how many, if not all). A recipe that trains on all images has none: one run more,
        with 5,000 held out, has its curve. **4 of 12** epochs: a network too big for this machine,
        trained for fewer than its report did. Seeds (bf16): trained in another precision than the
        speed is of, elsewhere."""
    )
    for rates in read_rates().values():
        add_section(page, rates, seeds_on(rates, curves))

    measured = {row["recipe"] for row in curves if row["device"] == "cuda"}
    page.not_measured(
        {name: f"make gpu PART={part}" for name, part in GPU_PARTS.items() if name not in measured}
    )
    page.write("accuracy")


def add_section(page: Page, rates: Row, recipes: Sequence[Seeds]) -> None:
    """Add the table of one machine."""
    own_s = own_seconds(rates)
    on_cpu = rates["device"] == "cpu"
    relative = rates["gflops"] / REFERENCE_GFLOPS
    there = ""
    if on_cpu:
        there = f""", {relative:.2f} times as fast as bf16's where the goals were set: *there*, a
        training needs so many times its seconds"""

    page.heading(rates["machine"])
    page.text(
        f"""{versions_text(rates)}. {rates["precision"]} matrix products run at
        {rates["gflops"]:,.0f} GFLOP/s{there}. R{OWN_WAY[1:]}: {rates["rates"][OWN_WAY]:,.0f}
        images/s, so {own_s:,.0f} s for the {100 * BEST_REPORT:g} % it gives."""
    )
    page.image("Accuracy against seconds", picture_name(rates))

    cells: list[list[str]] = []
    for seeds in recipes:
        whole_s = seeds.seconds
        times = [f"{whole_s:,.1f}" if whole_s < 100 else f"{whole_s:,.0f}"]
        if on_cpu:
            times.append(f"{whole_s * relative:,.0f}")
        marks = [mark_cell(seeds, mark) for mark in MARKS]
        cells.append([*result_cells(seeds, rates), *times, f"{own_s / whole_s:.1f}", *marks])

    headings = [
        *("recipe", "parameters", "epochs", "seeds", "test, %", "mirror image too", "images/s"),
        *(["all, s", "there"] if on_cpu else ["all, s"]),
        "C's own ÷",
        *(f"{100 * mark:g} %" for mark in MARKS),
    ]
    page.table("l" + "r" * (len(headings) - 1), " | ".join(headings), cells)

    verdicts = list(goal_lines(rates, recipes))
    if verdicts:
        page.text("Goals:")
        page.items(verdicts)

    if not on_cpu:
        page.text(
            "Apart from that, before the first epoch's end, compiling and warming up included, s:"
        )
        first = {seeds.name: [row["first_epoch_s"] for row in seeds.rows] for seeds in recipes}
        page.items(f"{name}: {mean_and_deviation(values)}" for name, values in first.items())


def result_cells(seeds: Seeds, rates: Row) -> list[str]:
    """Cells that describe a recipe and its accuracy."""
    first = seeds.rows[0]
    trained = max(len(row["accuracies"]) for row in seeds.rows)
    epochs = f"{trained}"
    if trained != first["epochs_of"]:
        epochs = f"**{trained} of {first['epochs_of']}**"
    tested = [100 * row["test_accuracy"] for row in seeds.rows]
    flipped = [100 * row["test_accuracy_flips"] for row in seeds.rows]
    return [
        seeds.name,
        f"{first['parameters']:,}",
        epochs,
        seeds.count(rates["precision"]),
        mean_and_deviation(tested),
        mean_and_deviation(flipped),
        f"{seeds.images_per_s:,.0f}",
    ]


def mark_cell(seeds: Seeds, mark: float) -> str:
    """Mean seconds to an accuracy, and how many seeds reach it if not all do."""
    times = seeds.seconds_to(mark)
    if not times:
        return "–"
    share = "" if len(times) == len(seeds.rows) else f" ({len(times)})"
    return f"{statistics.mean(times):,.1f}{share}"


def goal_lines(rates: Row, recipes: Sequence[Seeds]) -> Iterator[str]:
    """Lines that say which goals were met on one machine."""
    by_name = {seeds.name: seeds for seeds in recipes}
    for name, goal in GOALS[rates["device"]].items():
        if name not in by_name:
            continue
        reached, seconds = by_name[name].mean("test_accuracy"), by_name[name].seconds
        times = own_seconds(rates) / seconds
        met = reached >= goal.accuracy and seconds <= goal.seconds and times >= goal.times

        wanted, found = [f"{100 * goal.accuracy:g} %"], [f"{100 * reached:.2f} %"]
        if goal.seconds < math.inf:
            wanted.append(f"in {goal.seconds:g} s")
            found.append(f"in {seconds:,.1f} s")

        if goal.times:
            wanted.append(f"{goal.times:g} times as fast as report C's own way")
            found.append(f"{times:.1f} times")

        verdict = "met" if met else "**missed**"
        yield f"{name}, {', '.join(wanted)}: {verdict} ({', '.join(found)})"


def picture_name(rates: Row) -> str:
    return f"accuracy-{slug(rates['machine'])}.png"


def draw(rates: Row, recipes: Sequence[Seeds]) -> None:
    """Draw accuracy against seconds, the mean over the seeds."""
    title = f"Accuracy against seconds of training: {rates['machine']}"
    fig, axes = figure(title, "seconds of training", "validation accuracy, %", (8, 4.6))
    # A recipe and its run with images held out have one colour.
    names = list(dict.fromkeys(recipe_of(seeds.name) for seeds in recipes))
    for seeds in recipes:
        draw_curve(axes, seeds, names.index(recipe_of(seeds.name)))

    axes.axhline(100 * BEST_REPORT, color="#777777", linewidth=1)
    axes.annotate(
        "93.04, the best report's test accuracy",
        (0.01, 100 * BEST_REPORT),
        (0, 3),
        ("axes fraction", "data"),
        "offset points",
        fontsize=8,
    )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_ylim(bottom=80)
    axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    save_figure(fig, IMAGES / picture_name(rates))


def draw_curve(axes: Axes, seeds: Seeds, number: int) -> None:
    """Draw one recipe; where nothing was held out, a star at its test accuracy."""
    first = seeds.rows[0]
    epoch_s = seeds.epoch_s(first)
    epochs = len(first["accuracies"])
    look: dict[str, Any] = {"color": color(number), "label": seeds.name}
    if first["accuracies"][0] is None:
        reached = 100 * seeds.mean("test_accuracy")
        axes.plot([epochs * epoch_s], [reached], "*", markersize=11, **look)
        return

    by_epoch = zip(*(row["accuracies"] for row in seeds.rows), strict=False)
    means = [100 * statistics.mean(values) for values in by_epoch]
    seconds = [epoch * epoch_s for epoch in range(1, len(means) + 1)]
    axes.plot(seconds, means, marker=".", linestyle=line(number), **look)


def train_missing(recipes: Sequence[str], seeds: int) -> None:
    """Train every curve that there is not yet."""
    device = default_device().type
    known = {(row["device"], row["recipe"], row["seed"]) for row in read_curves()}
    cases = [(name, seed) for seed in range(seeds) for name in recipes]
    without_curve = [name for name in recipes if RECIPES[name].config.validation_images == 0]
    cases += [(f"{name}{HELD_OUT}", 0) for name in without_curve]

    for name, seed in cases:
        if (device, name, seed) not in known:
            CONSOLE.rule(f"{name}, seed {seed}", align="left")
            file = CURVES / f"curve-{device}-{slug(name)}-seed{seed}.json"
            write_json(file, train_curve(name, seed))


def rates_here(names: Sequence[str]) -> Row:
    """Rates of the recipes on this machine; measured if one of them has none yet."""
    device = default_device()
    precision = resolve(TrainConfig(), device).precision
    here = f"{hardware()}, {precision}"
    rates = read_rates().get(here)
    if rates is not None and {*names, OWN_WAY} <= set(rates["rates"]):
        return rates

    set_threads(TrainConfig())
    rates = {
        "machine": here,
        "device": device.type,
        "precision": precision,
        "rates": measure_rates(names),
        "gflops": round(matmul_flops_per_s(precision, device) / 1e9, 1),
        "versions": machine("torch", "torchvision")["versions"],
    }
    write_json(CURVES / f"rates-{slug(here)}.json", rates)

    return rates


def main(options: Options) -> None:
    train_missing(options.recipes, options.seeds)
    curves = read_curves()
    device = default_device().type
    trained = [recipe_of(row["recipe"]) for row in curves if row["device"] == device]
    rates = rates_here(list(dict.fromkeys(trained)))
    draw(rates, seeds_on(rates, curves))
    write_page()


if __name__ == "__main__":
    command(Options, main)
