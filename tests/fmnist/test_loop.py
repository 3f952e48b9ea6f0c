"""The training loop: it learns, resumes exactly, and does not care how many workers share a batch."""

import gc
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.optim.swa_utils import AveragedModel

import fmnist.loop
import fmnist.optim
from fmnist.checkpoint import load_state, save_state
from fmnist.config import TrainConfig
from fmnist.data import Split, split_train
from fmnist.device import resolve
from fmnist.errors import InputError
from fmnist.loop import (
    DivergedError,
    EpochMetrics,
    StepReport,
    TrainState,
    class_weights,
    start_training,
    steps_of,
    train_epochs,
)
from fmnist.optim import decay_of

CPU = torch.device("cpu")
CUDA = pytest.param(
    torch.device("cuda"), marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU")]
)
"""There compiling captures steps as CUDA graphs."""
SMALL = TrainConfig(model="lenet", epochs=3, global_batch_size=64, lr=0.05, erase=0.25, cutmix=0.25, precision="fp32")


@pytest.fixture(scope="module")
def few(train: Split) -> tuple[Split, Split]:
    _, rest, held_out = split_train(SMALL.replace(validation_images=500, train_images=1000), train)
    assert held_out is not None
    return rest, held_out


def run(
    config: TrainConfig, few: tuple[Split, Split], device: torch.device = CPU, **arguments: Any
) -> list[tuple[EpochMetrics, TrainState]]:
    return list(train_epochs(config, *few, classes=10, device=device, **arguments))


def test_overfits_one_batch(train: Split) -> None:
    batch = Split(train.images[:64], train.labels[:64])
    config = SMALL.replace(epochs=150, flip=False, shift=0, erase=0.0, cutmix=0.0, label_smoothing=0.0)
    *_, (last, _) = train_epochs(config, batch, batch, classes=10, device=CPU)
    assert last.train_accuracy == 1.0
    assert last.validation_accuracy == 1.0
    assert last.train_loss < 0.05


def test_metrics_and_progress(few: tuple[Split, Split]) -> None:
    reports: list[StepReport] = []
    epochs = run(SMALL.replace(model="airnet", widths=(8, 16, 16)), few, on_step=reports.append)
    assert [metrics.epoch for metrics, _ in epochs] == [1, 2, 3]
    first, last = epochs[0][0], epochs[-1][0]
    assert last.train_loss < first.train_loss
    assert last.validation_accuracy is not None
    assert last.validation_accuracy > 0.5
    assert last.images_per_s > 0
    assert all(report.steps_per_epoch == 1000 // 64 for report in reports)


def test_early_epochs_see_a_share_of_the_images_and_the_schedule_goes_by_epochs(few: tuple[Split, Split]) -> None:
    config = SMALL.replace(schedule="cosine", warmup=0.0)
    full = 1000 // 64
    early = config.replace(early_epochs=1, early_share=0.3)
    assert [steps_of(early, epoch, 1000) for epoch in (1, 2, 3)] == [round(0.3 * full), full, full]
    assert steps_of(early.replace(early_share=0.001), 1, 1000) == 1
    undisturbed, shortened = run(config, few), run(early, few)
    assert shortened[0][0].train_loss > undisturbed[0][0].train_loss  # it learned less
    assert [metrics.lr for metrics, _ in shortened[1:]] == [metrics.lr for metrics, _ in undisturbed[1:]]
    assert run(config.replace(early_epochs=1), few)[-1][0].train_loss == undisturbed[-1][0].train_loss  # a share of 1 is all


@pytest.mark.parametrize("model", ["lenet", "airnet"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_resumed_is_bit_for_bit_undisturbed(model: str, precision: str, few: tuple[Split, Split], tmp_path: Path) -> None:
    config = SMALL.replace(model=model, precision=precision)
    undisturbed = run(config, few)[-1]
    interrupted = train_epochs(config, *few, classes=10, device=CPU)
    _, state = next(interrupted)
    save_state(tmp_path / "state.pt", state.state_dict())
    del interrupted
    torch.rand(100)  # whatever else the process did in between
    resumed = run(config, few, resume=load_state(tmp_path / "state.pt"))
    assert [metrics.epoch for metrics, _ in resumed] == [2, 3]
    assert resumed[-1][0].validation_loss == undisturbed[0].validation_loss
    for name, tensor in undisturbed[1].model.state_dict().items():
        assert torch.equal(tensor, resumed[-1][1].model.state_dict()[name]), name


def test_the_average_is_what_is_evaluated_and_kept(few: tuple[Split, Split]) -> None:
    plain, averaged = (run(SMALL.replace(ema=ema), few)[-1] for ema in (0.0, 0.95))
    assert plain[0].train_loss == averaged[0].train_loss
    assert plain[0].validation_loss != averaged[0].validation_loss
    assert all(torch.equal(a, b) for a, b in zip(plain[1].trained.parameters(), averaged[1].trained.parameters(), strict=True))
    assert averaged[1].model is not averaged[1].trained


def test_the_averages_batch_norm_is_the_average_of_what_the_weights_saw(
    few: tuple[Split, Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []

    class Watched(AveragedModel):
        def update_parameters(self, model: nn.Module) -> None:
            seen.append(model.network.blocks[0].norm1.running_var.clone())  # pyright: ignore
            super().update_parameters(model)

    monkeypatch.setattr(fmnist.optim, "AveragedModel", Watched)
    config = SMALL.replace(model="airnet", widths=(4, 8, 8), ema=0.9, epochs=1)
    _, state = run(config, few)[-1]
    expected = seen[0]
    for updates, variance in enumerate(seen[1:], start=1):
        decay = decay_of(config.ema, updates)
        expected = decay * expected + (1 - decay) * variance
    found = state.model.network.blocks[0].norm1.running_var  # pyright: ignore
    assert len(seen) == steps_of(config, 1, 1000)
    assert torch.allclose(cast(Tensor, found), expected, rtol=1e-4)
    assert not torch.allclose(seen[-1], expected, rtol=1e-2)


def test_each_epoch_sees_every_image_once_in_an_order_of_its_own(few: tuple[Split, Split], monkeypatch: pytest.MonkeyPatch) -> None:
    orders: list[list[int]] = []
    prepared = fmnist.loop._prepared  # pyright: ignore[reportPrivateUsage]

    def watched(table: Any, labels: Tensor, augmentation: Any, batches: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        orders.append(batches.flatten().tolist())
        return prepared(table, labels, augmentation, batches)

    monkeypatch.setattr(fmnist.loop, "_prepared", watched)
    run(SMALL.replace(global_batch_size=100), few)
    assert [sorted(order) for order in orders] == 3 * [list(range(1000))]
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_bfloat16_follows_float32(few: tuple[Split, Split]) -> None:
    short, long = (run(SMALL.replace(precision=precision, epochs=6), few) for precision in ("bf16", "fp32"))
    for (ours, _), (theirs, _) in zip(short, long, strict=True):
        assert ours.train_loss == pytest.approx(theirs.train_loss, rel=0.03)
    assert short[-1][0].validation_accuracy == pytest.approx(long[-1][0].validation_accuracy, abs=0.03)
    assert short[0][0].train_loss != long[0][0].train_loss


@pytest.mark.full
@pytest.mark.parametrize("device", [CPU, CUDA], ids=str)
def test_compiled_steps_are_eager_ones(few: tuple[Split, Split], device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    eager, compiled = (run(SMALL.replace(compile=compiled, epochs=2), few, device=device) for compiled in (False, True))
    for (ours, _), (theirs, _) in zip(compiled, eager, strict=True):
        assert ours.train_loss == pytest.approx(theirs.train_loss, rel=1e-4)
    for mine, other in zip(compiled[-1][1].trained.parameters(), eager[-1][1].trained.parameters(), strict=True):
        assert torch.allclose(mine, other, atol=1e-3)


def test_early_stopping_goes_back_to_the_best_epoch(few: tuple[Split, Split]) -> None:
    # A learning rate that soon overshoots: validation gets worse, not better.
    config = SMALL.replace(epochs=30, optimizer="adam", lr=0.01, early_stopping=2, label_smoothing=0.0)
    epochs = run(config, few)
    last = epochs[-1][1]
    losses = [metrics.validation_loss for metrics, _ in epochs]
    assert len(losses) < 30
    assert last.epoch == len(losses) == last.kept_epoch + 2
    assert losses[last.kept_epoch - 1] == min(loss for loss in losses if loss is not None)
    held_out = few[1]
    with torch.inference_mode():
        loss = torch.nn.functional.cross_entropy(last.model.eval()(held_out.images), held_out.labels).item()
    assert loss == pytest.approx(losses[last.kept_epoch - 1], abs=1e-5)


def test_plateau_lowers_the_rate_when_the_loss_no_longer_falls(few: tuple[Split, Split]) -> None:
    config = SMALL.replace(epochs=12, optimizer="adam", lr=0.01, schedule="plateau", plateau_epochs=0, warmup=0.0, lr_factor=0.5)
    rates = [metrics.lr for metrics, _ in run(config, few)]
    assert rates[0] == 0.01
    assert rates[-1] < 0.01
    assert set(rates) <= {0.01 * 0.5**times for times in range(12)}
    alone = [metrics.lr for metrics, _ in train_epochs(config, few[0], None, classes=10, device=CPU)]
    assert alone[0] == 0.01  # without validation images the training loss is watched


def test_class_weights(few: tuple[Split, Split]) -> None:
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
    # A class that counts a thousandfold is hardly ever missed.
    heavy = run(SMALL.replace(class_weights=(1000.0, *[1.0] * 9), flip=False, shift=0, erase=0.0), few)[-1][1].model.eval()
    shirts = few[1].images[few[1].labels == 0]
    with torch.inference_mode():
        assert (heavy(shirts).argmax(1) == 0).float().mean() > 0.95


def test_resume_refuses_another_config(few: tuple[Split, Split]) -> None:
    _, state = next(train_epochs(SMALL, *few, classes=10, device=CPU))
    with pytest.raises(InputError, match=r"lr 0\.05 became 0\.1"):
        run(SMALL.replace(lr=0.1), few, resume=state.state_dict())


def test_divergence_is_an_error_that_says_what_to_do(few: tuple[Split, Split]) -> None:
    with pytest.raises(DivergedError, match="lower lr"):
        run(SMALL.replace(optimizer="sgd", lr=1e6, warmup=0.0), few)


def test_batches_that_do_not_fit(few: tuple[Split, Split]) -> None:
    with pytest.raises(InputError, match="global_batch_size=2048"):
        run(SMALL.replace(global_batch_size=2048), few)
    with pytest.raises(InputError, match="multiple of the 3 workers"):
        run(SMALL, few, world_size=3)


def test_auto_precision_is_decided_before_training(few: tuple[Split, Split]) -> None:
    _, state = next(train_epochs(SMALL.replace(precision="auto"), *few, classes=10, device=CPU))
    assert state.config.precision == resolve(SMALL.replace(precision="auto"), CPU).precision != "auto"


NETWORKS = {
    "lenet": SMALL.replace(epochs=2),
    "sync": SMALL.replace(model="airnet", widths=(8, 16, 16), epochs=1, lr=0.01),
    "plain": SMALL.replace(model="airnet", widths=(8, 16, 16), epochs=1, lr=0.01, sync_batch_norm=False, seed=1),
}


def losses(reports: list[StepReport]) -> list[float]:
    """Of each step, of this rank's share; a report has the mean since the epoch began."""
    sums = [report.loss * report.step for report in reports]
    return [total - (before if report.step > 1 else 0) for report, total, before in zip(reports, sums, [0, *sums], strict=False)]


def worker(rank: int, world_size: int, few: tuple[Split, Split], folder: Path) -> None:
    torch.set_num_threads(1)
    address = f"file://{folder}/rendezvous{world_size}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=world_size, timeout=timedelta(seconds=60))
    fmnist.loop.REPORT_EVERY_S = 0.0
    found: dict[str, Any] = {}
    for name, config in NETWORKS.items():
        reports: list[StepReport] = []
        epochs = [
            metrics.to_dict()
            for metrics, _ in train_epochs(
                config,
                *few,
                classes=10,
                device=CPU,
                rank=rank,
                world_size=world_size,
                on_step=reports.append,
            )
        ]
        found[name] = {"epochs": epochs, "steps": losses(reports)}
    torch.save(found, folder / f"{world_size}-{rank}.pt")
    gc.collect()  # a DDP module that outlives its process group makes gloo abort at the end, now and then
    dist.destroy_process_group()


@pytest.mark.full
def test_world_size_does_not_change_the_curve(few: tuple[Split, Split], tmp_path: Path) -> None:
    for world_size in (1, 2, 4):
        spawn(worker, (world_size, few, tmp_path), nprocs=world_size)
    alone = torch.load(tmp_path / "1-0.pt")
    for world_size in (2, 4):
        ranks = [torch.load(tmp_path / f"{world_size}-{rank}.pt") for rank in range(world_size)]
        for name in NETWORKS:
            for epochs in zip(*(rank[name]["epochs"] for rank in ranks), strict=True):
                for key in ("train_loss", "validation_loss", "validation_accuracy", "lr"):
                    assert len({epoch[key] for epoch in epochs}) == 1, f"ranks disagree on {key}"

        def difference(name: str, steps: int, ranks: list[dict[str, Any]] = ranks) -> float:
            shared = torch.tensor([rank[name]["steps"][:steps] for rank in ranks]).mean(0)
            return (shared - torch.tensor(alone[name]["steps"][:steps])).abs().max().item()

        assert difference("lenet", 20) < 1e-5
        assert difference("sync", 2) < 1e-4  # then rounding errors grow, as they do under batch norm
        assert difference("plain", 2) > 0.005  # each share of a batch normalised by itself
        last, its = alone["lenet"]["epochs"][-1], ranks[0]["lenet"]["epochs"][-1]
        assert its["validation_loss"] == pytest.approx(last["validation_loss"], abs=1e-3)


@pytest.mark.parametrize(("watch", "kept"), [("loss", 2), ("accuracy", 1)])
def test_the_best_epoch_is_the_one_by_what_is_watched(watch: str, kept: int, train: Split) -> None:
    config = TrainConfig.from_dict({"model": "lenet", "early_stopping": 9, "watch": watch, "global_batch_size": 64})
    state = start_training(config, Split(train.images[:64], train.labels[:64]), 10, torch.device("cpu"))
    for loss, accuracy in ((0.5, 0.9), (0.4, 0.8), (0.6, 0.85)):
        state.end_epoch(loss, accuracy)
    assert state.kept_epoch == kept
