"""Read an image file from the real world, or say what is wrong with it.

Pillow only: the client of an exported bundle carries a copy of this file.
"""

import functools
import io
import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, ImageOps, UnidentifiedImageError

# Pillow's own limit is one for the whole process, and it tells of a picture above it by a warning.
# Warnings cannot be caught in one thread alone, and an import reads in several. `open_image` looks
# at each picture's size itself, before any pixel is unpacked.
Image.MAX_IMAGE_PIXELS = None
# Pillow warns of damage that does no harm, such as EXIF data cut short.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

FORMATS = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
"""Image formats that are read everywhere, and their suffixes; `formats` may have more. Pillow has
some that start other programs."""
OTHER_SUFFIXES = (
    *(".heic", ".heif", ".hif", ".avif", ".jxl", ".jp2", ".j2k", ".jpx", ".jpf", ".jxr"),
    *(".svg", ".svgz", ".eps", ".ai", ".wmf", ".emf", ".psd", ".psb", ".xcf", ".kra"),
    *(".raw", ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".orf"),
    *(".rw2", ".raf", ".pef", ".srw", ".x3f", ".3fr", ".erf", ".kdc", ".mrw", ".iiq"),
    *(".ico", ".icns", ".tga", ".pcx", ".dds", ".hdr", ".exr", ".pfm", ".fits", ".dcm", ".dicom"),
)
"""Suffixes of other pictures, so that one that is not read can be named."""
MAX_PIXELS = 2**30 // 4 // 3
"""Pixels of a picture that are unpacked, at most: 89 million, from which Pillow itself warns."""
MOST_REDUCED = 4
"""A JPEG that is unpacked reduced may have so many times the limit: larger than any camera's."""
MIN_SIDE = 8
"""Pixels on a side below which a picture shows nothing that could be recognised."""
SPARE = 2
"""A JPEG is unpacked reduced where that leaves so many times the network's side, or more."""
BEGINNING, ENDING = 2**16, 64
"""Bytes of a damaged file that are looked at to say what it lacks."""


LOST_BITS = "lost bits"
"""Key of a picture's `info`: whether its colours had 16 bits, of which the upper 8 are left."""
ImageFile = str | Path | bytes | bytearray | memoryview | BinaryIO


class ImageError(ValueError):
    """A picture that cannot be used; the message names it and says why.

    Args:
        kind: "unreadable", "cut short", "empty", "too large" or "too small".
    """

    def __init__(self, message: str, kind: str = "unreadable") -> None:
        super().__init__(message)
        self.kind = kind


@functools.cache
def formats() -> dict[str, tuple[str, ...]]:
    """Formats that are read here, and their suffixes: AVIF and HEIC where Pillow can."""
    found: dict[str, tuple[str, ...]] = dict(FORMATS)
    with suppress(ImportError):
        # Here: Pillow below 11.3 has no such module.
        from PIL import AvifImagePlugin

        if AvifImagePlugin.SUPPORTED:
            found["AVIF"] = (".avif",)
    with suppress(ImportError):
        # Here: a plugin that few have installed.
        import pillow_heif  # pyright: ignore[reportMissingImports]

        pillow_heif.register_heif_opener()
        found["HEIF"] = (".heic", ".heif", ".hif")
    return found


@functools.cache
def suffixes() -> tuple[str, ...]:
    """Suffixes of the pictures that are read here, in lower case."""
    return tuple(suffix for several in formats().values() for suffix in several)


@functools.cache
def unread_suffixes() -> tuple[str, ...]:
    """Suffixes of pictures that are not read here, in lower case."""
    return tuple(suffix for suffix in OTHER_SUFFIXES if suffix not in suffixes())


def open_image(
    file: ImageFile,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
    reduce_to: tuple[int, int] | None = None,
) -> Image.Image:
    """Read an image file whole, turned as its EXIF tag says.

    Args:
        file: its path, its content, or a file opened for reading bytes.
        name: what errors call it; by default its path.
        max_pixels: pixels that are unpacked, at most: four bytes of memory each.
        reduce_to: the height and width in pixels that it will be fitted to. A JPEG far larger is
            unpacked at a half, a quarter or an eighth, which is faster and takes less memory; it
            keeps twice the longer of these sides.

    Raises:
        ImageError: the file is missing, no image, cut short, smaller than 8×8 pixels, or larger
            than allowed.
    """
    called = named(file, name)
    content = io.BytesIO(file) if isinstance(file, bytes | bytearray | memoryview) else file
    try:
        with Image.open(content, formats=tuple(formats())) as image:
            check_size(image, called)
            whole = image.width * image.height
            _reduce(image, reduce_to)
            _check_pixels(image, whole, called, max_pixels)
            cut = _loses_bits(image)
            image.load()
            image.info[LOST_BITS] = cut
            # A picture whose tag is damaged is whole all the same.
            with suppress(Exception):
                ImageOps.exif_transpose(image, in_place=True)
            return image
    except ImageError:
        raise
    except Exception as error:  # on damaged files Pillow's decoders raise almost anything
        raise _explain(error, content, called) from error


def _loses_bits(image: Image.Image) -> bool:
    """Whether a picture that is not loaded yet has colours of 16 bits, of which Pillow keeps 8."""
    # A tile's last part is how the file has its pixels: "RGB;16B".
    tiles: list[tuple[Any, ...]] = getattr(image, "tile", [])
    return image.mode.startswith("RGB") and any(";16" in str(tile[3]) for tile in tiles)


def named(file: ImageFile, name: str | None) -> str:
    """What errors call a picture."""
    if name is None and isinstance(file, str | Path):
        name = str(file)
    return f"image={name!r}" if name is not None else "image"


def check_size(image: Image.Image, name: str) -> None:
    """Raise ImageError if a picture is smaller than 8×8 pixels."""
    if min(image.size) < MIN_SIDE:
        raise ImageError(
            f"{name}: {image.width}×{image.height} pixels; at least {MIN_SIDE}×{MIN_SIDE} "
            "are needed: use a larger one",
            "too small",
        )


def _reduce(image: Image.Image, reduce_to: tuple[int, int] | None) -> None:
    """Have a JPEG unpacked at a half, a quarter or an eighth where it is so much larger."""
    if reduce_to is None or image.format not in ("JPEG", "MPO"):
        return
    # The longer one for both: EXIF may turn the picture.
    side = SPARE * max(reduce_to)
    if min(image.size) >= 2 * side:
        image.draft(None, (side, side))


def _check_pixels(image: Image.Image, whole: int, name: str, max_pixels: int) -> None:
    """Raise ImageError if more pixels would be unpacked than allowed.

    Args:
        whole: pixels of the picture as it lies in its file.
    """
    # A progressive JPEG is held whole, however much it is reduced. Others may be too, and show it
    # nowhere: hence a limit for them as well.
    most = max_pixels if image.info.get("progressive") else MOST_REDUCED * max_pixels
    if image.width * image.height > max_pixels or whole > most:
        raise ImageError(
            f"{name} is too large to be unpacked: {whole / 1e6:,.0f} million pixels; at most "
            f"{max_pixels / 1e6:,.0f} million are allowed: make it smaller, or raise --max-pixels",
            "too large",
        )


def _explain(error: Exception, file: Any, name: str) -> ImageError:
    """What is wrong with a file on which Pillow has raised an error."""
    if isinstance(error, MemoryError):
        return ImageError(f"{name} is too large for this machine's memory", "too large")

    start, size, end = _ends(file)
    if size == 0:
        return ImageError(f"{name} is not an image: the file is empty", "empty")
    if size > 0 and _is_cut(start, size, end, str(error)):
        return ImageError(
            f"{name} cannot be read as an image: it is cut short after {size:,} bytes; "
            "copy it again",
            "cut short",
        )
    if isinstance(error, UnidentifiedImageError):
        return ImageError(f"{name} is not an image of {', '.join(formats())}")
    return ImageError(f"{name} cannot be read as an image: {error}")


def _ends(file: Any) -> tuple[bytes, int, bytes]:
    """A file's first bytes, its size, and its last bytes; size -1 if it cannot be read."""
    try:
        if isinstance(file, str | Path):
            with open(file, "rb") as opened:
                return _ends(opened)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - ENDING, 0))
        end = file.read(ENDING)
        file.seek(0)
        return file.read(BEGINNING), size, end
    except (OSError, ValueError):
        return b"", -1, b""


def _is_cut(start: bytes, size: int, end: bytes, message: str) -> bool:
    """Whether a file lacks its end: by what its format says, or else by Pillow's words."""
    if start.startswith(b"\x89PNG"):
        return b"IEND" not in end
    if start.startswith(b"\xff\xd8"):
        return b"\xff\xd9" not in end
    if start.startswith(b"GIF8") and not end.endswith(b";"):
        return True
    return _promised_size(start) > size or "truncated" in message.lower()


def _promised_size(start: bytes) -> int:
    """The size that a file's beginning promises at least; 0 if its format is not known."""
    if start.startswith(b"RIFF"):
        return int.from_bytes(start[4:8], "little") + 8
    # TIFF: where its directory lies.
    if start.startswith(b"II*\0"):
        return int.from_bytes(start[4:8], "little") + 1
    if start.startswith(b"MM\0*"):
        return int.from_bytes(start[4:8], "big") + 1
    if start[4:8] != b"ftyp":
        return 0

    # AVIF and HEIC are boxes one after another, each with its length in front.
    promised = 0
    while len(start[promised : promised + 8]) >= 8:
        length = int.from_bytes(start[promised : promised + 4], "big")
        # 0 and 1 stand for what is longer than four bytes can say.
        if length < 8:
            break
        promised += length
    return promised
