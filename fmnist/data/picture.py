"""Turn an image file from the real world into a network's pixels.

NumPy and Pillow only: the client of an exported bundle carries a copy of this file.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image, ImageChops, ImageFilter, ImageOps, ImageStat, UnidentifiedImageError

GRAY_MODES = ("1", "L", "LA", "I", "F", "I;16", "I;16B", "I;16L")
FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
"""Image formats that are read, and their suffixes. Pillow has more, some of which start other
programs."""
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
MIN_SIDE = 8
"""Pixels on a side below which a picture shows nothing that could be recognised."""
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
    """How a picture becomes a network's input."""

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

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Self:
        """Read what a config.json or a manifest says of the data."""
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


class ImageError(ValueError):
    """A file that cannot be read as an image; the message names it and says why."""


def open_image(path: str | Path) -> Image.Image:
    """Read an image file whole, turned as its EXIF tag says.

    Raises:
        ImageError: the file is missing, no image, cut short, smaller than 8×8 pixels, or so large
            that it may be a decompression bomb.
    """
    name = f"image={str(path)!r}"
    try:
        with warnings.catch_warnings():
            # Pillow warns of damage that does no harm; only the size of the picture matters here.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=tuple(FORMATS)) as image:
                _check_size(image, name)
                image.load()
                return ImageOps.exif_transpose(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{name} is too large to be unpacked safely: {error}") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{name} is not an image of {', '.join(FORMATS)}") from error
    except ImageError:
        raise
    except Exception as error:  # on damaged files Pillow's decoders raise almost anything
        raise ImageError(f"{name} cannot be read as an image: {error}") from error


def is_gray(image: Image.Image) -> bool:
    return image.mode in GRAY_MODES


def to_pixels(
    image: Image.Image, *, size: int, channels: int, fit: str, photo: bool | None = None
) -> np.ndarray:
    """Fit a picture to a network's input.

    Args:
        fit: how the data set was made, and pictures are fitted by default: "pad" only resizes them;
            "mnist" takes one that has exactly the data set's size and mode as it is, and any other
            for a photo.
        photo: True: the picture is a photo of one thing on a plain ground, so `prepare_photo`; in
            colour only trimmed, shrunk and padded with the ground's own colour, neither sharpened
            nor inverted. False: the whole picture is resized, the longer side to `size`, and padded
            with black, whatever it shows.

    Returns:
        pixels uint8, (size, size) gray or (3, size, size) colour.

    Raises:
        ImageError: as `prepare_photo`, where the picture is taken for a photo.
    """
    mode = "L" if channels == 1 else "RGB"
    if photo is None:
        ready = image.size == (size, size) and image.mode == mode
        photo = fit == "mnist" and not ready

    if not photo:
        opaque = _without_transparency(image).convert(mode)
        fitted = _extend(_shrink(opaque, size), size)
    elif channels == 1:
        fitted = prepare_photo(image, size)
    else:
        trimmed, ground = _trim(image)
        fitted = _extend(_shrink(trimmed, size), size, ground)

    pixels = np.asarray(fitted, np.uint8)
    if channels == 1:
        return pixels
    # Channels first, as PyTorch has them.
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def prepare_photo(image: Image.Image, size: int = 28) -> Image.Image:
    """Turn a photo of one thing on a plain ground into an image like Fashion-MNIST's.

    The steps are those of Xiao et al., 2017, "Fashion-MNIST", section 2: trim what is near the
    colour of the corners, shrink the longer side to `size`, sharpen, extend the shorter side about
    the centre, negate, 8-bit gray. Three differ: shrinking averages pixels instead of skipping
    them, since a photo has noise; only a thing darker than its ground is negated; and the ground is
    levelled to exactly 0, be it white, gray or dark.

    Args:
        image: any mode and size; what is transparent becomes white, or black behind a thing that is
            nearly white itself.

    Returns:
        (size, size), mode "L", bright on black.

    Raises:
        ImageError: the photo, or the thing on it, is smaller than 8 pixels, or there is nothing but
            background.
    """
    trimmed, ground = _trim(image)
    bright = _bright_on_black(trimmed, ground)
    return _extend(_shrink(bright, size).filter(SHARPEN), size)


def _check_size(image: Image.Image, name: str) -> None:
    if min(image.size) < MIN_SIDE:
        raise ImageError(
            f"{name}: {image.width}×{image.height} pixels; at least {MIN_SIDE}×{MIN_SIDE} "
            "are needed: use a larger one"
        )


def _trim(image: Image.Image) -> tuple[Image.Image, tuple[int, ...]]:
    """Cut away the ground around the thing; the rest, in RGB, and the ground's colour."""
    _check_size(image, "photo")
    image = _without_transparency(image, white_on_black=True).convert("RGB")
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
            "go nearer"
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


def _shrink(image: Image.Image, size: int) -> Image.Image:
    """Resize so that the longer side is `size`; a small picture grows."""
    longest = max(image.size)
    width = max(round(image.width * size / longest), 1)
    height = max(round(image.height * size / longest), 1)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _extend(image: Image.Image, size: int, ground: tuple[int, ...] | int = 0) -> Image.Image:
    return ImageOps.pad(image, (size, size), color=ground)


def _without_transparency(image: Image.Image, white_on_black: bool = False) -> Image.Image:
    """The picture on an opaque ground, with 8 bits a channel.

    Args:
        white_on_black: lay what is nearly white itself on black, all else on white.
    """
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        opaque = image.getchannel("A").point([0] * 128 + [255] * 128)
        shown = ImageStat.Stat(image.convert("L"), opaque)
        white = bool(shown.count[0]) and shown.mean[0] > NEARLY_WHITE
        ground = "black" if white_on_black and white else "white"
        return Image.alpha_composite(Image.new("RGBA", image.size, ground), image)

    # 16 bits, which Pillow would clip instead of scale.
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    return image
