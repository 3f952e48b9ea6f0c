"""The folder that ships: graphs, manifest.json, MODEL_CARD.md, golden samples, and a client that needs no PyTorch.

docs/bundle.md describes the manifest, export/manifest.schema.json holds it to that.
"""

import ast
import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from export import client
from export.card import model_card
from export.graph import averaged
from export.quantize import Variant
from fmnist import photo
from fmnist.checkpoint import Checkpoint, load_checkpoint
from fmnist.data import Split
from fmnist.errors import InputError
from fmnist.evaluate import compute_logits
from fmnist.run import MODEL, environment, find_checkpoint, read_json, write_atomic, write_json

MANIFEST = "manifest.json"
MANIFEST_VERSION = 2
CLIENT, CARD, GOLDEN = "client.py", "MODEL_CARD.md", "golden.npz"
SIGNATURE = "model.sig"
VERIFIED, BENCHMARKED = "verify.json", "benchmark.json"


@dataclass(frozen=True, slots=True)
class Bundled:
    """What a bundle is made of."""

    model: onnx.ModelProto
    """Float32."""
    members: Sequence[Checkpoint]
    """One, or those of an ensemble."""
    runs: Sequence[str]
    """Where each of them comes from."""
    average_flips: bool
    golden: Split
    """A few training images of each class."""


def variant_file(name: str) -> str:
    return f"model.{name}.onnx"


def write_bundle(folder: Path, bundled: Bundled, variants: Sequence[Variant] = ()) -> Path:
    """Write the bundle, its manifest last; give the path of the ONNX file.

    What was verified and measured of the very same graph before stays; of another graph it goes.
    """
    content = bundled.model.SerializeToString(deterministic=True)
    if not (folder / MODEL).exists() or (folder / MODEL).read_bytes() != content:
        for name in (VERIFIED, BENCHMARKED):
            (folder / name).unlink(missing_ok=True)
    for old in folder.glob(variant_file("*")):
        old.unlink()
    files = {MODEL: content, CLIENT: client_source().encode(), GOLDEN: golden_samples(bundled)}
    files |= {variant_file(v.name): v.model.SerializeToString(deterministic=True) for v in variants if v.model}
    for name, data in files.items():
        write_atomic(folder / name, data)
    first, graph = bundled.members[0], bundled.model.graph
    manifest: dict[str, Any] = {
        "manifest_version": MANIFEST_VERSION,
        "model": MODEL,
        "files": {},
        "input": _signature(graph.input),
        "output": _signature(graph.output),
        "opset": bundled.model.opset_import[0].version,
        "nodes": len(graph.node),
        "labels": list(first.data.classes),
        "normalisation": {
            "inside_graph": True,
            "pixel_mean": first.model.pixel_mean.flatten().tolist(),
            "pixel_std": first.model.pixel_std.flatten().tolist(),
        },
        "data": {key: value for key, value in asdict(first.data).items() if key != "source"},  # a path of this machine
        "train": [member.config.to_dict() for member in bundled.members],
        "runs": list(bundled.runs),
        "average_flips": bundled.average_flips,
        "environment": first.environment,
        "exported_by": environment(),
        "variants": {variant.name: variant.to_dict() for variant in variants},
    }
    write_json(folder / MANIFEST, manifest)
    refresh(folder)
    return folder / MODEL


def refresh(folder: Path) -> None:
    """Take up into the manifest and the model card what was verified and measured, and every file's hash.

    A signature that is there goes: it was of the files as they were.
    """
    manifest = read_json(folder / MANIFEST)
    for key, name in (("verified", VERIFIED), ("benchmark", BENCHMARKED)):
        manifest[key] = read_json(folder / name) if (folder / name).exists() else None
    manifest["session"] = manifest["benchmark"] and manifest["benchmark"]["session"]
    write_atomic(folder / CARD, model_card(manifest))
    (folder / SIGNATURE).unlink(missing_ok=True)
    manifest["files"] = {
        path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != MANIFEST and not path.name.startswith(".")
    }
    write_json(folder / MANIFEST, manifest)
    for name in (VERIFIED, BENCHMARKED):  # later than the manifest, or make would take them for those of an earlier export
        if (folder / name).exists():
            (folder / name).touch()


def checkpoints_of(manifest: dict[str, Any], run: Path | None) -> list[Checkpoint]:
    """Those that the bundle was exported from, if they are at hand."""
    try:
        names = manifest["runs"] if len(manifest["runs"]) > 1 else [run]
        return [load_checkpoint(find_checkpoint(name)) for name in names] if run else []
    except InputError:
        return []


def golden_samples(bundled: Bundled) -> bytes:
    """An .npz of a few images, their classes, and the logits that PyTorch gives: what any copy of the bundle must give again."""
    logits = compute_logits(averaged(bundled.members, bundled.average_flips), bundled.golden.images)
    buffer = io.BytesIO()
    np.savez(buffer, pixels=bundled.golden.images.numpy(), labels=bundled.golden.labels.numpy(), logits=logits.numpy())
    return buffer.getvalue()


def client_source() -> str:
    """The client as one file: fmnist/photo.py, and export/client.py without the line that imports it."""
    lines = Path(client.__file__).read_text().splitlines(keepends=True)
    marker = f"from {photo.__name__} import"
    at = next(number for number, line in enumerate(lines) if line.startswith(marker))
    tree = ast.parse(source := Path(photo.__file__).read_text())
    body = "".join(source.splitlines(keepends=True)[tree.body[0].end_lineno :])  # without its docstring
    return "".join((*lines[:at], body, *lines[at + 1 :]))


def _signature(values: Iterable[onnx.ValueInfoProto]) -> list[dict[str, Any]]:
    return [
        {
            "name": value.name,
            "type": onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
            "shape": [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim],
        }
        for value in values
    ]
