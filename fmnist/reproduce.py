"""`python -m fmnist.reproduce`: run the experiments of the five reports, and write our figures beside theirs.

Every training is a run of its own, runs/reports/RECIPE-seedN, and goes on after its last whole epoch if it was interrupted. What is
done adds a row to docs/results/reports.json; reports.md is written from those rows and from fmnist/recipes.py.
"""

import math
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from fmnist.checkpoint import load_checkpoint, load_state
from fmnist.cli import command
from fmnist.config import TrainConfig
from fmnist.data import NOT_NAMED, DataInfo, Source, Split, find_data, load_info, load_test, load_train, split_train
from fmnist.device import default_device, hardware, resolve, set_threads
from fmnist.errors import InputError, check, one_of
from fmnist.evaluate import classification_metrics, combine, compute_logits
from fmnist.lock import let_go
from fmnist.models import count_parameters
from fmnist.plan import measure_speed
from fmnist.recipes import ENSEMBLES, RECIPES, Ensemble, Recipe, Report
from fmnist.reports import REPORTS, draw, known_rows, write_reports
from fmnist.run import RUNS, environment, read_json, write_json
from fmnist.summary import stage
from fmnist.train import STATE_FILE, train_in

FOLDER = RUNS / "reports"
SPEEDS = FOLDER / "speeds.json"
LOGITS = "test_logits.npy"
ROW = "row.json"
EVALUATION_SHARE = 1.1
"""Of the time of the training steps: validation after each epoch, the test at the end, saving."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Run the experiments of the five reports, and write docs/results/reports.md: our figure beside theirs.

    What the table lacks comes first; of that the first seeds, and of those the cheapest. Interrupted or killed, the same command
    goes on where it stopped; on another machine --missing goes on with the rows that are there.

    Example: python -m fmnist.reproduce --report E --seeds 3
    """

    report: Report | None = None
    """One report's experiments only."""
    recipe: str | None = None
    """One experiment only: --list shows their names."""
    seeds: int = 1
    """Runs of each experiment; one of every experiment comes before the second of any."""
    time_budget: float | None = None
    """Stop after so many minutes; begin nothing that is not expected to end by then."""
    missing: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Only what docs/results/reports.json has no row of, whichever machine the others are from."""
    full: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Train the big networks for all their epochs on a CPU too, where they take hours; always so on a GPU."""
    list: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show what is done here, what the table has, what is left and the minutes it will take, and stop."""
    source: Annotated[Source, tyro.conf.arg(name="")] = NOT_NAMED


@dataclass(frozen=True, slots=True)
class Task:
    """One training of a recipe."""

    name: str
    seed: int
    config: TrainConfig
    folder: Path

    @property
    def done(self) -> bool:
        """Whether this very config was trained: not an older version of the recipe, nor fewer epochs of it."""
        if not (self.folder / ROW).exists():
            return False
        saved = TrainConfig.from_dict(read_json(self.folder / "config.json")["train"])
        return saved.replace(precision=self.config.precision, validation_images=self.config.validation_images) == self.config


def in_table(tasks: Iterable[Task], info: DataInfo) -> set[Task]:
    """Those of which docs/results/reports.json has a row, with at least as many epochs; from whichever machine."""
    own = [row for row in known_rows() if row["data"] == info.name and "epochs" in row]
    epochs = {(row["recipe"], row["seed"]): row["epochs"] for row in own}
    return {task for task in tasks if epochs.get((task.name, task.seed), 0) >= task.config.epochs}


@dataclass(frozen=True, slots=True)
class Data:
    """The data set, read once."""

    folder: Path
    info: DataInfo
    train: Split


def selected(options: Options) -> dict[str, Recipe | Ensemble]:
    """The experiments that the command line means. Raises InputError on an unknown name."""
    experiments: dict[str, Recipe | Ensemble] = {name: recipe for name, recipe in RECIPES.items() if recipe.report} | ENSEMBLES
    if options.recipe is not None:
        one_of("recipe", options.recipe, experiments)
        chosen = experiments[options.recipe]
        members = chosen.members if isinstance(chosen, Ensemble) else ()
        return {name: experiments[name] for name in (*members, options.recipe)}
    return {name: chosen for name, chosen in experiments.items() if options.report in (None, chosen.report)}


def plan_tasks(experiments: dict[str, Recipe | Ensemble], seeds: int, full: bool, info: DataInfo) -> list[Task]:
    """A task for each seed of each recipe; the first seeds come first."""
    other = "" if info.name == "Fashion-MNIST" else f"{info.name}-"
    on_cpu = default_device().type == "cpu"
    tasks: list[Task] = []
    for seed in range(seeds):
        for name, chosen in experiments.items():
            if isinstance(chosen, Recipe):
                config = chosen.shortened() if on_cpu and not full else chosen.config
                share = config.validation_images if other else None  # a number that was meant for Fashion-MNIST
                config = config.replace(seed=seed, validation_images=None) if share else config.replace(seed=seed)
                tasks.append(Task(name, seed, config, FOLDER / f"{other}{name}-seed{seed}"))
    return tasks


def run_task(task: Task, data: Data, console: Console, deadline: float) -> bool:
    """Train, test once, and leave the row in the run folder; False if the deadline came first."""
    config, train, validation = split_train(resolve(task.config, default_device()), data.train)
    with stage(task.folder, "train") as found:
        trained = train_in(task.folder, config, train, validation, data.info, console, deadline)
        if trained is None:
            return False
        found |= {"validation_accuracy": trained["validation_accuracy"], "config": config.to_dict()}
    row = test_row(task, config, trained, data)
    write_json(task.folder / ROW, row)
    (task.folder / STATE_FILE).unlink(missing_ok=True)
    return True


def test_row(task: Task, config: TrainConfig, trained: dict[str, Any], data: Data) -> dict[str, Any]:
    """What a finished training is worth: the test set is read here, once."""
    model = load_checkpoint(task.folder / "best").model.to(default_device())
    test = load_test(data.folder, data.info)
    logits = compute_logits(model, test.images.to(default_device())).cpu()
    np.save(task.folder / LOGITS, logits.numpy())
    epochs = trained["epochs"]
    planned = RECIPES[task.name].config.epochs
    return {
        "recipe": task.name,
        "seed": task.seed,
        "data": data.info.name,
        "network": config.model,
        "parameters": count_parameters(model),
        "epochs": config.epochs,
        "shortened": config.epochs < planned,
        "epochs_trained": len(epochs),
        "kept_epoch": trained["epoch"],
        **figures(logits, test),
        "validation_accuracy": trained["validation_accuracy"],
        "train_accuracy": epochs[trained["epoch"] - 1]["train_accuracy"],
        "images_per_s": round(statistics.median(epoch["images_per_s"] for epoch in epochs)),
        "train_s": round(sum(epoch["seconds"] for epoch in epochs), 1),
        "precision": config.precision,
        "hardware": hardware(),
        "torch": torch.__version__,
        "git_commit": environment()["git_commit"],
    }


def figures(logits: torch.Tensor, test: Split) -> dict[str, Any]:
    """The columns of a row that the test set gives."""
    metrics = classification_metrics(logits, test.labels)
    return {
        "test_accuracy": metrics["accuracy"],
        "test_loss": metrics["loss"],
        "macro_f1": metrics["f1"]["macro"],
        "macro_precision": metrics["precision"]["macro"],
        "auroc": metrics["auroc"]["macro"],
        "class_f1": metrics["f1"]["per_class"],
    }


def ensemble_row(name: str, ensemble: Ensemble, seed: int, data: Data) -> dict[str, Any] | None:
    """Combine what the members said of the test images; None while one of them is not trained here."""
    other = "" if data.info.name == "Fashion-MNIST" else f"{data.info.name}-"
    folders = [FOLDER / f"{other}{member}-seed{seed}" for member in ensemble.members]
    if not all((folder / ROW).exists() for folder in folders):
        return None
    members = [torch.from_numpy(np.load(folder / LOGITS)) for folder in folders]
    rows = [read_json(folder / ROW) for folder in folders]
    test = load_test(data.folder, data.info)
    return {
        "recipe": name,
        "seed": seed,
        "data": data.info.name,
        "network": " + ".join(dict.fromkeys(row["network"] for row in rows)),
        "parameters": sum(row["parameters"] for row in rows),
        "shortened": any(row["shortened"] for row in rows),
        **figures(combine(members, ensemble.combine), test),
        "best_member": max(row["test_accuracy"] for row in rows),
        "hardware": hardware(),
    }


def expected_seconds(tasks: list[Task], data: Data, console: Console) -> dict[Task, float]:
    """How long each task that is not done will take, from a few batches of each kind; measured once on a machine."""
    speeds: dict[str, float] = read_json(SPEEDS) if SPEEDS.exists() else {}
    left = [task for task in tasks if not task.done]
    unknown = {speed_key(task.config): task.config for task in left if speed_key(task.config) not in speeds}
    for key, config in track(unknown.items(), "measuring speeds", console=console, transient=True):
        set_threads(config)
        measured = resolve(config.replace(weights="", train_images=0), default_device())
        speeds[key] = measure_speed(measured, data.train, len(data.info.classes), default_device())
        write_json(SPEEDS, speeds)
    expected: dict[Task, float] = {}
    for task in left:
        images = len(data.train) - (task.config.validation_images or len(data.train) // 12)
        state = task.folder / STATE_FILE
        epochs = task.config.epochs - (load_state(state)["epoch"] if state.exists() else 0)
        expected[task] = EVALUATION_SHARE * epochs * images / speeds[speed_key(task.config)]
    return expected


def speed_key(config: TrainConfig) -> str:
    moved = "moved" if config.rotate or config.scale else "noise" if config.erase_fill == "noise" and config.erase else "plain"
    return f"{config.model} {config.global_batch_size} {config.optimizer} {moved} on {hardware()}"


def main(options: Options) -> None:
    check(options.seeds >= 1, f"seeds={options.seeds}: it must be at least 1")
    check(options.time_budget is None or options.time_budget > 0, f"time_budget={options.time_budget}: minutes, above 0")
    console = Console(highlight=False, soft_wrap=True)
    experiments = selected(options)
    folder = find_data(options.source)
    info = load_info(folder)
    data = Data(folder, info, load_train(folder, info))
    tasks = plan_tasks(experiments, options.seeds, options.full, info)
    if options.missing:
        known = in_table(tasks, info)
        tasks = [task for task in tasks if task not in known]
    expected = expected_seconds(tasks, data, console)
    if options.list:
        show_list(experiments, tasks, expected, info, console)
        return
    run_all(experiments, tasks, expected, data, options, console)


def run_all(
    experiments: dict[str, Recipe | Ensemble],
    tasks: list[Task],
    expected: dict[Task, float],
    data: Data,
    options: Options,
    console: Console,
) -> None:
    """Run what is left, the first seeds first and the cheapest first, writing up after each."""
    deadline = math.inf if options.time_budget is None else time.monotonic() + 60 * options.time_budget
    console.print(
        f"{len(expected)} of {len(tasks)} trainings left: about {sum(expected.values()) / 60:.0f} minutes on {hardware()}"
    )
    collect(experiments, options.seeds, tasks, data)
    known = in_table(tasks, data.info)
    order = sorted(expected, key=lambda task: (task in known, task.seed, expected[task]))
    for number, task in enumerate(order, start=1):
        if task.done:
            continue  # another process that works on the same list was faster
        if time.monotonic() + expected[task] > deadline:
            console.print(f"{task.name}, seed {task.seed}: about {expected[task] / 60:.1f} minutes, more than are left")
            continue
        console.rule(
            f"{number} of {len(expected)}: {task.name}, seed {task.seed}, about {expected[task] / 60:.1f} minutes", align="left"
        )
        try:
            whole = run_task(task, data, console, deadline)
        except InputError as error:
            console.print(f"[red]{task.name}, seed {task.seed}: {error}")
            continue
        finally:
            let_go(task.folder)
        collect(experiments, options.seeds, tasks, data)
        if not whole:
            console.print("the time is up; the same command goes on")
            break
    done = {name: FOLDER / f"{name}-seed0" for name in RECIPES if (FOLDER / f"{name}-seed0" / ROW).exists()}
    histories = {name: read_json(folder / "best/metrics.json")["epochs"] for name, folder in done.items()}
    draw(known_rows(), histories)
    collect(experiments, options.seeds, tasks, data)  # once more: the page shows the figures that are there
    console.print(f"written: {REPORTS}")


def collect(experiments: dict[str, Recipe | Ensemble], seeds: int, tasks: Iterable[Task], data: Data) -> None:
    """Bring the rows of finished trainings, and of ensembles of them, into docs/results."""
    rows = [read_json(task.folder / ROW) for task in tasks if task.done]
    for name, chosen in experiments.items():
        if isinstance(chosen, Ensemble):
            found = (ensemble_row(name, chosen, seed, data) for seed in range(seeds))
            rows += [row for row in found if row]
    write_reports(rows)


def show_list(
    experiments: dict[str, Recipe | Ensemble], tasks: list[Task], expected: dict[Task, float], info: DataInfo, console: Console
) -> None:
    """What is done here and in the table, and how long the rest takes."""
    known = in_table(tasks, info)
    table = Table("recipe", "what", "done here", "in the table", "minutes left", box=None, pad_edge=False)
    for name, chosen in experiments.items():
        own = [task for task in tasks if task.name == name]
        if own:
            done, there = sum(task.done for task in own), sum(task in known for task in own)
            left = sum(expected.get(task, 0.0) for task in own) / 60
            table.add_row(name, f"{chosen.report}: {chosen.about}", f"{done} of {len(own)}", str(there), f"{left:.1f}")
        elif isinstance(chosen, Ensemble):
            table.add_row(name, f"{chosen.report}: {chosen.about}", "of its members", "", "")
    console.print(table)
    console.print(f"{len(expected)} trainings left, about {sum(expected.values()) / 60:.0f} minutes on {hardware()}")


if __name__ == "__main__":
    command(Options, main)
