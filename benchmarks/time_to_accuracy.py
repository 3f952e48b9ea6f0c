"""`python -m benchmarks.time_to_accuracy`: seconds of training until each recipe reaches an accuracy, on this machine.

Two measurements. Curves: each recipe and seed is trained whole, resumably, in runs/time-to-accuracy; the validation images give its
accuracy after every epoch, the test images, once, at the end. Rates: the recipes take turns of some seconds, and with them report
C's own way, its network in a plain float32 loop. Seconds are epochs times the median turn's, so they compare although the machine
is shared. Writes docs/results/time_to_accuracy.json and .md, and docs/images/time_to_accuracy.png.
"""

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.ticker import ScalarFormatter
from rich.console import Console
from rich.progress import Progress

from benchmarks.train_speed import matmul_peak, reports_speed, usual_loader, write_for_torchvision
from fmnist.checkpoint import load_checkpoint
from fmnist.cli import command
from fmnist.config import TrainConfig
from fmnist.data import DataInfo, Split, find_data, load_info, load_test, load_train, split_train
from fmnist.device import default_device, hardware, resolve, set_threads
from fmnist.errors import check, one_of
from fmnist.evaluate import compute_logits
from fmnist.loop import start_training, train_epochs
from fmnist.plan import measure_speed
from fmnist.plots import color, figure, line, save_figure
from fmnist.recipes import RECIPES
from fmnist.run import environment, read_json, write_atomic, write_json
from fmnist.train import train_in

RESULTS = Path("docs/results")
FOUND = RESULTS / "time_to_accuracy.json"
PICTURE = Path("docs/images/time_to_accuracy.png")
RUNS = Path("runs/time-to-accuracy")
MARKS = (0.90, 0.91, 0.92, 0.93, 0.9304, 0.94)
"""93.04 % is the best test accuracy that a report gives (C)."""
TURNS, TURN_S = 9, 3.0
REFERENCE_GFLOPS = 185.0
"""bf16 matrix products of the machine that the goals were set on: seconds are also given as it would have needed them."""
OWN_WAY = "report C's own way"
OWN_EPOCHS, OWN_BATCH, OWN_LR, OWN_STEPS = 12, 128, 1e-3, 3


@dataclass(frozen=True, kw_only=True)
class Options:
    """Train recipes whole, time them in turns, and say when each reaches which accuracy.

    Example: python -m benchmarks.time_to_accuracy --recipes airnet-quick e-lenet-0.05 --seeds 1
    """

    recipes: tuple[str, ...] = ("airnet-quick", "airnet-long", "a-lenet5-sgd", "a-mycnn-sgd", "b-cnn-plain", "d-9", "e-lenet-0.05")
    """By name; python -m fmnist.train --list-recipes shows them."""
    seeds: int = 3

    def __post_init__(self) -> None:
        check(self.seeds >= 1, f"seeds={self.seeds}: it must be at least 1")
        for name in self.recipes:
            one_of("recipes", name, RECIPES)


def curve(name: str, seed: int, everything: Split, test: Split, info: DataInfo, console: Console) -> dict[str, Any]:
    """Train one recipe whole: its accuracy after every epoch, and at the end on the test images."""
    device = default_device()
    config, train, held_out = split_train(resolve(RECIPES[name].config.replace(seed=seed), device), everything)
    set_threads(config)
    folder = RUNS / f"{name}-seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    trained = train_in(folder, config, train, held_out, info, console)
    assert trained is not None, "it had no deadline"
    model = load_checkpoint(folder / "best").model.to(device)
    said = compute_logits(model, test.images.to(device)).argmax(1).cpu()
    return {
        "recipe": name,
        "seed": seed,
        "images_per_epoch": len(train) // config.global_batch_size * config.global_batch_size,
        "accuracies": [epoch["validation_accuracy"] for epoch in trained["epochs"]],
        "test_accuracy": (said == test.labels).float().mean().item(),
    }


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
    optimizer = torch.optim.Adam(own.parameters(), OWN_LR)
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
    return row["images_per_epoch"] / speeds[row["recipe"]]


def seconds_to(mark: float, row: Mapping[str, Any], speeds: Mapping[str, float]) -> float | None:
    """Of training until validation accuracy first is as high; None if it never is."""
    epoch = next((number for number, value in enumerate(row["accuracies"], start=1) if value >= mark), None)
    return None if epoch is None else epoch * epoch_seconds(row, speeds)


def mean_and_deviation(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.2f}" + (f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else "")


def page(found: Mapping[str, Any]) -> str:
    speeds: dict[str, float] = found["rates"]
    own = OWN_EPOCHS * 60_000 / speeds[OWN_WAY]
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    marks = " | ".join(f"{100 * mark:g} %" for mark in MARKS)
    factor = found["bf16_gflops"] / REFERENCE_GFLOPS
    lines = [
        "# Time to accuracy",
        "",
        f"`python -m benchmarks.time_to_accuracy` on {found['machine']}; {versions}. Seconds of training alone until the",
        "validation images first give so much, mean over the seeds that reach it (how many, if not all); the test set was read",
        "once a seed, at the end. Rates are medians of turns that follow each other.",
        "",
        f"bf16 matrix products run at {found['bf16_gflops']:,.0f} GFLOP/s here: a machine of {REFERENCE_GFLOPS:.0f} would need up",
        f"to {factor:.1f} times as long.",
        "",
        f"{OWN_WAY.capitalize()} (its network, float32, Adam at .001, batch 128, 12 epochs, a plain loop over torchvision's data):",
        f"{speeds[OWN_WAY]:,.0f} images/s, so {own:,.0f} s of training for the 93.04 % it gives.",
        "",
        "![Accuracy against seconds](../images/time_to_accuracy.png)",
        "",
        f"| recipe | seeds | images/s | s an epoch | {marks} | all, s | C's own ÷ | test, % |",
        f"|---|---:|---:|---:|{'---:|' * len(MARKS)}---:|---:|---:|",
    ]
    for name in dict.fromkeys(row["recipe"] for row in found["curves"]):
        mine = [row for row in found["curves"] if row["recipe"] == name]
        cells = [name, str(len(mine)), f"{speeds[name]:,.0f}", f"{epoch_seconds(mine[0], speeds):.1f}"]
        for mark in MARKS:
            times = [when for row in mine if (when := seconds_to(mark, row, speeds)) is not None]
            share = f" ({len(times)})" if 0 < len(times) < len(mine) else ""
            cells.append(f"{statistics.mean(times):,.0f}{share}" if times else "–")
        whole = statistics.mean(len(row["accuracies"]) * epoch_seconds(row, speeds) for row in mine)
        cells += [f"{whole:,.0f}", f"{own / whole:.1f}", mean_and_deviation([100 * row["test_accuracy"] for row in mine])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def draw(found: Mapping[str, Any]) -> None:
    """Accuracy against seconds, the mean over the seeds."""
    speeds: dict[str, float] = found["rates"]
    fig, axes = figure("Validation accuracy against seconds of training", "seconds of training", "validation accuracy, %", (8, 4.6))
    for number, name in enumerate(dict.fromkeys(row["recipe"] for row in found["curves"])):
        mine = [row for row in found["curves"] if row["recipe"] == name]
        several = [100 * statistics.mean(values) for values in zip(*(row["accuracies"] for row in mine), strict=False)]
        seconds = [epoch * epoch_seconds(mine[0], speeds) for epoch in range(1, len(several) + 1)]
        axes.plot(seconds, several, color=color(number), linestyle=line(number), marker=".", label=name)
    axes.axhline(93.04, color="#777777", linewidth=1)
    axes.annotate(
        "93.04, the best report's test accuracy", (0.01, 93.04), (0, 3), ("axes fraction", "data"), "offset points", fontsize=8
    )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_ylim(bottom=80)
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    save_figure(fig, PICTURE)


def main(options: Options) -> None:
    console = Console(highlight=False, soft_wrap=True)
    folder = find_data()
    info = load_info(folder)
    everything, test = load_train(folder, info), load_test(folder, info)
    found: dict[str, Any] = read_json(FOUND) if FOUND.exists() else {"curves": [], "rates": {}}
    known = {(row["recipe"], row["seed"]) for row in found["curves"]}
    for seed in range(options.seeds):
        for name in options.recipes:
            if (name, seed) not in known:
                console.rule(f"{name}, seed {seed}", align="left")
                found["curves"].append(curve(name, seed, everything, test, info, console))
                write_json(FOUND, found)
    names = list(dict.fromkeys(row["recipe"] for row in found["curves"]))
    device = default_device()
    if {*names, OWN_WAY} - set(found["rates"]) or found["machine"] != hardware():
        set_threads(TrainConfig())
        with Progress(console=console) as progress:
            found["rates"] = rates(names, everything, test, progress)
        found["machine"] = hardware()
        found["bf16_gflops"] = round(matmul_peak("bf16", device) / 1e9, 1)
        found["versions"] = {name: environment()["versions"].get(name) for name in ("python", "torch", "torchvision")}
        write_json(FOUND, found)
    draw(found)
    write_atomic(RESULTS / "time_to_accuracy.md", page(found))
    console.print(page(found))


if __name__ == "__main__":
    command(Options, main)
