"""What the runner of the reports' experiments plans; it runs them in test_reproduce.py."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from fmnist.config import TrainConfig
from fmnist.data.dataset import load_info, load_test
from fmnist.data.info import DataInfo
from fmnist.data.sources import Source, find_data
from fmnist.errors import InputError
from fmnist.reports.recipes import EXPERIMENTS, REPORT_RECIPES
from fmnist.reports.runner import (
    Data,
    Plan,
    Task,
    collect_rows,
    plan_tasks,
    select_experiments,
    show_list,
)
from fmnist.reports.table import REPORTS, known_rows, write_reports
from fmnist.runs.files import write_json
from tests.fmnist.reports.rows import row

FASHION = DataInfo("Fashion-MNIST", tuple("abcdefghij"), {})
LETTERS = DataInfo("letters", tuple("abcdefghij"), {})


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_all_experiments_or_some_are_selected() -> None:
    assert select_experiments(None, None) == EXPERIMENTS
    assert {each.report for each in select_experiments("D", None).values()} == {"D"}
    members = ["e-lenet-0.05", "e-resnet18-0.05", "e-resnet34-0.05"]
    assert list(select_experiments(None, "e-ensemble-vote")) == [*members, "e-ensemble-vote"]
    with pytest.raises(InputError, match="recipe='e-lenet': did you mean 'e-lenet-0"):
        select_experiments(None, "e-lenet")


def test_first_seeds_come_first_and_ensembles_need_no_training() -> None:
    tasks = plan_tasks(select_experiments(None, "d-ensemble-vote"), 2, full=True, info=FASHION)
    names = ["d-1", "d-6", "d-7", "d-9"]
    assert [(task.name, task.seed) for task in tasks] == [
        *((name, 0) for name in names),
        *((name, 1) for name in names),
    ]
    assert tasks[-1].config == REPORT_RECIPES["d-9"].config.replace(seed=1)
    assert tasks[-1].folder == Path("runs/reports/d-9-seed1")


def test_another_data_set_has_runs_and_a_split_of_its_own() -> None:
    (task,) = plan_tasks(select_experiments(None, "b-cnn"), 1, full=True, info=LETTERS)
    assert task.folder == Path("runs/reports/letters-b-cnn-seed0")
    assert REPORT_RECIPES["b-cnn"].config.validation_images == 12_000
    assert task.config.validation_images is None


def test_a_task_is_done_once_this_very_config_was_trained() -> None:
    config = TrainConfig(epochs=5)
    task = Task("d-1", 0, config, Path("runs/reports/d-1-seed0"))
    assert not task.done

    write_json(task.folder / "row.json", {})
    resolved = config.replace(precision="fp32", validation_images=5000)
    for saved, done in ((resolved, True), (resolved.replace(epochs=4), False)):
        write_json(task.folder / "config.json", {"train": saved.to_dict()})
        assert task.done is done


def test_ensembles_are_rows_once_their_members_are_there(small_data: Path) -> None:
    info = load_info(find_data(Source(data=str(small_data))))
    test = load_test(small_data, info)
    experiments = select_experiments(None, "e-ensemble-average")
    tasks = plan_tasks(experiments, 1, full=True, info=info)
    plan = Plan(experiments, 1, tasks)
    data = Data(small_data, info, test)

    # Two of three members are right about everything, and surer than the third.
    right = 9 * np.eye(10, dtype=np.float32)[test.labels.numpy()]
    wrong = np.roll(right, 1, axis=1) / 9
    for task, logits in zip(tasks, (right, wrong, right), strict=True):
        assert "e-ensemble-average" not in _saved_rows(plan, data)
        write_json(task.folder / "config.json", {"train": task.config.to_dict()})
        more = {"data": info.name, "network": task.config.model, "parameters": 10}
        write_json(task.folder / "row.json", row(task.name, 0, 0.5, **more))
        np.save(task.folder / "test_logits.npy", logits)

    saved = _saved_rows(plan, data)["e-ensemble-average"]
    assert saved["test_accuracy"] == 1
    assert saved["best_member"] == 0.5
    assert saved["parameters"] == 30
    assert saved["network"] == "lenet + resnet18_imagenet + resnet34_imagenet"


def _saved_rows(plan: Plan, data: Data) -> dict[str, dict[str, Any]]:
    """The rows by recipe, after those of the run folders were collected."""
    collect_rows(plan, data)
    return {saved["recipe"]: saved for saved in known_rows()}


def test_the_list_is_whole_at_80_columns() -> None:
    write_reports([row("d-1", 0, 0.9)], REPORTS)
    tasks = plan_tasks(EXPERIMENTS, 1, full=True, info=FASHION)
    expected = dict.fromkeys(tasks, 90.0)
    console = Console(width=80, file=io.StringIO(), soft_wrap=True, record=True)
    show_list(Plan(EXPERIMENTS, 1, tasks), expected, FASHION, console)

    *table, left = console.export_text().splitlines()
    assert max(map(len, table)) <= 80
    assert left.startswith(f"trainings left: {len(tasks)} of {len(tasks)}, about ")
    text = "\n".join(table)
    for name in EXPERIMENTS:
        assert f"\n{name} " in text
    (line,) = (line for line in table if line.startswith("d-1 "))
    assert line.split()[-5:] == ["0", "of", "1", "1", "1.5"]
