"""`python -m tune.search` on a real Ray: killed, resumed, and what it leaves."""

import json
import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cluster.connect import cluster
from fmnist.config import TrainConfig
from fmnist.data import Split, load_info
from fmnist.run import open_run
from tests.conftest import ROOT, CommandLine, Outcome
from tune.presets import SearchConfig
from tune.search import search
from tune.space import SPACES, candidates

SEARCH = (
    *("--preset", "demo", "--name", "s", "--trials", "5", "--retrain-epochs", "2"),
    *("--base.validation-images", "500", "--base.train-images", "600", "--base.epochs", "3"),
)


def trials(run: Path) -> list[dict[str, Any]]:
    path = run / "search/trials.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.slow
@pytest.mark.cluster
def test_killed_and_resumed_runs_no_finished_trial_again(
    command: CommandLine, call: Callable[..., Outcome], tmp_path: Path
) -> None:
    run = tmp_path / "runs/s"
    with command.start("tune.search", *SEARCH) as process:
        deadline = time.monotonic() + 200
        while len(trials(run)) < 2:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    before = trials(run)
    assert not (run / "best").exists()

    other = call("tune.search", *SEARCH, "--resume", "--reduction-factor", "2")
    assert other.code == 2
    assert "reduction_factor=2" in other.output

    done = command("tune.search", *SEARCH, "--resume")
    assert done.returncode == 0, done.stderr
    after = trials(run)
    assert after[: len(before)] == before
    assert sorted(trial["number"] for trial in after) == [0, 1, 2, 3, 4]
    for trial in after:
        assert trial["rung"] == len(trial["curve"])
        assert trial["outcome"] in {"finished", "stopped at rung 1"}
        assert trial["config"]["threads"] == 1

    summary = json.loads((run / "summary.json").read_text())
    metrics = json.loads((run / "best/metrics.json").read_text())
    assert summary["test_accuracy"] == metrics["test"]["accuracy"] > 0.2
    assert summary["validation_accuracy"] == max(t["curve"][-1] for t in after if t["outcome"] == "finished")
    assert summary["config"]["validation_images"] == summary["config"]["train_images"] == 0
    assert len(metrics["epochs"]) == 2
    assert set(summary["seconds"]) == {"search", "retrain"}
    assert {file.name for file in (run / "figures").iterdir()} == {"search.png", "training.png", "confusion.png"}
    assert f"test accuracy {summary['test_accuracy']:.2%}" in done.stdout

    assert "complete: nothing to do" in call("tune.search", *SEARCH, "--resume").output
    assert trials(run) == after


@pytest.mark.slow
@pytest.mark.cluster
def test_trials_that_fail_are_recorded_with_their_reason(
    tmp_path: Path, train: Split, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RAY_TMPDIR", tempfile.mkdtemp(prefix="fm"))
    monkeypatch.setitem(
        SPACES, "quick", {"model": ["lenet"], "optimizer": ["sgd"], "lr": [0.05, 1e9], "global_batch_size": [64, 5000]}
    )
    base = TrainConfig(epochs=1, warmup=0.0, validation_images=500, train_images=600)
    config = SearchConfig(trials=8, base=base)
    lrs_and_batches = {(c["lr"], c["global_batch_size"]) for c in candidates(SPACES["quick"], 8, config.search_seed)}
    assert lrs_and_batches == {(0.05, 64), (0.05, 5000), (1e9, 64), (1e9, 5000)}
    with cluster() as resources:
        best = search(open_run("s"), config, train, load_info(data_folder), resources, Console())
    assert (best.config.lr, best.config.global_batch_size) == (0.05, 64)
    for trial in trials(tmp_path / "runs/s"):
        expected = (
            "error: " if trial["config"]["global_batch_size"] == 5000 else "diverged: " if trial["config"]["lr"] > 1 else "finished"
        )
        assert trial["outcome"].startswith(expected)
        assert ("global_batch_size=5000" in trial["outcome"]) == (expected == "error: ")


@pytest.mark.slow
@pytest.mark.cluster
def test_the_time_budget_ends_the_search_and_says_so(command: CommandLine, tmp_path: Path) -> None:
    budget = ("--trials", 200, "--time-budget-s", 15, "--base.epochs", 40, "--grace-epochs", 40, "--retrain-epochs", 1)
    done = command("tune.search", *SEARCH, *budget)
    assert done.returncode == 0, done.stderr
    ended = trials(tmp_path / "runs/s")
    assert 0 < len(ended) < 200
    assert "out of time" in {trial["outcome"] for trial in ended}
    assert {trial["outcome"] for trial in ended} <= {"out of time", "finished"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--trials", "0"), "trials=0"),
        (("--preset", "huge"), "--preset huge"),
        (("--base.lr", "0"), "lr=0.0"),
        (("--base.validation-images", "0"), "base.validation_images=0"),
        (("--gpus-per-trial", "2"), "gpus_per_trial=2.0"),
    ],
)
def test_bad_input_is_told_and_leaves_nothing(
    call: Callable[..., Outcome], tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    done = call("tune.search", *arguments)
    assert done.code == 2
    assert words in done.output
    assert not (tmp_path / "runs").exists()
