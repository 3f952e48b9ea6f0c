"""`python -m tune.search` on a real Ray: killed, resumed, and what it leaves."""

import dataclasses
import json
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
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
from tests.conftest import IMAGES, CommandLine, Outcome, runs
from tests.gates import Gates, wait_until, wait_until_gone
from tune.journal import JOURNAL, TRIALS, read_events
from tune.presets import SearchConfig
from tune.search import SearchJob, search, warm_candidates
from tune.searcher import build_searcher
from tune.space import SPACES, Space, candidates
from tune.state import Candidate, SearchState, TrialRecord

ONE_RUNG = (
    *("--preset", "demo", "--name", "s", "--trials", "5", "--retrain-epochs", "2", "--price-per-hour", "30"),
    *("--base.validation-images", "500", "--base.train-images", IMAGES, "--base.epochs", "3", "--base.global-batch-size", "16"),
)
LRS = [0.9, 0.1, 0.2, 0.3, 0.4]
SCRIPTED: Space = {"model": ["lenet"], "optimizer": ["sgd"], "lr": LRS}
"""Of a search by oracles, whose accuracy is their learning rate."""


def seed_of(space: Space, first: float, trials: int = 5) -> int:
    """A seed with which a random search begins with this learning rate, and does not try it again."""
    for seed in range(1000):
        lr, *others = (candidate["lr"] for candidate in candidates(space, trials, seed))
        if lr == first and first not in others:
            return seed
    raise AssertionError(f"no seed begins with {first}")


PROMOTED = (
    *(*ONE_RUNG, "--scheduler", "promotion", "--searcher", "tpe", "--mlflow", "sqlite"),
    *("--space", "space.toml", "--search-seed", seed_of(SCRIPTED, LRS[0])),
)


def trials(run: Path) -> list[dict[str, Any]]:
    path = run / "search/trials.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def reports(run: Path) -> list[dict[str, Any]]:
    return [event for event in read_events(run / JOURNAL) if event["event"] == "report"]


@pytest.mark.processes
@pytest.mark.cluster
def test_killed_interrupted_and_resumed_runs_no_finished_trial_again(
    command: CommandLine, call: Callable[..., Outcome], gates: Gates, tmp_path: Path
) -> None:
    (tmp_path / "space.toml").write_text("".join(f"{name} = {json.dumps(values)}\n" for name, values in SCRIPTED.items()))
    command.environment["FMNIST_TEST_NETWORK"] = "oracle"
    run = tmp_path / "runs/s"
    best, *others = LRS
    for lr in others:
        gates.close(0.0, f"lr {lr}", lr=lr)
    gates.close(1.5, "best", lr=best)
    with command.start("tune.search", *map(str, PROMOTED)) as process:
        wait_until(
            lambda: len(reports(run)) == 1, runs(process)
        )  # of trial 0, which is the best: it pauses, as there is no other yet
        for lr in others:
            gates.open(f"lr {lr}")
        held = gates.wait_for(1, runs(process), "best")  # two others came to the rung, so it was promoted
        second = call("tune.search", *PROMOTED, "--resume")
        assert second.code == 2
        assert "runs/s is in use by another process" in second.output
        os.kill(process.pid, signal.SIGKILL)
    wait_until_gone(held)
    before = reports(run)
    assert len(before) >= 3
    assert not (run / "best").exists()

    other = call("tune.search", *PROMOTED, "--resume", "--reduction-factor", "2")
    assert other.code == 2
    assert "reduction_factor=2" in other.output

    gates.open("best")
    gates.close(0.5, "winner", validation_images=0)
    process = command.start("tune.search", *map(str, PROMOTED), "--resume")
    held = gates.wait_for(1, runs(process), "winner")
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate()
    wait_until_gone(held)
    gates.open("winner")
    assert process.returncode == 130, stderr
    assert stderr.startswith("interrupted. What is done is kept; go on with: python -m tune.search --preset demo --trials 5")
    assert stderr.strip().endswith("--name s --resume")
    closed = trials(run)
    heard = reports(run)
    assert heard[: len(before)] == before
    assert len({(report["trial"], report["epoch"]) for report in heard}) == len(heard), "an epoch was trained again"
    assert [event["trial"] for event in read_events(run / JOURNAL) if event["event"] == "promote"] == [0]

    done = command("tune.search", "--resume")  # the newest run, as it was started
    assert done.returncode == 0, done.stderr
    after = trials(run)
    assert after == closed
    assert sorted(trial["number"] for trial in after) == [0, 1, 2, 3, 4]
    for trial in after:
        assert trial["rung"] == len(trial["curve"])
        assert trial["outcome"].split(":")[0] == ("stopped at rung 1" if trial["number"] else "finished")
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


@pytest.fixture
def ray_here(gates: Gates, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Ray that this process starts has its files in a place of its own, and workers that know the gates."""
    monkeypatch.chdir(tmp_path)
    with tempfile.TemporaryDirectory(prefix="fm", ignore_cleanup_errors=True) as folder:
        for name, value in (gates.environment | {"RAY_TMPDIR": folder, "FMNIST_DATA": str(small_data)}).items():
            monkeypatch.setenv(name, value)
        yield


def search_here(job_of: Callable[..., SearchJob], config: SearchConfig, space: Space, train: Split, info: DataInfo) -> TrialRecord:
    """Search in this process, with Ray's workers below it; give the winner."""
    drawn = candidates(space, config.trials, config.search_seed)
    base, training, validation = split_train(config.base, train)
    assert validation is not None
    config = dataclasses.replace(config, base=base)
    propose = build_searcher("random", space, config.trials, config.search_seed)
    with cluster() as resources:
        job = job_of(config, propose, drawn, train, training, validation, info, resources, Console(width=200), open_storage(None))
        run = open_run("s")
        write_json(run / "config.json", {})
        return search(run, job)


@pytest.mark.full
@pytest.mark.processes
@pytest.mark.cluster
@pytest.mark.usefixtures("ray_here")
def test_trials_that_fail_are_recorded_with_their_reason(
    gates: Gates, tmp_path: Path, train: Split, info: DataInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ray kills a process once the machine's memory is used up to here: 3 GB more than now. A trial of mycnn takes 4.
    memory = psutil.virtual_memory()
    monkeypatch.setenv("RAY_memory_usage_threshold", f"{1 - (memory.available - 3e9) / memory.total:.3f}")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "50")
    gates.close(0.0, take_bytes=4_000_000_000, model="mycnn", lr=0.05)
    space: Space = {
        "model": ["lenet", "mycnn"],
        "lr": {"by": "model", "lenet": [0.05, 1e9], "mycnn": [0.05]},
        "global_batch_size": {"by": "model", "lenet": [64, 5000], "mycnn": [64]},
    }
    base = TrainConfig(epochs=1, optimizer="sgd", warmup=0.0, validation_images=500, train_images=600)
    config = SearchConfig(trials=30, concurrent_trials=1, base=base)
    assert {(c["model"], c["lr"], c["global_batch_size"]) for c in candidates(space, config.trials, config.search_seed)} == {
        *(("lenet", lr, batch) for lr in (0.05, 1e9) for batch in (64, 5000)),
        ("mycnn", 0.05, 64),
    }
    best = search_here(SearchJob, config, space, train, info)
    assert (best.config.lr, best.config.global_batch_size) == (0.05, 64)
    for trial in trials(tmp_path / "runs/s"):
        config = TrainConfig.from_dict(trial["config"])
        if config.model == "mycnn":
            assert trial["outcome"].startswith("error: killed for memory")
        elif config.global_batch_size == 5000:
            assert trial["outcome"].startswith("error: ")
            assert "global_batch_size=5000" in trial["outcome"]
        else:
            assert trial["outcome"].startswith("diverged: " if config.lr > 1 else "finished")


@pytest.mark.full
@pytest.mark.processes
@pytest.mark.cluster
@pytest.mark.usefixtures("ray_here")
def test_the_time_budget_ends_the_search_and_says_so(
    gates: Gates, tmp_path: Path, train: Split, info: DataInfo, capsys: pytest.CaptureFixture[str]
) -> None:
    gates.close(1.5)

    class Scripted(SearchJob):
        """Its clock stands still until a trial is in the middle of its second epoch; then the minute is over."""

        def state(self, run: Path) -> SearchState:
            state = super().state(run)
            state.clock = lambda: 61.0 if gates.waiting() else 0.0
            return state

    base = TrainConfig(model="lenet", epochs=40, warmup=0.0, global_batch_size=64, validation_images=500, train_images=IMAGES)
    config = SearchConfig(trials=200, time_budget=1.0, grace_epochs=40, base=base)
    space: Space = {"optimizer": ["sgd"], "lr": [0.05, 0.06, 0.07]}
    best = search_here(Scripted, config, space, train, info)
    assert "the search ends: the time budget is used up" in capsys.readouterr().out
    ended = trials(tmp_path / "runs/s")
    assert 0 < len(ended) < 200
    assert {trial["outcome"] for trial in ended} == {"out of time"}
    assert len(best.curve) == 1


@pytest.mark.full
@pytest.mark.cluster
def test_a_dry_run_plans_and_leaves_nothing(command: CommandLine, tmp_path: Path) -> None:
    done = command("tune.search", *ONE_RUNG, "--dry-run")
    assert done.returncode == 0, done.stderr
    words = (f"5 of up to 3 epochs on {IMAGES} images; rungs at 1", "15 if no trial were stopped", "images/s", "minutes", "money")
    for word in words:
        assert word in done.stdout
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
