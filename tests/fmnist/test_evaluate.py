from pathlib import Path

import pytest
import torch

from fmnist.checkpoint import Checkpoint
from fmnist.config import Problem, TrainConfig
from fmnist.data import Source, load_info
from fmnist.errors import InputError
from fmnist.evaluate import classification_metrics, compute_logits, held_out_split
from fmnist.models import build_model

# Three classes; predictions 0 0 1 2 2 2 for labels 0 0 0 1 2 2.
PREDICTED, LABELS = torch.tensor([0, 0, 1, 2, 2, 2]), torch.tensor([0, 0, 0, 1, 2, 2])
LOGITS = 3.0 * torch.nn.functional.one_hot(PREDICTED, 3).float()


def test_metrics_by_hand() -> None:
    metrics = classification_metrics(LOGITS, LABELS)
    assert metrics["accuracy"] == pytest.approx(4 / 6)
    assert metrics["confusion"] == [[2, 1, 0], [0, 0, 1], [0, 0, 2]]
    assert metrics["precision"]["per_class"] == pytest.approx([1, 0, 2 / 3])
    assert metrics["recall"]["per_class"] == pytest.approx([2 / 3, 0, 1])
    assert metrics["f1"]["macro"] == pytest.approx((0.8 + 0 + 0.8) / 3)
    assert metrics["f1"]["weighted"] == pytest.approx((3 * 0.8 + 0 + 2 * 0.8) / 6)
    assert metrics["recall"]["micro"] == metrics["f1"]["micro"] == pytest.approx(metrics["accuracy"])


def test_auroc_is_a_ranking_and_null_for_a_class_that_does_not_occur() -> None:
    logits = torch.tensor([[2.0, 0, 0], [1.0, 0, 0], [0.5, 0, 0], [0.0, 0, 0]])
    metrics = classification_metrics(logits, torch.tensor([0, 1, 0, 1]))
    assert metrics["auroc"]["per_class"][0] == pytest.approx(0.75)
    assert metrics["auroc"]["per_class"][2] is None


def test_evaluation_leaves_the_mode_as_it_was() -> None:
    model = build_model(TrainConfig(model="airnet", widths=(4, 4, 4)), Problem(10)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    compute_logits(model, torch.randint(0, 256, (700, 28, 28), dtype=torch.uint8))
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def checkpoint(data_folder: Path, validation_images: int) -> Checkpoint:
    config = TrainConfig(model="lenet", validation_images=validation_images)
    return Checkpoint(build_model(config, Problem(10)), config, load_info(data_folder), {})


def test_images_trained_on_are_refused(data_folder: Path) -> None:
    with pytest.raises(InputError, match="trained on all"):
        held_out_split(checkpoint(data_folder, 0), "validation", Source(data=str(data_folder)))
    assert len(held_out_split(checkpoint(data_folder, 5000), "validation", Source(data=str(data_folder)))) == 5000
    assert len(held_out_split(checkpoint(data_folder, 0), "test", Source(data=str(data_folder)))) == 10000


def test_another_data_set_is_refused(data_folder: Path, small_data: Path) -> None:
    with pytest.raises(InputError, match="another set"):
        held_out_split(checkpoint(data_folder, 0), "test", Source(data=str(small_data)))
