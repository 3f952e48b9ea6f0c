"""Turn an image file from the real world into a network's pixels.

NumPy and Pillow only: the client of an exported bundle carries a copy of this file. An import and a
client call the same functions with the same `Fit`, so they make the same pixels of the same file.
"""

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from PIL import Image, ImageChops, ImageFilter, ImageStat

from fmnist.data.image_file import (
    MAX_PIXELS,
    MIN_SIDE,
    ImageError,
    ImageFile,
    check_size,
    named,
    open_image,
)

GRAY_MODES = ("1", "L", "LA", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
ALPHA_MODES = ("RGBA", "LA", "PA", "RGBa")
FITS = ("mnist", "pad", "crop", "stretch")
PAD_COLOURS = ("edge", "black", "white", "mean")
GROUNDS = {"black": 0, "white": 255}
REDUCING_GAP = 3.0
"""Above this factor Pillow shrinks in two steps, the first a mean over blocks: three times as fast,
and from 3 on hardly another picture."""
TYPE_RANGE = (0.0, 65535.0)
"""What 16 bits can hold."""
TOLERANCE = 0.05 * 255 * 3**0.5
"""Distance in RGB up to which a colour counts as the background's: the paper's 5 % of the largest
one."""
WORKING_SIDE = 1024
"""A photo of twice this or more is first reduced to about this: noise averages out, and memory is
spared."""
# Nearly ImageMagick's "-sharpen 1x1", which is the paper's.
SHARPEN = ImageFilter.UnsharpMask(radius=1, percent=83, threshold=0)
MIN_DIFFERING = 3
"""Pixels of a 3×3 neighbourhood that differ from the ground even on the thinnest line; noise is
lonelier."""
NEARLY_WHITE = 200
"""Mean gray level above which a transparent picture's thing is laid on black, not on white."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How a picture becomes a network's input.

    Raises:
        TypeError: a value is of another type.
        ValueError: a value is not one of those allowed.
    """

    height: int
    width: int
    channels: int
    """1 for gray, 3 for colour."""
    how: str = "pad"
    """"mnist", "pad", "crop" or "stretch": see `to_pixels`."""
    pad_colour: str = "black"
    """"edge", "black", "white" or "mean" (the picture's own): what lies beside a padded picture,
    and under a transparent one."""
    pixel_range: tuple[float, float] | None = None
    """What becomes 0 and 255 of a picture of more than 8 bits; None: all that its type can hold."""

    def __post_init__(self) -> None:
        # A manifest may hold anything. Not isinstance: a bool would pass for a number.
        numbers = (self.height, self.width, self.channels)
        if any(type(number) is not int for number in numbers):
            raise TypeError(f"height, width and channels of {numbers}: whole numbers")
        if min(numbers) < 1 or self.channels not in (1, 3):
            raise ValueError(
                f"height, width and channels of {numbers}: at least 1; 1 or 3 channels"
            )
        if self.how not in FITS or self.pad_colour not in PAD_COLOURS:
            raise ValueError(
                f"fit={self.how!r}, pad_colour={self.pad_colour!r}: one of {', '.join(FITS)}, "
                f"and one of {', '.join(PAD_COLOURS)}"
            )
        if self.pixel_range is not None:
            low, high = self.pixel_range
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise ValueError(f"pixel_range={self.pixel_range}: two numbers, the lower first")

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Self:
        """Read what a config.json or a manifest says of the data.

        Raises:
            KeyError: something is missing.
            TypeError, ValueError: a value is of no use.
        """
        height, width = data["image_size"]
        pixel_range = data["pixel_range"]
        return cls(
            height=height,
            width=width,
            channels=data["channels"],
            how=data["fit"],
            pad_colour=data["pad_colour"],
            pixel_range=None if pixel_range is None else tuple(pixel_range),
        )

    def reduce_to(self, photo: bool | None = None) -> tuple[int, int] | None:
        """The size to open a picture for: see `open_image`.

        None for a photo, whose thing may be small on it.
        """
        as_photo = self.how == "mnist" if photo is None else photo
        return None if as_photo else (self.height, self.width)


def read_pixels(
    file: ImageFile,
    fit: Fit,
    *,
    photo: bool | None = None,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """Read an image file and fit it to a network's input, as `open_image` and `to_pixels` do."""
    reduce_to = fit.reduce_to(photo)
    image = open_image(file, name=name, max_pixels=max_pixels, reduce_to=reduce_to)
    try:
        return to_pixels(image, fit, photo)
    except ImageError as error:
        # Its errors are about the picture, and do not know the file's name.
        raise ImageError(f"{named(file, name)}: {error}", error.kind) from error


def is_gray(image: Image.Image) -> bool:
    return image.mode in GRAY_MODES


def deep_range(image: Image.Image) -> tuple[float, float] | None:
    """The least and the greatest value of a picture of more than 8 bits.

    None for one of 8 bits, and where no pixel is a finite number.
    """
    if not _is_deep(image):
        return None
    values = np.asarray(image)
    if image.mode == "F":
        values = values[np.isfinite(values)]
    if not values.size:
        return None
    return float(values.min()), float(values.max())


def to_pixels(image: Image.Image, fit: Fit, photo: bool | None = None) -> np.ndarray:
    """Fit a picture to a network's input.

    How the data set was made, a picture is fitted by default:

    - "pad" shrinks the whole picture into the input, and lays it in the middle;
    - "crop" shrinks it until it covers the input, and cuts off what is beyond, left and right or
      above and below alike;
    - "stretch" makes it as high and as wide as the input;
    - "mnist" takes one that has exactly the input's size and mode as it is, and any other for a
      photo.

    What is transparent shows `fit.pad_colour`. With "edge" it shows white: a transparent picture
    has no border of its own, and a page shows it on white. A pixel of more than 8 bits is scaled
    from `fit.pixel_range`; without one from 0 to 65535, a float from 0 to 1; where a picture has
    values beyond, from its own least to its own greatest.

    Args:
        photo: True: the picture is a photo of one thing on a plain ground, so `prepare_photo`; in
            colour only trimmed, shrunk and padded with the ground's own colour, neither sharpened
            nor inverted. False: the whole picture is fitted, padded if the data set is "mnist",
            whatever it shows.

    Returns:
        pixels uint8, (H, W) gray or (3, H, W) colour.

    Raises:
        ImageError: as `prepare_photo`, where the picture is taken for a photo.
    """
    mode = "L" if fit.channels == 1 else "RGB"
    if photo is None:
        ready = image.size == (fit.width, fit.height) and image.mode == mode
        photo = fit.how == "mnist" and not ready

    image = _eight_bits(image, fit.pixel_range)
    if not photo:
        pixels = _fit_whole(image, fit)
    elif fit.channels == 1:
        pixels = np.asarray(prepare_photo(image, fit.height, fit.width))[..., None]
    else:
        trimmed, ground = _trim(image)
        shrunk = _shrink(trimmed, fit.height, fit.width)
        pixels = _extend(np.asarray(shrunk), fit, np.array(ground, np.uint8))

    if fit.channels == 1:
        return np.ascontiguousarray(pixels[..., 0])
    # Channels first, as PyTorch has them.
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def prepare_photo(image: Image.Image, height: int = 28, width: int = 28) -> Image.Image:
    """Turn a photo of one thing on a plain ground into an image like Fashion-MNIST's.

    The steps are those of Xiao et al., 2017, "Fashion-MNIST", section 2: trim what is near the
    colour of the corners, shrink it until it fits, sharpen, extend it about the centre, negate,
    8-bit gray. Three differ: shrinking averages pixels instead of skipping them, since a photo has
    noise; only a thing darker than its ground is negated; and the ground is levelled to exactly 0,
    be it white, gray or dark.

    Args:
        image: any mode and size; what is transparent becomes white, or black behind a thing that is
            nearly white itself.

    Returns:
        (height, width), mode "L", bright on black.

    Raises:
        ImageError: the photo, or the thing on it, is smaller than 8 pixels, or there is nothing but
            background.
    """
    trimmed, ground = _trim(image)
    bright = _bright_on_black(trimmed, ground)
    sharpened = _shrink(bright, height, width).filter(SHARPEN)
    fit = Fit(height, width, 1)
    pixels = _extend(np.asarray(sharpened)[..., None], fit, np.zeros(1, np.uint8))
    return Image.fromarray(pixels[..., 0])


def _is_deep(image: Image.Image) -> bool:
    """Whether its pixels have more than 8 bits."""
    return image.mode == "F" or image.mode.startswith("I")


def _eight_bits(image: Image.Image, pixel_range: tuple[float, float] | None) -> Image.Image:
    """The picture with 8 bits a channel; Pillow itself would clip instead of scale."""
    if not _is_deep(image):
        return image
    low, high = pixel_range or _own_range(image)
    # At least a little, since a picture of one value has no range.
    spread = max(high - low, 1e-30)

    values = np.array(image, np.float32)
    # What is no number or beyond the range is clipped.
    with np.errstate(all="ignore"):
        values -= low
        values *= 255 / spread
    shown = np.nan_to_num(values, nan=0, posinf=255, neginf=0).clip(0, 255)
    return Image.fromarray(shown.round().astype(np.uint8))


def _own_range(image: Image.Image) -> tuple[float, float]:
    """The range of the picture's type; its own, if it has values beyond."""
    whole = (0.0, 1.0) if image.mode == "F" else TYPE_RANGE
    low, high = deep_range(image) or whole
    if whole[0] <= low and high <= whole[1]:
        return whole
    return low, high


def _fit_whole(image: Image.Image, fit: Fit) -> np.ndarray:
    """Fit the whole picture, or its middle: (H, W, channels) uint8."""
    if image.mode in ALPHA_MODES or "transparency" in image.info:
        return _fit_transparent(image, fit)

    mode = "L" if fit.channels == 1 else "RGB"
    pixels = np.asarray(_resize(_convert(image, mode), fit))
    if fit.channels == 1:
        pixels = pixels[..., None]
    match fit.pad_colour:
        case "edge":
            ground = None
        case "mean":
            ground = pixels.mean((0, 1)).round()
        case _:
            ground = np.full(fit.channels, GROUNDS[fit.pad_colour])
    return _extend(pixels, fit, ground)


def _fit_transparent(image: Image.Image, fit: Fit) -> np.ndarray:
    """The same for a picture with transparency."""
    mode, multiplied = ("LA", "La") if fit.channels == 1 else ("RGBA", "RGBa")
    if image.mode != mode:
        image = _convert(_convert(image, "RGBA"), mode)

    # Colours times alpha are shrunk, and then laid on the ground: that is the same as laid on it
    # before, it is faster, and the ground may be their mean.
    layers = np.asarray(_resize(image.convert(multiplied), fit))
    if fit.pad_colour == "mean":
        ground = _mean_of_opaque(layers)
    else:
        ground = np.full(fit.channels, GROUNDS.get(fit.pad_colour, 255))
    beside = None if fit.pad_colour == "edge" else ground
    return _extend(_lay(layers, ground), fit, beside)


def _convert(image: Image.Image, mode: str) -> Image.Image:
    """The picture in another mode. Raises ImageError if Pillow knows no way there."""
    # From L*a*b* there is a way to colour alone.
    if image.mode == "LAB":
        image = image.convert("RGB")
    try:
        return image if image.mode == mode else image.convert(mode)
    except ValueError as error:
        raise ImageError(f"pixels of mode {image.mode} are not read: {error}") from error


def _resize(image: Image.Image, fit: Fit) -> Image.Image:
    """Shrink or enlarge a picture, or its middle: as high and wide as the input, or within it."""
    size = (fit.width, fit.height)
    whole = (0.0, 0.0, float(image.width), float(image.height))
    match fit.how:
        case "crop":
            box = _middle(image, fit)
        case "stretch":
            box = whole
        case _:
            box, size = whole, _size_within(image, fit.height, fit.width)
    return image.resize(size, Image.Resampling.LANCZOS, box, REDUCING_GAP)


def _middle(image: Image.Image, fit: Fit) -> tuple[float, float, float, float]:
    """The largest part about the centre with the input's aspect ratio: left, top, right, bottom."""
    scale = min(image.width / fit.width, image.height / fit.height)
    left = (image.width - scale * fit.width) / 2
    top = (image.height - scale * fit.height) / 2
    # Not below 0, where a product is rounded up.
    left, top = max(left, 0.0), max(top, 0.0)
    return left, top, image.width - left, image.height - top


def _size_within(image: Image.Image, height: int, width: int) -> tuple[int, int]:
    """Width and height of the picture, made as large as they fit."""
    if image.width * height >= image.height * width:
        return width, max(round(image.height * width / image.width), 1)
    return max(round(image.width * height / image.height), 1), height


def _mean_of_opaque(layers: np.ndarray) -> np.ndarray:
    """Mean colour (channels,) of a picture (H, W, channels + alpha); white if there is nothing."""
    sums = layers.sum((0, 1), dtype=np.float64)
    if sums[-1] == 0:
        return np.full(len(sums) - 1, 255.0)
    return (sums[:-1] / sums[-1] * 255).round().clip(0, 255)


def _lay(layers: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """Lay a picture (H, W, channels + alpha) on a colour (channels,): (H, W, channels)."""
    colours, alpha = layers[..., :-1], layers[..., -1:]
    # White, by far the most frequent, needs no product: the same result in a third of the time.
    if (ground == 255).all():
        return np.minimum(colours, alpha) + (255 - alpha)
    # Rounded to the nearest, in 16 bits: floats would take three times as long.
    under = ((255 - alpha) * ground.astype(np.uint16) + 127) // 255
    # Shrinking sharpens, so that a colour may exceed its alpha.
    return np.minimum(colours + under, 255).astype(np.uint8)


def _extend(pixels: np.ndarray, fit: Fit, ground: np.ndarray | None) -> np.ndarray:
    """Lay a picture (h, w, channels) in the middle of the input: (H, W, channels).

    Args:
        ground: the colour (channels,) beside it; None continues its border.
    """
    height, width, channels = pixels.shape
    if (height, width) == (fit.height, fit.width):
        return pixels
    top, left = round((fit.height - height) / 2), round((fit.width - width) / 2)
    bottom, right = top + height, left + width

    found = np.empty((fit.height, fit.width, channels), np.uint8)
    if ground is not None:
        found[:] = ground
    found[top:bottom, left:right] = pixels
    if ground is None:
        found[top:bottom, :left] = pixels[:, :1]
        found[top:bottom, right:] = pixels[:, -1:]
        found[:top] = found[top]
        found[bottom:] = found[bottom - 1]
    return found


def _trim(image: Image.Image) -> tuple[Image.Image, tuple[int, ...]]:
    """Cut away the ground around the thing; the rest, in RGB, and the ground's colour."""
    check_size(image, "photo")
    image = _convert(_on_plain_ground(_eight_bits(image, None)), "RGB")
    image = image.reduce(max(max(image.size) // WORKING_SIDE, 1))

    pixels = np.asarray(image, np.float32)
    ground = _ground_colour(pixels)
    differs = _distance(pixels, ground) > TOLERANCE
    differing = Image.fromarray(np.where(differs, 255, 0).astype(np.uint8))

    # Of the pixels that differ, only those near a crowd of their kind count.
    crowded = differing.filter(ImageFilter.RankFilter(3, 9 - MIN_DIFFERING))
    near_crowd = crowded.filter(ImageFilter.MaxFilter(3))
    box = ImageChops.darker(differing, near_crowd).getbbox()
    if box is None:
        raise ImageError(
            "nothing to be seen but background; show one thing on a plain ground of another colour"
        )

    width, height = box[2] - box[0], box[3] - box[1]
    if max(width, height) < MIN_SIDE:
        raise ImageError(
            f"the thing on it is only {width}×{height} pixels; at least {MIN_SIDE} are needed: "
            "go nearer",
            "too small",
        )
    return image.crop(box), tuple(int(value) for value in ground)


def _ground_colour(pixels: np.ndarray) -> np.ndarray:
    """Colour (3,) of that corner which most of the border agrees with.

    Not of all corners, since the thing itself may reach into some.
    """
    reach = max(min(pixels.shape[:2]) // 32, 1)
    ends = (slice(reach), slice(-reach, None))
    corners: list[np.ndarray] = []
    for rows in ends:
        for columns in ends:
            # The median, since a single pixel may be noise.
            corner = pixels[rows, columns].reshape(-1, 3)
            corners.append(np.median(corner, 0))

    border = np.concatenate((pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))

    def agreeing(colour: np.ndarray) -> int:
        return int((_distance(border, colour) <= TOLERANCE).sum())

    return max(corners, key=agreeing)


def _distance(pixels: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return np.linalg.norm(pixels - colour, axis=-1)


def _bright_on_black(image: Image.Image, ground: tuple[int, ...]) -> Image.Image:
    """Gray, with the ground at 0 and what is farthest from it, black or white, at 255."""
    # The ground's gray as Pillow computes it for the image.
    gray = np.asarray(image.convert("L"))
    level = float(np.asarray(Image.new("RGB", (1, 1), ground).convert("L"))[0, 0])
    darker = gray.mean() < level
    contrast = (level - gray) / level if darker else (gray - level) / (255 - level)
    return Image.fromarray((contrast.clip(0, 1) * 255).round().astype(np.uint8))


def _shrink(image: Image.Image, height: int, width: int) -> Image.Image:
    """Resize so that it just fits; a small picture grows."""
    return image.resize(_size_within(image, height, width), Image.Resampling.LANCZOS)


def _on_plain_ground(image: Image.Image) -> Image.Image:
    """A transparent photo on black if what it shows is nearly white itself, else on white."""
    if image.mode not in ALPHA_MODES and "transparency" not in image.info:
        return image
    image = _convert(image, "RGBA")
    opaque = image.getchannel("A").point([0] * 128 + [255] * 128)
    shown = ImageStat.Stat(image.convert("L"), opaque)
    white = bool(shown.count[0]) and shown.mean[0] > NEARLY_WHITE
    ground = "black" if white else "white"
    return Image.alpha_composite(Image.new("RGBA", image.size, ground), image)
