"""Check that a bundle is whole and what it says it is.

Needs neither data nor checkpoint nor PyTorch's answers, so it runs anywhere.

Whoever changes a bundle and recomputes the hashes is caught by comparing the files with each other,
by the golden samples, or else by the whole test set or the signature: no hash protects against
somebody who can write one.
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

from export.bundle.layout import GOLDEN, MANIFEST, MODEL, SIGNATURE, variant_file
from export.client import ABSOLUTE, INPUT, OUTPUTS, RELATIVE
from export.providers import Provider
from export.session import open_session
from fmnist.data.formats import CLASSES, SHA256
from fmnist.errors import InputError, first_line
from fmnist.runs.files import read_json

SCHEMA = Path(__file__).with_name("manifest.schema.json")
GOLDEN_AGREEMENT = 0.9
"""Share of the golden samples on which a variant must name the same class: they are few, and
some are hard."""
SOFTMAX_TOLERANCE = 1e-5

Floats = NDArray[np.float32]


class VerificationError(InputError):
    """The bundle is not what it should be."""


def check_bundle(folder: Path, provider: Provider) -> dict[str, Any]:
    """Check everything that a bundle alone can show, and give its manifest.

    Raises:
        VerificationError: the manifest, a file, a graph or an answer is wrong.
        InputError: the provider cannot be had.
    """
    # Hashes first: only files that are whole are parsed.
    manifest = read_manifest(folder)
    check_files(folder, manifest)

    image_shape = tuple(manifest["input"][0]["shape"][1:])
    for name, path in graphs(folder, manifest):
        model = check_graph(path)
        check_described(name, model, manifest)
        session = open_session(path, provider_for(name, provider))
        check_names(session, image_shape)
        check_golden(session, folder / GOLDEN, name, len(manifest["labels"]))
    return manifest


def graphs(folder: Path, manifest: dict[str, Any]) -> Iterator[tuple[str, Path]]:
    """Each graph of a bundle: float32 first, then the variants that are published."""
    yield "float32", folder / MODEL
    for name, variant in manifest["variants"].items():
        if variant["published"]:
            yield name, folder / variant_file(name)


def provider_for(name: str, provider: Provider) -> Provider:
    """Where a graph is checked: int8 on the CPU, since its kernels are made for CPUs."""
    return "cpu" if name == "int8" else provider


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest. Raises VerificationError if it is damaged or does not fit its schema."""
    try:
        manifest = read_json(folder / MANIFEST)
        jsonschema.validate(manifest, json.loads(SCHEMA.read_text()))
    except InputError as error:
        raise VerificationError(f"manifest: {error}") from error
    except jsonschema.ValidationError as error:
        where = "/".join(map(str, error.absolute_path)) or "its top level"
        raise VerificationError(
            f"manifest: {folder / MANIFEST}, {where}: {error.message[:200]}; export again"
        ) from error
    return manifest


def check_files(folder: Path, manifest: dict[str, Any]) -> None:
    """Every file is there, is a file of its own, and has the manifest's hash; and there is none
    besides."""
    for name, entry in manifest["files"].items():
        _check_file(folder, name, entry["sha256"])

    # Hidden files do not count: file managers leave some.
    present = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    unknown = sorted(present - set(manifest["files"]) - {MANIFEST, SIGNATURE})
    if unknown:
        raise VerificationError(f"files: {', '.join(unknown)} is not in the manifest")

    names = [path.name for _, path in graphs(folder, manifest)]
    missing = [name for name in names if name not in manifest["files"]]
    if missing:
        raise VerificationError(f"files: {', '.join(missing)} has no hash in the manifest")


def _check_file(folder: Path, name: str, expected: str) -> None:
    # A name with a folder in it would lead outside; a link can be pointed elsewhere later.
    path = folder / name
    if Path(name).name != name or not path.is_file() or path.is_symlink():
        raise VerificationError(f"files: {name} is missing or no plain file of the bundle")
    if path.stat().st_nlink > 1:
        raise VerificationError(
            f"files: {name} is hard-linked: it may be changed from elsewhere; copy the bundle"
        )

    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != expected:
        raise VerificationError(
            f"files: {name} was changed: "
            f"SHA-256 {digest[:12]}… is not the manifest's {expected[:12]}…"
        )


def check_graph(path: Path) -> onnx.ModelProto:
    """The graph is valid, whole in its one file, and every number in it is finite."""
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    # Protobuf's own errors.
    except Exception as error:
        raise VerificationError(
            f"graph: {path} cannot be loaded: it is no ONNX model, or cut short"
        ) from error

    # Before the checker, since each of these has a message of its own.
    for tensor in _tensors(model):
        where = f"graph: {path.name}: the tensor {tensor.name}"
        if uses_external_data(tensor):
            raise VerificationError(f"{where} lies outside the file; none may")
        # NaN may not show in the answers: max-pooling hides it.
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise VerificationError(f"{where} holds NaN or infinity")

    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        raise VerificationError(
            f"graph: {path.name} is not valid ONNX: {first_line(error)}"
        ) from error
    return model


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor that a file holds, those of branches and functions too."""
    yield from model.graph.initializer
    nodes = list(model.graph.node)
    for function in model.functions:
        nodes += function.node

    for node in nodes:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
            yield from attribute.tensors
            for graph in (attribute.g, *attribute.graphs):
                yield from graph.initializer


def check_described(name: str, model: onnx.ModelProto, manifest: dict[str, Any]) -> None:
    """Labels, configs and data of the manifest are those inside the graph."""
    data = {key: manifest["data"][key] for key in ("name", "sha256")}
    outside = {"labels": manifest["labels"], "train_config": manifest["train"], "data": data}
    inside = {prop.key: prop.value for prop in model.metadata_props}
    for key, value in outside.items():
        try:
            described = json.loads(inside.get(key, "null"))
        except ValueError:
            described = None
        # Through JSON, since tuples come back as lists.
        if described != json.loads(json.dumps(value)):
            raise VerificationError(
                f"manifest: its {key} is not what the {name} graph holds; one of them was changed"
            )

    # Swapped in the graph and in the manifest alike, they still differ from the data set's own.
    labels, classes = manifest["labels"], manifest["data"]["classes"]
    is_fashion_mnist = manifest["data"]["sha256"] == SHA256
    if labels != classes or (is_fashion_mnist and tuple(classes) != CLASSES):
        raise VerificationError(
            "manifest: its labels are not the data's classes in their order: "
            + ", ".join(labels)[:200]
        )


def check_names(session: ort.InferenceSession, image_shape: tuple[int, ...]) -> None:
    """Raise VerificationError unless the graph has the names and types that clients rely on."""
    inputs = [(value.name, value.type) for value in session.get_inputs()]
    outputs = [(value.name, value.type) for value in session.get_outputs()]
    expected_inputs = [(INPUT, "tensor(uint8)")]
    expected_outputs = [(name, "tensor(float)") for name in OUTPUTS]
    if (inputs, outputs) != (expected_inputs, expected_outputs):
        raise VerificationError(
            f"names: the graph has {inputs} → {outputs}; "
            f"expected {expected_inputs} → {expected_outputs}"
        )

    # A free batch size has a name in place of a number.
    batch, *shape = session.get_inputs()[0].shape
    if isinstance(batch, int) or shape != list(image_shape):
        raise VerificationError(
            f"shapes: the input is {[batch, *shape]}; expected any batch of {list(image_shape)}"
        )


def check_batch(session: ort.InferenceSession, pixels: NDArray[np.uint8], classes: int) -> Floats:
    """The logits of a batch. Raises VerificationError if shapes, probabilities or finiteness are
    wrong."""
    count = len(pixels)
    try:
        answers = session.run(list(OUTPUTS), {INPUT: pixels})
    # ONNX Runtime's own exceptions share no base class but this.
    except Exception as error:
        raise VerificationError(
            f"shapes: the graph refuses a batch of {count}: {first_line(error)}"
        ) from error

    logits, probabilities = (np.asarray(answer) for answer in answers)
    for name, output in zip(OUTPUTS, (logits, probabilities), strict=True):
        if output.shape != (count, classes):
            raise VerificationError(
                f"shapes: {name} of a batch of {count} are {output.shape}; "
                f"expected {(count, classes)}"
            )
        if not np.isfinite(output).all():
            raise VerificationError(f"values: {name} hold NaN or infinity in a batch of {count}")

    # Less the largest logit, or exponentials overflow.
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    softmax = exponents / exponents.sum(1, keepdims=True)
    difference = float(np.abs(softmax - probabilities).max())
    if difference > SOFTMAX_TOLERANCE:
        raise VerificationError(
            f"values: probabilities differ by {difference:.1e} from the softmax of the logits"
        )
    return logits


def tolerance(reference: Floats) -> float:
    """How far a logit may be from `reference`, PyTorch's logits: as far as client.py allows."""
    # Not of the absolute values: they would be a copy of all.
    largest = np.maximum(reference.max(), -reference.min())
    return ABSOLUTE + RELATIVE * float(largest)


def check_golden(session: ort.InferenceSession, path: Path, name: str, classes: int) -> None:
    """The graph gives the answers that the model gave when it was exported."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            pixels, expected = arrays["pixels"], arrays["logits"]
    # zipfile's, NumPy's and the operating system's.
    except Exception as error:
        raise VerificationError(f"golden: {path} cannot be read: {error}") from error
    if pixels.dtype != np.uint8 or expected.shape != (len(pixels), classes) or not len(pixels):
        raise VerificationError(
            f"golden: {path} does not hold images and the logits of {classes} classes"
        )

    logits = check_batch(session, pixels, classes)
    # A variant's logits may differ, by as much as its gate allows.
    if name != "float32":
        agreement = float((logits.argmax(1) == expected.argmax(1)).mean())
        if agreement < GOLDEN_AGREEMENT:
            raise VerificationError(
                f"golden: {name} names another class on {1 - agreement:.0%} of the golden samples"
            )
        return

    difference = float(np.abs(logits - expected).max())
    allowed = tolerance(expected)
    # Not "difference > allowed", which is false of NaN.
    if not difference <= allowed:
        raise VerificationError(
            f"golden: logits of the golden samples differ by up to {difference:.2e}; "
            f"at most {allowed:.2e} is allowed"
        )
