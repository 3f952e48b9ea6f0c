"""Read one picture, and fit it to the set's images. Many threads do so at once."""

import io
from dataclasses import dataclass
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fmnist.data.image_file import (
    LOST_BITS,
    MAX_PIXELS,
    ImageError,
    check_size,
    formats,
    open_image,
)
from fmnist.data.importing.item import FaultKind, Item, ReadError
from fmnist.data.importing.options import ImportOptions
from fmnist.data.importing.records import Failure, Picture, Pixels, digest_of, sums_of
from fmnist.data.picture import deep_range, is_gray, to_pixels

Range = tuple[float, float]
TURNED = (5, 6, 7, 8)
"""Values of EXIF's orientation that exchange height and width."""
ORIENTATION = 0x0112


@dataclass(frozen=True, slots=True)
class PictureReader:
    """Reads pictures for an import with these options."""

    options: ImportOptions

    def read(
        self, item: Item, pixel_range: Range | None = None
    ) -> tuple[Picture | Failure, Pixels | None]:
        """Read a picture and fit it.

        Args:
            pixel_range: what a picture of more than 8 bits is scaled from. Without it, such a
                picture is only looked at, and its row is 0.

        Returns:
            its record and its row, (H, W) or (3, H, W); or why it cannot be read, and None.

        Raises:
            DataError: nothing of the file that holds the picture can be read.
        """
        try:
            return self._read(item, pixel_range)
        except (OSError, ReadError, ImageError) as error:
            kind, detail = _explain(error)
            failure = Failure(
                file=item.name,
                label=item.label,
                split=item.split,
                stamp=item.stamp,
                fault=kind,
                detail=detail,
                max_pixels=self.options.max_pixels,
                by_system=isinstance(error, OSError),
            )
            return failure, None

    def _read(self, item: Item, pixel_range: Range | None) -> tuple[Picture, Pixels]:
        content = item.read()
        image, (width, height) = self._open(content)
        gray = is_gray(image)
        deep = deep_range(image)
        if image.mode == "F" and deep is None:
            raise ImageError("none of its pixels is a finite number")

        digest, sums = "", []
        if deep is not None and pixel_range is None:
            pixels = np.zeros((self.options.height, self.options.width), np.uint8)
        else:
            fit = self.options.fit(1 if gray else 3, pixel_range)
            pixels = to_pixels(image, fit, photo=False)
            digest, sums = digest_of(pixels), sums_of(pixels)

        picture = Picture(
            file=item.name,
            label=item.label,
            split=item.split,
            stamp=item.stamp,
            width=width,
            height=height,
            gray=gray,
            digest=digest,
            sums=sums,
            deep=None if deep is None else list(deep),
            fitted=list(pixel_range) if deep is not None and pixel_range is not None else None,
            lost_bits=bool(image.info.get(LOST_BITS)),
        )
        return picture, pixels

    def _open(self, content: bytes | NDArray[Any]) -> tuple[Image.Image, tuple[int, int]]:
        """The picture, and its width and height before it was reduced."""
        if isinstance(content, np.ndarray):
            image = image_of(content)
            check_size(image, "image")
            return image, image.size

        target = (self.options.height, self.options.width)
        most = self.options.max_pixels or MAX_PIXELS
        image = open_image(content, max_pixels=most, reduce_to=target)
        # Below this size no JPEG was reduced.
        if content[:2] == b"\xff\xd8" and min(image.size) >= 2 * max(target):
            return image, _whole_size(content)
        return image, image.size


def image_of(values: NDArray[Any]) -> Image.Image:
    """A picture of pixels that a file of arrays holds.

    Args:
        values: (H, W) or (H, W, 1) of any number, (H, W, 3) or (H, W, 4) of 8 bits.

    Raises:
        ImageError: the array is none of these.
    """
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.dtype == np.uint8 and (values.ndim == 2 or values.shape[2:] in ((3,), (4,))):
        return Image.fromarray(np.ascontiguousarray(values))
    if values.ndim == 2 and values.dtype.kind in "uif":
        return Image.fromarray(np.ascontiguousarray(values, np.float32))
    raise ImageError(
        f"pixels of {values.shape} {values.dtype}; they are (height, width) of any number, or "
        "(height, width, 3 or 4) of 8 bits"
    )


def looks_gray(item: Item) -> bool:
    """Whether a picture is gray by the beginning of its file; one that cannot be read counts."""
    try:
        content = item.read()
        if isinstance(content, np.ndarray):
            return content.ndim == 2 or content.shape[2] == 1
        with Image.open(io.BytesIO(content), formats=tuple(formats())) as image:
            return is_gray(image)
    except Exception:  # on damaged files Pillow raises almost anything; the import tells it
        return True


def _whole_size(content: bytes) -> tuple[int, int]:
    """Width and height of a JPEG, turned as its EXIF tag says."""
    with Image.open(io.BytesIO(content)) as image:
        if image.getexif().get(ORIENTATION) in TURNED:
            return image.height, image.width
        return image.size


def _explain(error: OSError | ReadError | ImageError) -> tuple[FaultKind, str]:
    if isinstance(error, ReadError):
        return error.kind, error.detail
    if isinstance(error, ImageError):
        kind = error.kind if error.kind in get_args(FaultKind) else "unreadable"
        detail = str(error).removeprefix("image").removeprefix(":").strip()
        return cast(FaultKind, kind), detail
    return "unreadable", error.strerror or str(error)
