"""The folder that ships: model.onnx, manifest.json with the SHA-256 of every file, and a client that needs no PyTorch."""

import ast
import hashlib
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx

from export import client
from fmnist import photo
from fmnist.checkpoint import Checkpoint
from fmnist.run import MODEL, write_atomic, write_json

MANIFEST = "manifest.json"
MANIFEST_VERSION = 1
CLIENT = "client.py"


def write_bundle(folder: Path, model: onnx.ModelProto, checkpoint: Checkpoint) -> Path:
    """Write the bundle, its manifest last; give the path of the ONNX file."""
    files = {
        MODEL: model.SerializeToString(deterministic=True),
        CLIENT: client_source().encode(),
    }
    for name, content in files.items():
        write_atomic(folder / name, content)
    manifest = {
        "manifest_version": MANIFEST_VERSION,
        "model": MODEL,
        "files": {name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)} for name, content in files.items()},
        "input": _signature(model.graph.input),
        "output": _signature(model.graph.output),
        "opset": model.opset_import[0].version,
        "labels": list(checkpoint.data.classes),
        "normalisation": {
            "inside_graph": True,
            "pixel_mean": checkpoint.model.pixel_mean.flatten().tolist(),
            "pixel_std": checkpoint.model.pixel_std.flatten().tolist(),
        },
        "data": {key: value for key, value in asdict(checkpoint.data).items() if key != "source"},  # a path of this machine
        "train": checkpoint.config.to_dict(),
        "environment": checkpoint.environment,
    }
    write_json(folder / MANIFEST, manifest)
    return folder / MODEL


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
