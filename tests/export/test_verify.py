"""Verification must fail on what is wrong, each with its own message, also when the tamperer recomputes the hashes."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from onnx.external_data_helper import set_external_data

from export import verify as verify_module
from export.bundle import refresh
from export.check import VerificationError, check_bundle, read_manifest
from export.graph import to_onnx
from export.quantize import Variant
from export.sign import check_signature, sign
from export.verify import VerifyOptions, compare, said_of_values, verify
from export.verify import main as verify_main
from fmnist.checkpoint import Checkpoint, save_checkpoint
from fmnist.data import Split
from fmnist.errors import InputError
from fmnist.evaluate import combine, compute_logits
from fmnist.models import build_model
from fmnist.run import read_json, write_json
from tests.conftest import Outcome

MakeBundle = Callable[..., Path]


@pytest.fixture(scope="module")
def whole(checkpoint: Checkpoint, make_bundle: MakeBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("whole"), checkpoint).parent


@pytest.fixture
def bundle(whole: Path, tmp_path: Path) -> Path:
    """A copy to be tampered with."""
    return shutil.copytree(whole, tmp_path / "export")


def change_graph(bundle: Path, change: Callable[[onnx.ModelProto], None], name: str = "model.onnx") -> None:
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


@pytest.mark.parametrize(
    ("tamper", "words"),
    [
        (flip_bit, "golden: logits of the golden samples differ"),
        (poison, "graph: model.onnx: the tensor .* holds NaN"),
        (fix_batch, "shapes: the input is"),
        (rename, "names: the graph has"),
        (skip_softmax, "values: probabilities differ .* softmax"),
        (send_outside, "graph: model.onnx: the tensor .* lies outside the file"),
        (swap_labels_inside, "manifest: its labels is not what the float32 graph holds"),
    ],
)
def test_tampered_graphs_fail_whether_or_not_the_hashes_are_recomputed(
    tamper: Callable[[onnx.ModelProto], None], words: str, bundle: Path
) -> None:
    change_graph(bundle, tamper)
    with pytest.raises(VerificationError, match=r"files: model\.onnx was changed: SHA-256"):
        check_bundle(bundle, "cpu")
    refresh(bundle)
    with pytest.raises(VerificationError, match=words):
        check_bundle(bundle, "cpu")


def test_one_bit_of_one_weight_in_the_file(bundle: Path) -> None:
    content = bytearray((bundle / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / "model.onnx").write_bytes(content)
    with pytest.raises(VerificationError, match=r"files: model\.onnx was changed"):
        check_bundle(bundle, "cpu")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.update(labels=swapped(m["labels"])), "its labels is not what"),
        (lambda m: m["train"][0].update(lr=9.0), "its train_config is not what"),
        (lambda m: m["data"].update(name="Other"), "its data is not what"),
        (lambda m: m["data"].update(classes=swapped(m["data"]["classes"])), "its labels are not the data's classes"),
        (lambda m: m.pop("labels"), "'labels' is a required property"),
        (lambda m: m.update(note="trust me"), "'note' was unexpected"),
        (lambda m: m.update(manifest_version=1), "manifest_version: 2 was expected"),
        (lambda m: m["files"].update({"../evil.onnx": {"sha256": "0" * 64, "bytes": 1}}), "manifest: .*files"),
        (lambda m: m["files"].pop("model.onnx"), "files: model.onnx is not in the manifest"),
        (lambda m: m["files"].update({"more.bin": {"sha256": "0" * 64, "bytes": 1}}), "files: more.bin is missing"),
    ],
)
def test_doctored_manifests_fail(change: Callable[[dict[str, Any]], object], words: str, bundle: Path) -> None:
    change_manifest(bundle, change)
    with pytest.raises(VerificationError, match=words):
        check_bundle(bundle, "cpu")


def test_labels_swapped_everywhere_are_not_the_data_sets(bundle: Path) -> None:
    change_graph(bundle, swap_labels_inside)
    change_manifest(bundle, lambda m: m.update(labels=swapped(m["labels"])))
    change_manifest(bundle, lambda m: m["data"].update(classes=swapped(m["data"]["classes"])))
    refresh(bundle)
    with pytest.raises(VerificationError, match="labels are not the data's classes in their order: Trouser"):
        check_bundle(bundle, "cpu")


def test_files_that_may_be_changed_from_elsewhere_fail(bundle: Path, tmp_path: Path) -> None:
    os.link(bundle / "model.onnx", tmp_path / "twin.onnx")
    with pytest.raises(VerificationError, match="hard-linked"):
        check_bundle(bundle, "cpu")
    (tmp_path / "twin.onnx").unlink()
    (bundle / "client.py").rename(tmp_path / "client.py")
    (bundle / "client.py").symlink_to(tmp_path / "client.py")
    with pytest.raises(VerificationError, match=r"client\.py is missing or no plain file"):
        check_bundle(bundle, "cpu")


def test_strange_and_cut_files_fail(bundle: Path) -> None:
    (bundle / "helper.so").write_bytes(b"x")
    with pytest.raises(VerificationError, match=r"files: helper\.so is not in the manifest"):
        check_bundle(bundle, "cpu")
    (bundle / "helper.so").unlink()
    (bundle / "golden.npz").write_bytes((bundle / "golden.npz").read_bytes()[:-100])
    refresh(bundle)
    with pytest.raises(VerificationError, match=r"golden: .* cannot be read"):
        check_bundle(bundle, "cpu")
    (bundle / "model.onnx").write_bytes(b"junk")
    refresh(bundle)
    with pytest.raises(VerificationError, match="cannot be loaded"):
        check_bundle(bundle, "cpu")


def test_who_doctors_the_golden_samples_too_is_caught_by_the_test_set(
    bundle: Path, checkpoint: Checkpoint, official_test: Split
) -> None:
    verified = verify(bundle, read_manifest(bundle), [checkpoint], official_test, "cpu")
    write_json(bundle / "verify.json", verified)

    def silence(model: onnx.ModelProto) -> None:
        def change(values: np.ndarray) -> None:
            values[0] = 0.0

        change_weights(model, "head.weight", change)

    change_graph(bundle, silence)
    with np.load(bundle / "golden.npz") as arrays:
        golden = dict(arrays)
    session = ort.InferenceSession(bundle / "model.onnx", providers=["CPUExecutionProvider"])
    golden["logits"] = session.run(["logits"], {"pixels": golden["pixels"]})[0]
    np.savez(bundle / "golden.npz", **golden)
    refresh(bundle)
    manifest = check_bundle(bundle, "cpu")  # nothing to be seen from within
    with pytest.raises(VerificationError, match=r"accuracy: .* but the manifest says"):
        verify(bundle, manifest, [], official_test, "cpu")
    with pytest.raises(VerificationError, match="values: logits differ"):
        verify(bundle, manifest, [checkpoint], official_test, "cpu")


def test_another_checkpoint_fails(whole: Path, checkpoint: Checkpoint, official_test: Split) -> None:
    torch.manual_seed(1)
    model = type(checkpoint.model)(checkpoint.model.network, torch.full((1, 1, 1), 70.0), torch.full((1, 1, 1), 90.0)).eval()
    other = Checkpoint(model, checkpoint.config, checkpoint.data, {"versions": {}})
    with pytest.raises(VerificationError, match="logits differ"):
        verify(whole, read_manifest(whole), [other], official_test, "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to run on")
def test_a_provider_that_cannot_be_had_is_no_silent_cpu(whole: Path) -> None:
    with pytest.raises(InputError, match="provider='cuda'"):
        check_bundle(whole, "cuda")


def test_a_variant_that_answers_otherwise_fails(
    checkpoint: Checkpoint, make_bundle: MakeBundle, official_test: Split, tmp_path: Path
) -> None:
    bad = to_onnx([checkpoint])

    def change(values: np.ndarray) -> None:
        values *= np.linspace(0.4, 1.6, values.size).reshape(values.shape)

    change_weights(bad, "head.weight", change)
    bundle = make_bundle(tmp_path, checkpoint, variants=[Variant("int8", bad, "")]).parent
    manifest = read_manifest(bundle)
    with pytest.raises(VerificationError, match="int8: it agrees with float32 on"):
        verify(bundle, manifest, [checkpoint], official_test, "cpu")


@pytest.mark.parametrize("flips", [False, True])
def test_an_ensemble_is_one_graph(
    flips: bool, checkpoint: Checkpoint, make_bundle: MakeBundle, official_test: Split, tmp_path: Path
) -> None:
    torch.manual_seed(2)
    model = build_model(checkpoint.config, checkpoint.data.problem, checkpoint.model.pixel_mean, checkpoint.model.pixel_std).eval()
    other = Checkpoint(model, checkpoint.config, checkpoint.data, {"versions": {}})
    bundle = make_bundle(tmp_path, checkpoint, other, flips=flips).parent
    few = Split(official_test.images[:600], official_test.labels[:600])
    found = verify(bundle, check_bundle(bundle, "cpu"), [checkpoint, other], few, "cpu")
    assert found["labels_differing"] == 0
    views = (few.images, few.images.flip(-1)) if flips else (few.images,)
    expected = combine([compute_logits(m, view) for m in (checkpoint.model, model) for view in views], "average").argmax(1)
    said = found["onnx_accuracy"]
    assert said == pytest.approx(float((expected == few.labels).float().mean()))


def test_the_commands_end_to_end(
    checkpoint: Checkpoint, tmp_path: Path, call: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "runs/r"
    save_checkpoint(run / "best", checkpoint.model, checkpoint.config, checkpoint.data, {})
    shutil.copy(run / "best/config.json", run / "config.json")
    exported = call("export.to_onnx", run, "--variants", "int8")
    assert exported.code == 0, exported.output
    assert "int8: " in exported.output
    done = call("export.verify", run)
    assert done.code == 0, done.output
    assert "whole: manifest, 4 files, the graph" in done.output
    assert "passed on cpu: 10,000 test images" in done.output
    card = (run / "export/MODEL_CARD.md").read_text()
    summary = read_json(run / "summary.json")
    assert f"accuracy **{summary['onnx_test_accuracy']:.2%}**" in card
    assert "Ankle boot" in card
    again = (run / "export/model.onnx").read_bytes()
    assert call("export.to_onnx", run, "--variants").code == 0
    assert (run / "export/model.onnx").read_bytes() == again
    assert read_json(run / "export/manifest.json")["verified"] is not None  # of the same graph

    alone = shutil.copytree(run / "export", tmp_path / "elsewhere/bundle")
    assert "Fashion-MNIST is not at hand" in call("export.verify", alone).output  # $FMNIST_DATA names another set
    monkeypatch.delenv("FMNIST_DATA")
    before = sorted((path.name, path.stat().st_mtime_ns) for path in alone.iterdir())
    done = call("export.verify", alone)
    assert done.code == 0, done.output
    assert "no checkpoint at hand" in done.output
    assert sorted((path.name, path.stat().st_mtime_ns) for path in alone.iterdir()) == before
    assert not (tmp_path / "elsewhere/summary.json").exists()
    change_graph(alone, flip_bit)
    done = call("export.verify", alone)
    assert done.code == 1
    assert "failed: files: model.onnx was changed" in done.output


def new_key(folder: Path, name: str) -> tuple[Path, Path]:
    """Private and public."""
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    key, pem = ec.generate_private_key(ec.SECP256R1()), serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.TraditionalOpenSSL, plain))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


def test_a_signature_catches_whoever_recomputes_everything(bundle: Path, tmp_path: Path, call: Callable[..., Outcome]) -> None:
    (private, public), (_, foreign) = (new_key(tmp_path, name) for name in ("mine", "other"))
    with pytest.raises(VerificationError, match=r"signature: .* has none"):
        check_signature(bundle, public)
    sign(bundle, private)
    check_signature(bundle, public)
    check_bundle(bundle, "cpu")
    with pytest.raises(VerificationError, match="signature: it is not of these files by this key"):
        check_signature(bundle, foreign)
    signature = (bundle / "model.sig").read_bytes()

    def change(values: np.ndarray) -> None:
        values.reshape(-1).view(np.uint32)[7] ^= 1  # the lowest bit: no answer shows it

    change_graph(bundle, lambda model: change_weights(model, "blocks.1.conv1.weight", change))
    refresh(bundle)
    (bundle / "model.sig").write_bytes(signature)
    check_bundle(bundle, "cpu")
    with pytest.raises(VerificationError, match="signature: it is not of these files"):
        check_signature(bundle, public)
    done = call("export.verify", bundle, "--key", public)
    assert (done.code, done.output.startswith("failed: signature: ")) == (1, True)
    for key in (tmp_path / "none.pem", bundle / "client.py"):
        with pytest.raises(InputError, match=r"sign='.*it cannot sign"):
            sign(bundle, key)


def test_what_verification_says_and_leaves(
    checkpoint: Checkpoint,
    tmp_path: Path,
    call: Callable[..., Outcome],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "runs/r"
    save_checkpoint(run / "best", checkpoint.model, checkpoint.config, checkpoint.data, {})
    shutil.copy(run / "best/config.json", run / "config.json")
    assert call("export.to_onnx", run, "--variants").code == 0
    bundle = run / "export"
    monkeypatch.delenv("FMNIST_DATA")

    def verified(**options: Any) -> tuple[int, list[str]]:
        given: Any = {"run": str(run), "provider": "cpu"} | options
        code = verify_main(VerifyOptions(**given))
        return code, capsys.readouterr().out.splitlines()

    code, (whole, passed) = verified(provider=None)
    assert code == 0
    assert whole == "whole: manifest, 4 files, the graph, golden samples"
    found, summary = read_json(bundle / "verify.json"), read_json(run / "summary.json")
    assert passed == next(iter(said_of_values(found))).replace("[green]", "").replace("[/]", "")
    assert found["images"] == 10_000
    assert summary["onnx_test_accuracy"] == found["onnx_accuracy"] == found["metrics"]["accuracy"]
    assert summary["parity_max_abs_diff"] == found["max_abs_diff"] < found["tolerance"]
    assert found["sha256"] == read_json(bundle / "manifest.json")["files"]["model.onnx"]["sha256"]
    assert summary["seconds"]["verify"] > 0
    assert read_json(bundle / "manifest.json")["verified"]["onnx_accuracy"] == found["onnx_accuracy"]

    alone = shutil.copytree(bundle, tmp_path / "elsewhere/bundle")
    code, lines = verified(run=str(alone))  # on another machine, where it is only read
    assert (code, len(lines)) == (0, 2)
    assert lines[1].endswith("; no checkpoint at hand to compare with")
    assert [path.name for path in alone.parent.iterdir()] == ["bundle"]

    private, public = new_key(tmp_path, "mine")
    sign(bundle, private)
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    code, lines = verified(key=public)
    assert (code, lines[0]) == (0, "whole: manifest, 5 files, the graph, golden samples; signed by this key")
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before  # what is signed stays as it is
    with monkeypatch.context() as patch:
        patch.setattr(verify_module, "test_set", lambda info, source: None)
        code, lines = verified(run=str(bundle))
    assert (code, lines) == (
        0,
        [
            "whole: manifest, 5 files, the graph, golden samples; its signature is not checked: --key",
            "not over the test set: Fashion-MNIST is not at hand; name it with --data",
        ],
    )
    code, lines = verified(key=new_key(tmp_path, "other")[1])
    assert code == 1
    assert [line.partition(":")[0] for line in lines] == ["failed"]
    assert lines[0].startswith("failed: signature: it is not of these files by this key")


LABELS = np.array([0, 1])


def test_a_label_may_differ_only_where_the_margin_is_narrow() -> None:
    reference = np.array([[1.0, 1.00001], [0.0, 5.0]], np.float32)
    near = reference + np.array([[2e-5, 0], [0, 0]], np.float32)
    assert compare(reference, near, LABELS).labels_differing == 1
    with pytest.raises(VerificationError, match="differ by up to"):
        compare(reference, reference + np.float32(2e-4), LABELS)


def test_tolerance_grows_with_the_logits() -> None:
    reference = np.array([[1000.0, 0.0]], np.float32)
    assert compare(reference, reference + np.float32(5e-3), LABELS[:1]).tolerance == pytest.approx(0.0101)
