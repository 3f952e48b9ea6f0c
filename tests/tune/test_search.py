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
from fmnist.data.dataset import Split, TrainingData, split_train
from fmnist.data.info import DataInfo
from fmnist.runs.files import write_json
from fmnist.runs.run_folder import open_run
from tests.conftest import IMAGES, CommandLine, Outcome, runs
from tests.gates import Gates, wait_until, wait_until_gone
from tune.engine.run import Surroundings, search
from tune.journal import JOURNAL, read_lines
from tune.presets import SearchConfig
from tune.searchers import build_searcher
from tune.searchers.sobol import candidates
from tune.setup import SearchSetup, SearchTask
from tune.space import Space
from tune.state import SearchState, TrialRecord

ONE_RUNG = (
    *(
        "--preset",
        "demo",
        "--name",
        "s",
        "--trials",
        "5",
        "--retrain-epochs",
        "2",
        "--price-per-hour",
        "30",
    ),
    *(
        "--train.validation-images",
        "500",
        "--train.train-images",
        IMAGES,
        "--train.epochs",
        "3",
        "--train.global-batch-size",
        "16",
    ),
)
LRS = [0.9, 0.1, 0.2, 0.3, 0.4]
SCRIPTED: Space = {"model": ["lenet"], "optimizer": ["sgd"], "lr": LRS}
"""Of a search by oracles, whose accuracy is their learning rate."""


def seed_of(space: Space, first: float, trials: int = 5) -> int:
    """A seed with which a random search begins with this learning rate, and does not try it
    again."""
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
    return [event for event in read_lines(run / JOURNAL) if event["event"] == "report"]


@pytest.mark.processes
@pytest.mark.cluster
def test_killed_interrupted_and_resumed_runs_no_finished_trial_again(
    command: CommandLine, call: Callable[..., Outcome], gates: Gates, tmp_path: Path
) -> None:
    (tmp_path / "space.toml").write_text(
        "".join(f"{name} = {json.dumps(values)}\n" for name, values in SCRIPTED.items())
    )
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
        held = gates.wait_for(
            1, runs(process), "best"
        )  # two others came to the rung, so it was promoted
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
    assert stderr.startswith(
        "interrupted. What is done is kept; go on with: python -m tune.search --preset demo"
        " --trials 5"
    )
    assert stderr.strip().endswith("--name s --resume")
    closed = trials(run)
    heard = reports(run)
    assert heard[: len(before)] == before
    assert len({(report["trial"], report["epoch"]) for report in heard}) == len(heard), (
        "an epoch was trained again"
    )
    assert [
        event["trial"] for event in read_lines(run / JOURNAL) if event["event"] == "promote"
    ] == [0]

    done = command("tune.search", "--resume")  # the newest run, as it was started
    assert done.returncode == 0, done.stderr
    after = trials(run)
    assert after == closed
    assert sorted(trial["number"] for trial in after) == [0, 1, 2, 3, 4]
    for trial in after:
        assert trial["rung"] == len(trial["curve"])
        assert trial["outcome"].split(":")[0] == (
            "stopped at rung 1" if trial["number"] else "finished"
        )
        assert trial["config"]["threads"] == 1
        assert list((run / f"tensorboard/trial_{trial['number']:04}").glob("events.out.tfevents.*"))

    summary = json.loads((run / "summary.json").read_text())
    metrics = json.loads((run / "best/metrics.json").read_text())
    assert summary["test_accuracy"] == metrics["test"]["accuracy"] > 0.2
    assert summary["validation_accuracy"] == max(
        t["curve"][-1] for t in after if t["outcome"] == "finished"
    )
    assert summary["config"]["validation_images"] == summary["config"]["train_images"] == 0
    assert summary["plan_s"]["search"] > 0
    assert len(metrics["epochs"]) == 2
    assert set(summary["seconds"]) == {"search", "retrain"}
    assert {file.name for file in (run / "figures").iterdir()} == {
        "search.png",
        "training.png",
        "confusion.png",
    }
    assert f"test accuracy {summary['test_accuracy']:.2%}" in done.stdout
    page = (run / "report.html").read_text()
    for words in (
        f"{summary['test_accuracy']:.2%}",
        "Surest mistakes",
        "ROC, each class",
        "python -m export.to_onnx s",
    ):
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
    assert (parent.info.status, parent.data.metrics["test_accuracy"]) == (
        "FINISHED",
        summary["test_accuracy"],
    )
    assert parent.data.params["scheduler"] == "promotion"
    assert parent.data.params["winner/lr"] == str(summary["config"]["lr"])
    by_trial = {int(run.data.tags["trial"]): run for run in told if run is not parent}
    assert len(by_trial) == len(told) - 1 == len(ended)
    for trial in ended:
        run = by_trial[trial["number"]]
        assert run.data.tags["outcome"] == trial["outcome"]
        assert run.data.params["lr"] == str(trial["config"]["lr"])
        points = client.get_metric_history(run.info.run_id, "validation_accuracy")
        assert [point.value for point in sorted(points, key=lambda point: point.step)] == trial[
            "curve"
        ]


@pytest.fixture
def ray_here(
    gates: Gates, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """A Ray that this process starts has its files in a place of its own, and workers that know
    the gates."""
    monkeypatch.chdir(tmp_path)
    with tempfile.TemporaryDirectory(prefix="fm", ignore_cleanup_errors=True) as folder:
        for name, value in (
            gates.environment | {"RAY_TMPDIR": folder, "FMNIST_DATA": str(small_data)}
        ).items():
            monkeypatch.setenv(name, value)
        yield


def search_here(
    config: SearchConfig,
    space: Space,
    train: Split,
    info: DataInfo,
    setup_type: type[SearchSetup] = SearchSetup,
) -> TrialRecord:
    """Search in this process, with Ray's workers below it; give the winner."""
    base, training, validation = split_train(config.train, train)
    config = dataclasses.replace(config, train=base)
    task = SearchTask(
        config=config,
        space=space,
        first=[],
        propose=build_searcher("random", space, config.trials, config.search_seed),
        drawn=candidates(space, config.trials, config.search_seed),
        train=train,
        data=TrainingData(training, validation, len(info.classes)),
        folder=Path(),
        info=info,
    )
    with cluster() as resources:
        setup = setup_type(task, resources, open_storage(None))
        run = open_run("s")
        write_json(run / "config.json", {})
        return search(run, setup, Surroundings(Console(width=200)))


@pytest.mark.full
@pytest.mark.processes
@pytest.mark.cluster
@pytest.mark.usefixtures("ray_here")
def test_trials_that_fail_are_recorded_with_their_reason(
    gates: Gates, tmp_path: Path, train: Split, info: DataInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ray kills a process once the machine's memory is used up to here: 3 GB more than now. A trial
    # of mycnn takes 4.
    memory = psutil.virtual_memory()
    monkeypatch.setenv(
        "RAY_memory_usage_threshold", f"{1 - (memory.available - 3e9) / memory.total:.3f}"
    )
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "50")
    gates.close(0.0, take_bytes=4_000_000_000, model="mycnn", lr=0.05)
    space: Space = {
        "model": ["lenet", "mycnn"],
        "lr": {"by": "model", "lenet": [0.05, 1e9], "mycnn": [0.05]},
        "global_batch_size": {"by": "model", "lenet": [64, 5000], "mycnn": [64]},
    }
    base = TrainConfig(
        epochs=1, optimizer="sgd", warmup=0.0, validation_images=500, train_images=600
    )
    config = SearchConfig(trials=30, concurrent_trials=1, train=base)
    assert {
        (c["model"], c["lr"], c["global_batch_size"])
        for c in candidates(space, config.trials, config.search_seed)
    } == {
        *(("lenet", lr, batch) for lr in (0.05, 1e9) for batch in (64, 5000)),
        ("mycnn", 0.05, 64),
    }
    best = search_here(config, space, train, info)
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

    class Scripted(SearchSetup):
        """Its clock stands still until a trial is in the middle of its second epoch; then the
        minute is over."""

        def state(self, run: Path) -> SearchState:
            state = super().state(run)
            state.clock = lambda: 61.0 if gates.waiting() else 0.0
            return state

    base = TrainConfig(
        model="lenet",
        epochs=40,
        warmup=0.0,
        global_batch_size=64,
        validation_images=500,
        train_images=IMAGES,
    )
    config = SearchConfig(trials=200, time_budget_min=1.0, grace_epochs=40, train=base)
    space: Space = {"optimizer": ["sgd"], "lr": [0.05, 0.06, 0.07]}
    best = search_here(config, space, train, info, Scripted)
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
    words = (
        f"5 of up to 3 epochs on {IMAGES} images; rungs at 1",
        "15 if no trial were stopped",
        "images/s",
        "minutes",
        "money",
    )
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
        (("--base.lr", "1"), "--base.lr is now --train.lr"),
        (("--time-budget", "1"), "--time-budget is now --time-budget-min"),
        (("--price-per-hour", "-1"), "price_per_hour=-1.0"),
        (("--train.lr", "0"), "lr=0.0"),
        (("--train.validation-images", "0"), "train.validation_images=0"),
        (("--gpus-per-trial", "2"), "gpus_per_trial=2.0"),
        (("--target-accuracy", "92"), "target_accuracy=92.0: it must be a fraction"),
        (("--max-epochs-total", "-1"), "max_epochs_total=-1"),
        (("--scheduler", "asah"), "asah"),
        (("--searcher", "grid"), "searcher='grid': lr, optimizer="),
        (("--warm-start", "nowhere"), "run='nowhere': no such folder"),
        (("--mlflow", "mysql"), "mlflow='mysql': sqlite"),
        (
            ("--mlflow", "http://127.0.0.1:9"),
            "mlflow='http://127.0.0.1:9': MLflow does not answer there",
        ),
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
    spaces, models = (
        call("tune.search", "--list-spaces").output,
        call("fmnist.train", "--list-models").output,
    )
    assert "--space quick" in spaces
    assert "0.02 to 0.4" in spaces
    assert "wideresnet28" in models
    assert "282,746" in models
    assert "airnet-quick" in call("fmnist.train", "--list-recipes").output
