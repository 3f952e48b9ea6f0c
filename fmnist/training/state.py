"""The state of a training after an epoch: what is saved, resumed from, and evaluated."""

from dataclasses import dataclass, field
from typing import Any, cast

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from fmnist.config import TrainConfig
from fmnist.errors import InputError, check, first_line
from fmnist.models import Classifier
from fmnist.training.schedules import improves

AVERAGED_PREFIX = "module."
"""How AveragedModel names the weights it averages."""


@dataclass(slots=True)
class TrainState:
    """Everything that changes while a network trains."""

    config: TrainConfig
    """As trained: what was `auto` is resolved."""
    trained: Classifier
    """The weights that the optimisers step."""
    optimizers: list[Optimizer]
    average: AveragedModel | None
    """The moving average of the weights, if the config asks for one."""
    epoch: int = 0
    """Epochs done."""
    losses: list[float] = field(default_factory=list)
    """The watched quantity after each epoch, lower is better: the loss, or 1 - accuracy if the
    config watches accuracy. Of the validation images, or else of the training images."""
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    """Weights of the best epoch, on the CPU; kept for early stopping alone."""

    @property
    def model(self) -> Classifier:
        """The model to evaluate and export: the averaged weights, or else those trained."""
        if self.average is None:
            return self.trained
        return cast(Classifier, self.average.module)

    @property
    def best_epoch(self) -> int:
        """The last epoch that improved on all before it."""
        best = 0
        for epoch, loss in enumerate(self.losses, start=1):
            if best == 0 or improves(loss, self.losses[best - 1]):
                best = epoch
        return best

    @property
    def kept_epoch(self) -> int:
        """The epoch whose weights the training ends with."""
        return self.best_epoch if self.config.early_stopping else self.epoch

    @property
    def finished(self) -> bool:
        waited = self.epoch - self.best_epoch
        out_of_patience = 0 < self.config.early_stopping <= waited
        return self.epoch >= self.config.epochs or out_of_patience

    def state_dict(self) -> dict[str, Any]:
        """State that `train_epochs(resume=…)` goes on from.

        Random numbers are keyed by (seed, epoch), so none are saved.
        """
        average = None
        if self.average is not None:
            average = self.average.state_dict()

        return {
            "config": self.config.to_dict(),
            "model": self.trained.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "average": average,
            "epoch": self.epoch,
            "losses": self.losses,
            "best_weights": self.best_weights,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state.

        Raises:
            InputError: the state is that of another config, or damaged.
        """
        check_same_config(self.config, state)
        try:
            self.trained.load_state_dict(state["model"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            if self.average is not None:
                self.average.load_state_dict(state["average"])

            self.epoch = state["epoch"]
            self.losses = state["losses"]
            self.best_weights = state["best_weights"]
        except Exception as error:  # a damaged state may lack, or hold, anything
            raise damaged_state(error) from error

    def end_epoch(self, loss: float, accuracy: float) -> None:
        """Count an epoch; after the last one, take up the weights of the epoch that is kept.

        Args:
            loss, accuracy: of the images that are watched.
        """
        self.epoch += 1
        self.losses.append(loss if self.config.watch == "loss" else 1 - accuracy)
        if not self.config.early_stopping:
            return

        # A copy, since the next epoch trains the same tensors.
        if self.best_epoch == self.epoch:
            weights = self.model.state_dict()
            self.best_weights = {name: value.cpu().clone() for name, value in weights.items()}
        elif self.finished:
            self.model.load_state_dict(self.best_weights)


def check_same_config(config: TrainConfig, state: dict[str, Any]) -> None:
    """Raise InputError unless a saved state is of a training of `config`."""
    try:
        saved = TrainConfig.from_dict(state["config"]).to_dict()
    except InputError:
        raise
    except Exception as error:  # a damaged state may lack, or hold, anything
        raise damaged_state(error) from error

    # As TrainConfig fills them in: a field that an older version lacked has its default.
    changes: list[str] = []
    for name, value in config.to_dict().items():
        if saved[name] != value:
            changes.append(f"{name} {saved[name]!r} became {value!r}")
    check(
        not changes,
        f"resume: the saved training has another config ({'; '.join(changes)}); "
        "start a new run for it",
    )


def damaged_state(error: Exception) -> InputError:
    """The error of a saved state that cannot be read."""
    reason = first_line(error)
    return InputError(f"resume: the saved training is damaged ({reason}); start a new run")


def final_weights(state: dict[str, Any]) -> dict[str, Tensor]:
    """Weights of the model of a finished training's `state_dict()`.

    Builds no optimisers, whose import takes seconds.
    """
    if state["average"] is None:
        return state["model"]

    # Beside the weights an AveragedModel has the number of its updates.
    weights: dict[str, Tensor] = {}
    for name, value in state["average"].items():
        if name.startswith(AVERAGED_PREFIX):
            weights[name.removeprefix(AVERAGED_PREFIX)] = value
    return weights
