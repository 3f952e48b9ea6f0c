"""What an import is asked for."""

from dataclasses import dataclass, replace
from typing import Any, Self

from fmnist.data.info import DataInfo
from fmnist.data.picture import Fit


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How pictures become the images of a set, and which are taken."""

    height: int = 28
    width: int = 28
    how: str = "pad"
    """"pad", "crop" or "stretch": see fmnist.data.picture.Fit."""
    pad_colour: str = "edge"
    skip_bad: bool = False
    """Go on without the pictures that have a fault."""
    min_images: int | None = None
    """Classes with fewer images are left out; None: only those too small to be split are faults."""
    max_pixels: int | None = None
    """Pictures of more pixels are a fault; None takes the reader's own limit."""
    pixel_range: tuple[float, float] | None = None
    """What pictures of more than 8 bits are scaled from; None: the set's own range."""

    def like(self, trained_on: DataInfo) -> Self:
        """The same for pictures that are fitted as a checkpoint's data were."""
        height, width = trained_on.image_size
        return replace(
            self,
            height=height,
            width=width,
            how=trained_on.fit,
            pad_colour=trained_on.pad_colour,
            pixel_range=trained_on.pixel_range,
        )

    def fit(self, channels: int, pixel_range: tuple[float, float] | None) -> Fit:
        return Fit(self.height, self.width, channels, self.how, self.pad_colour, pixel_range)

    @property
    def rows(self) -> dict[str, Any]:
        """What decides the pixels of a picture: imports that agree in these share them."""
        return {
            "image_size": [self.height, self.width],
            "fit": self.how,
            "pad_colour": self.pad_colour,
        }

    @property
    def chosen(self) -> dict[str, Any]:
        """What decides which pictures are taken, and their scale."""
        return {
            "min_images_per_class": self.min_images,
            "max_pixels": self.max_pixels,
            "pixel_range": self.pixel_range,
        }
