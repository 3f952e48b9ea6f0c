"""Images from the real world: fitted, or refused in one line."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from fmnist.data.dataset import Split
from fmnist.data.picture import ImageError, open_image, prepare_photo, to_pixels

PLAIN: dict[str, Any] = {"size": 28, "channels": 1, "fit": "mnist"}


def test_images_of_the_data_set_are_taken_as_they_are(official_test: Split) -> None:
    pixels = official_test.images[3].numpy()
    assert np.array_equal(to_pixels(Image.fromarray(pixels), **PLAIN), pixels)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "LA", "I;16", "1"])
def test_any_mode_and_size_is_fitted(mode: str, official_test: Split) -> None:
    # An ankle boot on white.
    boot = Image.fromarray(official_test.images[0].numpy())
    photo = ImageOps.invert(boot.resize((140, 140)))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(photo, np.uint16) * 257)
    else:
        image = photo.convert(mode)

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


def shot(
    ground: Any = "white",
    thing: Any = "black",
    box: tuple[int, int, int, int] = (150, 60, 210, 300),
    size: tuple[int, int] = (400, 360),
) -> Image.Image:
    """A photo of a block, by default 60 wide and 240 high, off the centre."""
    image = Image.new("RGB", size, ground)
    ImageDraw.Draw(image).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=thing)
    return image


def columns_shown(pixels: np.ndarray) -> list[int]:
    return np.flatnonzero((pixels > 127).any(0)).tolist()


BLOCK = list(range(10, 17))
"""240×60 pixels become 28×7, in the middle as far as an odd width goes."""


@pytest.mark.parametrize(
    ("ground", "thing"),
    [
        ("white", "black"),
        ("black", "white"),
        ((243, 240, 236), (20, 30, 60)),
        ((35, 30, 40), (220, 200, 210)),
        ((120, 120, 120), (250, 250, 250)),
        ((190, 190, 190), (10, 10, 10)),
    ],
)
def test_thing_becomes_bright_on_black_whatever_the_ground(ground: Any, thing: Any) -> None:
    pixels = np.asarray(prepare_photo(shot(ground, thing)))
    assert (pixels.shape, pixels.dtype) == ((28, 28), np.uint8)
    assert columns_shown(pixels) == BLOCK
    assert (pixels > 127)[:, BLOCK].all()
    assert pixels[:, :9].max() == 0
    assert pixels[:, 18:].max() == 0


@pytest.mark.parametrize(
    "thing", [(255, 255, 200), (255, 232, 236), (225, 245, 255), (238, 238, 238)]
)
def test_light_thing_on_white_is_found_by_its_colour(thing: tuple[int, int, int]) -> None:
    pixels = np.asarray(prepare_photo(shot("white", thing)))
    assert np.flatnonzero(pixels.any(0)).tolist() == BLOCK
    assert pixels.any(1).all()


def test_gray_levels_are_the_negative_of_the_photos() -> None:
    photo = shot(box=(100, 0, 340, 240))
    for number, level in enumerate((0, 85, 170)):
        photo.paste((level,) * 3, (100, 80 * number, 340, 80 * number + 80))

    pixels = np.asarray(prepare_photo(photo))
    assert pixels[[4, 13, 23], 14].tolist() == pytest.approx([255, 170, 85], abs=3)


def test_sharpening_raises_the_contrast_at_edges_only() -> None:
    photo = shot(thing=(150, 150, 150), box=(50, 50, 290, 290))
    photo.paste((100, 100, 100), (170, 50, 290, 290))

    row = np.asarray(prepare_photo(photo))[14].astype(int)
    assert row[4] == row[8] == 105
    assert row[20] == row[24] == 155
    assert row[13] < 100
    assert row[14] > 160


def test_place_size_noise_and_compression_change_little() -> None:
    first = np.asarray(prepare_photo(shot(thing=(60, 90, 130)))).astype(int)
    large = shot(thing=(60, 90, 130), box=(1500, 2000, 1800, 3200), size=(2400, 3400))

    noise = np.random.default_rng(0).normal(0, 4, (360, 400, 3))
    pixels = np.asarray(shot((240, 240, 235), (60, 90, 130))) + noise
    noisy = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    noisy.putpixel((5, 340), (0, 0, 0))  # a dead pixel of the camera

    file = io.BytesIO()
    shot(thing=(60, 90, 130)).save(file, "JPEG", quality=75)

    for photo in (large, noisy, Image.open(file)):
        assert np.abs(np.asarray(prepare_photo(photo)) - first).mean() < 6


def test_thing_may_reach_into_corners_and_be_thin() -> None:
    in_one_corner = np.asarray(prepare_photo(shot(box=(100, 60, 400, 360))))
    assert (in_one_corner > 127).all()

    line = shot(box=(100, 100, 101, 200))
    assert np.asarray(prepare_photo(line))[:, 14].min() > 127


def test_transparent_ground_is_told_from_the_thing() -> None:
    for thing in ("black", "white"):
        photo = shot("red", thing).convert("RGBA")
        photo.putalpha(shot("black", "white").convert("L"))

        pixels = np.asarray(prepare_photo(photo))
        assert columns_shown(pixels) == BLOCK
        assert pixels[:, :9].max() == 0


def test_colours_photo_is_trimmed_and_centred_on_its_own_ground() -> None:
    photo = shot((240, 250, 240), (200, 30, 60))
    pixels = to_pixels(photo, size=28, channels=3, fit="pad", photo=True)
    assert pixels[:, 14, 13].tolist() == [200, 30, 60]
    assert pixels[:, 14, 2].tolist() == pixels[:, 27, 27].tolist() == [240, 250, 240]
    assert np.flatnonzero((pixels[1] < 127).any(0)).tolist() == BLOCK


def test_photo_or_not_is_as_one_says() -> None:
    ready = Image.fromarray(np.pad(np.full((14, 14), 200, np.uint8), ((0, 14), (0, 14))))
    assert np.array_equal(to_pixels(ready, **PLAIN), np.asarray(ready))
    assert np.array_equal(to_pixels(ready, **PLAIN, photo=False), np.asarray(ready))
    assert to_pixels(ready, **PLAIN, photo=True).min() > 127

    resized = to_pixels(shot(), **PLAIN, photo=False)
    assert resized[14, 1] == 255
    assert resized[0, 14] == 0  # padded, and nothing inverted
    assert np.array_equal(to_pixels(shot(), **PLAIN), np.asarray(prepare_photo(shot())))


@pytest.mark.parametrize(
    ("photo", "words"),
    [
        (Image.new("RGB", (300, 200), "white"), "nothing to be seen but background"),
        (Image.new("L", (300, 200), 0), "nothing to be seen but background"),
        (Image.new("RGBA", (300, 200), (200, 0, 0, 0)), "nothing to be seen but background"),
        (Image.new("RGB", (300, 7)), "300×7 pixels; at least 8×8"),
        (Image.new("RGB", (0, 0)), "0×0 pixels; at least 8×8"),
        (shot(box=(100, 100, 105, 106)), "only 5×6 pixels; at least 8 .* go nearer"),
    ],
    ids=["white", "black", "transparent", "narrow", "of no pixels", "speck"],
)
def test_photo_of_nothing_is_refused(photo: Image.Image, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        prepare_photo(photo)


def test_colour_is_kept_and_nothing_inverted_where_pictures_are_only_padded() -> None:
    image = Image.new("RGB", (60, 30), (250, 20, 10))
    pixels = to_pixels(image, size=16, channels=3, fit="pad")
    assert pixels.shape == (3, 16, 16)
    assert pixels[:, 8, 8].tolist() == [250, 20, 10]
    assert pixels[:, 0].max() == 0


def png_of(width: int, height: int) -> bytes:
    """A PNG that claims to be of that size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


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
        (png_of(7, 90), "7×90 pixels; at least 8×8 are needed"),
        (png_of(50_000, 50_000), "too large to be unpacked safely"),
        (png_of(11_000, 9_000), "too large to be unpacked safely"),
    ],
    ids=["text", "empty", "truncated", "0x0 png", "0x0 pgm", "narrow", "bomb", "small bomb"],
)
def test_what_is_no_image_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=words):
        open_image(path)

    with pytest.raises(ImageError, match="cannot be read"):
        open_image(tmp_path / "none.png")
