"""A training session: it goes on where an earlier one stopped, and tells what that one trained."""

import dataclasses
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

import fmnist.training.loop
from fmnist.config import TrainConfig
from fmnist.data.dataset import Split, TrainingData
from fmnist.data.info import DataInfo
from fmnist.errors import InputError
from fmnist.training.checkpoint import load_checkpoint, load_state, save_state
from fmnist.training.device import Rank
from fmnist.training.loop import train_epochs
from fmnist.training.metrics import EpochReport
from fmnist.training.session import (
    STATE_FILE,
    FileStore,
    TrainingResult,
    run_session,
    train_in,
)

CPU = Rank(torch.device("cpu"))
CONFIG = TrainConfig(
    model="lenet", epochs=3, global_batch_size=50, lr=0.05, precision="fp32", validation_images=100
)
INFO = DataInfo("some", tuple("0123456789"), {"x": "y"})
TIMES = ("images_per_s", "seconds")

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass
class MemoryStore:
    """The state of a training in memory, as a file would give it back."""

    state: dict[str, Any] | None = None
    saves: int = 0

    def load(self) -> dict[str, Any] | None:
        return self.state

    def save(self, state: dict[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        buffer.seek(0)
        self.state = torch.load(buffer, weights_only=True)
        self.saves += 1


@dataclass
class Heard:
    """What a session reported."""

    reports: list[EpochReport] = field(default_factory=list)
    result: TrainingResult | None = None
    started_after: list[int] = field(default_factory=list)
    """The argument of each call of on_start."""


@pytest.fixture(scope="module")
def few(train: Split) -> TrainingData:
    """500 training images and 100 for validation."""
    validation = Split(train.images[500:600], train.labels[500:600])
    return TrainingData(Split(train.images[:500], train.labels[:500]), validation, classes=10)


def listen(
    config: TrainConfig, data: TrainingData, store: MemoryStore | FileStore, epochs: int = 99
) -> Heard:
    """Hear a session out, or leave it once it has trained a few epochs."""
    heard = Heard()
    session = run_session(config, data, CPU, store, on_start=heard.started_after.append)
    for event in session:
        if isinstance(event, TrainingResult):
            heard.result = event
            continue
        heard.reports.append(event)
        if not event.replayed and event.metrics.epoch == epochs:
            break
    return heard


def without_times(report: EpochReport) -> dict[str, Any]:
    return {key: value for key, value in report.to_dict().items() if key not in TIMES}


def weights(result: TrainingResult | None) -> Iterator[torch.Tensor]:
    assert result is not None
    yield from result.model.state_dict().values()


def test_replays_come_first_and_are_marked(few: TrainingData) -> None:
    undisturbed = listen(CONFIG, few, MemoryStore())
    store = MemoryStore()
    first = listen(CONFIG, few, store, epochs=2)
    second = listen(CONFIG, few, store)
    assert (first.started_after, second.started_after) == ([0], [2])

    epochs = [(report.metrics.epoch, report.replayed) for report in second.reports]
    assert epochs == [(1, True), (2, True), (3, False)]
    replays = [dataclasses.replace(report, replayed=False) for report in second.reports[:2]]
    assert replays == first.reports

    assert second.result is not None
    assert undisturbed.result is not None
    history = [without_times(report) for report in second.result.history]
    assert history == [without_times(report) for report in undisturbed.result.history]
    assert not any(report.replayed for report in second.result.history)
    pairs = zip(weights(second.result), weights(undisturbed.result), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_the_state_is_saved_before_its_epoch_is_reported(few: TrainingData) -> None:
    store = MemoryStore()
    for number, event in enumerate(run_session(CONFIG, few, CPU, store), start=1):
        assert store.saves == min(number, CONFIG.epochs)
        assert store.state is not None
        if isinstance(event, EpochReport):
            assert store.state["epoch"] == event.metrics.epoch
            assert EpochReport.from_dict(store.state["history"][-1]) == event


def test_a_finished_training_yields_its_result_at_once(
    few: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CONFIG.replace(epochs=9, optimizer="adam", lr=0.02, early_stopping=1, ema=0.5)
    store = MemoryStore()
    first = listen(config, few, store)
    assert first.result is not None
    saves = store.saves

    again = listen(config, few, store)
    assert store.saves == saves
    assert all(report.replayed for report in again.reports)
    assert again.result is not None
    assert again.result.history == first.result.history
    assert again.result.kept == first.result.kept
    assert again.result.to_dict() == first.result.to_dict()
    pairs = zip(weights(again.result), weights(first.result), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_the_kept_epoch_is_the_one_whose_weights_the_model_has(few: TrainingData) -> None:
    # A learning rate that soon overshoots: the best epoch is not the last.
    config = CONFIG.replace(epochs=30, optimizer="adam", lr=0.02, early_stopping=2)
    result = listen(config, few, MemoryStore()).result
    assert result is not None
    assert result.kept_epoch == len(result.history) - 2
    assert result.kept.epoch == result.kept_epoch

    losses = [report.metrics.validation_loss for report in result.history]
    assert result.kept.validation_loss == min(loss for loss in losses if loss is not None)
    metrics = result.to_dict()
    assert metrics["epoch"] == result.kept_epoch
    assert metrics["validation_accuracy"] == result.kept.validation_accuracy
    assert [row["epoch"] for row in metrics["epochs"]] == list(range(1, len(losses) + 1))


@pytest.mark.parametrize("extra", [{}, {"ended": ""}], ids=["training's", "trial's"])
@pytest.mark.parametrize("done", [1, 3])
def test_a_state_of_an_older_version_goes_on(
    extra: dict[str, Any], done: int, few: TrainingData
) -> None:
    """Its history has the plain metrics; a trial's has the keys of what Ray was told."""
    config = CONFIG.replace(early_stopping=3)
    undisturbed = listen(config, few, MemoryStore()).result
    assert undisturbed is not None

    store = MemoryStore()
    history: list[dict[str, Any]] = []
    for metrics, state in train_epochs(config, few, CPU):
        kept = {"kept_epoch": state.kept_epoch} if extra else {}
        history.append(metrics.to_dict() | extra | kept)
        store.save(state.state_dict() | {"history": history})
        if metrics.epoch == done:
            break

    result = listen(config, few, store).result
    assert result is not None
    assert result.kept_epoch == undisturbed.kept_epoch
    pairs = zip(weights(result), weights(undisturbed), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("damage", ["history", "config", "model", "epoch"])
def test_a_damaged_state_is_told_in_one_line(damage: str, few: TrainingData) -> None:
    store = MemoryStore()
    listen(CONFIG, few, store, epochs=1)
    assert store.state is not None
    del store.state[damage]
    with pytest.raises(InputError, match="the saved training is damaged"):
        listen(CONFIG, few, store)


def train_some(
    run: Path, config: TrainConfig, data: TrainingData, deadline: float = float("inf")
) -> tuple[TrainingResult | None, str]:
    """Train in a run folder; the result, and what was printed."""
    screen = io.StringIO()
    console = Console(file=screen, width=80)
    result = train_in(run, config, data, INFO, console, deadline)
    return result, screen.getvalue()


def test_a_run_folder_after_a_training(few: TrainingData, tmp_path: Path) -> None:
    result, printed = train_some(tmp_path, CONFIG, few)
    assert result is not None
    assert [line.split()[1] for line in printed.splitlines()] == ["1/3", "2/3", "3/3"]

    config = json.loads((tmp_path / "config.json").read_text())
    assert config["train"] == CONFIG.to_dict()
    assert config["data"]["name"] == "some"
    assert json.loads((tmp_path / "best/metrics.json").read_text()) == result.to_dict()
    assert load_checkpoint(tmp_path / "best").config == CONFIG
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))


def test_the_deadline_pauses_and_the_rest_is_trained_later(
    few: TrainingData, tmp_path: Path
) -> None:
    undisturbed = listen(CONFIG, few, MemoryStore()).result
    assert train_some(tmp_path, CONFIG, few, deadline=0.0)[0] is None
    assert load_state(tmp_path / STATE_FILE)["epoch"] == 1
    assert not (tmp_path / "best").exists()

    result, printed = train_some(tmp_path, CONFIG, few)
    assert [line.split()[1] for line in printed.splitlines()] == ["2/3", "3/3"]
    pairs = zip(weights(result), weights(undisturbed), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_a_training_that_ends_after_its_deadline_has_a_result(
    few: TrainingData, tmp_path: Path
) -> None:
    last, _ = train_some(tmp_path / "last", CONFIG.replace(epochs=1), few, deadline=0.0)
    assert last is not None

    # Early stopping: the epoch after which the patience is used up is the last one.
    config = CONFIG.replace(epochs=30, optimizer="adam", lr=0.02, early_stopping=1)
    stopped, printed = None, ""
    for _ in range(config.epochs):
        stopped, printed = train_some(tmp_path / "early", config, few, deadline=0.0)
        if stopped is not None:
            break
    assert stopped is not None
    assert len(stopped.history) < config.epochs
    assert stopped.kept_epoch == len(stopped.history) - 1
    assert f"nothing better since epoch {stopped.kept_epoch}, whose weights are kept" in printed


def test_a_state_of_another_config_is_refused_before_anything_is_written(
    few: TrainingData, tmp_path: Path
) -> None:
    train_some(tmp_path, CONFIG, few, deadline=0.0)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    with pytest.raises(InputError, match=r"lr 0\.05 became 0\.1"):
        train_some(tmp_path, CONFIG.replace(lr=0.1), few)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before


def test_a_damaged_state_file_is_refused_before_anything_is_written(
    few: TrainingData, tmp_path: Path
) -> None:
    (tmp_path / STATE_FILE).write_bytes(b"junk")
    with pytest.raises(InputError, match="is not a training state"):
        train_some(tmp_path, CONFIG, few)
    save_state(tmp_path / STATE_FILE, {"config": CONFIG.to_dict()})
    with pytest.raises(InputError, match="the saved training is damaged"):
        train_some(tmp_path, CONFIG, few)
    assert [path.name for path in tmp_path.iterdir()] == [STATE_FILE]


def test_a_diverged_training_is_bad_input(few: TrainingData, tmp_path: Path) -> None:
    config = CONFIG.replace(optimizer="sgd", lr=1e6, warmup=0.0)
    with pytest.raises(InputError, match=r"the training loss is .*; lower lr=1000000\.0"):
        train_some(tmp_path, config, few)
    assert not (tmp_path / "best").exists()


def test_steps_are_reported(few: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fmnist.training.loop, "REPORT_EVERY_S", 0.0)
    steps: list[tuple[int, int]] = []
    session = run_session(
        CONFIG.replace(epochs=1),
        few,
        CPU,
        MemoryStore(),
        on_step=lambda report: steps.append((report.epoch, report.step)),
    )
    list(session)
    assert steps == [(1, step) for step in range(1, 11)]
