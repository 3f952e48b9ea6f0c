"""`python -m benchmarks.photos [RUN]`: what an exported model makes of photos, plainly resized and
prepared as the data set was.

The photos are rendered here from the first official test images: large, coloured, off-centre, on
white. They come after the model was chosen and choose nothing. Writes docs/results/photos (.json
and .md) and docs/images/photos.png.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import PIL
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track

from benchmarks.images import info, test_images
from benchmarks.results import IMAGES, Page, Row, machine, write_rows
from export.bundle.layout import find_bundle
from export.client import Client
from fmnist.cli import Positional, command
from fmnist.errors import check
from fmnist.runs.files import write_atomic

LUMA = np.array((0.299, 0.587, 0.114))
WAYS = {
    "original": "the set's own 28×28 image",
    "resized": "the picture resized to 28×28, gray",
    "negated": "the picture resized to 28×28, gray, negated",
    "prepared": "the picture through `prepare_photo` (`export.predict --photo`)",
}
DRAWN = {0: "original", 2: "resized", 3: "prepared"}
"""Ways by their row in the picture; row 1 has the photos."""
BLUE, ORANGE = "#0072b2", "#d55e00"

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Classify rendered photos with an exported model, and count how often it is right."""

    run: Annotated[str, Positional] = "demo"
    """Run folder or bundle of a model of Fashion-MNIST."""
    images: int = 500
    """Official test images that are rendered, from the first on."""
    seed: int = 0

    def __post_init__(self) -> None:
        check(self.images >= 1, f"images={self.images}: it must be at least 1")


def render(pixels: Pixels, source: np.random.Generator) -> Image.Image:
    """Render a garment of the set as a photo in RGB: 200 to 600 pixels, tinted, anywhere on white
    or nearly white ground; half are JPEG.

    Args:
        pixels: (28, 28), bright on black. The photo's luminance is their negative, whatever the
            tint, times the ground's.
    """
    side = int(source.integers(200, 601))
    large = Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)
    # Garments are dark on white in a photo, as a shop shows them.
    luma = 255 - np.asarray(large, np.float64)[..., None]

    tint = source.uniform(-1, 1, 3)
    tint -= tint @ LUMA  # So it changes no luminance.
    room = np.minimum(luma, 255 - luma)  # Black and white have no colour.
    garment = luma + tint / np.abs(tint).max() * room * source.uniform(0.2, 0.9)

    # Off-centre: each side has a margin of its own.
    margins = source.uniform(0.05, 0.6, 4)
    left, top, right, bottom = (int(share * side) for share in margins)
    canvas = np.full((top + side + bottom, left + side + right, 3), 255.0)
    canvas[top : top + side, left : left + side] = garment
    ground = np.full(3, 255.0)
    if source.random() < 0.5:
        ground = source.uniform(238, 255, 3)

    lit = (canvas * ground / 255).round().clip(0, 255)
    photo = Image.fromarray(lit.astype(np.uint8))
    if source.random() < 0.5:
        file = io.BytesIO()
        photo.save(file, "JPEG", quality=int(source.integers(50, 96)))
        photo = Image.open(file)

    return photo


def prepare(client: Client, image: Pixels, photo: Image.Image) -> dict[str, Pixels]:
    """The pixels (28, 28) that the model gets in each of the ways."""
    gray = photo.convert("L").resize((28, 28), Image.Resampling.LANCZOS)
    resized = np.asarray(gray)
    return {
        "original": image,
        "resized": resized,
        "negated": 255 - resized,
        "prepared": client.pixels(photo, photo=True),
    }


def draw(
    photos: Sequence[Image.Image],
    inputs: Mapping[str, Pixels],
    predicted: Mapping[str, Labels],
    truth: Labels,
    labels: Sequence[str],
) -> None:
    """Draw a column for the first image of each class: its photo, what the model is given and
    what it answers in each way."""
    columns = [int(np.flatnonzero(truth == number)[0]) for number in np.unique(truth)]
    figure = Figure((1.15 * len(columns), 5.6), layout="constrained")
    axes = figure.subplots(4, len(columns), squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_color("#bbbbbb")

    for column, number in enumerate(columns):
        axes[1, column].imshow(photos[number].reduce(4))
        for row, way in DRAWN.items():
            guess = int(predicted[way][number])
            mark, ink = ("✓", BLUE) if guess == truth[number] else ("✗", ORANGE)
            axes[row, column].imshow(inputs[way][number], cmap="gray", vmin=0, vmax=255)
            axes[row, column].set_xlabel(f"{mark} {labels[guess]}", fontsize=8, color=ink)

    for row, title in enumerate(("test image", "photo\n(rendered)", "resized", "prepared")):
        axes[row, 0].set_ylabel(title, fontsize=9)

    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    write_atomic(IMAGES / "photos.png", file.getvalue())


def count(predicted: Mapping[str, Labels], truth: Labels, options: Options) -> list[Row]:
    where = machine("onnxruntime-gpu", "onnxruntime", "numpy")
    versions = where["versions"]
    rows: list[Row] = []
    for way, words in WAYS.items():
        right = int((predicted[way] == truth).sum())
        rows.append(
            {
                "way": way,
                "input": words,
                "right": right,
                "images": len(truth),
                "accuracy": round(right / len(truth), 4),
                "model": options.run,
                "seed": options.seed,
                "machine": where["machine"],
                "onnxruntime": versions.get("onnxruntime-gpu") or versions["onnxruntime"],
                "numpy": versions["numpy"],
                "pillow": PIL.__version__,
                "python": versions["python"],
                "commit": where["commit"],
            }
        )

    return rows


def write_page(rows: list[Row]) -> None:
    first = rows[0]
    arguments = f"{first['model']} --images {first['images']} --seed {first['seed']}"
    page = Page("Photos: what an exported model makes of them")
    page.text(
        f"""`python -m benchmarks.photos {arguments}`: the model of runs/{first["model"]},
        {first["machine"]}, onnxruntime {first["onnxruntime"]} on the CPU, Pillow {first["pillow"]},
        numpy {first["numpy"]}, Python {first["python"]}."""
    )
    page.row_table(
        "lll",
        "what the model is given | right | accuracy",
        "{input} | {right} of {images} | {accuracy:.1%}",
        rows,
    )
    page.image("Photos and what becomes of them", "photos.png")
    page.text(
        f"""These are no real photos: the first {first["images"]} official test images were rendered
        as photos, 200 to 600 pixels large, in a tint that leaves the luminance alone, anywhere on a
        larger white or nearly white canvas, half of them packed as JPEG. Shadows, creased grounds,
        people and other cameras are not in them. They were drawn after the model was chosen and
        chose nothing: `prepare_photo` was developed on pictures rendered from training images. The
        picture shows the first image of each class."""
    )
    page.write("photos")


def main(options: Options) -> None:
    client = Client(find_bundle(options.run))
    check(
        tuple(client.labels) == info().classes,
        f"run={options.run!r}: its model does not tell the classes of {info().name}",
    )
    images = test_images().images[: options.images].numpy()
    truth = test_images().labels[: options.images].numpy()

    source = np.random.default_rng(options.seed)
    photos: list[Image.Image] = []
    inputs: dict[str, list[Pixels]] = {way: [] for way in WAYS}
    for image in track(images, "rendering and preparing", transient=True):
        photo = render(image, source)
        photos.append(photo)
        for way, pixels in prepare(client, image, photo).items():
            inputs[way].append(pixels)

    stacked = {way: np.stack(several) for way, several in inputs.items()}
    predicted = {way: client.probabilities(pixels).argmax(1) for way, pixels in stacked.items()}
    draw(photos, stacked, predicted, truth, client.labels)
    rows = count(predicted, truth, options)
    write_rows("photos", rows)
    write_page(rows)


if __name__ == "__main__":
    command(Options, main)
