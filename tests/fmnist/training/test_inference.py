import torch

from fmnist.config import Problem, TrainConfig
from fmnist.models import build_model
from fmnist.training.inference import compute_logits


def test_evaluation_leaves_the_mode_as_it_was() -> None:
    model = build_model(TrainConfig(model="airnet", widths=(4, 4, 4)), Problem(10)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    compute_logits(model, torch.randint(0, 256, (700, 28, 28), dtype=torch.uint8))
    assert model.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(before[name], tensor)
