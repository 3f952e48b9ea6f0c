"""Write the folder that ships: graphs, manifest, model card, golden samples, and a client that
needs no PyTorch.

docs/bundle.md describes the manifest, export/bundle/manifest.schema.json holds it to that.
"""

import ast
import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from export import client
from export.bundle.layout import (
    BENCHMARKED,
    CARD,
    CLIENT,
    GOLDEN,
    MANIFEST,
    MANIFEST_VERSION,
    MODEL,
    SIGNATURE,
    VERIFIED,
    variant_file,
)
from export.bundle.model_card import model_card
from export.graph.conversion import averaged
from export.variants.gate import Variant
from fmnist.data.dataset import Split
from fmnist.errors import InputError
from fmnist.runs.files import read_json, write_atomic, write_json
from fmnist.runs.provenance import environment
from fmnist.runs.run_folder import CONFIG, find_checkpoint
from fmnist.training.checkpoint import Checkpoint, load_checkpoint
from fmnist.training.inference import compute_logits

LATER_FILES = {"verified": VERIFIED, "benchmark": BENCHMARKED}
"""Files that later commands add to a bundle, by the manifest's key for their content."""


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


def write_bundle(folder: Path, bundled: Bundled, variants: Sequence[Variant] = ()) -> Path:
    """Write the bundle, its manifest last; give the path of the ONNX file.

    Results of verification and benchmark stay if the graph is the same as before, and go with
    another graph.
    """
    model = _serialised(bundled.model)
    path = folder / MODEL
    if not path.exists() or path.read_bytes() != model:
        for name in LATER_FILES.values():
            (folder / name).unlink(missing_ok=True)
    # Not tried again, or no longer good enough.
    for old in folder.glob(variant_file("*")):
        old.unlink()

    files = {MODEL: model, CLIENT: client_source().encode(), GOLDEN: golden_samples(bundled)}
    for variant in variants:
        if variant.model is not None:
            files[variant_file(variant.name)] = _serialised(variant.model)
    for name, content in files.items():
        write_atomic(folder / name, content)

    # Last: a bundle cut short has no manifest, or one that does not fit.
    write_json(folder / MANIFEST, _manifest(bundled, variants))
    refresh(folder)
    return path


def _serialised(model: onnx.ModelProto) -> bytes:
    return model.SerializeToString(deterministic=True)


def _manifest(bundled: Bundled, variants: Sequence[Variant]) -> dict[str, Any]:
    """The manifest without what `refresh` adds."""
    first = bundled.members[0]
    graph = bundled.model.graph
    data = asdict(first.data)
    # A path of this machine.
    del data["source"]
    return {
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
        "data": data,
        "train": [member.config.to_dict() for member in bundled.members],
        "runs": list(bundled.runs),
        "average_flips": bundled.average_flips,
        "environment": first.environment,
        "exported_by": environment(),
        "variants": {variant.name: variant.to_dict() for variant in variants},
    }


def _signature(values: Iterable[onnx.ValueInfoProto]) -> list[dict[str, Any]]:
    """Name, type and shape of a graph's inputs or outputs."""
    rows: list[dict[str, Any]] = []
    for value in values:
        tensor = value.type.tensor_type
        kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
        shape = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
        rows.append({"name": value.name, "type": kind, "shape": shape})
    return rows


def refresh(folder: Path) -> None:
    """Bring manifest and model card up to date with the folder's files, results among them.

    A signature that is there goes: it was of the files as they were.
    """
    manifest = read_json(folder / MANIFEST)
    for key, name in LATER_FILES.items():
        path = folder / name
        manifest[key] = read_json(path) if path.exists() else None
    benchmark = manifest["benchmark"]
    manifest["session"] = None if benchmark is None else benchmark["session"]
    write_atomic(folder / CARD, model_card(manifest))
    (folder / SIGNATURE).unlink(missing_ok=True)

    # After the card, which is a file of the bundle too.
    manifest["files"] = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name != MANIFEST and not path.name.startswith("."):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            manifest["files"][path.name] = {"sha256": digest, "bytes": path.stat().st_size}
    write_json(folder / MANIFEST, manifest)

    # Later than the manifest, or make would take them for those of an earlier export.
    for name in LATER_FILES.values():
        if (folder / name).exists():
            (folder / name).touch()


def run_of_bundle(bundle: Path) -> Path | None:
    """The run folder that a bundle lies in; None if it was copied elsewhere."""
    run = bundle.parent
    return run if (run / CONFIG).exists() else None


def load_members(manifest: dict[str, Any], run: Path | None) -> list[Checkpoint]:
    """The checkpoints that a bundle was exported from; none if they are not at hand.

    Args:
        run: the run that the bundle lies in.
    """
    if run is None:
        return []
    # A single run may have been renamed since; members of an ensemble are found by name alone.
    ensemble = len(manifest["runs"]) > 1
    try:
        folders = [find_checkpoint(name) for name in (manifest["runs"] if ensemble else [run])]
        return [load_checkpoint(folder) for folder in folders]
    except InputError:
        return []


def golden_samples(bundled: Bundled) -> bytes:
    """An .npz of a few images, their classes, and PyTorch's logits, which any copy of the bundle
    must give again."""
    # PyTorch's, not the graph's: a wrong graph must not vouch for itself.
    model = averaged(bundled.members, bundled.average_flips)
    logits = compute_logits(model, bundled.golden.images)
    buffer = io.BytesIO()
    np.savez(
        buffer,
        pixels=bundled.golden.images.tensor().numpy(),
        labels=bundled.golden.labels.numpy(),
        logits=logits.numpy(),
    )
    return buffer.getvalue()


def client_source() -> str:
    """The client as one file: export/client.py, with what it imports of fmnist in place of the
    lines that import it."""
    return _with_inlined(Path(client.__file__).read_text(), set())


def _with_inlined(source: str, inlined: set[str]) -> str:
    """The source with each of fmnist's modules in place of the first statement that imports it."""
    lines = source.splitlines(keepends=True)
    parts: list[str] = []
    done = 0
    for statement in ast.parse(source).body:
        match statement:
            case ast.ImportFrom(module=str(name)) if name.startswith("fmnist."):
                parts += lines[done : statement.lineno - 1]
                done = statement.end_lineno or statement.lineno
                if name not in inlined:
                    inlined.add(name)
                    parts.append(_with_inlined(_without_docstring(name), inlined))
            case _:
                pass
    return "".join((*parts, *lines[done:]))


def _without_docstring(module: str) -> str:
    """A module's source; a file has one docstring, and it is the client's."""
    source = Path(str(import_module(module).__file__)).read_text()
    docstring = ast.parse(source).body[0]
    return "".join(source.splitlines(keepends=True)[docstring.end_lineno :])
