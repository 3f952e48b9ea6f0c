"""Predict with an exported model: `python client.py IMAGE…`. Needs onnxruntime, numpy and Pillow, nothing else.

This file lies beside model.onnx and manifest.json; it checks the model's SHA-256 before it runs it.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from PIL import Image

from fmnist.photo import SUFFIXES, ImageError, open_image, to_pixels

TOP = 3
ABSOLUTE, RELATIVE = 1e-4, 1e-5
"""Logits of the golden samples may differ by ABSOLUTE + RELATIVE · the largest logit."""


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
            model = (bundle / Path(manifest["model"]).name).read_bytes()  # a file of the bundle, whatever the manifest says
            expected: str = manifest["files"][manifest["model"]]["sha256"]
            labels, shape, session = manifest["labels"], manifest["input"][0]["shape"][1:], manifest.get("session") or {}
            self.fit: str = manifest["data"]["fit"]
            kinds = {type(label) for label in labels}, {type(size) for size in shape}, {type(on) for on in session.values()}
            if kinds not in (({str}, {int}, {bool}), ({str}, {int}, set())) or len(shape) not in (2, 3):
                raise TypeError("labels, shape or session")
            self.labels: list[str] = labels
            self.shape: list[int] = shape
        except OSError as error:
            raise ClientError(f"{bundle} is not a whole bundle: {error}") from error
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise ClientError(f"{bundle / 'manifest.json'} is damaged or an older version's ({error!r}); export again") from error
        digest = hashlib.sha256(model).hexdigest()
        if digest != expected:
            raise ClientError(
                f"{bundle / manifest['model']}: SHA-256 {digest[:12]}… is not the manifest's {expected[:12]}…; export it again"
            )
        options = session_options(session)
        self.session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])

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


def session_options(chosen: dict[str, bool]) -> Any:
    """ONNX Runtime's options as the manifest has them; its defaults where it has none."""
    options = ort.SessionOptions()
    options.enable_cpu_mem_arena, options.enable_mem_pattern = chosen.get("arena", True), chosen.get("pattern", True)
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(chosen.get("spinning", True))))
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if chosen.get("layout", True) else levels.ORT_ENABLE_EXTENDED
    return options


def check(bundle: Path) -> str:
    """Hold every file against its hash, and the graph against the golden samples; give what was found, in a line.

    Raises:
        ClientError: a file is missing or was changed, or the answers are not those of the exported model.
    """
    client = Client(bundle)
    files: dict[str, dict[str, str]] = json.loads((bundle / "manifest.json").read_text())["files"]
    for name, known in files.items():
        try:
            digest = hashlib.sha256((bundle / Path(name).name).read_bytes()).hexdigest()
        except OSError as error:
            raise ClientError(f"{bundle} is not a whole bundle: {error}") from error
        if digest != known["sha256"]:
            raise ClientError(
                f"{bundle / name}: SHA-256 {digest[:12]}… is not the manifest's {known['sha256'][:12]}…; get it again"
            )
    with np.load(bundle / "golden.npz", allow_pickle=False) as golden:
        pixels, expected = golden["pixels"], golden["logits"]
    difference = float(np.abs(np.asarray(client.session.run(["logits"], {"pixels": pixels})[0]) - expected).max())
    allowed = ABSOLUTE + RELATIVE * float(np.abs(expected).max())
    if not difference <= allowed:
        raise ClientError(f"logits of the golden samples differ by up to {difference:.1e}; at most {allowed:.1e} is allowed")
    return f"whole: {len(files)} files; logits of {len(pixels)} golden samples differ by at most {difference:.1e}"


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Classify images with an exported model, by ONNX Runtime alone.")
    parser.add_argument(
        "images", nargs="*", metavar="IMAGE", help="image file of any size, made to look like those trained on; or a folder of them"
    )
    parser.add_argument("--top", type=int, default=TOP, metavar="N", help="how many classes to show (default: %(default)s)")
    parser.add_argument(
        "--photo",
        action=argparse.BooleanOptionalAction,
        help="the images are photos of one thing on a plain ground: trim, shrink, sharpen, centre and negate them as the data set "
        "was made (a colour model's are trimmed, shrunk and centred); --no-photo: only resize them and pad them with black; "
        "by default whichever the model's own data needs, and nothing where an image has their very size and mode",
    )
    parser.add_argument("--batch", type=int, default=64, metavar="N", help="images at once (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print a JSON list in place of a line for each image")
    parser.add_argument("--check", action="store_true", help="check every file and the model's answers to the golden samples")
    return parser


def image_files(names: list[str]) -> list[str]:
    """The files named; for a folder every image below it, in the order of their names.

    Raises:
        ImageError: a folder holds none.
    """
    files: list[str] = []
    for name in names:
        if not Path(name).is_dir():
            files.append(name)
            continue
        inside = sorted(str(path) for path in Path(name).rglob("*") if path.suffix.lower() in SUFFIXES)
        if not inside:
            raise ImageError(f"image={name!r}: the folder holds no image ({', '.join(SUFFIXES)})")
        files += inside
    return files


def read_until(client: Client, files: list[str], photo: bool | None) -> tuple[list[np.ndarray], ImageError | None]:
    """Image files as the model wants them, up to one that cannot be read, and what is wrong with that."""
    pixels: list[np.ndarray] = []
    for path in files:
        try:
            image = open_image(path)
        except ImageError as error:
            return pixels, error
        try:
            pixels.append(client.pixels(image, photo))
        except ImageError as error:
            return pixels, ImageError(f"image={path!r}: {error}")
    return pixels, None


def run(bundle: Path, parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    """What the command line asks for; the exit code: 2 if an image or the bundle cannot be used."""
    if not options.images and not options.check:
        parser.error("name an image, or --check")
    if options.batch < 1:
        parser.error(f"--batch {options.batch}: it must be at least 1")
    try:
        if options.check:
            print(check(bundle))
        client, files = Client(bundle), image_files(options.images)
        answers: list[dict[str, object]] = []
        for start in range(0, len(files), options.batch):
            batch = files[start : start + options.batch]
            pixels, failed = read_until(client, batch, options.photo)
            probabilities = client.probabilities(np.stack(pixels)) if pixels else []
            for path, row in zip(batch, probabilities, strict=False):  # those before one that cannot be read
                top = [(client.labels[index], float(row[index])) for index in np.argsort(-row)[: options.top]]
                answers.append({"image": path, "top": [{"label": name, "probability": value} for name, value in top]})
                if not options.json:
                    print(f"{path}: {', '.join(f'{label} {probability:.1%}' for label, probability in top)}")
            if failed:
                raise failed
        if options.json:
            print(json.dumps(answers, indent=1))
    except (ClientError, ImageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    command_line = build_parser()
    sys.exit(run(Path(__file__).parent, command_line, command_line.parse_intermixed_args()))
