"""Verification must fail on what is wrong, each with its own message, also when the tamperer
recomputes the hashes."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from export.bundle.integrity import VerificationError, check_bundle, read_manifest
from export.bundle.parity import verify
from export.bundle.writer import refresh
from export.graph.conversion import to_onnx
from export.variants.gate import Variant
from fmnist.data.dataset import Split
from fmnist.errors import InputError
from fmnist.evaluation.ensemble import combine
from fmnist.models import build_model
from fmnist.runs.files import write_json
from fmnist.training.checkpoint import Checkpoint
from fmnist.training.inference import compute_logits
from tests.export.bundle.tampering import (
    change_graph,
    change_manifest,
    change_weights,
    fix_batch,
    flip_bit,
    poison,
    rename,
    send_outside,
    skip_softmax,
    swap_labels_inside,
    swapped,
)

MakeBundle = Callable[..., Path]


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
        (
            lambda m: m["data"].update(classes=swapped(m["data"]["classes"])),
            "its labels are not the data's classes",
        ),
        (lambda m: m.pop("labels"), "'labels' is a required property"),
        (lambda m: m.update(note="trust me"), "'note' was unexpected"),
        (lambda m: m.update(manifest_version=1), "manifest_version: 3 was expected"),
        (
            lambda m: m["files"].update({"../evil.onnx": {"sha256": "0" * 64, "bytes": 1}}),
            "manifest: .*files",
        ),
        (lambda m: m["files"].pop("model.onnx"), "files: model.onnx is not in the manifest"),
        (
            lambda m: m["files"].update({"more.bin": {"sha256": "0" * 64, "bytes": 1}}),
            "files: more.bin is missing",
        ),
    ],
)
def test_doctored_manifests_fail(
    change: Callable[[dict[str, Any]], object], words: str, bundle: Path
) -> None:
    change_manifest(bundle, change)
    with pytest.raises(VerificationError, match=words):
        check_bundle(bundle, "cpu")


def test_labels_swapped_everywhere_are_not_the_data_sets(bundle: Path) -> None:
    change_graph(bundle, swap_labels_inside)
    change_manifest(bundle, lambda m: m.update(labels=swapped(m["labels"])))
    change_manifest(bundle, lambda m: m["data"].update(classes=swapped(m["data"]["classes"])))
    refresh(bundle)
    words = "labels are not the data's classes in their order: Trouser"
    with pytest.raises(VerificationError, match=words):
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
    verified = verify(
        bundle, read_manifest(bundle), [checkpoint], official_test.first(1), official_test, "cpu"
    )
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

    # Nothing shows from within.
    manifest = check_bundle(bundle, "cpu")
    with pytest.raises(VerificationError, match=r"accuracy: .* but the manifest says"):
        verify(bundle, manifest, [], official_test.first(1), official_test, "cpu")
    with pytest.raises(VerificationError, match="values: logits differ"):
        verify(bundle, manifest, [checkpoint], official_test.first(1), official_test, "cpu")


def test_another_checkpoint_fails(
    whole: Path, checkpoint: Checkpoint, official_test: Split
) -> None:
    torch.manual_seed(1)
    statistics = torch.full((1, 1, 1), 70.0), torch.full((1, 1, 1), 90.0)
    model = type(checkpoint.model)(checkpoint.model.network, *statistics).eval()
    other = Checkpoint(model, checkpoint.config, checkpoint.data, {"versions": {}})
    with pytest.raises(VerificationError, match="logits differ"):
        verify(whole, read_manifest(whole), [other], official_test.first(1), official_test, "cpu")


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
        verify(bundle, manifest, [checkpoint], official_test.first(1), official_test, "cpu")


@pytest.mark.parametrize("flips", [False, True])
def test_an_ensemble_is_one_graph(
    flips: bool,
    checkpoint: Checkpoint,
    make_bundle: MakeBundle,
    official_test: Split,
    tmp_path: Path,
) -> None:
    torch.manual_seed(2)
    model = build_model(
        checkpoint.config,
        checkpoint.data.problem,
        checkpoint.model.pixel_mean,
        checkpoint.model.pixel_std,
    ).eval()
    other = Checkpoint(model, checkpoint.config, checkpoint.data, {"versions": {}})
    bundle = make_bundle(tmp_path, checkpoint, other, flips=flips).parent

    few = Split(official_test.images[:600], official_test.labels[:600])
    results = verify(
        bundle, check_bundle(bundle, "cpu"), [checkpoint, other], few.first(1), few, "cpu"
    )
    assert results["labels_differing"] == 0

    views = [few.images.tensor()]
    if flips:
        views.append(few.images.tensor().flip(-1))
    members = (checkpoint.model, model)
    logits = [compute_logits(member, view) for member in members for view in views]
    predicted = combine(logits, "average").argmax(1)
    accuracy = float((predicted == few.labels).float().mean())
    assert results["onnx_accuracy"] == pytest.approx(accuracy)
