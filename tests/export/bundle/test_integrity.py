"""What verification asks of a graph and a bundle, each rule by itself, on answers that a script
gives."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.bundle import integrity
from export.bundle.integrity import (
    check_batch,
    check_bundle,
    check_described,
    check_files,
    check_golden,
    check_graph,
    check_names,
    graphs,
    read_manifest,
    tolerance,
)
from export.bundle.layout import SIGNATURE
from fmnist.data.formats import CLASSES, SHA256
from tests.export.bundle.scripted import (
    Array,
    Session,
    Value,
    answers,
    bundle_manifest,
    complaint,
    softmax,
)

PIXELS = np.zeros((4, 28, 28), np.uint8)


def batch(session: Session, pixels: Array = PIXELS, classes: int = 3) -> Array:
    return check_batch(session, pixels, classes)  # pyright: ignore[reportArgumentType]


def test_the_logits_of_a_batch_are_given() -> None:
    assert np.array_equal(batch(Session(answers())), answers())

    # Exponentials of such logits overflow.
    huge = 300 * answers()
    assert np.array_equal(batch(Session(huge)), huge)


@pytest.mark.parametrize(
    ("session", "message"),
    [
        (Session(answers(), error="bad\nmore"), "shapes: the graph refuses a batch of 4: bad"),
        (Session(answers(3)), "shapes: logits of a batch of 4 are (3, 3); expected (4, 3)"),
        (Session(answers(classes=2)), "shapes: logits of a batch of 4 are (4, 2); expected (4, 3)"),
        (
            Session(answers(), softmax(answers(3))),
            "shapes: probabilities of a batch of 4 are (3, 3); expected (4, 3)",
        ),
        (Session(np.full((4, 3), np.nan)), "values: logits hold NaN or infinity in a batch of 4"),
        (
            Session(answers(), np.full((4, 3), np.inf)),
            "values: probabilities hold NaN or infinity in a batch of 4",
        ),
        (
            Session(answers(), softmax(answers()) + 1e-4),
            "values: probabilities differ by 1.0e-04 from the softmax of the logits",
        ),
        (
            Session(answers(), softmax(answers()) * 0.5),
            f"values: probabilities differ by {softmax(answers()).max() / 2:.1e} "
            "from the softmax of the logits",
        ),
    ],
)
def test_answers_that_cannot_be(session: Session, message: str) -> None:
    assert complaint(lambda: batch(session)) == message


def test_probabilities_may_be_a_hundred_thousandth_off() -> None:
    exact = np.full((4, 2), 0.5)
    logits = np.zeros((4, 2), np.float32)
    assert batch(Session(logits, exact + 0.99e-5), classes=2) is not None
    complaint(lambda: batch(Session(logits, exact + 1.01e-5), classes=2))


def names(session: Session, shape: tuple[int, ...] = (28, 28)) -> None:
    check_names(session, shape)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ({"inputs": [Value("image", "tensor(uint8)")]}, "[('image', 'tensor(uint8)')] → [OUT]"),
        ({"inputs": [Value("pixels", "tensor(float)")]}, "[('pixels', 'tensor(float)')] → [OUT]"),
        (
            {"outputs": [Value("logits", "tensor(float)")]},
            "[('pixels', 'tensor(uint8)')] → [('logits', 'tensor(float)')]",
        ),
        ({"inputs": []}, "[] → [OUT]"),
    ],
)
def test_names_and_types_are_those_that_clients_rely_on(change: dict[str, Any], seen: str) -> None:
    session = Session(answers())
    names(session)

    for name, value in change.items():
        setattr(session, name, value)
    outputs = "('logits', 'tensor(float)'), ('probabilities', 'tensor(float)')"
    seen = seen.replace("OUT", outputs)
    expected = f"[('pixels', 'tensor(uint8)')] → [{outputs}]"
    message = complaint(lambda: names(session))
    assert message == f"names: the graph has {seen}; expected {expected}"


@pytest.mark.parametrize(
    "shape", [[256, 28, 28], ["batch", 28, 20], ["batch", 28], ["batch", 3, 28, 28]], ids=str
)
def test_any_batch_of_images_of_one_shape(shape: list[Any]) -> None:
    session = Session(answers())
    session.inputs[0].shape = shape
    message = f"shapes: the input is {shape}; expected any batch of [28, 28]"
    assert complaint(lambda: names(session)) == message

    session.inputs[0].shape = ["n", 3, 28, 28]
    names(session, (3, 28, 28))


def golden(tmp_path: Path, logits: Array, pixels: Array = PIXELS) -> Path:
    path = tmp_path / "golden.npz"
    np.savez(path, pixels=pixels, logits=logits)
    return path


def hold(session: Session, path: Path, name: str = "float32", classes: int = 3) -> None:
    check_golden(session, path, name, classes)  # pyright: ignore[reportArgumentType]


def test_golden_samples_within_the_tolerance_and_beyond(tmp_path: Path) -> None:
    expected = answers()
    allowed = tolerance(expected)
    path = golden(tmp_path, expected)
    hold(Session(expected), path)
    hold(Session(expected + 0.99 * allowed), path)

    message = complaint(lambda: hold(Session(expected - 2 * allowed), path))
    assert message == (
        f"golden: logits of the golden samples differ by up to {2 * allowed:.2e}; "
        f"at most {allowed:.2e} is allowed"
    )

    # One logit of one image.
    one = expected.copy()
    one[2, 1] += 1.0
    message = complaint(lambda: hold(Session(one), path))
    assert message.startswith("golden: logits of the golden samples")

    nothing = golden(tmp_path, np.full((4, 3), np.nan, np.float32))
    complaint(lambda: hold(Session(expected), nothing))


@pytest.mark.parametrize(("wrong", "fails"), [(0, False), (2, False), (3, True)])
def test_a_variant_names_the_same_class_on_nine_golden_samples_of_ten(
    wrong: int, fails: bool, tmp_path: Path
) -> None:
    expected = 5.0 * np.eye(2, dtype=np.float32)[np.arange(20) % 2]
    given = expected.copy()
    given[:wrong] = given[:wrong, ::-1]
    path = golden(tmp_path, expected, np.zeros((20, 28, 28), np.uint8))
    if fails:
        message = complaint(lambda: hold(Session(given), path, "int8", 2))
        assert message == "golden: int8 names another class on 15% of the golden samples"
    else:
        hold(Session(given), path, "int8", 2)

    # Its logits may be others, as long as the class is the same.
    hold(Session(expected + 1.0), path, "int8", 2)


@pytest.mark.parametrize(
    ("pixels", "logits"),
    [
        (PIXELS.astype(np.float32), answers()),
        (PIXELS, answers(3)),
        (PIXELS, answers(classes=2)),
        (PIXELS[:0], answers(0)),
    ],
)
def test_golden_samples_of_something_else(pixels: Array, logits: Array, tmp_path: Path) -> None:
    path = golden(tmp_path, logits, pixels)
    message = complaint(lambda: hold(Session(answers()), path))
    assert message == f"golden: {path} does not hold images and the logits of 3 classes"


def test_golden_samples_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "golden.npz"

    def check_unreadable() -> str:
        message = complaint(lambda: hold(Session(answers()), path))
        assert message.startswith(f"golden: {path} cannot be read: ")
        return message

    check_unreadable()
    path.write_bytes(b"x")
    check_unreadable()
    np.savez(path, pixels=PIXELS)
    check_unreadable()

    # An array of objects is a pickle, which is not opened.
    np.savez(path, pixels=PIXELS, logits=np.array([object()], dtype=object))
    assert "allow_pickle=False" in check_unreadable()


def whole_manifest(folder: Path) -> dict[str, Any]:
    """A bundle of three files, and what its manifest says of them."""
    files = {"model.onnx": b"graph", "golden.npz": b"samples", "model.int8.onnx": b"smaller"}
    hashes: dict[str, dict[str, str]] = {}
    for name, content in files.items():
        (folder / name).write_bytes(content)
        hashes[name] = {"sha256": hashlib.sha256(content).hexdigest()}
    (folder / "manifest.json").write_text("{}")
    (folder / ".hidden").write_text("")
    return {
        "files": hashes,
        "variants": {"int8": {"published": True}, "fp16": {"published": False}},
    }


def test_a_whole_bundle_passes_with_and_without_a_signature(tmp_path: Path) -> None:
    manifest = whole_manifest(tmp_path)
    check_files(tmp_path, manifest)
    (tmp_path / SIGNATURE).write_text("")
    check_files(tmp_path, manifest)

    published = [("float32", tmp_path / "model.onnx"), ("int8", tmp_path / "model.int8.onnx")]
    assert list(graphs(tmp_path, manifest)) == published


def link(path: Path) -> None:
    path.rename(path.with_suffix(".aside"))
    path.symlink_to(path.with_suffix(".aside"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda folder: (folder / "golden.npz").unlink(),
            "files: golden.npz is missing or no plain file of the bundle",
        ),
        (
            lambda folder: link(folder / "golden.npz"),
            "files: golden.npz is missing or no plain file of the bundle",
        ),
        (
            lambda folder: (folder.parent / "other").hardlink_to(folder / "golden.npz"),
            "files: golden.npz is hard-linked: it may be changed from elsewhere; copy the bundle",
        ),
        (
            lambda folder: (folder / "golden.npz").write_bytes(b"changed"),
            "files: golden.npz was changed: "
            f"SHA-256 {hashlib.sha256(b'changed').hexdigest()[:12]}… "
            f"is not the manifest's {hashlib.sha256(b'samples').hexdigest()[:12]}…",
        ),
        (
            lambda folder: [(folder / name).write_text("") for name in ("a", "b")],
            "files: a, b is not in the manifest",
        ),
    ],
)
def test_files_that_are_not_as_the_manifest_says(
    spoil: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    manifest = whole_manifest(folder)
    spoil(folder)
    assert complaint(lambda: check_files(folder, manifest)) == message


def test_a_graph_without_a_hash_and_a_name_that_leads_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    manifest = whole_manifest(folder)
    del manifest["files"]["model.int8.onnx"]
    (folder / "model.int8.onnx").unlink()
    message = complaint(lambda: check_files(folder, manifest))
    assert message == "files: model.int8.onnx has no hash in the manifest"

    (tmp_path / "outside").write_bytes(b"samples")
    manifest["files"]["../outside"] = manifest["files"]["golden.npz"]
    message = complaint(lambda: check_files(folder, manifest))
    assert message == "files: ../outside is missing or no plain file of the bundle"


def graph_file(
    folder: Path, values: Array, change: Callable[[onnx.ModelProto], object] = lambda model: None
) -> Path:
    """A graph that adds a constant to an initializer."""
    tensor = numpy_helper.from_array(values, "weight")
    other = numpy_helper.from_array(values, "constant")
    nodes = [
        helper.make_node("Constant", [], ["c"], value=other),
        helper.make_node("Add", ["weight", "c"], ["sum"]),
    ]
    kind = helper.np_dtype_to_tensor_dtype(values.dtype)
    output = helper.make_tensor_value_info("sum", kind, values.shape)
    graph = helper.make_graph(nodes, "g", [], [output], [tensor])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    change(model)

    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_graphs_of_finite_numbers_pass(tmp_path: Path) -> None:
    for values in (np.ones(3, np.float32), np.ones(3, np.int64), np.zeros(0, np.float32)):
        model = check_graph(graph_file(tmp_path, values))
        assert [node.op_type for node in model.graph.node] == ["Constant", "Add"]


def poison(tensor: TensorProto, value: float) -> None:
    values = numpy_helper.to_array(tensor).copy()
    values[1] = value
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("weight", lambda model: model.graph.initializer[0]),
        ("constant", lambda model: model.graph.node[0].attribute[0].t),
    ],
)
def test_every_tensor_is_looked_at(
    value: float, name: str, of: Callable[[Any], TensorProto], tmp_path: Path
) -> None:
    path = graph_file(tmp_path, np.ones(3, np.float32), lambda model: poison(of(model), value))
    message = complaint(lambda: check_graph(path))
    assert message == f"graph: model.onnx: the tensor {name} holds NaN or infinity"


def test_tensors_of_branches_and_functions_are_looked_at(tmp_path: Path) -> None:
    bad = numpy_helper.from_array(np.array([np.nan], np.float32), "bad")
    value = helper.make_tensor_value_info("bad", TensorProto.FLOAT, [1])
    branch = helper.make_graph([], "b", [], [value], [bad])

    def add_branch(model: onnx.ModelProto) -> None:
        condition = numpy_helper.from_array(np.array(True), "condition")
        node = helper.make_node(
            "If", ["condition"], ["chosen"], then_branch=branch, else_branch=branch
        )
        model.graph.initializer.append(condition)
        model.graph.node.append(node)

    def add_function(model: onnx.ModelProto) -> None:
        nodes = [helper.make_node("Constant", [], ["x"], value=bad)]
        opsets = [helper.make_opsetid("", 20)]
        model.functions.append(helper.make_function("d", "f", [], ["x"], nodes, opsets))

    for change in (add_branch, add_function):
        path = graph_file(tmp_path, np.ones(1, np.float32), change)
        message = complaint(lambda path=path: check_graph(path))
        assert message == "graph: model.onnx: the tensor bad holds NaN or infinity"


def test_graphs_that_are_none(tmp_path: Path) -> None:
    path = graph_file(tmp_path, np.ones(3, np.float32))
    path.write_bytes(path.read_bytes()[:-7])
    message = complaint(lambda: check_graph(path))
    assert message == f"graph: {path} cannot be loaded: it is no ONNX model, or cut short"

    def add_input(model: onnx.ModelProto) -> None:
        model.graph.node[1].input.append("nothing")

    path = graph_file(tmp_path, np.ones(3, np.float32), add_input)
    message = complaint(lambda: check_graph(path))
    assert message.startswith("graph: model.onnx is not valid ONNX: ")
    assert len(message.splitlines()) == 1


def described(**changes: Any) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """A graph with its metadata, and the manifest that fits it."""
    manifest: dict[str, Any] = {
        "labels": ["a", "b"],
        "train": [{"lr": 0.1, "widths": [1, 2]}],
        "data": {"name": "x", "sha256": {"file": "0"}, "classes": ["a", "b"], "fit": "pad"},
    }
    inside = {
        "labels": json.dumps(manifest["labels"]),
        "train_config": json.dumps(manifest["train"]),
        "data": json.dumps({"name": "x", "sha256": {"file": "0"}}),
    }

    model = onnx.ModelProto()
    for key, value in (inside | changes).items():
        if value is not None:
            model.metadata_props.add(key=key, value=value)
    return model, manifest


@pytest.mark.parametrize("key", ["labels", "train_config", "data"])
@pytest.mark.parametrize("value", [None, "not JSON", '["b", "a"]', "null"])
def test_what_the_graph_says_of_itself_is_what_the_manifest_says(
    key: str, value: str | None
) -> None:
    check_described("float32", *described())

    model, manifest = described(**{key: value})
    message = f"manifest: its {key} is not what the int8 graph holds; one of them was changed"
    assert complaint(lambda: check_described("int8", model, manifest)) == message


def test_labels_are_the_classes_in_their_order() -> None:
    model, manifest = described()
    manifest["data"]["classes"] = ["b", "a"]
    message = "manifest: its labels are not the data's classes in their order: a, b"
    assert complaint(lambda: check_described("float32", model, manifest)) == message


@pytest.mark.parametrize("right", [True, False])
def test_fashion_mnists_classes_are_known(right: bool) -> None:
    labels = list(CLASSES) if right else [CLASSES[1], CLASSES[0], *CLASSES[2:]]
    data = {"name": "Fashion-MNIST", "sha256": SHA256}
    model, manifest = described(labels=json.dumps(labels), data=json.dumps(data))
    manifest |= {"labels": labels, "data": data | {"classes": labels}}
    if right:
        check_described("float32", model, manifest)
        return

    message = complaint(lambda: check_described("float32", model, manifest))
    listed = ", ".join(labels)
    assert message == f"manifest: its labels are not the data's classes in their order: {listed}"


def test_a_bundle_by_itself_goes_through_every_check(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Any] = []
    manifest = bundle_manifest(int8=True, fp16=True) | {"input": [{"shape": ["batch", 3, 28, 28]}]}

    def note(name: str, answer: Any = None) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            done.append((name, *arguments))
            return answer

        return call

    monkeypatch.setattr(integrity, "read_manifest", note("manifest", manifest))
    monkeypatch.setattr(integrity, "check_graph", note("graph", "model"))
    for name in ("files", "described", "names", "golden"):
        monkeypatch.setattr(integrity, f"check_{name}", note(name))
    monkeypatch.setattr(integrity, "open_session", note("open", "session"))
    folder = Path("bundle")
    assert check_bundle(folder, "cuda") is manifest

    expected: list[Any] = [("manifest", folder), ("files", folder, manifest)]
    graph_files = [
        ("float32", "model.onnx", "cuda"),
        ("int8", "model.int8.onnx", "cpu"),
        ("fp16", "model.fp16.onnx", "cuda"),
    ]
    for name, file, provider in graph_files:
        expected += [
            ("graph", folder / file),
            ("described", name, "model", manifest),
            ("open", folder / file, provider),
            ("names", "session", (3, 28, 28)),
            ("golden", "session", folder / "golden.npz", name, 3),
        ]
    assert done == expected


def test_a_manifest_that_cannot_be(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    unreadable = f"manifest: {path} cannot be read: "
    assert complaint(lambda: read_manifest(tmp_path)).startswith(unreadable)
    path.write_text("x")
    assert complaint(lambda: read_manifest(tmp_path)).startswith(unreadable)

    path.write_text("[]")
    message = complaint(lambda: read_manifest(tmp_path))
    assert message.startswith(f"manifest: {path}, its top level: [] is not of type 'object'")
    assert message.endswith("; export again")
