"""Is a bundle whole, and what it says it is? Needs neither data nor checkpoint nor PyTorch's answers, so it runs anywhere.

Whoever changes a bundle and recomputes the hashes is caught by what the files say of each other, by the golden samples, or else
by the whole test set or the signature: no hash protects against somebody who can write one.
"""

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx.external_data_helper import uses_external_data

from export.bundle import GOLDEN, MANIFEST, SIGNATURE, variant_file
from export.client import ABSOLUTE, RELATIVE
from export.graph import INPUT, OUTPUTS
from export.session import Provider, open_session
from fmnist.data import CLASSES, SHA256
from fmnist.errors import InputError, first_line
from fmnist.run import MODEL, read_json

SCHEMA = Path(__file__).with_name("manifest.schema.json")
GOLDEN_AGREEMENT = 0.9
"""Share of the golden samples on which a variant must name the same class: they are few, and some are hard."""

Floats = NDArray[np.float32]


class VerificationError(InputError):
    """The bundle is not what it should be."""


def check_bundle(folder: Path, provider: Provider) -> dict[str, Any]:
    """Everything that can be known of a bundle by itself; give its manifest.

    Raises:
        VerificationError: the manifest, a file, a graph or an answer is wrong.
        InputError: the provider cannot be had.
    """
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    for name, path in graphs(folder, manifest):
        model = check_graph(path)
        check_described(name, model, manifest)
        # Int8 is made for CPUs, where its kernels are.
        session = open_session(path, "cpu" if name == "int8" else provider)
        check_names(session, tuple(manifest["input"][0]["shape"][1:]))
        check_golden(session, folder / GOLDEN, name, len(manifest["labels"]))
    return manifest


def graphs(folder: Path, manifest: dict[str, Any]) -> Iterator[tuple[str, Path]]:
    """Each graph of a bundle: float32 first, then the variants that are published."""
    yield "float32", folder / MODEL
    for name, variant in manifest["variants"].items():
        if variant["published"]:
            yield name, folder / variant_file(name)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, held to its schema."""
    try:
        manifest = read_json(folder / MANIFEST)
        jsonschema.validate(manifest, json.loads(SCHEMA.read_text()))
    except InputError as error:
        raise VerificationError(f"manifest: {error}") from error
    except jsonschema.ValidationError as error:
        where = "/".join(map(str, error.absolute_path)) or "its top level"
        raise VerificationError(f"manifest: {folder / MANIFEST}, {where}: {error.message[:200]}; export again") from error
    return manifest


def check_files(folder: Path, manifest: dict[str, Any]) -> None:
    """Every file is there, is a file of its own, and has the manifest's hash; and there is none besides."""
    for name, known in manifest["files"].items():
        path = folder / name
        if Path(name).name != name or not path.is_file() or path.is_symlink():
            raise VerificationError(f"files: {name} is missing or no plain file of the bundle")
        if path.stat().st_nlink > 1:
            raise VerificationError(f"files: {name} is hard-linked: it may be changed from elsewhere; copy the bundle")
        if (digest := hashlib.sha256(path.read_bytes()).hexdigest()) != known["sha256"]:
            hashes = f"SHA-256 {digest[:12]}… is not the manifest's {known['sha256'][:12]}…"
            raise VerificationError(f"files: {name} was changed: {hashes}")
    present = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    if unknown := sorted(present - set(manifest["files"]) - {MANIFEST, SIGNATURE}):
        raise VerificationError(f"files: {', '.join(unknown)} is not in the manifest")
    if missing := [path.name for _, path in graphs(folder, manifest) if path.name not in manifest["files"]]:
        raise VerificationError(f"files: {', '.join(missing)} has no hash in the manifest")


def check_graph(path: Path) -> onnx.ModelProto:
    """The graph is valid, whole in its one file, and every number in it is finite."""
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except Exception as error:  # protobuf's own errors
        raise VerificationError(f"graph: {path} cannot be loaded: it is no ONNX model, or cut short") from error
    for tensor in _tensors(model):
        if uses_external_data(tensor):
            raise VerificationError(f"graph: {path.name}: the tensor {tensor.name} lies outside the file; none may")
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise VerificationError(f"graph: {path.name}: the tensor {tensor.name} holds NaN or infinity")
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        raise VerificationError(f"graph: {path.name} is not valid ONNX: {first_line(error)}") from error
    return model


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for nodes, initializers in ((model.graph.node, model.graph.initializer), *((f.node, ()) for f in model.functions)):
        yield from initializers
        for node in nodes:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.TENSOR:
                    yield attribute.t
                yield from attribute.tensors
                for graph in (attribute.g, *attribute.graphs):
                    yield from graph.initializer


def check_described(name: str, model: onnx.ModelProto, manifest: dict[str, Any]) -> None:
    """Labels, configs and data of the manifest are those inside the graph."""
    inside = {prop.key: prop.value for prop in model.metadata_props}
    data = {key: manifest["data"][key] for key in ("name", "sha256")}
    outside = {"labels": manifest["labels"], "train_config": manifest["train"], "data": data}
    for key, value in outside.items():
        try:
            known = json.loads(inside.get(key, "null"))
        except ValueError:
            known = None
        if known != json.loads(json.dumps(value)):
            raise VerificationError(f"manifest: its {key} is not what the {name} graph holds; one of them was changed")
    classes = manifest["data"]["classes"]
    if manifest["labels"] != classes or (manifest["data"]["sha256"] == SHA256 and tuple(classes) != CLASSES):
        raise VerificationError(f"manifest: its labels are not the data's classes in their order: {', '.join(manifest['labels'])}")


def check_names(session: ort.InferenceSession, image_shape: tuple[int, ...]) -> None:
    """Raise VerificationError unless the graph has the names and types that clients rely on."""
    inputs = [(value.name, value.type) for value in session.get_inputs()]
    outputs = [(value.name, value.type) for value in session.get_outputs()]
    expected = [(INPUT, "tensor(uint8)")], [(name, "tensor(float)") for name in OUTPUTS]
    if (inputs, outputs) != expected:
        raise VerificationError(f"names: the graph has {inputs} → {outputs}; expected {expected[0]} → {expected[1]}")
    batch, *shape = session.get_inputs()[0].shape
    if isinstance(batch, int) or shape != list(image_shape):
        raise VerificationError(f"shapes: the input is {[batch, *shape]}; expected any batch of {list(image_shape)}")


def check_batch(session: ort.InferenceSession, pixels: NDArray[np.uint8], classes: int) -> Floats:
    """The logits of a batch. Raises VerificationError if shapes, probabilities or finiteness are wrong."""
    try:
        logits, probabilities = (np.asarray(output) for output in session.run(list(OUTPUTS), {INPUT: pixels}))
    except Exception as error:  # ONNX Runtime's own exceptions share no base class but this
        raise VerificationError(f"shapes: the graph refuses a batch of {len(pixels)}: {first_line(error)}") from error
    for name, output in zip(OUTPUTS, (logits, probabilities), strict=True):
        if output.shape != (len(pixels), classes):
            raise VerificationError(
                f"shapes: {name} of a batch of {len(pixels)} are {output.shape}; expected {(len(pixels), classes)}"
            )
        if not np.isfinite(output).all():
            raise VerificationError(f"values: {name} hold NaN or infinity in a batch of {len(pixels)}")
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    difference = float(np.abs(exponents / exponents.sum(1, keepdims=True) - probabilities).max())
    if difference > 1e-5:
        raise VerificationError(f"values: probabilities differ by {difference:.1e} from the softmax of the logits")
    return logits


def tolerance_of(reference: Floats) -> float:
    return ABSOLUTE + RELATIVE * float(np.abs(reference).max())


def check_golden(session: ort.InferenceSession, path: Path, name: str, classes: int) -> None:
    """The graph gives the answers that the model gave when it was exported."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            pixels, expected = arrays["pixels"], arrays["logits"]
    except Exception as error:  # zipfile's, NumPy's and the operating system's
        raise VerificationError(f"golden: {path} cannot be read: {error}") from error
    if pixels.dtype != np.uint8 or expected.shape != (len(pixels), classes) or not len(pixels):
        raise VerificationError(f"golden: {path} does not hold images and the logits of {classes} classes")
    logits = check_batch(session, pixels, classes)
    if name == "float32":
        difference, allowed = float(np.abs(logits - expected).max()), tolerance_of(expected)
        if not difference <= allowed:
            raise VerificationError(
                f"golden: logits of the golden samples differ by up to {difference:.2e}; at most {allowed:.2e} is allowed"
            )
    elif (agreement := float((logits.argmax(1) == expected.argmax(1)).mean())) < GOLDEN_AGREEMENT:
        raise VerificationError(f"golden: {name} names another class on {1 - agreement:.0%} of the golden samples")
