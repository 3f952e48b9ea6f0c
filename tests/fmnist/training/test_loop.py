"""The training loop: it learns, resumes exactly, and gives the same curve with any number of
workers."""

import gc
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.optim.swa_utils import AveragedModel

import fmnist.training.averaging
import fmnist.training.loop
from fmnist.config import TrainConfig
from fmnist.data.dataset import Split, TrainingData, split_train
from fmnist.errors import InputError
from fmnist.training.augment import Augmentation, ImageTable
from fmnist.training.averaging import decay_at
from fmnist.training.checkpoint import load_state, save_state
from fmnist.training.device import Rank, resolve
from fmnist.training.loop import class_weights, start_training, steps_in_epoch, train_epochs
from fmnist.training.metrics import DivergedError, EpochMetrics, StepReport
from fmnist.training.state import TrainState

CPU = torch.device("cpu")
CUDA = pytest.param(
    torch.device("cuda"),
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU"),
    ],
)
"""There compiling captures steps as CUDA graphs."""
SMALL = TrainConfig(
    model="lenet",
    epochs=3,
    global_batch_size=64,
    lr=0.05,
    erase=0.25,
    cutmix=0.25,
    precision="fp32",
)

pytestmark = pytest.mark.usefixtures("one_thread")

Epochs = list[tuple[EpochMetrics, TrainState]]


@pytest.fixture(scope="module")
def few(train: Split) -> TrainingData:
    """1,000 training images and 500 for validation."""
    config = SMALL.replace(validation_images=500, train_images=1000)
    _, rest, held_out = split_train(config, train)
    return TrainingData(rest, held_out, classes=10)


def run(
    config: TrainConfig, data: TrainingData, device: torch.device = CPU, **arguments: Any
) -> Epochs:
    return list(train_epochs(config, data, Rank(device), **arguments))


def first_epoch(config: TrainConfig, data: TrainingData) -> tuple[EpochMetrics, TrainState]:
    return next(train_epochs(config, data, Rank(CPU)))


def test_overfits_one_batch(train: Split) -> None:
    batch = Split(train.images[:64], train.labels[:64])
    config = SMALL.replace(
        epochs=150, flip=False, shift=0, erase=0.0, cutmix=0.0, label_smoothing=0.0
    )
    *_, (last, _) = run(config, TrainingData(batch, batch, classes=10))

    assert last.train_accuracy == 1.0
    assert last.validation_accuracy == 1.0
    assert last.train_loss < 0.05


def test_metrics_and_progress(few: TrainingData) -> None:
    reports: list[StepReport] = []
    epochs = run(SMALL.replace(model="airnet", widths=(8, 16, 16)), few, on_step=reports.append)

    assert [metrics.epoch for metrics, _ in epochs] == [1, 2, 3]
    first, last = epochs[0][0], epochs[-1][0]
    assert last.train_loss < first.train_loss
    assert last.validation_accuracy is not None
    assert last.validation_accuracy > 0.5
    assert last.images_per_s > 0
    assert all(report.steps_per_epoch == 1000 // 64 for report in reports)


def test_early_epochs_see_a_share_of_the_images_and_the_schedule_goes_by_epochs(
    few: TrainingData,
) -> None:
    config = SMALL.replace(schedule="cosine", warmup=0.0)
    full = 1000 // 64
    early = config.replace(early_epochs=1, early_share=0.3)
    steps = [steps_in_epoch(early, epoch, 1000) for epoch in (1, 2, 3)]
    assert steps == [round(0.3 * full), full, full]
    assert steps_in_epoch(early.replace(early_share=0.001), 1, 1000) == 1

    undisturbed, shortened = run(config, few), run(early, few)
    assert shortened[0][0].train_loss > undisturbed[0][0].train_loss  # it learned less
    for (metrics, _), (other, _) in zip(shortened[1:], undisturbed[1:], strict=True):
        assert metrics.lr == other.lr

    whole_share = run(config.replace(early_epochs=1), few)
    assert whole_share[-1][0].train_loss == undisturbed[-1][0].train_loss


@pytest.mark.parametrize("model", ["lenet", "airnet"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_resumed_is_bit_for_bit_undisturbed(
    model: str, precision: str, few: TrainingData, tmp_path: Path
) -> None:
    config = SMALL.replace(model=model, precision=precision)
    undisturbed = run(config, few)[-1]

    _, state = first_epoch(config, few)
    save_state(tmp_path / "state.pt", state.state_dict())
    torch.rand(100)  # whatever else the process did in between
    resumed = run(config, few, resume=load_state(tmp_path / "state.pt"))

    assert [metrics.epoch for metrics, _ in resumed] == [2, 3]
    assert resumed[-1][0].validation_loss == undisturbed[0].validation_loss
    weights = resumed[-1][1].model.state_dict()
    for name, tensor in undisturbed[1].model.state_dict().items():
        assert torch.equal(tensor, weights[name]), name


def test_the_average_is_what_is_evaluated_and_kept(few: TrainingData) -> None:
    plain, plain_state = run(SMALL, few)[-1]
    averaged, averaged_state = run(SMALL.replace(ema=0.95), few)[-1]

    assert plain.train_loss == averaged.train_loss
    assert plain.validation_loss != averaged.validation_loss
    trained = zip(
        plain_state.trained.parameters(), averaged_state.trained.parameters(), strict=True
    )
    assert all(torch.equal(one, other) for one, other in trained)
    assert averaged_state.model is not averaged_state.trained


def test_the_averages_batch_norm_is_the_average_of_what_the_weights_saw(
    few: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []

    class Watched(AveragedModel):
        def update_parameters(self, model: nn.Module) -> None:
            seen.append(model.network.blocks[0].norm1.running_var.clone())  # pyright: ignore
            super().update_parameters(model)

    monkeypatch.setattr(fmnist.training.averaging, "AveragedModel", Watched)
    config = SMALL.replace(model="airnet", widths=(4, 8, 8), ema=0.9, epochs=1)
    _, state = run(config, few)[-1]

    expected = seen[0]
    for updates, variance in enumerate(seen[1:], start=1):
        decay = decay_at(config.ema, updates)
        expected = decay * expected + (1 - decay) * variance
    average = state.model.network.blocks[0].norm1.running_var  # pyright: ignore
    assert len(seen) == steps_in_epoch(config, 1, 1000)
    assert torch.allclose(cast(Tensor, average), expected, rtol=1e-4)
    assert not torch.allclose(seen[-1], expected, rtol=1e-2)


def test_each_epoch_sees_every_image_once_in_an_order_of_its_own(
    few: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    take = Augmentation.take

    def watched(self: Augmentation, table: ImageTable, index: Tensor) -> Tensor:
        taken.extend(index.tolist())
        return take(self, table, index)

    monkeypatch.setattr(Augmentation, "take", watched)
    run(SMALL.replace(global_batch_size=100), few)

    orders = [taken[:1000], taken[1000:2000], taken[2000:]]
    assert [sorted(order) for order in orders] == 3 * [list(range(1000))]
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_bfloat16_follows_float32(few: TrainingData) -> None:
    short = run(SMALL.replace(precision="bf16", epochs=6), few)
    long = run(SMALL.replace(precision="fp32", epochs=6), few)

    for (ours, _), (theirs, _) in zip(short, long, strict=True):
        assert ours.train_loss == pytest.approx(theirs.train_loss, rel=0.03)
    assert short[-1][0].validation_accuracy == pytest.approx(
        long[-1][0].validation_accuracy, abs=0.03
    )
    assert short[0][0].train_loss != long[0][0].train_loss


@pytest.mark.full
@pytest.mark.parametrize("device", [CPU, CUDA], ids=str)
def test_compiled_steps_are_eager_ones(
    few: TrainingData, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    eager = run(SMALL.replace(epochs=2), few, device=device)
    compiled = run(SMALL.replace(compile=True, epochs=2), few, device=device)

    for (ours, _), (theirs, _) in zip(compiled, eager, strict=True):
        assert ours.train_loss == pytest.approx(theirs.train_loss, rel=1e-4)
    weights = compiled[-1][1].trained.parameters()
    for ours, theirs in zip(weights, eager[-1][1].trained.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-3)


def test_early_stopping_goes_back_to_the_best_epoch(few: TrainingData) -> None:
    # A learning rate that soon overshoots: validation gets worse, not better.
    config = SMALL.replace(
        epochs=30, optimizer="adam", lr=0.01, early_stopping=2, label_smoothing=0.0
    )
    epochs = run(config, few)
    last = epochs[-1][1]
    losses = [metrics.validation_loss for metrics, _ in epochs]
    assert len(losses) < 30
    assert last.epoch == len(losses) == last.kept_epoch + 2
    assert losses[last.kept_epoch - 1] == min(loss for loss in losses if loss is not None)

    held_out = few.validation
    assert held_out is not None
    with torch.inference_mode():
        logits = last.model.eval()(held_out.images.tensor())
        loss = nn.functional.cross_entropy(logits, held_out.labels).item()
    assert loss == pytest.approx(losses[last.kept_epoch - 1], abs=1e-5)


def test_plateau_lowers_the_rate_when_the_loss_no_longer_falls(few: TrainingData) -> None:
    config = SMALL.replace(
        epochs=12,
        optimizer="adam",
        lr=0.01,
        schedule="plateau",
        plateau_epochs=0,
        warmup=0.0,
        lr_factor=0.5,
    )
    rates = [metrics.lr for metrics, _ in run(config, few)]
    assert rates[0] == 0.01
    assert rates[-1] < 0.01
    assert set(rates) <= {0.01 * 0.5**times for times in range(12)}

    # Without validation images the training loss is watched.
    alone = TrainingData(few.train, None, classes=10)
    assert run(config, alone)[0][0].lr == 0.01


def test_class_weights(few: TrainingData) -> None:
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    balanced = class_weights(SMALL.replace(class_weights="balanced"), labels, 3)
    assert balanced is not None
    assert (balanced * torch.tensor([60, 30, 10])).tolist() == pytest.approx([100 / 3] * 3)

    given = class_weights(SMALL.replace(class_weights=(1.0, 1.0, 4.0)), labels, 3)
    assert given is not None
    assert given[labels].mean().item() == pytest.approx(1.0)
    assert (given[2] / given[0]).item() == pytest.approx(4.0)
    assert class_weights(SMALL, labels, 3) is None
    with pytest.raises(InputError, match="2 numbers, but the data has 10 classes"):
        run(SMALL.replace(class_weights=(1.0, 2.0)), few)


def test_a_class_that_counts_a_thousandfold_is_hardly_ever_missed(few: TrainingData) -> None:
    config = SMALL.replace(class_weights=(1000.0, *[1.0] * 9), flip=False, shift=0, erase=0.0)
    model = run(config, few)[-1][1].model.eval()

    held_out = few.validation
    assert held_out is not None
    shirts = held_out.images[held_out.labels == 0]
    with torch.inference_mode():
        assert (model(shirts).argmax(1) == 0).float().mean() > 0.95


def test_resume_refuses_another_config(few: TrainingData) -> None:
    _, state = first_epoch(SMALL, few)
    with pytest.raises(InputError, match=r"lr 0\.05 became 0\.1"):
        run(SMALL.replace(lr=0.1), few, resume=state.state_dict())


def test_divergence_is_an_error_that_says_what_to_do(few: TrainingData) -> None:
    with pytest.raises(DivergedError, match="lower lr"):
        run(SMALL.replace(optimizer="sgd", lr=1e6, warmup=0.0), few)


def test_batches_that_do_not_fit(few: TrainingData) -> None:
    with pytest.raises(InputError, match="global_batch_size=2048"):
        run(SMALL.replace(global_batch_size=2048), few)
    with pytest.raises(InputError, match="multiple of the 3 workers"):
        next(train_epochs(SMALL, few, Rank(CPU, world_size=3)))


def test_auto_precision_is_decided_before_training(few: TrainingData) -> None:
    config = SMALL.replace(precision="auto")
    _, state = first_epoch(config, few)
    assert state.config.precision == resolve(config, CPU).precision != "auto"


NETWORKS = {
    "lenet": SMALL.replace(epochs=2),
    "sync": SMALL.replace(model="airnet", widths=(8, 16, 16), epochs=1, lr=0.01),
    "plain": SMALL.replace(
        model="airnet", widths=(8, 16, 16), epochs=1, lr=0.01, sync_batch_norm=False, seed=1
    ),
}


def step_losses(reports: list[StepReport]) -> list[float]:
    """Loss of each step on this rank's share; a report has the mean since the epoch began."""
    losses: list[float] = []
    before = 0.0
    for report in reports:
        total = report.loss * report.step
        losses.append(total if report.step == 1 else total - before)
        before = total
    return losses


def worker(rank: int, world_size: int, data: TrainingData, folder: Path) -> None:
    """Train every network as one of several ranks, and save what this rank saw."""
    torch.set_num_threads(1)
    address = f"file://{folder}/rendezvous{world_size}"
    dist.init_process_group(
        "gloo", init_method=address, rank=rank, world_size=world_size, timeout=timedelta(seconds=60)
    )
    fmnist.training.loop.REPORT_EVERY_S = 0.0

    curves: dict[str, Any] = {}
    for name, config in NETWORKS.items():
        reports: list[StepReport] = []
        epochs: list[dict[str, Any]] = []
        this = Rank(CPU, rank, world_size)
        for metrics, _ in train_epochs(config, data, this, on_step=reports.append):
            epochs.append(metrics.to_dict())
        curves[name] = {"epochs": epochs, "steps": step_losses(reports)}
    torch.save(curves, folder / f"{world_size}-{rank}.pt")

    # A DDP module that outlives its process group makes gloo abort at the end, now and then.
    gc.collect()
    dist.destroy_process_group()


@pytest.mark.full
def test_world_size_does_not_change_the_curve(few: TrainingData, tmp_path: Path) -> None:
    for world_size in (1, 2, 4):
        spawn(worker, (world_size, few, tmp_path), nprocs=world_size)

    alone = torch.load(tmp_path / "1-0.pt")
    for world_size in (2, 4):
        ranks = [torch.load(tmp_path / f"{world_size}-{rank}.pt") for rank in range(world_size)]
        check_ranks_agree(ranks)
        assert difference(alone, ranks, "lenet", 20) < 1e-5
        # After two steps rounding errors grow, as they do under batch norm.
        assert difference(alone, ranks, "sync", 2) < 1e-4
        # Here each share of a batch is normalised by itself.
        assert difference(alone, ranks, "plain", 2) > 0.005

        last, shared = alone["lenet"]["epochs"][-1], ranks[0]["lenet"]["epochs"][-1]
        assert shared["validation_loss"] == pytest.approx(last["validation_loss"], abs=1e-3)


def check_ranks_agree(ranks: list[dict[str, Any]]) -> None:
    for name in NETWORKS:
        for epochs in zip(*(rank[name]["epochs"] for rank in ranks), strict=True):
            for key in ("train_loss", "validation_loss", "validation_accuracy", "lr"):
                values = {epoch[key] for epoch in epochs}
                assert len(values) == 1, f"ranks disagree on {key}"


def difference(alone: dict[str, Any], ranks: list[dict[str, Any]], name: str, steps: int) -> float:
    """Largest difference between the ranks' mean loss and that of one process, over some steps."""
    shared = torch.tensor([rank[name]["steps"][:steps] for rank in ranks]).mean(0)
    return (shared - torch.tensor(alone[name]["steps"][:steps])).abs().max().item()


@pytest.mark.parametrize(("watch", "kept"), [("loss", 2), ("accuracy", 1)])
def test_the_best_epoch_is_the_one_by_what_is_watched(watch: str, kept: int, train: Split) -> None:
    config = TrainConfig.from_dict(
        {"model": "lenet", "early_stopping": 9, "watch": watch, "global_batch_size": 64}
    )
    batch = Split(train.images[:64], train.labels[:64])
    state = start_training(config, TrainingData(batch, None, classes=10), CPU)
    for loss, accuracy in ((0.5, 0.9), (0.4, 0.8), (0.6, 0.85)):
        state.end_epoch(loss, accuracy)
    assert state.kept_epoch == kept
