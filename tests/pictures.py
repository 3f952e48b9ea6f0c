"""Pictures that are not Fashion-MNIST's: real ones that packages bring, and two data sets drawn
here, gray letters and coloured shapes.

`python -m tests.pictures FOLDER` writes the two, larger than the tests need them.
"""

import gzip
import string
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fmnist.data.idx import write_idx

SHAPES = ("circle", "square", "triangle")
CORNERS = {"square": 4, "triangle": 3}


def write_letters(folder: Path, train_per_class: int, test_per_class: int) -> None:
    """Write gray 28×28 letters in MNIST's file format.

    They are labelled from 1 on as in EMNIST, with their names in labels.txt.
    """
    source = np.random.default_rng(0)
    for prefix, count in (("train", train_per_class), ("t10k", test_per_class)):
        labels = source.permutation(np.repeat(np.arange(26, dtype=np.uint8), count))
        images = np.stack([np.asarray(draw_letter(int(label), source)) for label in labels])
        write_idx(folder / f"{prefix}-images-idx3-ubyte", images)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte", labels + np.uint8(1))
    (folder / "labels.txt").write_text("\n".join(string.ascii_uppercase) + "\n")


def draw_letter(number: int, source: np.random.Generator) -> Image.Image:
    """A letter, bright on black, of any size, place and slant."""
    image = Image.new("L", (28, 28))
    font = ImageFont.load_default(int(source.integers(16, 25)))
    place = tuple(source.uniform(12, 16, 2))
    text = string.ascii_uppercase[number]
    gray = int(source.integers(150, 256))
    ImageDraw.Draw(image).text(place, text, fill=gray, font=font, anchor="mm")
    return image.rotate(source.uniform(-15, 15), Image.Resampling.BILINEAR)


def photo_files() -> list[Path]:
    """Real photos that packages bring: a street in China and a flower, 640×427 JPEG; a portrait
    of Grace Hopper, 512×600."""
    # Here: scikit-learn and matplotlib take seconds to import, and few tests need their files.
    import matplotlib
    import sklearn

    images = Path(sklearn.__file__).parent / "datasets/images"
    samples = Path(matplotlib.__file__).parent / "mpl-data/sample_data"
    return [images / "china.jpg", images / "flower.jpg", samples / "grace_hopper.jpg"]


def real_pictures() -> list[Image.Image]:
    """The photos in RGB, and the middle of the flower in gray."""
    photos = [Image.open(path).convert("RGB") for path in photo_files()]
    return [*photos, photos[1].crop((200, 100, 420, 220)).convert("L")]


def seen_through() -> Image.Image:
    """The flower, more and more transparent to the right, in RGBA."""
    flower = Image.open(photo_files()[1]).convert("RGBA")
    flower.putalpha(Image.linear_gradient("L").rotate(90).resize(flower.size))
    return flower


def magnetic_resonance() -> np.ndarray:
    """A slice through a head, (256, 256) uint16 from 0 to 215: matplotlib's s1045."""
    import matplotlib

    path = Path(matplotlib.__file__).parent / "mpl-data/sample_data/s1045.ima.gz"
    with gzip.open(path) as file:
        content = file.read()
    return np.frombuffer(content, ">u2").reshape(256, 256).astype(np.uint16)


def deep_png(values: np.ndarray) -> bytes:
    """A PNG of 16 bits a channel, (H, W, 3): Pillow writes none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    height, width, _ = values.shape
    rows = values.astype(">u2").reshape(height, -1).view(np.uint8)
    filtered = np.pad(rows, ((0, 0), (1, 0)))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(filtered.tobytes()))
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


def write_shapes(folder: Path, per_class: int) -> None:
    """Write coloured shapes of many sizes and aspects, in a folder for each class.

    Half of the files are JPEG, half PNG.
    """
    source = np.random.default_rng(0)
    for shape in SHAPES:
        (folder / shape).mkdir(parents=True)
        for number in range(per_class):
            suffix = "jpg" if number % 2 else "png"
            draw_shape(shape, source).save(folder / shape / f"{number:04}.{suffix}")


def draw_shape(shape: str, source: np.random.Generator) -> Image.Image:
    """A shape on dark ground."""
    width, height = (int(side) for side in source.integers(64, 129, 2))
    image = Image.new("RGB", (width, height), tuple(source.integers(0, 100, 3)))
    radius = min(width, height) * source.uniform(0.25, 0.45)
    x = source.uniform(radius, width - radius)
    y = source.uniform(radius, height - radius)
    colour = tuple(source.integers(120, 256, 3))

    draw = ImageDraw.Draw(image)
    if shape == "circle":
        draw.circle((x, y), radius, fill=colour)
    else:
        degrees = int(source.integers(360))
        draw.regular_polygon((x, y, radius), CORNERS[shape], rotation=degrees, fill=colour)
    return image


def main(folder: Path) -> None:
    write_letters(folder / "letters", 400, 80)
    write_shapes(folder / "shapes", 600)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
