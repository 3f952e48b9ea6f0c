import pytest
import torch
from torch import Tensor

from fmnist.errors import InputError
from fmnist.evaluation.ensemble import combine


def members(*rows: list[float]) -> list[Tensor]:
    """Logits of members that give one image these probabilities."""
    return [torch.tensor([row]).log() for row in rows]


def test_ensemble_by_average_and_by_vote() -> None:
    """Two members narrowly prefer class 1, one is nearly certain of class 0: mean and majority
    differ."""
    three = members([0.45, 0.5, 0.05], [0.45, 0.5, 0.05], [0.9, 0.05, 0.05])
    average = combine(three, "average").softmax(1)
    assert average[0].tolist() == pytest.approx([0.6, 0.35, 0.05])

    # Shares of votes 1, 2 and 0, plus half a vote divided by the mean of the probabilities.
    vote = combine(three, "vote").softmax(1)
    assert vote[0].tolist() == pytest.approx([(1 + 0.3) / 3.5, (2 + 0.175) / 3.5, 0.025 / 3.5])

    alone = combine(three[:1], "average").softmax(1)
    assert torch.allclose(alone, three[0].softmax(1))
    with pytest.raises(InputError, match="median"):
        combine(three, "median")


def test_a_tied_vote_goes_to_the_larger_sum() -> None:
    three = members([0.5, 0.3, 0.2], [0.1, 0.3, 0.6], [0.1, 0.6, 0.3])
    assert combine(three, "vote").argmax(1).item() == 1  # The sums are .7, 1.2 and 1.1.
    assert combine(three[:2], "vote").argmax(1).item() == 2  # The sums are .6, .6 and .8.


def test_an_ensemble_that_excludes_a_class_has_a_finite_loss() -> None:
    certain = torch.tensor([[200.0, 0.0]])
    for how in ("average", "vote"):
        assert torch.isfinite(combine([certain, certain], how)).all()
