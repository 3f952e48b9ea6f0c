"""The files of a bundle, and where a run has it."""

from pathlib import Path

from fmnist.errors import InputError
from fmnist.runs.run_folder import find_run

BUNDLE = "export"
"""Folder of the bundle in a run."""
MODEL = "model.onnx"
"""The float32 graph."""
MANIFEST = "manifest.json"
MANIFEST_VERSION = 3
CLIENT = "client.py"
CARD = "MODEL_CARD.md"
GOLDEN = "golden.npz"
SIGNATURE = "model.sig"
VERIFIED = "verify.json"
BENCHMARKED = "benchmark.json"


def variant_file(name: str) -> str:
    """Name of a variant's graph; a pattern of all of them if `name` is "*"."""
    return f"model.{name}.onnx"


def find_bundle(path: str | Path | None) -> Path:
    """The bundle in a run (its export/), or `path` itself.

    Args:
        path: by default the newest run that has one.

    Raises:
        InputError: there is none.
    """

    def has_bundle(run: Path) -> bool:
        return (run / BUNDLE / MODEL).exists()

    # A bundle's own folder may be named too, or a checkpoint's beside it.
    run = find_run(path, suits=has_bundle, with_what="an exported model")
    for folder in (run, run / BUNDLE, run.parent / BUNDLE):
        if (folder / MODEL).exists():
            return folder
    raise InputError(
        f"run={str(run)!r}: it holds no exported model ({BUNDLE}/{MODEL}); "
        f"make one with: python -m export.to_onnx {run}"
    )
