"""`python -m tune.search` on a real Ray: killed, resumed, and what it leaves."""

import json
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

from cluster.connect import cluster
from cluster.storage import open_storage
from fmnist.config import TrainConfig
from fmnist.data import DataInfo, Split, split_train
from fmnist.run import open_run, write_json
from tests.conftest import ROOT, CommandLine, Outcome, wait_for
from tune.presets import SearchConfig
from tune.search import SearchJob, search
from tune.space import candidates

SEARCH = (
    *("--preset", "demo", "--name", "s", "--trials", "5", "--retrain-epochs", "2", "--price-per-hour", "30"),
    *("--base.validation-images", "500", "--base.train-images", "600", "--base.epochs", "3"),
)


def trials(run: Path) -> list[dict[str, Any]]:
    path = run / "search/trials.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.slow
@pytest.mark.cluster
def test_killed_interrupted_and_resumed_runs_no_finished_trial_again(
    command: CommandLine, call: Callable[..., Outcome], tmp_path: Path
) -> None:
    run = tmp_path / "runs/s"
    with command.start("tune.search", *SEARCH) as process:
        wait_for(process, lambda: len(trials(run)) >= 2)
        second = call("tune.search", *SEARCH, "--resume")
        assert second.code == 2
        assert "runs/s is in use by another process" in second.output
        os.kill(process.pid, signal.SIGKILL)
    before = trials(run)
    assert not (run / "best").exists()

    other = call("tune.search", *SEARCH, "--resume", "--reduction-factor", "2")
    assert other.code == 2
    assert "reduction_factor=2" in other.output

    process = command.start("tune.search", *SEARCH, "--resume")
    wait_for(process, lambda: (run / "retrain").exists())
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate()
    assert process.returncode == 130, stderr
    assert stderr.startswith("interrupted. What is done is kept; go on with: python -m tune.search --preset demo --trials 5")
    assert stderr.strip().endswith("--name s --resume")
    closed = trials(run)
    assert closed[: len(before)] == before

    done = command("tune.search", "--resume")  # the newest run, as it was started
    assert done.returncode == 0, done.stderr
    after = trials(run)
    assert after == closed
    assert sorted(trial["number"] for trial in after) == [0, 1, 2, 3, 4]
    for trial in after:
        assert trial["rung"] == len(trial["curve"])
        assert trial["outcome"] in {"finished", "stopped at rung 1"}
        assert trial["config"]["threads"] == 1
        assert list((run / f"tensorboard/trial_{trial['number']:04}").glob("events.out.tfevents.*"))

    summary = json.loads((run / "summary.json").read_text())
    metrics = json.loads((run / "best/metrics.json").read_text())
    assert summary["test_accuracy"] == metrics["test"]["accuracy"] > 0.2
    assert summary["validation_accuracy"] == max(t["curve"][-1] for t in after if t["outcome"] == "finished")
    assert summary["config"]["validation_images"] == summary["config"]["train_images"] == 0
    assert summary["plan_s"]["search"] > 0
    assert len(metrics["epochs"]) == 2
    assert set(summary["seconds"]) == {"search", "retrain"}
    assert {file.name for file in (run / "figures").iterdir()} == {"search.png", "training.png", "confusion.png"}
    assert f"test accuracy {summary['test_accuracy']:.2%}" in done.stdout

    assert "complete: nothing to do" in call("tune.search", *SEARCH, "--resume").output
    assert trials(run) == after


@pytest.mark.slow
@pytest.mark.cluster
def test_trials_that_fail_are_recorded_with_their_reason(
    tmp_path: Path, train: Split, info: DataInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RAY_TMPDIR", tempfile.mkdtemp(prefix="fm"))
    # Ray kills a process once the machine's memory is used up to here: 3 GB more than now.
    memory = psutil.virtual_memory()
    monkeypatch.setenv("RAY_memory_usage_threshold", f"{1 - (memory.available - 3e9) / memory.total:.3f}")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "50")
    space: dict[str, Any] = {
        "model": ["lenet", "wideresnet28"],
        "lr": {"by": "model", "lenet": [0.05, 1e9], "wideresnet28": [0.05]},
        "global_batch_size": {"by": "model", "lenet": [64, 5000], "wideresnet28": [600]},
    }
    base = TrainConfig(epochs=1, optimizer="sgd", warmup=0.0, validation_images=500, train_images=600)
    config = SearchConfig(trials=30, concurrent_trials=1, base=base)
    drawn = candidates(space, config.trials, config.search_seed)
    assert {(c["model"], c["lr"], c["global_batch_size"]) for c in drawn} == {
        *(("lenet", lr, batch) for lr in (0.05, 1e9) for batch in (64, 5000)),
        ("wideresnet28", 0.05, 600),
    }
    seen: set[str] = set()
    once = [c for c in drawn if not (str(c) in seen or seen.add(str(c)))]
    with cluster() as resources:
        base, training, validation = split_train(config.base, train)
        assert validation is not None
        job = SearchJob(config, once, [], train, training, validation, info, resources, Console(), open_storage(None))
        run = open_run("s")
        write_json(run / "config.json", {})
        best = search(run, job)
    assert (best.config.lr, best.config.global_batch_size) == (0.05, 64)
    for trial in trials(tmp_path / "runs/s"):
        config = TrainConfig.from_dict(trial["config"])
        if config.model == "wideresnet28":
            assert trial["outcome"].startswith("error: killed for memory")
        elif config.global_batch_size == 5000:
            assert trial["outcome"].startswith("error: ")
            assert "global_batch_size=5000" in trial["outcome"]
        else:
            assert trial["outcome"].startswith("diverged: " if config.lr > 1 else "finished")


@pytest.mark.slow
@pytest.mark.cluster
def test_the_time_budget_ends_the_search_and_says_so(command: CommandLine, tmp_path: Path) -> None:
    budget = ("--trials", 200, "--time-budget-s", 25, "--base.epochs", 40, "--grace-epochs", 40, "--retrain-epochs", 1)
    done = command("tune.search", *SEARCH, *budget)
    assert done.returncode == 0, done.stderr
    ended = trials(tmp_path / "runs/s")
    assert 0 < len(ended) < 200
    assert "out of time" in {trial["outcome"] for trial in ended}
    assert {trial["outcome"] for trial in ended} <= {"out of time", "finished"}


@pytest.mark.slow
@pytest.mark.cluster
def test_a_dry_run_plans_and_leaves_nothing(command: CommandLine, tmp_path: Path) -> None:
    done = command("tune.search", *SEARCH, "--dry-run")
    assert done.returncode == 0, done.stderr
    for words in ("5 of up to 3 epochs on 600 images; rungs at 1", "15 if no trial were stopped", "images/s", "minutes", "money"):
        assert words in done.stdout
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--trials", "0"), "trials=0"),
        (("--preset", "lapto"), "--preset='lapto': did you mean 'laptop'"),
        (("--space", "quik"), "did you mean 'quick'"),
        (("--trails", "3"), "Did you mean --trials?"),
        (("--price-per-hour", "-1"), "price_per_hour=-1.0"),
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


def test_lists(call: Callable[..., Outcome]) -> None:
    spaces, models = call("tune.search", "--list-spaces").output, call("fmnist.train", "--list-models").output
    assert "--space quick" in spaces
    assert "0.02 to 0.4" in spaces
    assert "wideresnet28" in models
    assert "282,746" in models
    assert "airnet-quick" in call("fmnist.train", "--list-recipes").output
