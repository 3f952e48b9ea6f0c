"""`python -m benchmarks.photos [RUN]`: what an exported model makes of photos, plainly resized and prepared as the data set was.

The photos are rendered here from the first official test images: large, coloured, off-centre, on white. They come after the
model was chosen and choose nothing. Writes docs/results/photos.json and .md, and docs/images/photos.png.
"""

import io
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import PIL
import tyro
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track

from export.client import Client
from fmnist.cli import command
from fmnist.data import find_data, load_info, load_test
from fmnist.device import cpu_threads
from fmnist.errors import check
from fmnist.run import environment, find_bundle, write_atomic, write_json

RESULTS = Path("docs/results")
PICTURE = Path("docs/images/photos.png")
LUMA = np.array((0.299, 0.587, 0.114))
WAYS = {
    "original": "the set's own 28×28 image",
    "resized": "the picture resized to 28×28, gray",
    "negated": "the picture resized to 28×28, gray, negated",
    "prepared": "the picture through `prepare_photo` (`export.predict --photo`)",
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Classify rendered photos with an exported model, and count how often it is right."""

    run: Annotated[str, tyro.conf.Positional] = "demo"
    """Run folder or bundle of a model of Fashion-MNIST."""
    images: int = 500
    """How many of the official test images are rendered, from the first on."""
    seed: int = 0


def render(pixels: NDArray[np.uint8], source: np.random.Generator) -> Image.Image:
    """A garment of the set as a photo in RGB: 200 to 600 pixels, tinted, anywhere on white or nearly white ground; half are JPEG.

    Args:
        pixels: (28, 28), bright on black. The photo's luminance is their negative, whatever the tint, times the ground's.
    """
    side = int(source.integers(200, 601))
    large = np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC), np.float64)
    luma = 255 - large[..., None]
    tint = source.uniform(-1, 1, 3)
    tint -= tint @ LUMA  # it changes no luminance
    room = np.minimum(luma, 255 - luma)  # black and white have no colour
    garment = luma + tint / np.abs(tint).max() * room * source.uniform(0.2, 0.9)
    left, top, right, bottom = (int(share * side) for share in source.uniform(0.05, 0.6, 4))
    canvas = np.full((top + side + bottom, left + side + right, 3), 255.0)
    canvas[top : top + side, left : left + side] = garment
    ground = source.uniform(238, 255, 3) if source.random() < 0.5 else np.full(3, 255.0)
    photo = Image.fromarray((canvas * ground / 255).round().clip(0, 255).astype(np.uint8))
    if source.random() < 0.5:
        file = io.BytesIO()
        photo.save(file, "JPEG", quality=int(source.integers(50, 96)))
        photo = Image.open(file)
    return photo


def prepare(client: Client, image: NDArray[np.uint8], photo: Image.Image) -> dict[str, NDArray[np.uint8]]:
    """The pixels (28, 28) that the model gets, in each of the ways."""
    resized = np.asarray(photo.convert("L").resize((28, 28), Image.Resampling.LANCZOS))
    return {"original": image, "resized": resized, "negated": 255 - resized, "prepared": client.pixels(photo, photo=True)}


def draw(
    photos: Sequence[Image.Image],
    inputs: dict[str, NDArray[np.uint8]],
    predicted: dict[str, NDArray[np.int64]],
    truth: NDArray[np.int64],
    labels: Sequence[str],
) -> None:
    """A column for the first image of each class: its photo, and what the model is given and says in each way."""
    columns = [int(np.flatnonzero(truth == number)[0]) for number in np.unique(truth)]
    shown = ("original", "resized", "prepared")
    figure = Figure((1.15 * len(columns), 5.6), layout="constrained")
    axes = figure.subplots(4, len(columns), squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_color("#bbbbbb")
    for place, number in enumerate(columns):
        axes[1, place].imshow(photos[number].reduce(4))
        for row, way in zip((0, 2, 3), shown, strict=True):
            guess = int(predicted[way][number])
            right = guess == truth[number]
            axes[row, place].imshow(inputs[way][number], cmap="gray", vmin=0, vmax=255)
            axes[row, place].set_xlabel(
                f"{'✓' if right else '✗'} {labels[guess]}", fontsize=8, color="#0072b2" if right else "#d55e00"
            )
    for row, title in enumerate(("test image", "photo\n(rendered)", "resized", "prepared")):
        axes[row, 0].set_ylabel(title, fontsize=9)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    write_atomic(PICTURE, file.getvalue())


def count(predicted: dict[str, NDArray[np.int64]], truth: NDArray[np.int64], options: Options) -> list[dict[str, Any]]:
    versions = environment()["versions"]
    return [
        {
            "way": way,
            "input": words,
            "right": int((predicted[way] == truth).sum()),
            "images": len(truth),
            "accuracy": round(float((predicted[way] == truth).mean()), 4),
            "model": options.run,
            "seed": options.seed,
            "machine": f"{cpu_threads()} CPU threads ({platform.machine()})",
            "onnxruntime": versions.get("onnxruntime-gpu") or versions["onnxruntime"],
            "numpy": versions["numpy"],
            "pillow": PIL.__version__,
            "python": versions["python"],
        }
        for way, words in WAYS.items()
    ]


def report(rows: list[dict[str, Any]], options: Options) -> str:
    first = rows[0]
    return "\n".join(
        (
            "# Photos: what an exported model makes of them",
            "",
            f"`python -m benchmarks.photos {options.run} --images {options.images} --seed {options.seed}`: the model of "
            f"runs/{first['model']}, {first['machine']}, onnxruntime {first['onnxruntime']} on the CPU, Pillow {first['pillow']}, "
            f"numpy {first['numpy']}, Python {first['python']}.",
            "",
            "| what the model is given | right | accuracy |",
            "|---|---|---|",
            *(f"| {row['input']} | {row['right']} of {row['images']} | {row['accuracy']:.1%} |" for row in rows),
            "",
            "![Photos and what becomes of them](../images/photos.png)",
            "",
            f"These are no real photos: the first {first['images']} official test images were rendered as photos, 200 to 600 "
            "pixels large, in a tint that leaves the luminance alone, anywhere on a larger white or nearly white canvas, half of "
            "them packed as JPEG. Shadows, creased grounds, people and other cameras are not in them. They were drawn after the "
            "model was chosen and chose nothing: `prepare_photo` was developed on pictures rendered from training images. The "
            "picture shows the first image of each class.",
            "",
        )
    )


def main(options: Options) -> None:
    check(options.images >= 1, f"images={options.images}: it must be at least 1")
    bundle = find_bundle(options.run)
    client = Client(bundle)
    folder = find_data()
    info = load_info(folder)
    check(tuple(client.labels) == info.classes, f"run={options.run!r}: its model does not tell the classes of {info.name}")
    test = load_test(folder, info)
    images, truth = test.images[: options.images].numpy(), test.labels[: options.images].numpy()
    source = np.random.default_rng(options.seed)
    photos = [render(image, source) for image in track(images, "rendering", transient=True)]
    prepared = [
        prepare(client, image, photo) for image, photo in zip(images, track(photos, "preparing", transient=True), strict=True)
    ]
    inputs = {way: np.stack([each[way] for each in prepared]) for way in WAYS}
    predicted = {way: client.probabilities(pixels).argmax(1) for way, pixels in inputs.items()}
    rows = count(predicted, truth, options)
    draw(photos, inputs, predicted, truth, client.labels)
    write_json(RESULTS / "photos.json", rows)
    write_atomic(RESULTS / "photos.md", report(rows, options))
    Console().print(report(rows, options), highlight=False, soft_wrap=True)


if __name__ == "__main__":
    command(Options, main)
