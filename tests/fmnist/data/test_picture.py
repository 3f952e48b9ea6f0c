"""Pictures from the real world, fitted to a network's input."""

import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw, ImageOps

from fmnist.data.dataset import Split
from fmnist.data.image_file import LOST_BITS, ImageError, open_image
from fmnist.data.info import DataInfo
from fmnist.data.picture import (
    PAD_COLOURS,
    Fit,
    deep_range,
    is_gray,
    prepare_photo,
    read_pixels,
    to_pixels,
)
from tests.pictures import deep_png, magnetic_resonance, photo_files, real_pictures, seen_through

MNIST = Fit(28, 28, 1, "mnist")
CHINA, FLOWER, HOPPER = photo_files()


def test_images_of_the_data_set_are_taken_as_they_are(official_test: Split) -> None:
    pixels = official_test.images.pixels[3].numpy()
    assert np.array_equal(to_pixels(Image.fromarray(pixels), MNIST), pixels)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "LA", "I;16", "1"])
def test_any_mode_and_size_is_fitted(mode: str, official_test: Split) -> None:
    # An ankle boot on white.
    boot = Image.fromarray(official_test.images.pixels[0].numpy())
    photo = ImageOps.invert(boot.resize((140, 140)))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(photo, np.uint16) * 257)
    else:
        image = photo.convert(mode)

    pixels = to_pixels(image, MNIST)
    assert pixels.shape == (28, 28)
    assert pixels.dtype == np.uint8
    assert pixels[0].mean() < 30
    assert pixels.mean() > 30


def test_longer_side_fills_and_the_rest_is_centred() -> None:
    image = Image.new("L", (400, 400), 255)
    image.paste(0, (100, 50, 200, 350))  # a dark bar, 100 wide and 300 high
    pixels = to_pixels(image, MNIST)
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
    pixels = to_pixels(photo, Fit(28, 28, 3), photo=True)
    assert pixels[:, 14, 13].tolist() == [200, 30, 60]
    assert pixels[:, 14, 2].tolist() == pixels[:, 27, 27].tolist() == [240, 250, 240]
    assert np.flatnonzero((pixels[1] < 127).any(0)).tolist() == BLOCK


def test_photo_or_not_is_as_one_says() -> None:
    ready = Image.fromarray(np.pad(np.full((14, 14), 200, np.uint8), ((0, 14), (0, 14))))
    assert np.array_equal(to_pixels(ready, MNIST), np.asarray(ready))
    assert np.array_equal(to_pixels(ready, MNIST, photo=False), np.asarray(ready))
    assert to_pixels(ready, MNIST, photo=True).min() > 127

    resized = to_pixels(shot(), MNIST, photo=False)
    assert resized[14, 1] == 255
    assert resized[0, 14] == 0  # padded, and nothing inverted
    assert np.array_equal(to_pixels(shot(), MNIST), np.asarray(prepare_photo(shot())))


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


def test_photo_is_prepared_for_a_rectangle() -> None:
    # 240×60 pixels become 28×7 in 28×50.
    pixels = np.asarray(prepare_photo(shot(), 28, 50))
    assert pixels.shape == (28, 50)
    assert columns_shown(pixels) == list(range(22, 29))
    assert (pixels > 127)[:, 22:29].all()

    photo = shot((240, 250, 240), (200, 30, 60))
    colour = to_pixels(photo, Fit(28, 50, 3), photo=True)
    assert colour.shape == (3, 28, 50)
    assert colour[:, 14, 24].tolist() == [200, 30, 60]
    assert colour[:, 14, 2].tolist() == [240, 250, 240]


# Fitting whole pictures

SIZES = [(28, 28, 1), (28, 28, 3), (32, 48, 3), (48, 20, 1), (64, 64, 3)]


def near(found: np.ndarray, expected: Any, most: float, mean: float) -> bool:
    differences = np.abs(found.astype(int) - np.asarray(expected, int))
    return bool(differences.max() <= most and differences.mean() <= mean)


def channels_last(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.ndim == 2 else pixels.transpose(1, 2, 0)


@pytest.mark.parametrize(("height", "width", "channels"), SIZES)
def test_a_photo_is_stretched_cropped_and_padded_as_pillow_does(
    height: int, width: int, channels: int
) -> None:
    lanczos = Image.Resampling.LANCZOS
    for picture in real_pictures():
        whole = picture.convert("L" if channels == 1 else "RGB")
        ways = {
            "stretch": whole.resize((width, height), lanczos),
            "crop": ImageOps.fit(whole, (width, height), lanczos),
            "pad": ImageOps.pad(whole, (width, height), lanczos),
        }
        for how, expected in ways.items():
            pixels = to_pixels(picture, Fit(height, width, channels, how))
            assert pixels.dtype == np.uint8
            assert pixels.shape == ((height, width) if channels == 1 else (3, height, width))
            # Pillow's first step, a mean over blocks, blurs a sharp edge a little.
            assert near(channels_last(pixels), expected, 20, 0.7)


def test_a_photo_of_the_very_size_stays_as_it_is() -> None:
    photo = real_pictures()[0].crop((100, 100, 148, 132))
    for how in ("pad", "crop", "stretch"):
        pixels = to_pixels(photo, Fit(32, 48, 3, how, "edge"))
        assert np.array_equal(channels_last(pixels), np.asarray(photo))


def test_small_pictures_grow() -> None:
    photo = real_pictures()[0].resize((12, 9))
    for how in ("pad", "crop", "stretch"):
        assert to_pixels(photo, Fit(96, 128, 3, how)).shape == (3, 96, 128)


def test_what_lies_beside_a_padded_photo() -> None:
    photo = real_pictures()[2]  # upright: 512×600 becomes 41×48, with 18 and 19 columns beside
    padded = {colour: to_pixels(photo, Fit(48, 78, 3, "pad", colour)) for colour in PAD_COLOURS}
    inside = padded["black"][:, :, 18:59]
    for pixels in padded.values():
        assert np.array_equal(pixels[:, :, 18:59], inside)

    beside = {
        colour: np.concatenate((pixels[:, :, :18], pixels[:, :, 59:]), 2)
        for colour, pixels in padded.items()
    }
    assert (beside["black"] == 0).all()
    assert (beside["white"] == 255).all()
    mean = np.asarray(photo, float).mean((0, 1))
    assert np.abs(beside["mean"] - mean[:, None, None]).max() <= 1
    assert (padded["edge"][:, :, :18] == inside[:, :, :1]).all()
    assert (padded["edge"][:, :, 59:] == inside[:, :, -1:]).all()

    # Above and below likewise, in gray.
    wide = to_pixels(real_pictures()[3], Fit(40, 22, 1, "pad", "edge"))
    assert (wide[:14] == wide[14]).all()
    assert (wide[26:] == wide[25]).all()
    assert wide[14:26].std() > 20


@pytest.mark.parametrize("colour", PAD_COLOURS)
@pytest.mark.parametrize("how", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("channels", [1, 3])
def test_transparency_is_laid_on_the_pad_colour(how: str, colour: str, channels: int) -> None:
    picture = seen_through()
    mode = "L" if channels == 1 else "RGB"
    grounds: dict[str, Any] = {"edge": "white", "black": "black", "white": "white"}
    if colour == "mean":
        values = np.asarray(picture, float)
        alpha = values[..., 3:]
        means = (values[..., :3] * alpha).sum((0, 1)) / alpha.sum()
        grounds["mean"] = tuple(int(value) for value in means.round())

    laid = Image.new("RGBA", picture.size, grounds[colour])
    laid.alpha_composite(picture)
    fit = Fit(30, 40, channels, how, colour)
    expected = to_pixels(laid.convert("RGB").convert(mode), fit)
    found = to_pixels(picture, fit)
    if how == "crop" and colour == "mean":
        # Its mean is that of the part that is shown.
        assert near(found, expected, 40, 12)
        return
    # Of a bright colour that shrinking sharpens less is cut off.
    assert near(found, expected, 24, 0.6)


def test_a_picture_that_is_all_transparent_is_its_ground() -> None:
    empty = Image.new("RGBA", (40, 30), (200, 10, 10, 0))
    for colour, level in {"edge": 255, "white": 255, "black": 0, "mean": 255}.items():
        for channels in (1, 3):
            pixels = to_pixels(empty, Fit(20, 20, channels, "pad", colour))
            assert (pixels == level).all()


# Kinds of pixels


def saved(picture: Image.Image, path: Path, **options: Any) -> Image.Image:
    picture.save(path, **options)
    return open_image(path)


def test_every_kind_of_eight_bits_is_the_photo_again(tmp_path: Path) -> None:
    photo = real_pictures()[1]
    fit = Fit(32, 48, 3, "pad", "edge")
    expected = to_pixels(photo, fit)
    assert near(to_pixels(saved(photo.convert("CMYK"), tmp_path / "a.jpg"), fit), expected, 20, 3)
    assert near(to_pixels(saved(photo.convert("YCbCr"), tmp_path / "b.jpg"), fit), expected, 20, 3)
    assert near(to_pixels(saved(photo.quantize(256), tmp_path / "c.png"), fit), expected, 40, 1.5)
    assert near(to_pixels(saved(photo, tmp_path / "d.avif"), fit), expected, 20, 3)
    assert np.array_equal(
        to_pixels(saved(photo.convert("RGBA"), tmp_path / "e.png"), fit), expected
    )
    assert np.array_equal(
        to_pixels(saved(photo, tmp_path / "f.webp", lossless=True), fit), expected
    )

    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(photo, *profiles, outputMode="LAB")
    assert lab is not None
    picture = saved(lab, tmp_path / "g.tif")
    assert picture.mode == "LAB"
    assert near(to_pixels(picture, fit), expected, 20, 5)  # its black is no deeper
    assert to_pixels(picture, Fit(32, 48, 1)).shape == (32, 48)
    gray = photo.convert("L")
    plain = to_pixels(gray, fit)
    assert np.array_equal(to_pixels(saved(gray.convert("LA"), tmp_path / "h.png"), fit), plain)
    assert is_gray(open_image(tmp_path / "h.png"))
    assert not is_gray(open_image(tmp_path / "c.png"))


def test_a_palette_and_a_colour_that_stand_for_transparency(tmp_path: Path) -> None:
    photo = real_pictures()[1]
    palette = photo.quantize(64)
    content = bytes([0] * 32 + [255] * 32)
    picture = saved(palette, tmp_path / "palette.png", transparency=content)
    assert picture.mode == "P"
    shown = np.asarray(palette) >= 32
    values = np.where(shown[..., None], np.asarray(palette.convert("RGB")), 255).astype(np.uint8)
    for channels in (1, 3):
        fit = Fit(32, 48, channels, "pad", "white")
        assert near(to_pixels(picture, fit), to_pixels(Image.fromarray(values), fit), 40, 2)

    keyed = Image.new("RGB", (40, 40), (255, 0, 255))
    keyed.paste((10, 200, 30), (0, 0, 20, 40))
    picture = saved(keyed, tmp_path / "key.png", transparency=(255, 0, 255))
    pixels = to_pixels(picture, Fit(40, 40, 3, "pad", "black"))
    assert pixels[:, 20, 5].tolist() == [10, 200, 30]
    assert pixels[:, 20, 35].tolist() == [0, 0, 0]


def test_one_bit_and_gray_become_equal_channels(tmp_path: Path) -> None:
    bits = saved(real_pictures()[3].convert("1"), tmp_path / "bits.png")
    assert bits.mode == "1"
    assert is_gray(bits)
    gray = to_pixels(bits, Fit(30, 55, 1))
    assert np.array_equal(to_pixels(bits, Fit(30, 55, 3)), np.broadcast_to(gray, (3, 30, 55)))
    assert np.array_equal(gray, to_pixels(bits.convert("L"), Fit(30, 55, 1)))


# More than 8 bits


def test_twelve_bits_in_a_png_of_sixteen_keep_their_contrast(tmp_path: Path) -> None:
    scan = magnetic_resonance() * 19  # up to 4,085 of 4,095
    picture = saved(Image.fromarray(scan), tmp_path / "scan.png")
    assert picture.mode == "I;16"
    assert deep_range(picture) == (0, 4085)

    fit = Fit(256, 256, 1, "pad", "black", (0, 4095))
    expected = (scan / 4095 * 255).round()
    assert near(to_pixels(picture, fit), expected, 0, 0)
    assert len(np.unique(to_pixels(picture, fit))) > 150

    # Without a range it is that of 16 bits, which leaves sixteen levels.
    unscaled = to_pixels(picture, Fit(256, 256, 1))
    assert np.array_equal(unscaled, (scan / 257).round())
    assert unscaled.max() == 16
    # Beyond the range it is clipped.
    assert to_pixels(picture, Fit(256, 256, 1, pixel_range=(1000, 2000))).max() == 255
    small = to_pixels(picture, Fit(64, 40, 3, "crop", "mean", (0, 4095)))
    assert small.shape == (3, 64, 40)
    assert small.max() > 200


@pytest.mark.parametrize("kind", ["<u2", ">u2", "<i4"])
def test_sixteen_bits_in_tiffs_of_either_order(kind: str, tmp_path: Path) -> None:
    scan = magnetic_resonance() * 300  # up to 64,500
    if kind == "<i4":
        Image.fromarray(scan.astype(np.int32)).save(tmp_path / "scan.tif")
    else:
        mode = "I;16B" if kind == ">u2" else "I;16"
        big = Image.frombytes(mode, (256, 256), scan.astype(kind).tobytes())
        big.save(tmp_path / "scan.tif")
    picture = open_image(tmp_path / "scan.tif")
    assert deep_range(picture) == (0, 64_500)
    assert is_gray(picture)
    assert np.array_equal(to_pixels(picture, Fit(256, 256, 1)), (scan / 257).round())


def test_integers_beyond_sixteen_bits_are_scaled_by_their_own_range(tmp_path: Path) -> None:
    scan = magnetic_resonance().astype(np.int32) * 1000 - 50_000
    picture = saved(Image.fromarray(scan), tmp_path / "scan.tif")
    assert picture.mode == "I"
    assert deep_range(picture) == (-50_000, 165_000)
    pixels = to_pixels(picture, Fit(256, 256, 1))
    assert near(pixels, (scan + 50_000) / 215_000 * 255, 1, 1)
    assert (pixels.min(), pixels.max()) == (0, 255)


def test_float_tiffs_are_scaled_from_0_to_1_or_by_a_range(tmp_path: Path) -> None:
    gray = np.asarray(real_pictures()[3], np.float32)
    picture = saved(Image.fromarray(gray / 255), tmp_path / "unit.tif")
    assert picture.mode == "F"
    assert np.array_equal(to_pixels(picture, Fit(120, 220, 1)), gray)
    low, high = deep_range(picture) or (0, 0)
    assert (low, high) == pytest.approx((gray.min() / 255, gray.max() / 255))

    # Beyond 0 to 1 its own range, or that of the set.
    picture = saved(Image.fromarray(gray * 40 - 300), tmp_path / "wide.tif")
    own = to_pixels(picture, Fit(120, 220, 1))
    assert (own.min(), own.max()) == (0, 255)
    ranged = Fit(120, 220, 1, pixel_range=(-300, 40 * 255 - 300))
    assert near(to_pixels(picture, ranged), gray, 1, 0.1)


def test_what_is_no_number_is_no_part_of_the_range(tmp_path: Path) -> None:
    values = np.asarray(real_pictures()[3], np.float32) / 255
    values[:5], values[5:9], values[9:12] = np.nan, np.inf, -np.inf
    picture = saved(Image.fromarray(values), tmp_path / "holes.tif")
    assert deep_range(picture) == pytest.approx((values[12:].min(), values[12:].max()))

    pixels = to_pixels(picture, Fit(120, 220, 1))
    assert (pixels[:5] == 0).all()
    assert (pixels[5:9] == 255).all()
    assert (pixels[9:12] == 0).all()
    nothing = Image.fromarray(np.full((20, 20), np.nan, np.float32))
    assert deep_range(nothing) is None
    assert (to_pixels(nothing, Fit(20, 20, 1)) == 0).all()
    even = Image.fromarray(np.full((20, 20), 7.5, np.float32))
    assert (to_pixels(even, Fit(20, 20, 1)) == 0).all()
    assert deep_range(real_pictures()[0]) is None


def test_sixteen_bits_of_colour_are_read_as_eight() -> None:
    photo = np.asarray(real_pictures()[1])
    picture = open_image(deep_png(photo.astype(np.uint16) * 257))
    assert picture.mode == "RGB"
    assert picture.info[LOST_BITS]
    assert np.array_equal(np.asarray(picture), photo)
    assert deep_range(picture) is None
    assert not open_image(photo_files()[0]).info[LOST_BITS]


# What an import and a client share


def test_a_file_gives_the_same_pixels_by_its_path_and_by_its_content() -> None:
    for path in photo_files():
        fit = Fit(24, 36, 3, "crop", "mean")
        by_path = read_pixels(path, fit)
        assert np.array_equal(by_path, read_pixels(path.read_bytes(), fit))
        image = open_image(path, reduce_to=(24, 36))
        assert image.width < 400
        assert np.array_equal(by_path, to_pixels(image, fit, photo=False))
        # A JPEG that was unpacked reduced shows the same.
        assert near(by_path, to_pixels(open_image(path), fit), 20, 1.5)


def test_a_photo_of_a_thing_is_not_reduced_before_it_is_trimmed(tmp_path: Path) -> None:
    photo = shot(box=(150, 60, 165, 120))
    photo.save(tmp_path / "thing.jpg", quality=95)
    assert MNIST.reduce_to() is None
    assert Fit(28, 28, 3).reduce_to(photo=True) is None
    assert MNIST.reduce_to(photo=False) == (28, 28)
    expected = to_pixels(open_image(tmp_path / "thing.jpg"), MNIST)
    assert np.array_equal(read_pixels(tmp_path / "thing.jpg", MNIST), expected)

    with pytest.raises(ImageError, match=r"image='.*blank.png': nothing to be seen") as caught:
        Image.new("RGB", (40, 40)).save(tmp_path / "blank.png")
        read_pixels(tmp_path / "blank.png", MNIST)
    assert caught.value.kind == "unreadable"


def test_fit_is_read_from_a_data_sets_description() -> None:
    info = DataInfo("x", ("a", "b"), {}, 3, (96, 128), "crop", "mean", (0, 4095))
    assert Fit.from_data(asdict(info)) == Fit(96, 128, 3, "crop", "mean", (0, 4095))
    assert Fit.from_data(asdict(DataInfo("x", ("a", "b"), {}))) == Fit(28, 28, 1, "mnist", "black")


@pytest.mark.parametrize(
    "change",
    [
        {"image_size": 28},
        {"image_size": [28]},
        {"image_size": [28, 0]},
        {"image_size": [28.0, 28]},
        {"image_size": ["28", 28]},
        {"image_size": None},
        {"channels": 2},
        {"channels": True},
        {"channels": None},
        {"fit": "squash"},
        {"fit": ["pad"]},
        {"pad_colour": "pink"},
        {"pad_colour": 0},
        {"pixel_range": [1]},
        {"pixel_range": [3, 2]},
        {"pixel_range": ["a", "b"]},
        {"pixel_range": [0, float("nan")]},
        {"pixel_range": 7},
    ],
    ids=str,
)
def test_descriptions_of_no_use_are_refused(change: dict[str, Any]) -> None:
    data = asdict(DataInfo("x", ("a", "b"), {}))
    with pytest.raises((TypeError, ValueError)):
        Fit.from_data(data | change)
    for key in change:
        del data[key]
        with pytest.raises(KeyError):
            Fit.from_data(data)
