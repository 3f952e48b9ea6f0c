import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmnist.config import TrainConfig
from fmnist.training.loop import class_weights
from fmnist.training.loss import smoothed_cross_entropy

CLASSES = 4
SMOOTHING = 0.2


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits (9, CLASSES) and labels (9,)."""
    source = torch.Generator().manual_seed(seed)
    logits = torch.randn(9, CLASSES, generator=source)
    return logits, torch.randint(0, CLASSES, (9,), generator=source)


def mixed_targets(labels: Tensor) -> Tensor:
    """Shares as CutMix makes them: each image's class, and a third of its neighbour's."""
    shares = F.one_hot(labels, CLASSES).float()
    return (2 * shares + shares.roll(1, 0)) / 3


@pytest.mark.parametrize("smoothing", [0.0, SMOOTHING])
@pytest.mark.parametrize("mixed", [False, True])
def test_without_weights_it_is_pytorchs_to_the_bit(smoothing: float, mixed: bool) -> None:
    logits, labels = batch()
    target = mixed_targets(labels) if mixed else labels
    pytorchs = nn.CrossEntropyLoss(reduction="sum", label_smoothing=smoothing)

    inputs = [logits.clone().requires_grad_(), logits.clone().requires_grad_()]
    losses = [
        pytorchs(inputs[0], target),
        smoothed_cross_entropy(inputs[1], target, None, smoothing),
    ]
    for loss in losses:
        loss.backward()
    assert losses[0].item() == losses[1].item()
    assert inputs[0].grad is not None
    assert inputs[1].grad is not None
    assert torch.equal(inputs[0].grad, inputs[1].grad)


def test_each_image_counts_as_much_as_its_own_class_weighs() -> None:
    logits, labels = batch()
    weights = torch.tensor([0.5, 1.0, 2.0, 8.0])
    single = F.cross_entropy(logits, labels, reduction="none", label_smoothing=SMOOTHING)
    expected = (weights[labels] * single).sum()
    loss = smoothed_cross_entropy(logits, labels, weights, SMOOTHING)
    assert loss.item() == pytest.approx(expected.item())

    # One-hot shares are labels; and the loss of a mixture is the mixture of the losses.
    shares = F.one_hot(labels, CLASSES).float()
    same = smoothed_cross_entropy(logits, shares, weights, SMOOTHING)
    assert same.item() == pytest.approx(expected.item())
    other = smoothed_cross_entropy(logits, labels.roll(1), weights, SMOOTHING)
    mixture = smoothed_cross_entropy(logits, mixed_targets(labels), weights, SMOOTHING)
    assert mixture.item() == pytest.approx((2 * loss + other).item() / 3)


def test_two_classes_of_40_to_1_are_both_learned() -> None:
    """Balanced weights and smoothing together: PyTorch's own loss gives every image to the rare
    class, which is right for one image in 41."""
    labels = torch.tensor([0] * 200 + [1] * 5)
    features = F.one_hot(labels, 2).float()
    weights = class_weights(TrainConfig(class_weights="balanced"), labels, 2)
    assert weights is not None

    def accuracy(smoothing: float) -> float:
        torch.manual_seed(0)
        layer = nn.Linear(2, 2)
        optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
        for _ in range(200):
            optimizer.zero_grad()
            loss = smoothed_cross_entropy(layer(features), labels, weights, smoothing)
            (loss / len(labels)).backward()
            optimizer.step()
        return (layer(features).argmax(1) == labels).double().mean().item()

    assert accuracy(0.0) == 1
    assert accuracy(SMOOTHING) == 1
