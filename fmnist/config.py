"""TrainConfig: every number that shapes a training run, and nothing else.

It travels unchanged from the command line through the search space, the training loop and the
checkpoint into the metadata of the ONNX file. This module imports errors.py alone: the names of
networks, optimisers, schedules and initial weights are listed here as Literals, and a test holds
each registry to its list.
"""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args

from fmnist.errors import check, check_fields, check_known, one_of

ModelName = Literal[
    "airnet",
    "alexnet",
    "inception",
    "lenet",
    "lenet5",
    "mycnn",
    "mycnn_fixed",
    "resnet18",
    "resnet18_imagenet",
    "resnet20",
    "resnet34",
    "resnet34_imagenet",
    "threeconv",
    "twoconv",
    "twoconv_published",
    "vgg16",
    "vgg16_bn",
    "vgg_like",
    "vgg_like_weighted",
    "wideresnet16",
    "wideresnet28",
]
OptimizerName = Literal["sgd", "momentum", "nesterov", "adam", "adamw", "muon"]
ScheduleName = Literal["constant", "step", "cosine", "onecycle", "plateau"]
InitName = Literal["pytorch", "xavier", "he", "normal"]
Normalisation = Literal["standard", "unit", "mnist"]
Watched = Literal["loss", "accuracy"]
EraseFill = Literal["mean", "noise"]
ClassWeighting = Literal["equal", "balanced"]
Precision = Literal["auto", "fp32", "bf16"]

LARGEST = 2**16
"""Largest number of channels or classes, and of pixels on a side."""
SMALLEST_ERASED_AREA = 0.02
"""Share of an image: the least that random erasing removes (Zhong et al., 2017)."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What a network must fit: the images that come in, and the classes that go out."""

    classes: int
    channels: int = 1
    """1 for gray images, (B, H, W); 3 for colour, (B, 3, H, W)."""
    height: int = 28
    width: int = 28

    def __post_init__(self) -> None:
        check(2 <= self.classes <= LARGEST, f"classes={self.classes}: 2 to {LARGEST:,}")
        check(self.channels in (1, 3), f"channels={self.channels}: 1 (gray) or 3 (colour)")
        for name, side in (("height", self.height), ("width", self.width)):
            check(1 <= side <= LARGEST, f"{name}={side}: 1 to {LARGEST:,} pixels")

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one image's pixels: (H, W), or (3, H, W)."""
        if self.channels == 1:
            return (self.height, self.width)
        return (self.channels, self.height, self.width)


def topic(name: str, default: Any) -> Any:
    """A field of TrainConfig under a heading of `--help`."""
    return field(default=default, metadata={"topic": name})


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One training run.

    Raises:
        InputError: a value is out of range; the message names the field, the value and the range.
    """

    # Network
    model: str = topic("network", "airnet")
    """Network: python -m fmnist.train --list-models shows them."""
    widths: tuple[int, ...] = topic("network", ())
    """Channels of each stage, one number a stage; empty takes the network's own."""
    dropout: float | None = topic("network", None)
    """Probability that a unit is dropped, in networks with dropout; by default the network's
    own."""
    init: str = topic("network", "pytorch")
    """Initial weights: pytorch (its own defaults), xavier, he or normal."""
    weights: str = topic("network", "")
    """Pretrained weights to start from: a file (.safetensors or .pt), or imagenet. A head for
    another number of classes starts afresh."""

    # Data
    normalisation: Normalisation = topic("data", "standard")
    """How pixels are normalised: standard (mean 0 and deviation 1 over the training images), unit
    (0 to 1), or mnist (by MNIST's mean and deviation)."""
    train_images: int = topic("data", 0)
    """Train on this many images only, equally many of each class; 0 takes all that the split
    leaves."""
    validation_images: int | None = topic("data", None)
    """Images held out of the training set for validation. By default a twelfth, which is 5,000 of
    Fashion-MNIST's; 0 holds out none, and nothing can be selected."""
    class_weights: ClassWeighting | tuple[float, ...] = topic("data", "equal")
    """Weight of each class in the loss: equal, balanced (inverse to its share of the training
    images), or one number for each class."""

    # Optimiser
    optimizer: str = topic("optimiser", "nesterov")
    """sgd (no momentum), momentum, nesterov, adam, adamw or muon (orthogonalised kernels, the
    rest by adamw)."""
    lr: float = topic("optimiser", 0.3)
    """Peak learning rate. Usual: 0.05 to 0.5 for sgd, momentum and nesterov at batch 512; 0.0005 to
    0.01 for adam, adamw and muon."""
    momentum: float = topic("optimiser", 0.9)
    """Momentum of momentum, nesterov and muon; the others ignore it."""
    weight_decay: float = topic("optimiser", 5e-4)
    """L2 penalty on weight matrices and kernels (decoupled in adamw and muon); biases and batch
    norm have none."""
    global_batch_size: int = topic("optimiser", 512)
    """Images per optimiser step, over all workers together. The last, incomplete batch of an
    epoch is left out."""
    label_smoothing: float = topic("optimiser", 0.1)
    """Probability mass that is spread over all classes."""
    ema: float = topic("optimiser", 0.0)
    """Decay per step of the moving average of the weights that is evaluated and exported; 0
    takes the last weights. Usual: 0.99 to 0.999, larger for longer runs."""

    # Schedule
    epochs: int = topic("schedule", 10)
    """Passes over the training images."""
    schedule: str = topic("schedule", "onecycle")
    """Learning rate after the warm-up: constant, step, cosine (to 0), onecycle (a straight line
    to 0) or plateau."""
    warmup: float = topic("schedule", 0.1)
    """Share of all steps over which the learning rate rises from 0 to its peak."""
    lr_factor: float = topic("schedule", 0.1)
    """Factor by which step and plateau multiply the learning rate."""
    step_epochs: int = topic("schedule", 10)
    """Epochs between two drops of the step schedule."""
    plateau_epochs: int = topic("schedule", 3)
    """Epochs without improvement before plateau drops the learning rate (patience)."""
    early_stopping: int = topic("schedule", 0)
    """Stop after this many epochs without improvement on the validation images, and keep the best
    epoch's weights; 0 never stops early."""
    watch: Watched = topic("schedule", "loss")
    """What plateau and early stopping watch on the validation images."""
    early_epochs: int = topic("schedule", 0)
    """For the first rungs of a search: this many epochs at the start see a share of the images
    only, another share each time. The winner is trained without."""
    early_share: float = topic("schedule", 1.0)
    """That share. A small share favours networks that learn fast over those that end up good."""

    # Augmentation
    flip: bool = topic("augmentation", True)
    """Mirror half of the training images left to right, and in the next epoch the other half."""
    shift: int = topic("augmentation", 2)
    """Move each training image by up to this many pixels in each direction; the border is
    background."""
    rotate: float = topic("augmentation", 0.0)
    """Turn each training image by up to this many degrees either way."""
    scale: float = topic("augmentation", 0.0)
    """Enlarge or shrink each training image by up to this share: 0.1 means 0.9 to 1.1 times."""
    erase: float = topic("augmentation", 0.0)
    """Share of training images in which a random rectangle is erased (Zhong et al., 2017)."""
    erase_area: float = topic("augmentation", 0.4)
    """Largest share of an image that is erased; the smallest is 0.02."""
    erase_fill: EraseFill = topic("augmentation", "mean")
    """What fills the rectangle: the training pixels' mean, or noise of their mean and deviation."""
    cutmix: float = topic("augmentation", 0.0)
    """Share of training images that get a square, and the matching part of the label, from another
    image (CutMix, Yun et al., 2019)."""

    # Run
    seed: int = topic("run", 0)
    """Seed of the initial weights, the order of images and augmentation. The split's seed is
    fixed."""
    precision: Precision = topic("run", "auto")
    """bf16 runs the network under bfloat16 autocast; auto takes it where the hardware computes in
    bfloat16."""
    channels_last: bool = topic("run", True)
    """Keep feature maps in NHWC order: faster for convolutions on CPU and GPU alike."""
    sync_batch_norm: bool = topic("run", True)
    """With several workers, take batch norm's statistics over the whole global batch, so that their
    number changes nothing. Off, each worker normalises by its own share: faster, and noisier."""
    compile: bool = topic("run", False)
    """Compile the network with torch.compile, on a GPU into CUDA graphs: worth its minute of
    start-up there, for long runs."""
    threads: int = topic("run", 0)
    """CPU threads of the training process; 0 takes all it may use."""

    def __post_init__(self) -> None:
        self._check_names()
        object.__setattr__(self, "widths", tuple(self.widths))
        self._check_class_weights()
        self._check_counts()
        self._check_numbers()
        if self.early_stopping:
            check(
                self.validation_images != 0,
                f"early_stopping={self.early_stopping}: it watches validation images, "
                "but validation_images=0",
            )

    def _check_names(self) -> None:
        one_of("model", self.model, get_args(ModelName))
        one_of("optimizer", self.optimizer, get_args(OptimizerName))
        one_of("schedule", self.schedule, get_args(ScheduleName))
        one_of("init", self.init, get_args(InitName))
        one_of("precision", self.precision, get_args(Precision))
        one_of("normalisation", self.normalisation, get_args(Normalisation))
        one_of("watch", self.watch, get_args(Watched))
        one_of("erase_fill", self.erase_fill, get_args(EraseFill))

    def _check_class_weights(self) -> None:
        weights = self.class_weights
        if isinstance(weights, str):
            one_of("class_weights", weights, get_args(ClassWeighting))
            return

        object.__setattr__(self, "class_weights", tuple(weights))
        positive = all(math.isfinite(weight) and weight > 0 for weight in weights)
        check(
            bool(weights) and positive,
            f"class_weights={tuple(weights)}: equal, balanced, or a number above 0 for each class",
        )

    def _check_counts(self) -> None:
        for width in self.widths:
            check(
                1 <= width <= LARGEST,
                f"widths={self.widths}: each must be from 1 to {LARGEST:,}",
            )
        self._check_at_least(2, "global_batch_size")
        self._check_at_least(1, "epochs", "step_epochs")
        self._check_at_least(0, "train_images", "shift", "plateau_epochs", "early_stopping")
        self._check_at_least(0, "early_epochs", "seed", "threads")
        if self.validation_images is not None:
            self._check_at_least(0, "validation_images")

    def _check_at_least(self, low: int, *fields: str) -> None:
        for name in fields:
            value = getattr(self, name)
            check(value >= low, f"{name}={value}: it must be at least {low}")

    def _check_numbers(self) -> None:
        finite = math.isfinite(self.lr)
        check(finite and self.lr > 0, f"lr={self.lr}: it must be a finite number above 0")
        check(0 < self.lr_factor < 1, f"lr_factor={self.lr_factor}: it must be between 0 and 1")

        for name in ("momentum", "label_smoothing", "ema", "scale"):
            value = getattr(self, name)
            check(0 <= value < 1, f"{name}={value}: it must be from 0 to below 1")
        for name in ("warmup", "erase", "cutmix"):
            value = getattr(self, name)
            check(0 <= value <= 1, f"{name}={value}: it must be from 0 to 1")
        if self.dropout is not None:
            in_range = 0 <= self.dropout < 1
            check(in_range, f"dropout={self.dropout}: it must be from 0 to below 1")

        share, area = self.early_share, self.erase_area
        check(0 < share <= 1, f"early_share={share}: it must be above 0 and at most 1")
        check(0 <= self.rotate <= 180, f"rotate={self.rotate}: it must be from 0 to 180 degrees")
        check(
            SMALLEST_ERASED_AREA <= area <= 1,
            f"erase_area={area}: it must be from {SMALLEST_ERASED_AREA} to 1",
        )
        check(self.weight_decay >= 0, f"weight_decay={self.weight_decay}: it must be at least 0")

    @property
    def network_name(self) -> str:
        """The network and its widths: "airnet 24-64-128"."""
        widths = "-".join(map(str, self.widths))
        return f"{self.model} {widths}".rstrip()

    def replace(self, **changes: Any) -> Self:
        """Copy with `changes`, checked anew. Raises InputError on an unknown field."""
        check_known(type(self).__name__, changes, field_names(type(self)))
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Fields as JSON types; `from_dict` turns them into an equal config."""
        values = dataclasses.asdict(self)
        for name, value in values.items():
            if isinstance(value, tuple):
                values[name] = list(value)
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Config of a dict as `to_dict` gives it.

        Raises:
            InputError: a key is unknown, or a value is of another type or out of range.
        """
        check_fields(cls.__name__, values, cls)
        return cls(**values)


def field_names(cls: type) -> list[str]:
    return [one.name for one in dataclasses.fields(cls)]
