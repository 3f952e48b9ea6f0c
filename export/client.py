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
from PIL import Image

from fmnist.photo import ImageError, open_image, to_pixels

TOP = 3


class ClientError(ValueError):
    """The bundle is not whole; the message says what is wrong and what to do."""


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
            expected: str = manifest["files"][manifest["model"]]["sha256"]
            self.labels: list[str] = manifest["labels"]
            self.shape: list[int] = manifest["input"][0]["shape"][1:]
            self.fit: str = manifest["data"]["fit"]
        except OSError as error:
            raise ClientError(f"{bundle} is not a whole bundle: {error}") from error
        except (ValueError, LookupError, TypeError) as error:
            raise ClientError(f"{bundle / 'manifest.json'} is damaged or an older version's ({error!r}); export again") from error
        digest = hashlib.sha256(model).hexdigest()
        if digest != expected:
            raise ClientError(
                f"{bundle / manifest['model']}: SHA-256 {digest[:12]}… is not the manifest's {expected[:12]}…; export it again"
            )
        self.session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """Probabilities (B, classes) float32 of uint8 images: (B, H, W) gray, or (B, 3, H, W) colour."""
        return np.asarray(self.session.run(["probabilities"], {"pixels": pixels})[0])

    def pixels(self, image: Image.Image, photo: bool | None = None) -> np.ndarray:
        """One image as the model wants it, uint8 (H, W) gray or (3, H, W) colour.

        Args:
            photo: whether it is a photo of one thing on a plain ground; None decides by the data set: see `to_pixels`.

        Raises:
            ImageError: a photo on which nothing can be found.
        """
        channels = 1 if len(self.shape) == 2 else self.shape[0]
        return to_pixels(image, size=self.shape[-1], channels=channels, fit=self.fit, photo=photo)

    def top(self, image: Image.Image, count: int = TOP, photo: bool | None = None) -> list[tuple[str, float]]:
        """The likeliest classes of one image, the likeliest first, with their probabilities; `photo` as in `pixels`."""
        probabilities = self.probabilities(self.pixels(image, photo)[None])[0]
        return [(self.labels[index], float(probabilities[index])) for index in np.argsort(-probabilities)[:count]]


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Classify images with an exported model, by ONNX Runtime alone.")
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="image file of any size; it is made to look like those trained on"
    )
    parser.add_argument("--top", type=int, default=TOP, metavar="N", help="how many classes to show (default: %(default)s)")
    parser.add_argument(
        "--photo",
        action=argparse.BooleanOptionalAction,
        help="the images are photos of one thing on a plain ground: trim, shrink, sharpen, centre and negate them as the data set "
        "was made (a colour model's are trimmed, shrunk and centred); --no-photo: only resize them and pad them with black; "
        "by default whichever the model's own data needs, and nothing where an image has their very size and mode",
    )
    return parser


def predict(bundle: Path, images: list[str], count: int, photo: bool | None) -> int:
    """Print the likeliest classes of each image; give the exit code: 2 if an image or the bundle cannot be used."""
    try:
        client = Client(bundle)
        for path in images:
            image = open_image(path)
            try:
                best = client.top(image, count, photo)
            except ImageError as error:
                raise ImageError(f"image={path!r}: {error}") from error
            print(f"{path}: {', '.join(f'{label} {probability:.1%}' for label, probability in best)}")
    except (ClientError, ImageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    chosen = build_parser().parse_intermixed_args()
    sys.exit(predict(Path(__file__).parent, chosen.images, chosen.top, chosen.photo))
