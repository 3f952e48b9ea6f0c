"""What verification holds a graph and a bundle to, each rule by itself, on answers that a script gives."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export import check, verify
from export.check import (
    VerificationError,
    check_batch,
    check_described,
    check_files,
    check_golden,
    check_graph,
    check_names,
    graphs,
    tolerance_of,
)
from export.verify import Parity, all_logits, check_accuracy, compare, said_of_values, summary_of
from fmnist.data import CLASSES, SHA256, DataError, DataInfo, Source, Split
from fmnist.errors import InputError

Array = NDArray[Any]
PIXELS = np.zeros((4, 28, 28), np.uint8)


def softmax(logits: Array) -> Array:
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    return exponents / exponents.sum(1, keepdims=True)


def answers(images: int = 4, classes: int = 3) -> Array:
    return np.random.default_rng(0).normal(size=(images, classes)).astype(np.float32)


@dataclass
class Value:
    name: str
    type: str
    shape: list[Any] = field(default_factory=list)


class Session:
    """Answers as a graph would that was tampered with in just this way."""

    def __init__(self, logits: Array, probabilities: Array | None = None, error: str = "") -> None:
        self.logits, self.error = logits, error
        self.probabilities = softmax(logits) if probabilities is None else probabilities
        self.inputs = [Value("pixels", "tensor(uint8)", ["batch", 28, 28])]
        self.outputs = [Value("logits", "tensor(float)"), Value("probabilities", "tensor(float)")]
        self.batches: list[int] = []

    def run(self, names: list[str], feed: dict[str, Array]) -> list[Array]:
        if self.error:
            raise RuntimeError(self.error)
        (pixels,) = feed.values()
        assert list(feed) == ["pixels"]
        assert names == ["logits", "probabilities"]
        self.batches.append(len(pixels))
        return [self.logits[: len(pixels)], self.probabilities[: len(pixels)]]

    def get_inputs(self) -> list[Value]:
        return self.inputs

    def get_outputs(self) -> list[Value]:
        return self.outputs


def complaint(act: Callable[[], object], kind: type[Exception] = VerificationError) -> str:
    with pytest.raises(kind) as raised:
        act()
    return str(raised.value)


def batch(session: Session, pixels: Array = PIXELS, classes: int = 3) -> Array:
    return check_batch(session, pixels, classes)  # pyright: ignore[reportArgumentType]


def test_the_logits_of_a_batch_are_given() -> None:
    assert np.array_equal(batch(Session(answers())), answers())
    huge = 300 * answers()  # whose exponentials overflow
    assert np.array_equal(batch(Session(huge)), huge)


@pytest.mark.parametrize(
    ("session", "message"),
    [
        (Session(answers(), error="bad\nmore"), "shapes: the graph refuses a batch of 4: bad"),
        (Session(answers(3)), "shapes: logits of a batch of 4 are (3, 3); expected (4, 3)"),
        (Session(answers(classes=2)), "shapes: logits of a batch of 4 are (4, 2); expected (4, 3)"),
        (Session(answers(), softmax(answers(3))), "shapes: probabilities of a batch of 4 are (3, 3); expected (4, 3)"),
        (Session(np.full((4, 3), np.nan)), "values: logits hold NaN or infinity in a batch of 4"),
        (Session(answers(), np.full((4, 3), np.inf)), "values: probabilities hold NaN or infinity in a batch of 4"),
        (
            Session(answers(), softmax(answers()) + 1e-4),
            "values: probabilities differ by 1.0e-04 from the softmax of the logits",
        ),
        (
            Session(answers(), softmax(answers()) * 0.5),
            f"values: probabilities differ by {softmax(answers()).max() / 2:.1e} from the softmax of the logits",
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
    ("change", "found"),
    [
        ({"inputs": [Value("image", "tensor(uint8)")]}, "[('image', 'tensor(uint8)')] → [OUT]"),
        ({"inputs": [Value("pixels", "tensor(float)")]}, "[('pixels', 'tensor(float)')] → [OUT]"),
        ({"outputs": [Value("logits", "tensor(float)")]}, "[('pixels', 'tensor(uint8)')] → [('logits', 'tensor(float)')]"),
        ({"inputs": []}, "[] → [OUT]"),
    ],
)
def test_names_and_types_are_those_that_clients_rely_on(change: dict[str, Any], found: str) -> None:
    session = Session(answers())
    names(session)
    for name, value in change.items():
        setattr(session, name, value)
    outputs = "('logits', 'tensor(float)'), ('probabilities', 'tensor(float)')"
    expected = f"[('pixels', 'tensor(uint8)')] → [{outputs}]"
    assert complaint(lambda: names(session)) == f"names: the graph has {found.replace('OUT', outputs)}; expected {expected}"


@pytest.mark.parametrize("shape", [[256, 28, 28], ["batch", 28, 20], ["batch", 28], ["batch", 3, 28, 28]], ids=str)
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
    allowed = tolerance_of(expected)
    hold(Session(expected), golden(tmp_path, expected))
    hold(Session(expected + 0.99 * allowed), golden(tmp_path, expected))
    said = complaint(lambda: hold(Session(expected - 2 * allowed), golden(tmp_path, expected)))
    assert said == f"golden: logits of the golden samples differ by up to {2 * allowed:.2e}; at most {allowed:.2e} is allowed"
    one = expected.copy()
    one[2, 1] += 1.0  # a single one of them
    assert complaint(lambda: hold(Session(one), golden(tmp_path, expected))).startswith("golden: logits of the golden samples")
    complaint(lambda: hold(Session(expected), golden(tmp_path, np.full((4, 3), np.nan, np.float32))))


@pytest.mark.parametrize(("wrong", "fails"), [(0, False), (2, False), (3, True)])
def test_a_variant_names_the_same_class_on_nine_golden_samples_of_ten(wrong: int, fails: bool, tmp_path: Path) -> None:
    expected = 5.0 * np.eye(2, dtype=np.float32)[np.arange(20) % 2]
    given = expected.copy()
    given[:wrong] = given[:wrong, ::-1]
    path = golden(tmp_path, expected, np.zeros((20, 28, 28), np.uint8))
    if fails:
        said = complaint(lambda: hold(Session(given), path, "int8", 2))
        assert said == "golden: int8 names another class on 15% of the golden samples"
    else:
        hold(Session(given), path, "int8", 2)
    hold(Session(expected + 1.0), path, "int8", 2)  # its logits may be others


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
    said = complaint(lambda: hold(Session(answers()), path))
    assert said == f"golden: {path} does not hold images and the logits of 3 classes"


def test_golden_samples_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "golden.npz"
    for spoil in (lambda: None, lambda: path.write_bytes(b"x"), lambda: np.savez(path, pixels=PIXELS)):
        spoil()
        assert complaint(lambda: hold(Session(answers()), path)).startswith(f"golden: {path} cannot be read: ")
    np.savez(path, pixels=PIXELS, logits=np.array([object()], dtype=object))  # a pickle, which is not opened
    assert "allow_pickle=False" in complaint(lambda: hold(Session(answers()), path))


def whole_manifest(folder: Path) -> dict[str, Any]:
    """A bundle of three files, and what its manifest says of them."""
    files = {"model.onnx": b"graph", "golden.npz": b"samples", "model.int8.onnx": b"smaller"}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / "manifest.json").write_text("{}")
    (folder / ".hidden").write_text("")
    hashes = {name: {"sha256": check.hashlib.sha256(content).hexdigest()} for name, content in files.items()}
    return {"files": hashes, "variants": {"int8": {"published": True}, "fp16": {"published": False}}}


def test_a_whole_bundle_passes_with_and_without_a_signature(tmp_path: Path) -> None:
    manifest = whole_manifest(tmp_path)
    check_files(tmp_path, manifest)
    (tmp_path / check.SIGNATURE).write_text("")
    check_files(tmp_path, manifest)
    published = [("float32", tmp_path / "model.onnx"), ("int8", tmp_path / "model.int8.onnx")]
    assert list(graphs(tmp_path, manifest)) == published


def link(path: Path) -> None:
    path.rename(path.with_suffix(".aside"))
    path.symlink_to(path.with_suffix(".aside"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "golden.npz").unlink(), "files: golden.npz is missing or no plain file of the bundle"),
        (lambda folder: link(folder / "golden.npz"), "files: golden.npz is missing or no plain file of the bundle"),
        (
            lambda folder: (folder.parent / "other").hardlink_to(folder / "golden.npz"),
            "files: golden.npz is hard-linked: it may be changed from elsewhere; copy the bundle",
        ),
        (
            lambda folder: (folder / "golden.npz").write_bytes(b"changed"),
            "files: golden.npz was changed: SHA-256 "
            f"{check.hashlib.sha256(b'changed').hexdigest()[:12]}… is not the manifest's "
            f"{check.hashlib.sha256(b'samples').hexdigest()[:12]}…",
        ),
        (
            lambda folder: [(folder / name).write_text("") for name in ("a", "b")],
            "files: a, b is not in the manifest",
        ),
    ],
)
def test_files_that_are_not_as_the_manifest_says(spoil: Callable[[Path], object], message: str, tmp_path: Path) -> None:
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
    assert complaint(lambda: check_files(folder, manifest)) == "files: model.int8.onnx has no hash in the manifest"
    (tmp_path / "outside").write_bytes(b"samples")
    manifest["files"]["../outside"] = manifest["files"]["golden.npz"]
    assert complaint(lambda: check_files(folder, manifest)) == "files: ../outside is missing or no plain file of the bundle"


def graph_file(folder: Path, values: Array, change: Callable[[onnx.ModelProto], object] = lambda model: None) -> Path:
    """A graph that adds a constant to an initializer."""
    tensor, other = numpy_helper.from_array(values, "weight"), numpy_helper.from_array(values, "constant")
    nodes = [helper.make_node("Constant", [], ["c"], value=other), helper.make_node("Add", ["weight", "c"], ["sum"])]
    output = helper.make_tensor_value_info("sum", helper.np_dtype_to_tensor_dtype(values.dtype), values.shape)
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
    [("weight", lambda model: model.graph.initializer[0]), ("constant", lambda model: model.graph.node[0].attribute[0].t)],
)
def test_every_tensor_is_looked_at(value: float, name: str, of: Callable[[Any], TensorProto], tmp_path: Path) -> None:
    path = graph_file(tmp_path, np.ones(3, np.float32), lambda model: poison(of(model), value))
    assert complaint(lambda: check_graph(path)) == f"graph: model.onnx: the tensor {name} holds NaN or infinity"


def test_tensors_of_branches_and_functions_are_looked_at(tmp_path: Path) -> None:
    bad = numpy_helper.from_array(np.array([np.nan], np.float32), "bad")
    value = helper.make_tensor_value_info("bad", TensorProto.FLOAT, [1])
    branch = helper.make_graph([], "b", [], [value], [bad])

    def add_branch(model: onnx.ModelProto) -> None:
        condition = numpy_helper.from_array(np.array(True), "condition")
        model.graph.initializer.append(condition)
        model.graph.node.append(helper.make_node("If", ["condition"], ["chosen"], then_branch=branch, else_branch=branch))

    def add_function(model: onnx.ModelProto) -> None:
        nodes = [helper.make_node("Constant", [], ["x"], value=bad)]
        model.functions.append(helper.make_function("d", "f", [], ["x"], nodes, [helper.make_opsetid("", 20)]))

    for change in (add_branch, add_function):
        path = graph_file(tmp_path, np.ones(1, np.float32), change)
        assert complaint(lambda path=path: check_graph(path)) == "graph: model.onnx: the tensor bad holds NaN or infinity"


def test_graphs_that_are_none(tmp_path: Path) -> None:
    path = graph_file(tmp_path, np.ones(3, np.float32))
    path.write_bytes(path.read_bytes()[:-7])
    assert complaint(lambda: check_graph(path)) == f"graph: {path} cannot be loaded: it is no ONNX model, or cut short"
    path = graph_file(tmp_path, np.ones(3, np.float32), lambda model: model.graph.node[1].input.append("nothing"))
    assert complaint(lambda: check_graph(path)).startswith("graph: model.onnx is not valid ONNX: ")
    assert len(complaint(lambda: check_graph(path)).splitlines()) == 1


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
def test_what_the_graph_says_of_itself_is_what_the_manifest_says(key: str, value: str | None) -> None:
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
    else:
        said = complaint(lambda: check_described("float32", model, manifest))
        assert said == f"manifest: its labels are not the data's classes in their order: {', '.join(labels)}"


# Over the whole test set.


def test_all_logits_come_in_batches_and_in_order() -> None:
    class Counting(Session):
        def run(self, names: list[str], feed: dict[str, Array]) -> list[Array]:
            (pixels,) = feed.values()
            self.batches.append(len(pixels))
            logits = pixels[:, 0, :3].astype(np.float32)
            return [logits, softmax(logits)]

    pixels = np.random.default_rng(1).integers(0, 9, (10, 28, 28), np.uint8)
    session = Counting(answers())
    found = all_logits(session, pixels, 4, 3)  # pyright: ignore[reportArgumentType]
    assert np.array_equal(found, pixels[:, 0, :3])
    assert session.batches == [4, 4, 2]


def test_parity_within_the_tolerance() -> None:
    reference = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]], np.float32)
    labels = np.array([0, 1, 1])
    allowed = tolerance_of(reference)
    assert allowed == pytest.approx(check.ABSOLUTE + 3 * check.RELATIVE)
    same = compare(reference, reference, labels)
    assert same == Parity(max_abs_diff=0.0, tolerance=allowed, labels_differing=0, pytorch_accuracy=2 / 3)
    near = reference.copy()
    near[1, 1] -= 0.9 * allowed
    found = compare(reference, near, labels)
    assert found.max_abs_diff == pytest.approx(0.9 * allowed, rel=1e-2)
    far = reference.copy()
    far[1, 1] -= 3 * allowed
    said = complaint(lambda: compare(reference, far, labels, " at batch 7"))
    largest = float(np.abs(far - reference).max())
    assert said == f"values: logits differ by up to {largest:.2e} at batch 7 (image 1); at most {allowed:.2e} is allowed"
    far[2, 0] = np.nan
    assert "differ by up to nan (image 2)" in complaint(lambda: compare(reference, far, labels))


def test_a_label_may_change_where_two_classes_are_nearly_as_likely() -> None:
    reference = np.array([[1.0, 0.0, -1.0], [0.5, 0.50001, -3.0]], np.float32)
    logits = reference.copy()
    logits[1] += np.array([2e-5, 0.0, 0.0], np.float32)
    found = compare(reference, logits, np.array([0, 1]))
    assert (found.labels_differing, found.pytorch_accuracy) == (1, 1.0)


def test_accuracy_may_not_drift() -> None:
    check_accuracy({"verified": None}, 0.1)
    manifest = {"verified": {"onnx_accuracy": 0.9}}
    for accuracy in (0.9, 0.9009, 0.8991):
        check_accuracy(manifest, accuracy)
    for accuracy in (0.9011, 0.8989):
        said = complaint(lambda accuracy=accuracy: check_accuracy(manifest, accuracy))
        assert said == f"accuracy: {accuracy:.2%} of the test images, but the manifest says 90.00%; one was changed"


FOUND: dict[str, Any] = {
    "provider": "cpu",
    "images": 10_000,
    "onnx_accuracy": 0.9123,
    "variants": {"int8": {"accuracy": 0.91, "accuracy_loss": 0.0023, "agreement": 0.99}},
}
PARITY = {"max_abs_diff": 3.8e-6, "tolerance": 1.6e-4, "labels_differing": 2, "pytorch_accuracy": 0.9121}


def test_what_is_said_of_a_bundle_that_passed() -> None:
    first = "[green]passed[/] on cpu: 10,000 test images, accuracy 91.23%; "
    second = "[green]passed[/] int8: accuracy 91.00%, +0.23 points lost, the same class on 99.00%"
    assert list(said_of_values(FOUND)) == [f"{first}no checkpoint at hand to compare with", second]
    parity = "largest logit difference 3.8e-06 (at most 1.6e-04), 2 labels differ; PyTorch 91.21%"
    assert list(said_of_values(FOUND | PARITY)) == [first + parity, second]


def test_what_goes_into_the_summary() -> None:
    assert summary_of(FOUND) == {"parity_provider": "cpu", "onnx_test_accuracy": 0.9123}
    more = {"parity_max_abs_diff": 3.8e-6, "parity_tolerance": 1.6e-4}
    assert summary_of(FOUND | PARITY) == {"parity_provider": "cpu", "onnx_test_accuracy": 0.9123} | more


def test_the_test_set_is_that_of_the_training_or_none(small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fmnist.data import load_info

    info = load_info(small_data)
    found = verify.test_set(info, Source())
    assert found is not None
    assert len(found) == 500
    other = DataInfo("other", ("a", "b"), {"x": "0"})
    monkeypatch.setenv("FMNIST_DATA", str(small_data))
    assert verify.test_set(other, Source()) is None  # not at hand
    with pytest.raises(DataError, match="the model was trained on another set, other"):
        verify.test_set(other, Source(data=str(small_data)))
    with pytest.raises(InputError):
        verify.test_set(info, Source(data=str(tmp_path)))


class Looking(Session):
    """Reads its logits off the pixels: the first three of the first row; a variant is wrong about some images."""

    def __init__(self, wrong: int = 0) -> None:
        super().__init__(answers())
        self.wrong = wrong

    def run(self, names: list[str], feed: dict[str, Array]) -> list[Array]:
        (pixels,) = feed.values()
        self.batches.append(len(pixels))
        logits = pixels[:, 0, :3].astype(np.float32)
        wrong = pixels[:, 1, 0] < self.wrong
        logits[wrong] = logits[wrong][:, [1, 2, 0]]
        return [logits, softmax(logits)]


def looked_at(images: int = 600) -> Split:
    """Images that `Looking` has right; each knows its number, up to 255."""
    pixels = np.zeros((images, 28, 28), np.uint8)
    labels = np.arange(images) % 3
    pixels[np.arange(images), 0, labels] = 20
    pixels[:, 1, 0] = np.minimum(np.arange(images), 255)
    return Split(torch.from_numpy(pixels), torch.from_numpy(labels))


def bundle_manifest(**variants: bool) -> dict[str, Any]:
    return {
        "labels": ["a", "b", "c"],
        "variants": {name: {"published": published} for name, published in variants.items()},
        "verified": None,
        "average_flips": True,
        "files": {"model.onnx": {"sha256": "abc"}},
    }


@dataclass
class Opened:
    """What was opened where, and the sessions that answered."""

    wrong: dict[str, int] = field(default_factory=dict[str, int])
    asked: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    sessions: list[Looking] = field(default_factory=list[Looking])

    def __call__(self, path: Path, provider: str) -> Looking:
        assert path.parent == Path("bundle")
        self.asked.append((path.name, provider))
        self.sessions.append(Looking(self.wrong.get(path.name, 0)))
        return self.sessions[-1]


def test_every_published_graph_is_held_against_the_whole_test_set(monkeypatch: pytest.MonkeyPatch) -> None:
    opened, test, checkpoint = Opened({"model.int8.onnx": 1}), looked_at(), object()
    compared: list[Any] = []

    def reference(checkpoints: Any, flips: bool, split: Split) -> Array:
        compared.append((checkpoints, flips, split))
        logits = split.images[:, 0, :3].float().numpy()
        return logits + 1e-5

    monkeypatch.setattr(verify, "open_session", opened)
    monkeypatch.setattr(verify, "reference_logits", reference)
    manifest = bundle_manifest(int8=True, fp16=True, other=False)
    found = verify.verify(Path("bundle"), manifest, [checkpoint], test, "cuda")  # pyright: ignore[reportArgumentType]
    assert compared == [([checkpoint], True, test)]
    assert opened.asked == [("model.onnx", "cuda"), ("model.int8.onnx", "cpu"), ("model.fp16.onnx", "cuda")]
    batches = opened.sessions[0].batches
    assert batches[:3] == [256, 256, 88]
    assert batches[3:503] == [1] * 500
    assert batches[503:753] == [2] * 250
    assert batches[753:] == [7] * 71 + [3]
    lost = 1 / 600
    assert found["variants"] == {
        "int8": {"agreement": pytest.approx(1 - lost), "accuracy_loss": pytest.approx(lost), "accuracy": pytest.approx(1 - lost)},
        "fp16": {"agreement": 1.0, "accuracy_loss": 0.0, "accuracy": 1.0},
    }
    assert found["metrics"]["accuracy"] == found["onnx_accuracy"] == found["pytorch_accuracy"] == 1.0
    assert found["metrics"]["images"] == 600
    assert found["max_abs_diff"] == pytest.approx(1e-5, rel=0.1)
    assert found["tolerance"] == pytest.approx(tolerance_of(np.array([20.0])), rel=1e-3)
    rest = {key: found[key] for key in ("provider", "images", "sha256", "labels_differing")}
    assert rest == {"provider": "cuda", "images": 600, "sha256": "abc", "labels_differing": 0}


def test_without_a_checkpoint_batches_are_held_against_the_graph_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "open_session", Opened())
    found = verify.verify(Path("bundle"), bundle_manifest(), [], looked_at(30), "cpu")
    assert set(found) == {"provider", "images", "onnx_accuracy", "variants", "metrics", "sha256"}
    assert found["variants"] == {}


@pytest.mark.parametrize("odd", [1, 2, 7])
def test_a_graph_that_answers_otherwise_at_some_batch_size(odd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(Looking):
        def run(self, names: list[str], feed: dict[str, Array]) -> list[Array]:
            logits, _ = super().run(names, feed)
            logits += 1.0 if self.batches[-1] == odd else 0.0
            return [logits, softmax(logits)]

    monkeypatch.setattr(verify, "open_session", lambda path, provider: Odd())
    said = complaint(lambda: verify.verify(Path("bundle"), bundle_manifest(), [], looked_at(600), "cpu"))
    assert said.startswith(f"values: logits differ by up to 1.00e+00 at batch {odd} (image 0)")


def test_a_variant_outside_its_gate_and_an_accuracy_that_drifted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "open_session", Opened({"model.int8.onnx": 64}))
    said = complaint(lambda: verify.verify(Path("bundle"), bundle_manifest(int8=True), [], looked_at(512), "cpu"))
    assert said.startswith("int8: ")
    assert said.endswith("; export again without it: --variants")
    manifest = bundle_manifest() | {"verified": {"onnx_accuracy": 0.5}}
    said = complaint(lambda: verify.verify(Path("bundle"), manifest, [], looked_at(30), "cpu"))
    assert said == "accuracy: 100.00% of the test images, but the manifest says 50.00%; one was changed"


def test_pytorchs_logits_are_true_float32_and_leave_the_settings_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    settings: list[Any] = []
    asked: list[Any] = []

    def tf32() -> tuple[Any, Any]:
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    class Model(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            settings.append(tf32())
            return pixels[:, 0, :3].float()

    monkeypatch.setattr(verify, "averaged", lambda checkpoints, flips: (asked.append((checkpoints, flips)), Model())[1])
    before = tf32()
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = True, True
    try:
        test = looked_at(5)
        found = verify.reference_logits([], True, test)
        assert tf32() == (True, True)
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
    assert np.array_equal(found, test.images[:, 0, :3].float().numpy())
    assert asked == [([], True)]
    assert settings == [(False, False)]


def test_a_bundle_by_itself_goes_through_every_check(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Any] = []
    manifest = bundle_manifest(int8=True, fp16=True) | {"input": [{"shape": ["batch", 3, 28, 28]}]}

    def note(name: str, answer: Any = None) -> Callable[..., Any]:
        return lambda *arguments: (done.append((name, *arguments)), answer)[1]

    monkeypatch.setattr(check, "read_manifest", note("manifest", manifest))
    for name, answer in (("files", None), ("graph", "model"), ("described", None), ("names", None), ("golden", None)):
        monkeypatch.setattr(check, f"check_{name}", note(name, answer))
    monkeypatch.setattr(check, "open_session", note("open", "session"))
    folder = Path("bundle")
    assert check.check_bundle(folder, "cuda") is manifest
    expected: list[Any] = [("manifest", folder), ("files", folder, manifest)]
    for name, file, provider in (
        ("float32", "model.onnx", "cuda"),
        ("int8", "model.int8.onnx", "cpu"),
        ("fp16", "model.fp16.onnx", "cuda"),
    ):
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
    said = complaint(lambda: check.read_manifest(tmp_path))
    assert said.startswith(f"manifest: {path} cannot be read: ")
    path.write_text("[]")
    said = complaint(lambda: check.read_manifest(tmp_path))
    assert said.startswith(f"manifest: {path}, its top level: [] is not of type 'object'")
    assert said.endswith("; export again")
    path.write_text("x")
    assert complaint(lambda: check.read_manifest(tmp_path)).startswith(f"manifest: {path} cannot be read: ")
