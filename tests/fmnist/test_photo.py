"""Images from the real world: fitted, or refused in one line."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from fmnist.data import Split
from fmnist.photo import ImageError, open_image, to_pixels

PLAIN: dict[str, Any] = {"size": 28, "channels": 1, "fit": "mnist"}


def test_images_of_the_data_set_are_taken_as_they_are(official_test: Split) -> None:
    pixels = official_test.images[3].numpy()
    assert np.array_equal(to_pixels(Image.fromarray(pixels), **PLAIN), pixels)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "LA", "I;16", "1"])
def test_any_mode_and_size_is_fitted(mode: str, official_test: Split) -> None:
    photo = ImageOps.invert(Image.fromarray(official_test.images[0].numpy()).resize((140, 140)))  # an ankle boot on white
    image = Image.fromarray(np.asarray(photo, np.uint16) * 257) if mode == "I;16" else photo.convert(mode)
    pixels = to_pixels(image, **PLAIN)
    assert pixels.shape == (28, 28)
    assert pixels.dtype == np.uint8
    assert pixels[0].mean() < 30
    assert pixels.mean() > 30


def test_longer_side_fills_and_the_rest_is_centred() -> None:
    image = Image.new("L", (400, 400), 255)
    image.paste(0, (100, 50, 200, 350))  # a dark bar, 100 wide and 300 high
    pixels = to_pixels(image, **PLAIN)
    assert (pixels > 127).any(1).sum() == 28
    columns = np.flatnonzero((pixels > 127).any(0))
    assert 8 <= len(columns) <= 11
    assert abs((columns[0] + columns[-1]) / 2 - 13.5) <= 1


def test_colour_is_kept_and_nothing_inverted_where_pictures_are_only_padded() -> None:
    image = Image.new("RGB", (60, 30), (250, 20, 10))
    pixels = to_pixels(image, size=16, channels=3, fit="pad")
    assert pixels.shape == (3, 16, 16)
    assert pixels[:, 8, 8].tolist() == [250, 20, 10]
    assert pixels[:, 0].max() == 0


def png_of(width: int, height: int) -> bytes:
    """A PNG that claims to be of that size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def truncated() -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(buffer, "PNG")
    return buffer.getvalue()[:1000]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"hello", "is not an image"),
        (b"", "is not an image"),
        (truncated(), "cannot be read as an image"),
        (png_of(0, 0), "image="),
        (b"P5 0 0 255\n", "image="),
        (png_of(50_000, 50_000), "too large to be unpacked safely"),
        (png_of(11_000, 9_000), "too large to be unpacked safely"),
    ],
    ids=["text", "empty", "truncated", "0x0 png", "0x0 pgm", "bomb", "small bomb"],
)
def test_what_is_no_image_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=words):
        open_image(path)
    with pytest.raises(ImageError, match="cannot be read"):
        open_image(tmp_path / "none.png")
