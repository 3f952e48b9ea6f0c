"""An image file from the real world to a network's pixels. NumPy and Pillow only: a bundle's client carries this file along."""

import warnings
from pathlib import Path

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
"""Of image files that are read, and their suffixes. Pillow has more, some of which start other programs."""
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
MIN_SIDE = 8
"""Pixels on a side below which a picture shows nothing that could be told."""
TOLERANCE = 0.05 * 255 * 3**0.5
"""Distance in RGB up to which a colour counts as the background's: the paper's 5 % of the largest one."""
WORKING_SIDE = 1024
"""A photo of twice this or more is first reduced to about this: noise averages out, and memory is spared."""
SHARPEN = ImageFilter.UnsharpMask(radius=1, percent=83, threshold=0)  # nearly ImageMagick's "-sharpen 1x1", the paper's


class ImageError(ValueError):
    """A file that cannot be read as an image; the message names it and says why."""


def open_image(path: str | Path) -> Image.Image:
    """Read an image file whole, turned as its EXIF tag says.

    Raises:
        ImageError: the file is missing, no image, cut short, smaller than 8×8 pixels, or so large that it may be a
            decompression bomb.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damage that does no harm
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=tuple(FORMATS)) as image:
                _check_size(image, f"image={str(path)!r}")
                image.load()
                return ImageOps.exif_transpose(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"image={str(path)!r} is too large to be unpacked safely: {error}") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"image={str(path)!r} is not an image of {', '.join(FORMATS)}") from error
    except ImageError:
        raise
    except Exception as error:  # on damaged files Pillow's decoders raise almost anything
        raise ImageError(f"image={str(path)!r} cannot be read as an image: {error}") from error


def is_gray(image: Image.Image) -> bool:
    return image.mode in GRAY_MODES


def to_pixels(image: Image.Image, *, size: int, channels: int, fit: str, photo: bool | None = None) -> np.ndarray:
    """Pixels uint8, (size, size) gray or (3, size, size) colour.

    Args:
        fit: how the data set was made, and pictures are by default: "pad" only resizes them; "mnist" takes one that has the
            very size and mode as it is, and any other for a photo.
        photo: True: the picture is a photo of one thing on a plain ground, so `prepare_photo`; in colour only trimmed, shrunk
            and padded with the ground's own colour, neither sharpened nor inverted. False: the whole picture is resized,
            the longer side to `size`, and padded with black, whatever it shows.

    Raises:
        ImageError: as `prepare_photo`, where the picture is taken for a photo.
    """
    mode = "L" if channels == 1 else "RGB"
    if photo is None:
        photo = fit == "mnist" and (image.size, image.mode) != ((size, size), mode)
    if not photo:
        fitted = _extend(_shrink(_plain(image).convert(mode), size), size)
    elif channels == 1:
        fitted = prepare_photo(image, size)
    else:
        trimmed, ground = _trim(image)
        fitted = _extend(_shrink(trimmed, size), size, ground)
    pixels = np.asarray(fitted, np.uint8)
    return pixels if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def prepare_photo(image: Image.Image, size: int = 28) -> Image.Image:
    """A photo of one thing on a plain ground as an image of Fashion-MNIST: (size, size), mode "L", bright on black.

    The steps are those of Xiao et al., 2017, "Fashion-MNIST", section 2: trim what is near the colour of the corners, shrink
    the longer side to `size`, sharpen, extend the shorter side about the centre, negate, 8-bit gray. Three differ: shrinking
    averages pixels instead of skipping them, since a photo has noise; only a thing darker than its ground is negated; and the
    ground is levelled to exactly 0, be it white, gray or dark.

    Args:
        image: any mode and size; what is transparent becomes white, or black behind a thing that is nearly white itself.

    Raises:
        ImageError: the photo, or the thing on it, is smaller than 8 pixels, or there is nothing but background.
    """
    trimmed, ground = _trim(image)
    return _extend(_shrink(_bright_on_black(trimmed, ground), size).filter(SHARPEN), size)


def _check_size(image: Image.Image, name: str) -> None:
    if min(image.size) < MIN_SIDE:
        raise ImageError(
            f"{name}: {image.width}×{image.height} pixels; at least {MIN_SIDE}×{MIN_SIDE} are needed: use a larger one"
        )


def _trim(image: Image.Image) -> tuple[Image.Image, tuple[int, ...]]:
    """What differs from the ground, in RGB, and the ground's colour."""
    _check_size(image, "photo")
    image = _plain(image, white_on_black=True).convert("RGB")
    image = image.reduce(max(max(image.size) // WORKING_SIDE, 1))
    pixels = np.asarray(image, np.float32)
    ground = _ground(pixels)
    differing = Image.fromarray(np.where(_distance(pixels, ground) > TOLERANCE, 255, 0).astype(np.uint8))
    crowded = differing.filter(ImageFilter.RankFilter(3, 6))  # three of nine differ, as on the thinnest line; noise is lonelier
    box = ImageChops.darker(differing, crowded.filter(ImageFilter.MaxFilter(3))).getbbox()
    if box is None:
        raise ImageError("nothing to be seen but background; show one thing on a plain ground of another colour")
    width, height = box[2] - box[0], box[3] - box[1]
    if max(width, height) < MIN_SIDE:
        raise ImageError(f"the thing on it is only {width}×{height} pixels; at least {MIN_SIDE} are needed: go nearer")
    return image.crop(box), tuple(int(value) for value in ground)


def _ground(pixels: np.ndarray) -> np.ndarray:
    """The colour (3,) of that corner which most of the border agrees with: the thing itself may reach into some corners."""
    reach = max(min(pixels.shape[:2]) // 32, 1)
    ends = (slice(reach), slice(-reach, None))
    corners = [np.median(pixels[y, x].reshape(-1, 3), 0) for y in ends for x in ends]
    border = np.concatenate((pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))
    return max(corners, key=lambda corner: int((_distance(border, corner) <= TOLERANCE).sum()))


def _distance(pixels: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return np.linalg.norm(pixels - colour, axis=-1)


def _bright_on_black(image: Image.Image, ground: tuple[int, ...]) -> Image.Image:
    """Gray, with the ground at 0 and what is farthest from it, black or white, at 255."""
    gray = np.asarray(image.convert("L"))
    level = float(np.asarray(Image.new("RGB", (1, 1), ground).convert("L"))[0, 0])
    contrast = (level - gray) / level if gray.mean() < level else (gray - level) / (255 - level)
    return Image.fromarray((contrast.clip(0, 1) * 255).round().astype(np.uint8))


def _shrink(image: Image.Image, size: int) -> Image.Image:
    """The longer side made `size`; a small picture grows."""
    longest = max(image.size)
    width, height = (max(round(side * size / longest), 1) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _extend(image: Image.Image, size: int, ground: tuple[int, ...] | int = 0) -> Image.Image:
    return ImageOps.pad(image, (size, size), color=ground)


def _plain(image: Image.Image, white_on_black: bool = False) -> Image.Image:
    """Without transparency (laid on white, or what is nearly white itself on black) and with 8 bits a channel."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        shown = ImageStat.Stat(image.convert("L"), image.getchannel("A").point([0] * 128 + [255] * 128))
        under = "black" if white_on_black and shown.count[0] and shown.mean[0] > 200 else "white"
        return Image.alpha_composite(Image.new("RGBA", image.size, under), image)
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip instead of scale
        return Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    return image
