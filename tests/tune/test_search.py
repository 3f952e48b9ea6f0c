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
from fmnist.errors import InputError
from fmnist.run import open_run, write_json
from tests.conftest import ROOT, CommandLine, Outcome, wait_for
from tune.journal import JOURNAL, TRIALS, read_events
from tune.presets import SearchConfig
from tune.search import SearchJob, search, warm_candidates
from tune.searcher import build_searcher
from tune.space import SPACES, candidates
from tune.state import Candidate, TrialRecord

SEARCH = (
    *("--preset", "demo", "--name", "s", "--trials", "5", "--retrain-epochs", "2", "--price-per-hour", "30"),
    *("--base.validation-images", "500", "--base.train-images", "600", "--base.epochs", "3"),
)
PROMOTED = (*SEARCH, "--scheduler", "promotion", "--searcher", "tpe", "--mlflow", "sqlite")


def trials(run: Path) -> list[dict[str, Any]]:
    path = run / "search/trials.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def reports(run: Path) -> list[dict[str, Any]]:
    return [event for event in read_events(run / JOURNAL) if event["event"] == "report"]


@pytest.mark.slow
@pytest.mark.cluster
def test_killed_interrupted_and_resumed_runs_no_finished_trial_again(
    command: CommandLine, call: Callable[..., Outcome], tmp_path: Path
) -> None:
    run = tmp_path / "runs/s"
    with command.start("tune.search", *PROMOTED) as process:
        wait_for(process, lambda: len(reports(run)) >= 3)
        second = call("tune.search", *PROMOTED, "--resume")
        assert second.code == 2
        assert "runs/s is in use by another process" in second.output
        os.kill(process.pid, signal.SIGKILL)
    before = reports(run)
    assert not (run / "best").exists()

    other = call("tune.search", *PROMOTED, "--resume", "--reduction-factor", "2")
    assert other.code == 2
    assert "reduction_factor=2" in other.output

    # Written anew by each session: on a busy machine the killed one may have come that far too.
    chosen = run / "retrain/config.json"
    chosen.unlink(missing_ok=True)
    process = command.start("tune.search", *PROMOTED, "--resume")
    wait_for(process, chosen.exists)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate()
    assert process.returncode == 130, stderr
    assert stderr.startswith("interrupted. What is done is kept; go on with: python -m tune.search --preset demo --trials 5")
    assert stderr.strip().endswith("--name s --resume")
    closed = trials(run)
    heard = reports(run)
    assert heard[: len(before)] == before
    assert len({(report["trial"], report["epoch"]) for report in heard}) == len(heard), "an epoch was trained again"
    assert "promote" in {event["event"] for event in read_events(run / JOURNAL)}

    done = command("tune.search", "--resume")  # the newest run, as it was started
    assert done.returncode == 0, done.stderr
    after = trials(run)
    assert after == closed
    assert sorted(trial["number"] for trial in after) == [0, 1, 2, 3, 4]
    for trial in after:
        assert trial["rung"] == len(trial["curve"])
        assert trial["outcome"].split(":")[0] in {"finished", "stopped at rung 1"}
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
    page = (run / "report.html").read_text()
    for words in (f"{summary['test_accuracy']:.2%}", "Surest mistakes", "ROC, each class", "python -m export.to_onnx s"):
        assert words in page

    check_tracked(tmp_path / "runs/mlflow.db", after, summary)

    assert "complete: nothing to do" in call("tune.search", *PROMOTED, "--resume").output
    assert trials(run) == after


def check_tracked(database: Path, ended: list[dict[str, Any]], summary: dict[str, Any]) -> None:
    """MLflow knows the same search, once."""
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{database}")
    (experiment,) = client.search_experiments(filter_string="name = 'fmnist'")
    told = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in told if "trial" not in run.data.tags]
    assert (parent.info.status, parent.data.metrics["test_accuracy"]) == ("FINISHED", summary["test_accuracy"])
    assert parent.data.params["scheduler"] == "promotion"
    assert parent.data.params["winner/lr"] == str(summary["config"]["lr"])
    by_trial = {int(run.data.tags["trial"]): run for run in told if run is not parent}
    assert len(by_trial) == len(told) - 1 == len(ended)
    for trial in ended:
        run = by_trial[trial["number"]]
        assert run.data.tags["outcome"] == trial["outcome"]
        assert run.data.params["lr"] == str(trial["config"]["lr"])
        points = client.get_metric_history(run.info.run_id, "validation_accuracy")
        assert [point.value for point in sorted(points, key=lambda point: point.step)] == trial["curve"]


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
    once = candidates(space, config.trials, config.search_seed)
    assert {(c["model"], c["lr"], c["global_batch_size"]) for c in once} == {
        *(("lenet", lr, batch) for lr in (0.05, 1e9) for batch in (64, 5000)),
        ("wideresnet28", 0.05, 600),
    }
    with cluster() as resources:
        base, training, validation = split_train(config.base, train)
        assert validation is not None
        propose = build_searcher("random", space, config.trials, config.search_seed)
        job = SearchJob(config, propose, once, train, training, validation, info, resources, Console(), open_storage(None))
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
    budget = ("--trials", 200, "--time-budget", 0.5, "--base.epochs", 40, "--grace-epochs", 40, "--retrain-epochs", 1)
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
        (("--target-accuracy", "92"), "target_accuracy=92.0: a fraction"),
        (("--max-epochs-total", "-1"), "max_epochs_total=-1"),
        (("--scheduler", "asah"), "asah"),
        (("--searcher", "grid"), "searcher='grid': lr, optimizer="),
        (("--warm-start", "nowhere"), "run='nowhere': no such folder"),
        (("--mlflow", "mysql"), "mlflow='mysql': sqlite"),
        (("--mlflow", "http://127.0.0.1:9"), "mlflow='http://127.0.0.1:9': MLflow does not answer there"),
    ],
)
def test_bad_input_is_told_and_leaves_nothing(
    call: Callable[..., Outcome], tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    done = call("tune.search", *arguments)
    assert done.code == 2
    assert words in done.output
    assert not (tmp_path / "runs").exists()


def test_a_warm_start_begins_with_the_best_of_an_earlier_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    space = SPACES["quick"]
    drawn = candidates(space, 9, 0)
    records = [
        TrialRecord(n, TrainConfig().replace(**candidate), [0.5 + n / 100] * (1 + n % 2), outcome="finished")
        for n, candidate in enumerate(drawn)
    ]
    records.append(TrialRecord(9, TrainConfig(lr=0.9), [0.99, 0.99], outcome="finished"))  # outside
    path = tmp_path / "runs/earlier" / TRIALS
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(record.to_dict()) + "\n" for record in records))

    def first(**changes: Any) -> list[Candidate]:
        return warm_candidates(SearchConfig(warm_start="earlier", **changes), space, open_storage(None))

    assert first() == [drawn[7], drawn[5], drawn[3]]  # those that came furthest, the best first
    assert first(trials=4) == [drawn[7], drawn[5]]
    path.write_text(json.dumps(records[-1].to_dict()) + "\n")
    with pytest.raises(InputError, match="none of its 1 trials lies in the space"):
        first()


def test_lists(call: Callable[..., Outcome]) -> None:
    spaces, models = call("tune.search", "--list-spaces").output, call("fmnist.train", "--list-models").output
    assert "--space quick" in spaces
    assert "0.02 to 0.4" in spaces
    assert "wideresnet28" in models
    assert "282,746" in models
    assert "airnet-quick" in call("fmnist.train", "--list-recipes").output
