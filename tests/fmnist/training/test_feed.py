"""Images kept whole or read as needed: the same training, bit for bit."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fmnist.config import TrainConfig
from fmnist.data import images as images_module
from fmnist.data.dataset import Split, TrainingData
from fmnist.data.idx import write_idx
from fmnist.data.images import Images, PixelFile
from fmnist.training import feed as feed_module
from fmnist.training import loop as loop_module
from fmnist.training.augment import Augmentation
from fmnist.training.device import Rank
from fmnist.training.feed import Feed, Resident, Streamed, make_feed, where_held
from fmnist.training.loop import train_epochs

CPU = torch.device("cpu")
EVERYTHING = TrainConfig(
    widths=(4, 8, 8),
    epochs=2,
    global_batch_size=64,
    precision="fp32",
    flip=True,
    shift=3,
    rotate=10.0,
    scale=0.1,
    erase=0.5,
    erase_fill="noise",
    cutmix=0.5,
    threads=1,
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Steps this small take longer on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def few(train: Split) -> TrainingData:
    return TrainingData(train.take(slice(500)), train.take(slice(500, 600)), 10)


@pytest.fixture
def filed(few: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingData:
    """The same images in one file, of which training and validation are rows in another order.

    They are read by calls, as those of a large set are, and streamed.
    """
    monkeypatch.setattr(feed_module, "SMALL_SET", 1000)
    monkeypatch.setattr(images_module, "LARGEST_MAPPED", 1000)
    assert few.validation is not None
    both = torch.cat((few.validation.images.tensor(), few.train.images.tensor()))
    write_idx(tmp_path / "images", both.numpy())
    images = Images(PixelFile(tmp_path / "images"))
    return TrainingData(
        Split(images.take(slice(100, None)), few.train.labels),
        Split(images.take(slice(100)), few.validation.labels),
        10,
    )


def trained(config: TrainConfig, data: TrainingData) -> tuple[list[float], dict[str, Tensor]]:
    """Losses of all epochs, and the weights at the end."""
    losses: list[float] = []
    weights: dict[str, Tensor] = {}
    for metrics, state in train_epochs(config, data, Rank(CPU)):
        assert metrics.validation_loss is not None
        losses += [metrics.train_loss, metrics.validation_loss]
        weights = state.model.state_dict()
    return losses, weights


def assert_same_training(
    first: tuple[list[float], dict[str, Tensor]], second: tuple[list[float], dict[str, Tensor]]
) -> None:
    assert first[0] == second[0]
    for name, weight in first[1].items():
        assert torch.equal(weight, second[1][name]), name


def test_training_from_a_file_is_bit_for_bit_training_from_memory(
    few: TrainingData, filed: TrainingData
) -> None:
    assert isinstance(make_feed(filed.train.images, 3, CPU), Streamed)
    assert_same_training(trained(EVERYTHING, few), trained(EVERYTHING, filed))


def test_training_on_images_kept_whole_is_bit_for_bit_training_on_a_stream(
    few: TrainingData, filed: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    streamed = trained(EVERYTHING, filed)

    def keep_whole(images: Images, margin: int, device: torch.device) -> Feed:
        return Resident(images, margin, device)

    monkeypatch.setattr(loop_module, "make_feed", keep_whole)
    assert_same_training(streamed, trained(EVERYTHING, few))


def test_parts_of_any_size_give_the_same_training(
    filed: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(EVERYTHING, filed)
    monkeypatch.setattr(loop_module, "PREPARED_BYTES", 784)
    assert_same_training(whole, trained(EVERYTHING, filed))


def test_a_cpu_keeps_a_small_set_alone(few: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(make_feed(few.train.images, 3, CPU), Resident)
    monkeypatch.setattr(feed_module, "SMALL_SET", few.train.images.nbytes - 1)
    assert isinstance(make_feed(few.train.images, 3, CPU), Streamed)


def test_a_stream_reads_each_image_of_a_part_once(filed: TrainingData) -> None:
    """With CutMix, half of a part's images are there already."""
    images = CountingImages(filed.train.images)
    statistics = (torch.full((1, 1, 1), 73.0), torch.full((1, 1, 1), 90.0))
    drawn = Augmentation.draw(EVERYTHING, 1, 500, (28, 28), statistics, CPU)
    parts = list(torch.randperm(500).split(128))
    batches = list(Streamed(images, 3, CPU).augmented(drawn, parts))

    assert [len(batch) for batch in batches] == [128, 128, 128, 116]
    for index, numbers in zip(parts, images.asked, strict=True):
        assert len(numbers) == len(set(numbers))
        assert set(index.tolist()) <= set(numbers)


class CountingImages(Images):
    """Images that remember what was asked of them."""

    def __init__(self, images: Images) -> None:
        super().__init__(images.source, images.rows)
        self.asked: list[list[int]] = []

    def __getitem__(self, chosen: images_module.Rows) -> Tensor:
        assert isinstance(chosen, Tensor)
        self.asked.append(chosen.tolist())
        return super().__getitem__(chosen)


def test_the_plan_says_how_many_bytes_lie_where(few: TrainingData, filed: TrainingData) -> None:
    assert where_held(few.train.images, CPU) == "392.0 kB of pixels in memory"
    source = filed.train.images.source
    assert isinstance(source, PixelFile)
    expected = f"392.0 kB of pixels read as needed from {source.path.parent}"
    assert where_held(filed.train.images, CPU) == expected
