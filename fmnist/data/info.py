"""What a data set is: its classes, its image size, and the hashes of its files.

Needs no PyTorch: a bundle's client and the commands' --help read it.
"""

from dataclasses import dataclass
from typing import Any, Self

from fmnist.config import Problem
from fmnist.errors import check_fields


@dataclass(frozen=True, slots=True)
class DataInfo:
    """What a data set is; every checkpoint has a copy."""

    name: str
    classes: tuple[str, ...]
    sha256: dict[str, str]
    """Hash of each unpacked file, by its name."""
    channels: int = 1
    image_size: tuple[int, int] = (28, 28)
    """Height and width in pixels."""
    fit: str = "mnist"
    """How a picture from elsewhere is fitted to this set: see fmnist.data.picture.Fit."""
    pad_colour: str = "black"
    """What lies beside a picture of another aspect ratio, and under a transparent one."""
    pixel_range: tuple[float, float] | None = None
    """What pixels of more than 8 bits are scaled from: the smallest and largest of this set."""
    label_values: tuple[int, ...] = tuple(range(10))
    """The number of each class in the label files: EMNIST's letters are 1 to 26."""
    source: str = ""
    """The folder it was read from."""

    @property
    def problem(self) -> Problem:
        return Problem(len(self.classes), self.channels, *self.image_size)

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Self:
        """Read what a config.json or a manifest says of the data.

        Raises:
            InputError: a key is unknown, or a value is of another type.
        """
        values = dict(saved)
        # Checkpoints of square images had one number.
        size = values.get("image_size")
        if isinstance(size, int):
            values["image_size"] = (size, size)
        check_fields("data", values, cls)
        for key in ("classes", "label_values", "image_size", "pixel_range"):
            if values.get(key) is not None:
                values[key] = tuple(values[key])
        return cls(**values)
