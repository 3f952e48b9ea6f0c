"""TrainConfig: every number that shapes a training run, and nothing else.

It travels unchanged from the command line through the search space, the training loop and the checkpoint into the
metadata of the ONNX file.
"""

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from fmnist.errors import check, check_fields, check_known, one_of

Precision = Literal["auto", "fp32", "bf16"]

LARGEST = 2**16
"""Channels, classes, or pixels on a side."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What a network must fit: the images that come in, and the classes that go out."""

    classes: int
    channels: int = 1
    """1 for gray images, (B, H, W); 3 for colour, (B, 3, H, W)."""
    size: int = 28
    """Height and width in pixels."""

    def __post_init__(self) -> None:
        check(2 <= self.classes <= LARGEST, f"classes={self.classes}: 2 to {LARGEST:,}")
        check(self.channels in (1, 3), f"channels={self.channels}: 1 (gray) or 3 (colour)")
        check(1 <= self.size <= LARGEST, f"size={self.size}: 1 to {LARGEST:,} pixels")

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Of one image's pixels: (H, W), or (3, H, W)."""
        return (self.size, self.size) if self.channels == 1 else (self.channels, self.size, self.size)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One training run.

    Raises:
        InputError: a value is out of range; the message names the field, the value and what is allowed.
    """

    model: str = "airnet"
    """Network: python -m fmnist.train --list-models shows them."""
    widths: tuple[int, ...] = ()
    """Channels of each stage, as many as the network has stages; empty means the network's own."""
    dropout: float | None = None
    """Probability that a unit is dropped, in networks that have dropout; by default the network's own."""
    init: str = "pytorch"
    """Initial weights: pytorch (its own defaults), xavier, he or normal."""
    weights: str = ""
    """File of weights to begin from (.safetensors or .pt), or imagenet; a last layer of other classes starts afresh."""
    normalisation: Literal["standard", "unit", "mnist"] = "standard"
    """Of the pixels: standard (mean 0 and deviation 1 over the training images), unit (0 to 1), or mnist (MNIST's mean and
    deviation)."""
    epochs: int = 10
    """Passes over the training images."""
    global_batch_size: int = 512
    """Images per optimiser step, over all workers together. The last, incomplete batch of an epoch is left out."""
    optimizer: str = "nesterov"
    """sgd (no momentum), momentum, nesterov, adam, adamw or muon (orthogonalised kernels, the rest by adamw)."""
    lr: float = 0.3
    """Peak learning rate. Usual: 0.05 to 0.5 for sgd, momentum and nesterov at batch 512; 0.0005 to 0.01 for adam, adamw, muon."""
    momentum: float = 0.9
    """Momentum of momentum, nesterov and muon; the others do not read it."""
    weight_decay: float = 5e-4
    """L2 penalty on weight matrices and kernels (decoupled in adamw and muon); biases and batch norm have none."""
    schedule: str = "onecycle"
    """After the warm-up: constant, step, cosine (to 0), onecycle (a straight line to 0) or plateau."""
    warmup: float = 0.1
    """Share of all steps over which the learning rate rises from 0 to its peak."""
    lr_factor: float = 0.1
    """What step and plateau multiply the learning rate by."""
    step_epochs: int = 10
    """Epochs after each of which step lowers the learning rate."""
    plateau_epochs: int = 3
    """Epochs in a row without a better loss that plateau bears; one more lowers the learning rate."""
    early_stopping: int = 0
    """Stop after this many epochs in a row without a better validation loss, and keep the best epoch's weights; 0 never stops."""
    watch: Literal["loss", "accuracy"] = "loss"
    """What plateau and early stopping watch on the validation images."""
    ema: float = 0.0
    """Decay per step of the moving average of the weights that is evaluated and exported; 0 takes the last weights. Usual: 0.99
    to 0.999, the larger the longer the run."""
    label_smoothing: float = 0.1
    """Probability mass spread over all classes."""
    class_weights: Literal["equal", "balanced"] | tuple[float, ...] = "equal"
    """Of each class in the loss: equal, balanced (by the inverse of its share of the training images), or one number each."""
    flip: bool = True
    """Mirror half of the training images left to right, and in the next epoch the other half."""
    shift: int = 2
    """Move each training image by up to this many pixels in each direction; the border is background."""
    rotate: float = 0.0
    """Turn each training image by up to this many degrees either way."""
    scale: float = 0.0
    """Enlarge or shrink each training image by up to this share: 0.1 means 0.9 to 1.1 times."""
    erase: float = 0.0
    """Share of training images in which a random rectangle is erased (Zhong et al., 2017)."""
    erase_area: float = 0.4
    """Largest share of an image that is erased; the smallest is 0.02."""
    erase_fill: Literal["mean", "noise"] = "mean"
    """What the rectangle is filled with: the training pixels' mean, or noise of their mean and deviation."""
    cutmix: float = 0.0
    """Share of training images in which a square comes from another image, and as much of the label (CutMix, Yun et al., 2019)."""
    train_images: int = 0
    """Train on this many images only, equally many of each class; 0 means all that the split leaves."""
    early_epochs: int = 0
    """So many epochs at the start see a share of the images only, others each time: cheap first rungs for a search, whose winner is
    trained without. The schedule goes by epochs all the same."""
    early_share: float = 1.0
    """That share. The smaller, the more the accuracy after the early epochs favours what learns fast over what ends up good."""
    validation_images: int | None = None
    """Images held out of the training set to choose by; by default a twelfth, which is 5,000 of Fashion-MNIST's; 0 holds out none
    and chooses nothing."""
    seed: int = 0
    """Seed of the initial weights, of the order of images and of augmentation. The split has its own, fixed one."""
    precision: Precision = "auto"
    """bf16 runs the network under bfloat16 autocast; auto takes it where the device computes in bfloat16."""
    channels_last: bool = True
    """Keep feature maps in NHWC order: faster for convolutions on CPU and GPU alike."""
    sync_batch_norm: bool = True
    """With several workers, batch norm takes its statistics over the whole global batch, so that their number changes nothing;
    off, each worker normalises by its own share: faster, and noisier the smaller the share."""
    compile: bool = False
    """Compile the network with torch.compile, on a GPU into CUDA graphs: worth its minute of start-up there, for long runs."""
    threads: int = 0
    """CPU threads of the training process; 0 means all it may use."""

    def __post_init__(self) -> None:
        from fmnist.initial import INITS  # here: these modules import this one
        from fmnist.models import MODELS
        from fmnist.optim import OPTIMIZERS, SCHEDULES

        one_of("model", self.model, MODELS)
        one_of("optimizer", self.optimizer, OPTIMIZERS)
        one_of("schedule", self.schedule, SCHEDULES)
        one_of("init", self.init, INITS)
        one_of("precision", self.precision, get_args(Precision))
        one_of("normalisation", self.normalisation, ("standard", "unit", "mnist"))
        one_of("watch", self.watch, ("loss", "accuracy"))
        one_of("erase_fill", self.erase_fill, ("mean", "noise"))
        object.__setattr__(self, "widths", tuple(self.widths))
        check(all(1 <= width <= LARGEST for width in self.widths), f"widths={self.widths}: each must be from 1 to {LARGEST:,}")
        self._check_class_weights()
        at_least = {"global_batch_size": 2, "epochs": 1, "step_epochs": 1}
        for field in (
            "validation_images",
            "train_images",
            "shift",
            "plateau_epochs",
            "early_stopping",
            "early_epochs",
            "seed",
            "threads",
        ):
            at_least[field] = 0
        for field, low in at_least.items():
            value = getattr(self, field)
            check(value is None or value >= low, f"{field}={value}: it must be at least {low}")
        check(math.isfinite(self.lr) and self.lr > 0, f"lr={self.lr}: it must be a finite number above 0")
        check(0 < self.lr_factor < 1, f"lr_factor={self.lr_factor}: it must be between 0 and 1")
        for field in ("momentum", "label_smoothing", "ema", "scale"):
            check(0 <= getattr(self, field) < 1, f"{field}={getattr(self, field)}: it must be from 0 to below 1")
        for field in ("warmup", "erase", "cutmix"):
            check(0 <= getattr(self, field) <= 1, f"{field}={getattr(self, field)}: it must be from 0 to 1")
        check(0 < self.early_share <= 1, f"early_share={self.early_share}: it must be above 0 and at most 1")
        check(self.dropout is None or 0 <= self.dropout < 1, f"dropout={self.dropout}: it must be from 0 to below 1")
        check(0 <= self.rotate <= 180, f"rotate={self.rotate}: it must be from 0 to 180 degrees")
        check(0.02 <= self.erase_area <= 1, f"erase_area={self.erase_area}: it must be from 0.02 to 1")
        check(self.weight_decay >= 0, f"weight_decay={self.weight_decay}: it must be at least 0")
        watched = self.validation_images != 0 or not self.early_stopping
        check(watched, f"early_stopping={self.early_stopping}: it watches validation images, but validation_images=0")

    def _check_class_weights(self) -> None:
        weights = self.class_weights
        if isinstance(weights, str):
            one_of("class_weights", weights, ("equal", "balanced"))
            return
        object.__setattr__(self, "class_weights", tuple(weights))
        fine = bool(weights) and all(math.isfinite(weight) and weight > 0 for weight in weights)
        check(fine, f"class_weights={tuple(weights)}: equal, balanced, or a number above 0 for each class")

    def replace(self, **changes: Any) -> Self:
        """A copy with `changes`, checked anew. Raises InputError on an unknown field."""
        check_known(type(self).__name__, changes, field_names(type(self)))
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """JSON types only: `from_dict` of it is an equal config."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Raises InputError on an unknown key, or a value of another type or out of range."""
        check_fields(cls.__name__, values, cls)
        return cls(**values)

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), sort_keys=True)


def field_names(cls: type) -> list[str]:
    return [field.name for field in dataclasses.fields(cls)]
