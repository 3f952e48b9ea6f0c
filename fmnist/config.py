"""TrainConfig: every number that shapes a training run, and nothing else.

It travels unchanged from the command line through the search space, the training loop and the checkpoint into the
metadata of the ONNX file.
"""

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from fmnist.errors import InputError, check

ModelName = Literal["airnet", "lenet", "resnet18"]
OptimizerName = Literal["sgd", "momentum", "nesterov", "adam", "adamw"]
ScheduleName = Literal["constant", "cosine", "onecycle"]
Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One training run.

    Raises:
        InputError: a value is out of range; the message names the field, the value and what is allowed.
    """

    model: ModelName = "airnet"
    """Network family: see fmnist/models."""
    widths: tuple[int, ...] = ()
    """Channels of each stage of airnet (3) or resnet18 (4); empty means the family's own."""
    epochs: int = 10
    """Passes over the training images."""
    global_batch_size: int = 512
    """Images per optimiser step, over all workers together. The last, incomplete batch of an epoch is left out."""
    optimizer: OptimizerName = "nesterov"
    """sgd (no momentum), momentum, nesterov, adam or adamw."""
    lr: float = 0.3
    """Peak learning rate. Usual: 0.05 to 0.5 for sgd, momentum and nesterov at batch 512; 0.0005 to 0.01 for adam and adamw."""
    momentum: float = 0.9
    """Momentum of momentum and nesterov; the others do not read it."""
    weight_decay: float = 5e-4
    """L2 penalty on weight matrices and kernels (decoupled in adamw); biases and batch norm have none."""
    schedule: ScheduleName = "onecycle"
    """After the warm-up: constant, cosine to 0, or onecycle (a straight line to 0)."""
    warmup: float = 0.1
    """Share of all steps over which the learning rate rises from 0 to its peak."""
    label_smoothing: float = 0.1
    """Probability mass spread over all classes."""
    flip: bool = True
    """Mirror half of the training images left to right."""
    shift: int = 2
    """Move each training image by up to this many pixels in each direction; the border is background."""
    erase: float = 0.0
    """Share of training images in which a random rectangle is erased (Zhong et al., 2017)."""
    train_images: int = 0
    """Train on this many images only, equally many of each class; 0 means all that the split leaves."""
    validation_images: int = 5000
    """Images held out of the training set to choose by; 0 trains on all of them and chooses nothing."""
    seed: int = 0
    """Seed of the initial weights, of the order of images and of augmentation. The split has its own, fixed one."""
    precision: Precision = "auto"
    """bf16 runs the network under bfloat16 autocast; auto takes it where the device computes in bfloat16."""
    channels_last: bool = True
    """Keep feature maps in NHWC order: faster for convolutions on CPU and GPU alike."""
    compile: bool = False
    """Compile the network with torch.compile: worth its minute of start-up on a GPU, for long runs."""
    threads: int = 0
    """CPU threads of the training process; 0 means all it may use."""

    def __post_init__(self) -> None:
        for field, allowed in (
            ("model", get_args(ModelName)),
            ("optimizer", get_args(OptimizerName)),
            ("schedule", get_args(ScheduleName)),
            ("precision", get_args(Precision)),
        ):
            value = getattr(self, field)
            check(value in allowed, f"{field}={value!r}: it must be one of {', '.join(allowed)}")
        object.__setattr__(self, "widths", tuple(self.widths))
        check(all(width >= 1 for width in self.widths), f"widths={self.widths}: each must be at least 1")
        for field, low in (("epochs", 1), ("global_batch_size", 2), ("shift", 0), ("train_images", 0)):
            check(getattr(self, field) >= low, f"{field}={getattr(self, field)}: it must be at least {low}")
        for field in ("validation_images", "seed", "threads"):
            check(getattr(self, field) >= 0, f"{field}={getattr(self, field)}: it must be at least 0")
        check(self.shift < 28, f"shift={self.shift}: it must be below the image's 28 pixels; 1 to 3 helps")
        check(math.isfinite(self.lr) and self.lr > 0, f"lr={self.lr}: it must be a finite number above 0")
        for field in ("momentum", "label_smoothing"):
            check(0 <= getattr(self, field) < 1, f"{field}={getattr(self, field)}: it must be from 0 to below 1")
        for field in ("warmup", "erase"):
            check(0 <= getattr(self, field) <= 1, f"{field}={getattr(self, field)}: it must be from 0 to 1")
        check(self.weight_decay >= 0, f"weight_decay={self.weight_decay}: it must be at least 0")

    def replace(self, **changes: Any) -> Self:
        """A copy with `changes`, checked anew. Raises InputError on an unknown field."""
        reject_unknown_keys(type(self), changes)
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """JSON types only: `from_dict` of it is an equal config."""
        return dataclasses.asdict(self) | {"widths": list(self.widths)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Raises InputError on an unknown key or a value out of range."""
        reject_unknown_keys(cls, values)
        return cls(**values)

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), sort_keys=True)


def reject_unknown_keys(cls: type, values: dict[str, Any]) -> None:
    """Raise InputError if `values` has a key that is no field of the dataclass `cls`."""
    known = [field.name for field in dataclasses.fields(cls)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise InputError(f"{cls.__name__} has no field {', '.join(unknown)}; its fields are {', '.join(known)}")
