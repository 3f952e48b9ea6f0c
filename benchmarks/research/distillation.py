"""Training by what a larger network, the teacher, answers."""

import hashlib
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

import fmnist.training.loop
from fmnist.config import TrainConfig
from fmnist.data.dataset import TrainingData
from fmnist.models import Classifier
from fmnist.runs.run_folder import RUNS
from fmnist.training.checkpoint import load_state, save_state
from fmnist.training.device import Rank
from fmnist.training.loop import start_training, train_epochs
from fmnist.training.state import TrainState

TEACHERS = RUNS / "ablation"
SHARE, TEMPERATURE = 0.75, 2.0


class Distillation:
    """Three quarters of the loss are the divergence from what a teacher answers on the same
    augmented images (Hinton et al., 2015; the patience of Beyer et al., 2022).

    The teacher is trained once and kept in `TEACHERS`; its own training is no part of the cost.
    The reported training loss is the other quarter's alone: the teacher acts on the gradient.

    Args:
        config: the teacher's.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.teacher: Classifier | None = None

    def __call__(self) -> AbstractContextManager[Any]:
        return patch.object(fmnist.training.loop, "start_training", self.start)

    def start(self, config: TrainConfig, data: TrainingData, device: torch.device) -> TrainState:
        """Start a student's training."""
        if self.teacher is None:
            with patch.object(fmnist.training.loop, "start_training", start_training):
                self.teacher = self._trained_teacher(data, device)

        state = start_training(config, data, device)
        # A compiled student leaves its graph for the hook.
        hook: Any = torch.compiler.disable(self._teach)
        state.trained.register_forward_hook(hook)
        return state

    def _trained_teacher(self, data: TrainingData, device: torch.device) -> Classifier:
        """The teacher, trained on the same images as the student; goes on where it stopped."""
        state = start_training(self.config, data, device)
        key = f"{len(data.train)} {state.config.to_dict()}"
        path = TEACHERS / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.pt"
        if path.exists():
            state.load_state_dict(load_state(path))

        # The teacher is not selected by the validation images.
        own = TrainingData(data.train, None, data.classes)
        known = state.state_dict()
        for _, trained in train_epochs(state.config, own, Rank(device), resume=known):
            save_state(path, trained.state_dict())
            state = trained

        return state.model.eval()

    def _teach(self, student: nn.Module, inputs: tuple[Tensor, ...], logits: Tensor) -> Tensor:
        """Bend the gradient at the student's logits (B, classes) towards the teacher's."""
        if not student.training:
            return logits
        assert self.teacher is not None
        with torch.no_grad():
            taught = self.teacher(inputs[0]).float()

        logits = logits.float()
        own, target = (logits.detach() / TEMPERATURE).softmax(1), (taught / TEMPERATURE).softmax(1)
        # The gradient of T² KL(teacher, student), whose mean over the batch is the loss.
        divergence = TEMPERATURE * (own - target) / len(logits)
        logits.register_hook(lambda gradient: SHARE * divergence + (1 - SHARE) * gradient)

        return logits
