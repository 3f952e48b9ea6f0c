from pathlib import Path

import pytest
import torch
from torch import nn

from fmnist.data.images import Images
from fmnist.errors import InputError
from fmnist.evaluation import logits as held
from fmnist.evaluation.logits import answers, class_probabilities, model_logits
from fmnist.training.inference import compute_logits


def model() -> nn.Module:
    """A network of one layer, 12 classes."""
    torch.manual_seed(0)

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(16, 12)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.head(pixels.flatten(1).float())

    return Flat()


def pixels(count: int) -> Images:
    source = torch.Generator().manual_seed(0)
    return Images(torch.randint(0, 256, (count, 4, 4), dtype=torch.uint8, generator=source))


def test_many_logits_lie_in_a_file_and_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, images = model(), pixels(5000)
    expected = compute_logits(network, images)
    assert torch.equal(model_logits(network, images, 12), expected)

    monkeypatch.setattr(held, "HELD_BYTES", 1000)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    opened: list[int] = []
    allocate = held.os.posix_fallocate
    monkeypatch.setattr(
        held.os, "posix_fallocate", lambda *how: (opened.append(how[2]), allocate(*how))
    )
    assert torch.equal(model_logits(network, images, 12), expected)
    assert opened == [4 * 5000 * 12]
    assert not list(tmp_path.iterdir()), "a file with a name would stay"


def test_no_room_for_logits_is_told() -> None:
    """More than any disk here has."""
    with pytest.raises(InputError, match=r"TMPDIR=.*no room for 80,000,000\.0 GB of logits"):
        held.empty_logits(1_000_000_000_000, 20_000)


def test_answers_and_probabilities_do_not_depend_on_the_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logits = compute_logits(model(), pixels(300))
    confidence, predicted = answers(logits)
    assert torch.equal(predicted, logits.argmax(1))
    assert torch.allclose(confidence, logits.double().softmax(1).amax(1), rtol=1e-6)
    chosen = class_probabilities(logits, [3, 1])
    assert torch.allclose(chosen, logits.softmax(1)[:, [3, 1]])

    monkeypatch.setattr(held, "PART_BYTES", 500)
    assert len(list(held.parts(logits))) == 30
    again = answers(logits)
    assert torch.equal(again[0], confidence)
    assert torch.equal(again[1], predicted)
    assert torch.equal(class_probabilities(logits, [3, 1]), chosen)
