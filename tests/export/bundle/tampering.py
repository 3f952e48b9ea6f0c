"""Ways to tamper with a bundle, for tests that must notice."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from onnx.external_data_helper import set_external_data

from fmnist.runs.files import read_json, write_json


def change_graph(
    bundle: Path, change: Callable[[onnx.ModelProto], None], name: str = "model.onnx"
) -> None:
    model = onnx.load(bundle / name)
    change(model)
    (bundle / name).write_bytes(model.SerializeToString())


def change_manifest(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = read_json(bundle / "manifest.json")
    change(manifest)
    write_json(bundle / "manifest.json", manifest)


def change_weights(model: onnx.ModelProto, name: str, change: Callable[[np.ndarray], None]) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name.endswith(name))
    values = onnx.numpy_helper.to_array(tensor).copy()
    change(values)
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


def flip_bit(model: onnx.ModelProto) -> None:
    """The highest bit of a weight's mantissa."""

    def change(values: np.ndarray) -> None:
        values.reshape(-1).view(np.uint32)[7] ^= 1 << 22

    change_weights(model, "blocks.1.conv1.weight", change)


def poison(model: onnx.ModelProto) -> None:
    def change(values: np.ndarray) -> None:
        values.flat[7] = np.nan

    change_weights(model, "blocks.1.conv1.weight", change)  # max-pooling hides it from the answers


def fix_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 256


def rename(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = "image"
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            if name == "pixels":
                node.input[position] = "image"


def skip_softmax(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.op_type == "Softmax":
            node.op_type = "Sigmoid"
            del node.attribute[:]


def send_outside(model: onnx.ModelProto) -> None:
    set_external_data(model.graph.initializer[0], "../../etc/passwd")
    model.graph.initializer[0].ClearField("raw_data")


def swap_labels_inside(model: onnx.ModelProto) -> None:
    prop = next(prop for prop in model.metadata_props if prop.key == "labels")
    prop.value = json.dumps(swapped(json.loads(prop.value)))


def swapped(labels: list[str]) -> list[str]:
    return [labels[1], labels[0], *labels[2:]]


def new_key(folder: Path, name: str) -> tuple[Path, Path]:
    """Files of a private key, and of its public one."""
    key = ec.generate_private_key(ec.SECP256R1())
    private_key = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    public_key = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(private_key)
    public.write_bytes(public_key)
    return private, public
