"""Run the experiments of the reports.

Each training is a run of its own, runs/reports/RECIPE-seedN, and a row of the table once it is
done.
"""

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from fmnist.config import TrainConfig
from fmnist.data.dataset import (
    VALIDATION_SHARE,
    Split,
    TrainingData,
    load_test,
    split_train,
)
from fmnist.data.info import DataInfo
from fmnist.errors import InputError, one_of
from fmnist.evaluation.ensemble import combine
from fmnist.evaluation.logits import model_logits
from fmnist.evaluation.metrics import classification_metrics
from fmnist.models import count_parameters
from fmnist.reports.recipes import EXPERIMENTS, REPORT_RECIPES, Ensemble, Experiment, Recipe, Report
from fmnist.reports.table import OFFICIAL_DATA, REPORTS, Row, draw, known_rows, write_reports
from fmnist.runs.files import read_json, write_json
from fmnist.runs.lock import release
from fmnist.runs.provenance import environment
from fmnist.runs.run_folder import CONFIG, RUNS
from fmnist.runs.summary import stage
from fmnist.training.checkpoint import load_checkpoint, load_state
from fmnist.training.device import Rank, default_device, hardware, resolve, set_threads
from fmnist.training.session import STATE_FILE, TrainingResult, train_in
from fmnist.training.throughput import measure_speed

FOLDER = RUNS / "reports"
SPEEDS = FOLDER / "speeds.json"
LOGITS = "test_logits.npy"
ROW = "row.json"
EVALUATION_SHARE = 1.1
"""Time of a whole training in that of its steps: it validates, tests and saves besides."""


@dataclass(frozen=True, slots=True)
class Data:
    """The data set, read once."""

    folder: Path
    info: DataInfo
    train: Split


@dataclass(frozen=True, slots=True)
class Task:
    """One training of a recipe."""

    name: str
    seed: int
    config: TrainConfig
    folder: Path

    @property
    def done(self) -> bool:
        """Whether this very config was trained: not an older version of the recipe, nor fewer
        epochs of it."""
        if not (self.folder / ROW).exists():
            return False

        # The run's config has these two as they were resolved for its machine and its data.
        saved = TrainConfig.from_dict(read_json(self.folder / CONFIG)["train"])
        as_asked = saved.replace(
            precision=self.config.precision, validation_images=self.config.validation_images
        )
        return as_asked == self.config


@dataclass(frozen=True, slots=True)
class Plan:
    """The experiments that were asked for, and the trainings that they need."""

    experiments: dict[str, Experiment]
    seeds: int
    tasks: list[Task]


def select_experiments(report: Report | None, name: str | None) -> dict[str, Experiment]:
    """One experiment and its members, one report's experiments, or all.

    Raises:
        InputError: there is no experiment `name`.
    """
    if name is not None:
        one_of("recipe", name, EXPERIMENTS)
        experiment = EXPERIMENTS[name]
        names = [name]
        if isinstance(experiment, Ensemble):
            # The members first: it combines what they predict.
            names = [*experiment.members, name]
        return {each: EXPERIMENTS[each] for each in names}

    if report is None:
        return EXPERIMENTS
    return {name: each for name, each in EXPERIMENTS.items() if each.report == report}


def plan_tasks(
    experiments: dict[str, Experiment], seeds: int, full: bool, info: DataInfo
) -> list[Task]:
    """A task for each seed of each recipe; the first seeds come first.

    Args:
        full: on a CPU too, train the big networks for all their epochs.
    """
    shorten = default_device().type == "cpu" and not full
    tasks: list[Task] = []

    # Seeds outside: a run that is cut short should have one figure of everything.
    for seed in range(seeds):
        for name, experiment in experiments.items():
            if isinstance(experiment, Ensemble):
                continue

            config = experiment.shortened() if shorten else experiment.config
            if config.validation_images and info.name != OFFICIAL_DATA:
                # The number was meant for Fashion-MNIST.
                config = config.replace(validation_images=None)
            config = config.replace(seed=seed)
            tasks.append(Task(name, seed, config, _folder(name, seed, info)))

    return tasks


def _folder(name: str, seed: int, info: DataInfo) -> Path:
    other = "" if info.name == OFFICIAL_DATA else f"{info.name}-"
    return FOLDER / f"{other}{name}-seed{seed}"


def tasks_in_table(tasks: list[Task], info: DataInfo) -> set[Task]:
    """The tasks that docs/results/reports.json has a row of, with at least as many epochs, from
    whichever machine."""
    epochs: dict[tuple[str, int], int] = {}
    for row in known_rows():
        # An ensemble's row has no epochs.
        if row["data"] == info.name and "epochs" in row:
            epochs[row["recipe"], row["seed"]] = row["epochs"]

    known: set[Task] = set()
    for task in tasks:
        if epochs.get((task.name, task.seed), 0) >= task.config.epochs:
            known.add(task)

    return known


def expected_seconds(tasks: list[Task], data: Data, console: Console) -> dict[Task, float]:
    """Duration of each task that is not done, from a few batches of each kind of training."""
    left = [task for task in tasks if not task.done]
    speeds = _measure_speeds(left, data, console)

    expected: dict[Task, float] = {}
    for task in left:
        held_out = task.config.validation_images or len(data.train) // VALIDATION_SHARE
        images = len(data.train) - held_out

        state = task.folder / STATE_FILE
        epochs_done = load_state(state)["epoch"] if state.exists() else 0
        epochs = task.config.epochs - epochs_done

        expected[task] = EVALUATION_SHARE * epochs * images / speeds[_speed_key(task.config)]
    return expected


def _measure_speeds(tasks: list[Task], data: Data, console: Console) -> dict[str, float]:
    """Images/s of each kind of training, measured once on a machine and kept."""
    speeds: dict[str, float] = read_json(SPEEDS) if SPEEDS.exists() else {}
    unknown: dict[str, TrainConfig] = {}
    for task in tasks:
        key = _speed_key(task.config)
        if key not in speeds:
            unknown[key] = task.config

    training = TrainingData(data.train, None, len(data.info.classes))
    for key, config in track(unknown.items(), "measuring speeds", console=console, transient=True):
        set_threads(config)
        # Neither changes the speed, and pretrained weights would have to be fetched.
        measured = resolve(config.replace(weights="", train_images=0), default_device())
        speeds[key] = measure_speed(measured, training, Rank(default_device()))
        # After each: whoever interrupts this measures the rest alone the next time.
        write_json(SPEEDS, speeds)

    return speeds


def _speed_key(config: TrainConfig) -> str:
    """The network, batch, optimiser, augmentation and machine, which decide the speed."""
    augmentation = "plain"
    if config.rotate or config.scale:
        augmentation = "moved"
    elif config.erase and config.erase_fill == "noise":
        augmentation = "noise"

    training = f"{config.model} {config.global_batch_size} {config.optimizer} {augmentation}"
    return f"{training} on {hardware()}"


def run_all(
    plan: Plan, expected: dict[Task, float], data: Data, deadline: float, console: Console
) -> None:
    """Run what is left and write the table after each; first seeds first, of those the cheapest.

    Args:
        expected: seconds of each task that is left.
        deadline: of time.monotonic(); no task is begun that is not expected to end by then.
    """
    console.print(_work_left(plan, expected))
    collect_rows(plan, data)

    order = _in_order(plan, expected, data)
    for number, task in enumerate(order, start=1):
        if task.done:
            continue  # Another process that works on the same list was faster.

        title = f"{task.name}, seed {task.seed}"
        minutes = f"about {expected[task] / 60:.1f} minutes"
        if time.monotonic() + expected[task] > deadline:
            console.print(f"{title}: {minutes}, more than are left")
            continue

        console.rule(f"{number} of {len(order)}: {title}, {minutes}", align="left")
        try:
            finished = run_task(task, data, deadline, console)
        except InputError as error:
            console.print(f"[red]{title}: {error}")
            continue
        finally:
            release(task.folder)

        collect_rows(plan, data)
        if not finished:
            console.print("the time is up; the same command goes on")
            break

    draw(known_rows(), _histories())
    collect_rows(plan, data)  # Once more: the page shows the figures that are there.
    console.print(f"written: {REPORTS}")


def _in_order(plan: Plan, expected: dict[Task, float], data: Data) -> list[Task]:
    known = tasks_in_table(plan.tasks, data.info)
    # What the table has already, from whichever machine, comes last.
    return sorted(expected, key=lambda task: (task in known, task.seed, expected[task]))


def _work_left(plan: Plan, expected: dict[Task, float]) -> str:
    minutes = sum(expected.values()) / 60
    return (
        f"trainings left: {len(expected)} of {len(plan.tasks)}, about {minutes:.0f} minutes on "
        f"{hardware()}"
    )


def _histories() -> dict[str, list[dict[str, Any]]]:
    """The epochs of each recipe's first seed on Fashion-MNIST, of those that were trained here."""
    histories: dict[str, list[dict[str, Any]]] = {}
    for name in REPORT_RECIPES:
        folder = FOLDER / f"{name}-seed0"
        if (folder / ROW).exists():
            histories[name] = read_json(folder / "best/metrics.json")["epochs"]

    return histories


def run_task(task: Task, data: Data, deadline: float, console: Console) -> bool:
    """Train, test once, and leave the row in the run folder; False if the deadline came first."""
    config, train, validation = split_train(resolve(task.config, default_device()), data.train)
    training = TrainingData(train, validation, len(data.info.classes))
    with stage(task.folder, "train") as found:
        result = train_in(task.folder, config, training, data.info, console, deadline)
        if result is None:
            return False
        found["validation_accuracy"] = result.kept.validation_accuracy
        found["config"] = config.to_dict()

    # The row says that the task is done; then nobody needs the state to go on from.
    row = _test_row(task, config, result, data)
    write_json(task.folder / ROW, row)
    (task.folder / STATE_FILE).unlink(missing_ok=True)
    return True


def _test_row(task: Task, config: TrainConfig, result: TrainingResult, data: Data) -> Row:
    """The row of a finished training: the test set is read here, once."""
    # The model as it was saved, not as it is in memory: that is what others will load.
    model = load_checkpoint(task.folder / "best").model.to(default_device())
    test = load_test(data.folder, data.info)
    logits = model_logits(model, test.images, len(data.info.classes))
    np.save(task.folder / LOGITS, logits.numpy())

    speeds: list[float] = []
    seconds: list[float] = []
    for report in result.history:
        speeds.append(report.metrics.images_per_s)
        seconds.append(report.metrics.seconds)

    return {
        "recipe": task.name,
        "seed": task.seed,
        "data": data.info.name,
        "network": config.model,
        "parameters": count_parameters(model),
        "epochs": config.epochs,
        "shortened": config.epochs < REPORT_RECIPES[task.name].config.epochs,
        "epochs_trained": len(result.history),
        "kept_epoch": result.kept_epoch,
        **_test_scores(logits, test),
        "validation_accuracy": result.kept.validation_accuracy,
        "train_accuracy": result.kept.train_accuracy,
        # The median, as an epoch can be slowed by whatever else the machine does.
        "images_per_s": round(statistics.median(speeds)),
        "train_s": round(sum(seconds), 1),
        "precision": config.precision,
        "hardware": hardware(),
        "torch": torch.__version__,
        "git_commit": environment()["git_commit"],
    }


def _test_scores(logits: torch.Tensor, test: Split) -> dict[str, Any]:
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


def _ensemble_row(name: str, ensemble: Ensemble, seed: int, data: Data) -> Row | None:
    """The row of the members' combined predictions; None while one is not trained here."""
    rows: list[Row] = []
    logits: list[torch.Tensor] = []
    for member in ensemble.members:
        folder = _folder(member, seed, data.info)
        if not (folder / ROW).exists():
            return None

        rows.append(read_json(folder / ROW))
        logits.append(torch.from_numpy(np.load(folder / LOGITS)))

    test = load_test(data.folder, data.info)
    # Each once, in their order: report D's members are all of one network.
    networks = dict.fromkeys(row["network"] for row in rows)
    return {
        "recipe": name,
        "seed": seed,
        "data": data.info.name,
        "network": " + ".join(networks),
        "parameters": sum(row["parameters"] for row in rows),
        "shortened": any(row["shortened"] for row in rows),
        **_test_scores(combine(logits, ensemble.combine), test),
        "best_member": max(row["test_accuracy"] for row in rows),
        "hardware": hardware(),
    }


def collect_rows(plan: Plan, data: Data) -> None:
    """Bring the rows of finished trainings, and of ensembles of them, into docs/results."""
    done = [task for task in plan.tasks if task.done]
    rows: list[Row] = [read_json(task.folder / ROW) for task in done]

    for name, experiment in plan.experiments.items():
        if isinstance(experiment, Recipe):
            continue

        for seed in range(plan.seeds):
            row = _ensemble_row(name, experiment, seed, data)
            if row is not None:
                rows.append(row)

    write_reports(rows)


def show_list(plan: Plan, expected: dict[Task, float], info: DataInfo, console: Console) -> None:
    """Print the experiments: done here, in the table, and how long the rest takes."""
    known = tasks_in_table(plan.tasks, info)
    table = Table(box=None, pad_edge=False)
    table.add_column("recipe", no_wrap=True)
    table.add_column("what")
    for title in ("done here", "in the table", "minutes left"):
        table.add_column(title, justify="right")

    for name, experiment in plan.experiments.items():
        what = f"{experiment.report}: {experiment.about}"
        if isinstance(experiment, Ensemble):
            table.add_row(name, what, "of its members", "", "")
            continue

        own = [task for task in plan.tasks if task.name == name]
        if not own:
            continue

        done = 0
        in_table = 0
        seconds = 0.0
        for task in own:
            done += task.done
            in_table += task in known
            seconds += expected.get(task, 0.0)

        counts = (f"{done} of {len(own)}", str(in_table), f"{seconds / 60:.1f}")
        table.add_row(name, what, *counts)

    # Soft wrap, which keeps lines whole for pipes, would break the table's columns.
    console.print(table, soft_wrap=False)
    console.print(_work_left(plan, expected))
