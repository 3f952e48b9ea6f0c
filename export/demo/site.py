"""Write the folder that a static server needs for the demo."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from export.bundle.integrity import check_bundle
from export.bundle.layout import GOLDEN, MODEL
from export.demo.runtime import runtime_files
from fmnist.runs.files import write_atomic, write_json

ASSETS = ("index.html", "style.css", "app.js", "photo.js")
"""Files of this folder that the page needs."""


def write_demo(bundle: Path, out: Path) -> None:
    """Write the demo of a bundle.

    Raises:
        VerificationError: the bundle is not whole.
        InputError: the browser's runtime cannot be had.
    """
    # Before anything is written: a page with a damaged model would not say so.
    manifest = check_bundle(bundle, "cpu")
    files = runtime_files()
    for name in ASSETS:
        files[name] = Path(__file__).with_name(name).read_bytes()
    files[MODEL] = (bundle / MODEL).read_bytes()

    samples: list[dict[str, str]] = []
    with np.load(bundle / GOLDEN, allow_pickle=False) as golden:
        images, labels = golden["pixels"], golden["labels"]
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        name = f"samples/{number:02}.png"
        files[name] = png(image)
        samples.append({"file": name, "label": manifest["labels"][label]})

    for name, content in files.items():
        write_atomic(out / name, content)
    write_json(out / "config.json", page_config(manifest, samples))


def png(pixels: np.ndarray) -> bytes:
    """Pixels uint8 (H, W) or (3, H, W) as a PNG file."""
    if pixels.ndim == 3:
        pixels = pixels.transpose(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def page_config(manifest: dict[str, Any], samples: Sequence[dict[str, str]]) -> dict[str, Any]:
    """What app.js reads: texts, the model's input, and samples (file, label)."""
    data, verified = manifest["data"], manifest["verified"]
    network = " + ".join(train["model"] for train in manifest["train"])
    accuracy = ""
    if verified is not None:
        accuracy = f", right on {verified['onnx_accuracy']:.2%} of its test images"
    deep = ""
    if data["pixel_range"] is not None:
        # A browser unpacks every picture to 8 bits, so their scale is lost.
        deep = (
            " Pictures of more than 8 bits a channel are for client.py: a browser cuts them down."
        )
    return {
        "title": f"{data['name']}: classify a picture",
        "about": (
            f"{network}, trained on {data['name']}{accuracy}. "
            f"It runs in this browser; no picture leaves it.{deep}"
        ),
        "labels": manifest["labels"],
        "fit": {
            "height": data["image_size"][0],
            "width": data["image_size"][1],
            "channels": data["channels"],
            "how": data["fit"],
            "padColour": data["pad_colour"],
        },
        "samples": list(samples),
    }
