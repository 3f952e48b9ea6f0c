"""Predict with an exported model: `python client.py IMAGE…`. Needs onnxruntime, numpy and Pillow, nothing else.

This file lies beside model.onnx and manifest.json; it checks the model's SHA-256 before it runs it.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
from PIL import Image, ImageOps, UnidentifiedImageError

SIZE = 28
TOP = 3


class ClientError(ValueError):
    """The bundle is not whole, or an image cannot be read; the message says which and what to do."""


class Client:
    """An exported model.

    Args:
        bundle: the folder with model.onnx and manifest.json.

    Raises:
        ClientError: a file is missing, or the model is not the one of the manifest.
    """

    def __init__(self, bundle: Path) -> None:
        try:
            manifest = json.loads((bundle / "manifest.json").read_text())
            model = (bundle / manifest["model"]).read_bytes()
        except (OSError, ValueError, KeyError) as error:
            raise ClientError(f"{bundle} is not a whole bundle: {error}") from error
        digest = hashlib.sha256(model).hexdigest()
        expected = manifest["files"][manifest["model"]]["sha256"]
        if digest != expected:
            raise ClientError(
                f"{bundle / manifest['model']}: SHA-256 {digest[:12]}… is not the manifest's {expected[:12]}…; export it again"
            )
        self.labels: list[str] = manifest["labels"]
        self.session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """Probabilities (B, classes) float32 of uint8 images (B, 28, 28), bright on black."""
        return np.asarray(self.session.run(["probabilities"], {"pixels": pixels})[0])

    def top(self, image: Image.Image, count: int = TOP) -> list[tuple[str, float]]:
        """The likeliest classes of one image, the likeliest first, with their probabilities."""
        probabilities = self.probabilities(to_pixels(image)[None])[0]
        return [(self.labels[index], float(probabilities[index])) for index in np.argsort(-probabilities)[:count]]


def to_pixels(image: Image.Image) -> np.ndarray:
    """Gray pixels (28, 28) uint8, bright on black as in the data set.

    An image of that size and mode is taken as it is. Any other is made gray, inverted if its border is bright, trimmed to
    what differs from the border, shrunk so that its longer side is 28, and centred (after the data set paper, section 2).
    """
    if image.size == (SIZE, SIZE) and image.mode == "L":
        return np.asarray(image, np.uint8)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip instead of scale
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    gray = image.convert("L")
    edge = np.asarray(gray)
    border = np.concatenate((edge[0], edge[-1], edge[:, 0], edge[:, -1]))
    if np.median(border) > 127:
        gray = ImageOps.invert(gray)
    box = gray.point([255 * (value > 24) for value in range(256)]).getbbox()
    gray = ImageOps.pad(gray.crop(box) if box else gray, (SIZE, SIZE), Image.Resampling.LANCZOS, color=0)
    return np.asarray(gray, np.uint8)


def open_image(path: str) -> Image.Image:
    """Raises ClientError if the file is no image."""
    try:
        with Image.open(path) as image:
            image.load()
            return image.copy()
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ClientError(f"image={path!r} cannot be read as an image: {error}") from error


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Classify images with an exported model, by ONNX Runtime alone.")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image file: gray 28×28 is taken as it is, any other is fitted")
    parser.add_argument("--top", type=int, default=TOP, metavar="N", help="how many classes to show (default: %(default)s)")
    return parser


def predict(bundle: Path, images: list[str], count: int) -> int:
    """Print the likeliest classes of each image; give the exit code: 2 if an image or the bundle cannot be read."""
    try:
        client = Client(bundle)
        for path in images:
            shown = ", ".join(f"{label} {probability:.1%}" for label, probability in client.top(open_image(path), count))
            print(f"{path}: {shown}")
    except ClientError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    chosen = build_parser().parse_intermixed_args()
    sys.exit(predict(Path(__file__).parent, chosen.images, chosen.top))
