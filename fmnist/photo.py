"""An image file from the real world to a network's pixels. NumPy and Pillow only: a bundle's client carries this file along."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

GRAY_MODES = ("1", "L", "LA", "I", "F", "I;16", "I;16B", "I;16L")


class ImageError(ValueError):
    """A file that cannot be read as an image; the message names it and says why."""


def open_image(path: str | Path) -> Image.Image:
    """Read an image file whole, turned as its EXIF tag says.

    Raises:
        ImageError: the file is missing, no image, cut short, of no pixels, or so large that it may be a decompression bomb.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                image.load()
                if min(image.size) < 1:
                    raise ImageError(f"image={str(path)!r}: it is {image.width}×{image.height} pixels")
                return ImageOps.exif_transpose(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"image={str(path)!r} is too large to be unpacked safely: {error}") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"image={str(path)!r} is not an image that Pillow can read") from error
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow's decoders raise on damaged files
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"image={str(path)!r} cannot be read as an image: {error}") from error


def is_gray(image: Image.Image) -> bool:
    return image.mode in GRAY_MODES


def to_pixels(image: Image.Image, *, size: int, channels: int, fit: str) -> np.ndarray:
    """Pixels uint8, (size, size) gray or (3, size, size) colour.

    Args:
        fit: "pad" shrinks or grows the longer side to `size` and pads the other with black, whatever the image shows; "mnist"
            is for photos of one thing on a plain ground: gray, inverted if the border is bright, trimmed to what differs from
            the border, then padded (after the data set paper, Xiao et al., 2017, section 2). An image that has the very
            size and mode is taken as it is.
    """
    mode = "L" if channels == 1 else "RGB"
    if image.size == (size, size) and image.mode == mode:
        fitted = image
    else:
        plain = _plain(image).convert(mode)
        fitted = ImageOps.pad(_trimmed(plain) if fit == "mnist" else plain, (size, size), Image.Resampling.LANCZOS)
    pixels = np.asarray(fitted, np.uint8)
    return pixels if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _plain(image: Image.Image) -> Image.Image:
    """Without transparency (laid on white) and with 8 bits a channel."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip instead of scale
        return Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    return image


def _trimmed(image: Image.Image) -> Image.Image:
    edge = np.asarray(image.convert("L"))
    border = np.concatenate((edge[0], edge[-1], edge[:, 0], edge[:, -1]))
    if np.median(border) > 127:
        image = ImageOps.invert(image)
    box = image.convert("L").point([255 * (value > 24) for value in range(256)]).getbbox()
    return image.crop(box) if box else image
