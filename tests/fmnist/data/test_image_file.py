"""Image files from the real world: opened, or refused with the kind of fault."""

import io
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from fmnist.data.image_file import (
    FORMATS,
    ImageError,
    formats,
    open_image,
    suffixes,
    unread_suffixes,
)
from tests.conftest import ROOT
from tests.pictures import photo_files, real_pictures, seen_through

CHINA, FLOWER, HOPPER = photo_files()
ORIENTATION = 0x0112


def encoded(picture: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def fault(content: Any, **options: Any) -> ImageError:
    with pytest.raises(ImageError) as caught:
        open_image(content, **options)
    return caught.value


def png_of(width: int, height: int) -> bytes:
    """A PNG that claims to be of that size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


@pytest.mark.parametrize("form", sorted(formats()))
def test_a_real_photo_in_every_format_is_read(form: str, tmp_path: Path) -> None:
    photo = real_pictures()[0]
    content = encoded(photo, form)
    path = tmp_path / f"china{formats()[form][0]}"
    path.write_bytes(content)

    for file in (path, str(path), content, memoryview(content), io.BytesIO(content)):
        found = np.asarray(open_image(file).convert("RGB"), int)
        assert found.shape == (427, 640, 3)
        assert np.abs(found - np.asarray(photo, int)).mean() < 9  # GIF has 256 colours


def test_what_is_read_and_what_is_only_known() -> None:
    assert set(FORMATS) <= set(formats())
    assert {".jpg", ".jpeg", ".jfif", ".png", ".tif", ".pgm"} <= set(suffixes())
    assert {".svg", ".psd", ".dng", ".jxl", ".nef", ".cr2"} <= set(unread_suffixes())
    assert not set(suffixes()) & set(unread_suffixes())

    heic = find_spec("pillow_heif") is not None
    assert (".heic" in suffixes(), ".heic" in unread_suffixes()) == (heic, not heic)


def test_heic_is_named_where_no_plugin_reads_it() -> None:
    if find_spec("pillow_heif") is not None:
        photo = real_pictures()[0]
        found = np.asarray(open_image(encoded(photo, "HEIF")), int)
        assert np.abs(found - np.asarray(photo, int)).mean() < 9
        return
    box = b"ftypheic\0\0\0\0mif1heic"
    error = fault(struct.pack(">I", len(box) + 4) + box)
    assert (str(error), error.kind) == (
        f"image is not an image of {', '.join(formats())}",
        "unreadable",
    )


@pytest.mark.parametrize("share", [0.003, 0.1, 0.5, 0.9, 0.995])
@pytest.mark.parametrize("form", [*FORMATS, "AVIF", "TIFF, packed", "JPEG, progressive"])
def test_a_file_cut_short_is_told_as_such(form: str, share: float) -> None:
    form, _, way = form.partition(", ")
    if form not in formats():
        pytest.skip(f"Pillow here has no {form}")
    options = {"packed": {"compression": "tiff_lzw"}, "progressive": {"progressive": True}}
    content = encoded(real_pictures()[0], form, **options.get(way, {}))

    cut = content[: int(len(content) * share)]
    error = fault(cut, name="china")
    assert error.kind == "cut short"
    assert str(error).startswith("image='china' cannot be read as an image: it is cut short after")
    assert f"{len(cut):,} bytes" in str(error)


def test_a_file_damaged_inside_is_not_called_cut_short() -> None:
    photo = real_pictures()[0]
    for form in ("PNG", "JPEG"):
        content = bytearray(encoded(photo, form))
        middle = len(content) // 2
        content[middle : middle + 4000] = bytes(4000)
        try:
            open_image(bytes(content))
        except ImageError as error:
            assert error.kind == "unreadable"
        else:
            assert form == "JPEG"  # whose decoder goes on behind the damage


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        (b"", "empty", "is not an image: the file is empty"),
        (b"hello", "unreadable", "is not an image of PNG, JPEG"),
        (b"PK\x03\x04" + bytes(500), "unreadable", "is not an image of"),
        (b"<html><body>404</body></html>", "unreadable", "is not an image of"),
        (png_of(0, 0), "unreadable", "is not an image"),
        (b"P5 7 9 255\n" + bytes(63), "too small", "7×9 pixels"),
        (png_of(7, 90), "too small", "7×90 pixels; at least 8×8 are needed"),
        (png_of(50_000, 50_000), "too large", "2,500 million pixels; at most 89 million"),
        (png_of(11_000, 9_000), "too large", "99 million pixels"),
    ],
    ids=["empty", "text", "zip", "page", "0x0", "small", "narrow", "bomb", "small bomb"],
)
def test_faults_have_a_kind(content: bytes, kind: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(content)
    for file in (path, content):
        error = fault(file)
        assert error.kind == kind
        assert words in str(error)
    assert str(fault(path)).startswith(f"image='{path}'")


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    for path in (tmp_path / "none.png", tmp_path):
        error = fault(path)
        assert error.kind == "unreadable"
        assert str(error).startswith(f"image='{path}' cannot be read as an image: [Errno")


def test_the_limit_is_the_callers() -> None:
    error = fault(CHINA, max_pixels=273_279)
    assert error.kind == "too large"
    assert "raise --max-pixels" in str(error)
    assert open_image(CHINA, max_pixels=273_280).size == (640, 427)
    # Pillow's own limit is lifted for good: this one is above it.
    wide = Image.new("L", (10_000, 9_100))
    assert open_image(encoded(wide, "PNG"), max_pixels=91_000_000).size == wide.size


def test_a_large_jpeg_is_unpacked_reduced_and_counts_as_what_is_unpacked() -> None:
    # 640×427: a quarter keeps twice 28 pixels on the shorter side, an eighth does not.
    reduced = open_image(CHINA, reduce_to=(28, 28))
    assert reduced.size == (160, 107)
    assert open_image(CHINA, reduce_to=(28, 60)).size == (320, 214)
    assert open_image(CHINA, reduce_to=(200, 28)).size == (640, 427)

    shrunk = open_image(CHINA).resize((56, 56), Image.Resampling.LANCZOS)
    again = reduced.resize((56, 56), Image.Resampling.LANCZOS)
    assert np.abs(np.asarray(shrunk, int) - np.asarray(again, int)).mean() < 2

    most = 70_000
    assert open_image(CHINA, reduce_to=(28, 28), max_pixels=most).size == (160, 107)
    assert fault(CHINA, max_pixels=most).kind == "too large"
    # 273,280 pixels are more than four times the limit.
    assert fault(CHINA, reduce_to=(28, 28), max_pixels=68_000).kind == "too large"
    progressive = encoded(real_pictures()[0], "JPEG", progressive=True)
    assert fault(progressive, reduce_to=(28, 28), max_pixels=most).kind == "too large"
    # Other formats cannot be unpacked in part.
    assert open_image(encoded(real_pictures()[0], "PNG"), reduce_to=(28, 28)).size == (640, 427)


PEAK = """
import sys
from pathlib import Path
from fmnist.data.image_file import ImageError, open_image
path, reduce_to, most = sys.argv[1], eval(sys.argv[2]), int(sys.argv[3])
def peak_kb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
before = peak_kb()
try:
    open_image(path, reduce_to=reduce_to, max_pixels=most)
except ImageError:
    pass
print(peak_kb() - before)
"""


def test_memory_is_bound_by_what_may_be_unpacked(tmp_path: Path) -> None:
    large = real_pictures()[0].resize((5120, 3416))
    large.save(tmp_path / "large.jpg")
    large.save(tmp_path / "large.png", compress_level=1)

    def peak_mb(name: str, reduce_to: str, most: int) -> float:
        words = [sys.executable, "-c", PEAK, str(tmp_path / name), reduce_to, str(most)]
        done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)
        return int(done.stdout) / 1024

    assert peak_mb("large.jpg", "None", 10**8) > 50  # 17 million pixels of four bytes
    assert peak_mb("large.jpg", "(64, 64)", 10**8) < 20
    assert peak_mb("large.png", "(64, 64)", 10**7) < 20


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_their_exif_tag_says(orientation: int) -> None:
    photo = real_pictures()[0]
    exif = photo.getexif()
    exif[ORIENTATION] = orientation
    content = encoded(photo, "JPEG", exif=exif, quality=95)

    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    assert np.array_equal(np.asarray(open_image(content)), np.asarray(expected))
    turned = orientation >= 5
    assert expected.size == ((427, 640) if turned else (640, 427))
    reduced = open_image(content, reduce_to=(28, 20))
    assert reduced.size == ((107, 160) if turned else (160, 107))


def test_a_damaged_exif_tag_turns_nothing_and_the_picture_is_read(tmp_path: Path) -> None:
    photo = real_pictures()[0]
    exif = photo.getexif()
    exif[ORIENTATION] = 6
    content = encoded(photo, "JPEG", exif=exif)
    # The directory says that it lies behind the end.
    damaged = content.replace(b"Exif\0\0MM\0*\0\0\0\x08", b"Exif\0\0MM\0*\0\0\xff\x08")
    assert damaged != content
    assert open_image(damaged).size == (640, 427)


def test_threads_do_not_disturb_each_other_and_nothing_global_changes() -> None:
    good, large, cut = CHINA.read_bytes(), png_of(11_000, 9_000), CHINA.read_bytes()[:9000]
    filters = list(warnings.filters)

    def kind_of(content: bytes) -> str:
        try:
            open_image(content, reduce_to=(28, 28))
        except ImageError as error:
            return error.kind
        return "read"

    with ThreadPoolExecutor(8) as pool:
        kinds = list(pool.map(kind_of, [good, large, cut] * 60))
    assert kinds == ["read", "too large", "cut short"] * 60
    assert list(warnings.filters) == filters


def test_pillows_warnings_are_not_shown(tmp_path: Path) -> None:
    palette = seen_through().convert("RGB").quantize(16)
    palette.save(tmp_path / "palette.png", transparency=bytes(range(0, 256, 16)))
    program = (
        "import sys\n"
        "from fmnist.data.picture import Fit, read_pixels\n"
        "print(read_pixels(sys.argv[1], Fit(28, 28, 3)).shape)\n"
    )
    words = [sys.executable, "-c", program, str(tmp_path / "palette.png")]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "(3, 28, 28)\n", "")
