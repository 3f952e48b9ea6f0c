"""Verification over the whole test set, on answers that a script gives."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from export.bundle import parity
from export.bundle.integrity import VerificationError, tolerance
from export.bundle.parity import (
    Parity,
    all_logits,
    check_accuracy,
    compare,
    reference_logits,
    verify,
)
from export.client import ABSOLUTE, RELATIVE
from fmnist.data.dataset import Split
from fmnist.data.images import Images
from tests.export.bundle.scripted import (
    Array,
    Session,
    answers,
    bundle_manifest,
    complaint,
    softmax,
)

LABELS = np.array([0, 1])


def test_all_logits_come_in_batches_and_in_order() -> None:
    class Counting(Session):
        def run(self, names: list[str], feed: dict[str, Array]) -> list[Array]:
            (pixels,) = feed.values()
            self.batches.append(len(pixels))
            logits = pixels[:, 0, :3].astype(np.float32)
            return [logits, softmax(logits)]

    pixels = np.random.default_rng(1).integers(0, 9, (10, 28, 28), np.uint8)
    session = Counting(answers())

    images = Images(torch.from_numpy(pixels))
    logits = all_logits(session, images, 4, 3)  # pyright: ignore[reportArgumentType]
    assert np.array_equal(logits, pixels[:, 0, :3])
    assert session.batches == [4, 4, 2]


def test_parity_within_the_tolerance() -> None:
    reference = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]], np.float32)
    labels = np.array([0, 1, 1])
    allowed = tolerance(reference)
    assert allowed == pytest.approx(ABSOLUTE + 3 * RELATIVE)

    same = Parity(max_abs_diff=0.0, tolerance=allowed, labels_differing=0, pytorch_accuracy=2 / 3)
    assert compare(reference, reference, labels) == same

    near = reference.copy()
    near[1, 1] -= 0.9 * allowed
    result = compare(reference, near, labels)
    assert result.max_abs_diff == pytest.approx(0.9 * allowed, rel=1e-2)

    far = reference.copy()
    far[1, 1] -= 3 * allowed
    largest = float(np.abs(far - reference).max())
    message = (
        f"values: logits differ by up to {largest:.2e} at batch 7 (image 1); "
        f"at most {allowed:.2e} is allowed"
    )
    assert complaint(lambda: compare(reference, far, labels, " at batch 7")) == message

    far[2, 0] = np.nan
    assert "differ by up to nan (image 2)" in complaint(lambda: compare(reference, far, labels))


def test_a_label_may_change_where_two_classes_are_nearly_as_likely() -> None:
    reference = np.array([[1.0, 0.0, -1.0], [0.5, 0.50001, -3.0]], np.float32)
    logits = reference.copy()
    logits[1] += np.array([2e-5, 0.0, 0.0], np.float32)
    result = compare(reference, logits, np.array([0, 1]))
    assert (result.labels_differing, result.pytorch_accuracy) == (1, 1.0)


def test_accuracy_may_not_drift() -> None:
    check_accuracy({"verified": None}, 0.1)
    manifest = {"verified": {"onnx_accuracy": 0.9}}
    for accuracy in (0.9, 0.9009, 0.8991):
        check_accuracy(manifest, accuracy)

    for accuracy in (0.9011, 0.8989):
        message = complaint(lambda accuracy=accuracy: check_accuracy(manifest, accuracy))
        assert message == (
            f"accuracy: {accuracy:.2%} of the test images, but the manifest says 90.00%; "
            "one was changed"
        )


class Looking(Session):
    """Reads its logits off the pixels: the first three of the first row; a variant is wrong
    about some images."""

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


SEEN = looked_at(1)
"""The training set: its only image is the first that is tested too."""


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


def test_every_published_graph_is_held_against_the_whole_test_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened = Opened({"model.int8.onnx": 1})
    test = looked_at()
    checkpoint: Any = object()
    compared: list[Any] = []

    def reference(checkpoints: Any, flips: bool, split: Split, classes: int) -> Array:
        assert classes == 3
        compared.append((checkpoints, flips, split))
        logits = split.images.tensor()[:, 0, :3].float().numpy()
        return logits + 1e-5

    monkeypatch.setattr(parity, "open_session", opened)
    monkeypatch.setattr(parity, "reference_logits", reference)
    manifest = bundle_manifest(int8=True, fp16=True, other=False)
    results = verify(Path("bundle"), manifest, [checkpoint], SEEN, test, "cuda")
    assert compared == [([checkpoint], True, test)]
    assert opened.asked == [
        ("model.onnx", "cuda"),
        ("model.int8.onnx", "cpu"),
        ("model.fp16.onnx", "cuda"),
    ]

    batches = opened.sessions[0].batches
    assert batches[:3] == [256, 256, 88]
    assert batches[3:503] == [1] * 500
    assert batches[503:753] == [2] * 250
    assert batches[753:] == [7] * 71 + [3]

    lost = 1 / 600
    assert results["variants"] == {
        "int8": {
            "agreement": pytest.approx(1 - lost),
            "accuracy_loss": pytest.approx(lost),
            "accuracy": pytest.approx(1 - lost),
        },
        "fp16": {"agreement": 1.0, "accuracy_loss": 0.0, "accuracy": 1.0},
    }

    assert results["onnx_accuracy"] == results["pytorch_accuracy"] == 1.0
    assert results["metrics"]["accuracy"] == 1.0
    assert results["metrics"]["images"] == 600
    assert results["max_abs_diff"] == pytest.approx(1e-5, rel=0.1)
    assert results["tolerance"] == pytest.approx(tolerance(np.array([20.0])), rel=1e-3)
    rest = {key: results[key] for key in ("provider", "images", "sha256", "labels_differing")}
    assert rest == {"provider": "cuda", "images": 600, "sha256": "abc", "labels_differing": 0}


def test_without_a_checkpoint_batches_are_held_against_the_graph_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parity, "open_session", Opened())
    results = verify(Path("bundle"), bundle_manifest(), [], SEEN, looked_at(30), "cpu")
    assert set(results) == {
        *("provider", "images", "onnx_accuracy", "variants", "metrics", "sha256"),
        *("copies", "imbalance"),
    }
    # The thirty images are alike but for their numbers, and the first of them was trained on.
    assert results["copies"] == {"images": 1, "accuracy_without": 1.0}
    assert results["imbalance"] == {"train": 1.0, "test": 1.0}
    assert results["variants"] == {}


@pytest.mark.parametrize("odd", [1, 2, 7])
def test_a_graph_that_answers_otherwise_at_some_batch_size(
    odd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Odd(Looking):
        def run(self, names: list[str], feed: dict[str, Array]) -> list[Array]:
            logits, _ = super().run(names, feed)
            if self.batches[-1] == odd:
                logits += 1.0
            return [logits, softmax(logits)]

    monkeypatch.setattr(parity, "open_session", lambda path, provider: Odd())
    manifest = bundle_manifest()
    message = complaint(lambda: verify(Path("bundle"), manifest, [], SEEN, looked_at(600), "cpu"))
    assert message.startswith(f"values: logits differ by up to 1.00e+00 at batch {odd} (image 0)")


def test_a_variant_outside_its_gate_and_an_accuracy_that_drifted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parity, "open_session", Opened({"model.int8.onnx": 64}))
    manifest = bundle_manifest(int8=True)
    message = complaint(lambda: verify(Path("bundle"), manifest, [], SEEN, looked_at(512), "cpu"))
    assert message.startswith("int8: ")
    assert message.endswith("; export again without it: --variants")

    drifted = bundle_manifest() | {"verified": {"onnx_accuracy": 0.5}}
    message = complaint(lambda: verify(Path("bundle"), drifted, [], SEEN, looked_at(30), "cpu"))
    expected = "accuracy: 100.00% of the test images, but the manifest says 50.00%; one was changed"
    assert message == expected


def test_pytorchs_logits_are_true_float32_and_leave_the_settings_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings: list[Any] = []
    asked: list[Any] = []

    def tf32() -> tuple[Any, Any]:
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = torch.nn.Parameter(torch.zeros(1))

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            settings.append(tf32())
            return pixels[:, 0, :3].float()

    def averaged(checkpoints: Any, flips: bool) -> Model:
        asked.append((checkpoints, flips))
        return Model()

    monkeypatch.setattr(parity, "averaged", averaged)
    before = tf32()
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = True, True
    try:
        test = looked_at(5)
        logits = reference_logits([], True, test, 3)
        assert tf32() == (True, True)
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before

    assert np.array_equal(logits, test.images.tensor()[:, 0, :3].float().numpy())
    assert asked == [([], True)]
    assert settings == [(False, False)]


def test_a_label_may_differ_only_where_the_margin_is_narrow() -> None:
    reference = np.array([[1.0, 1.00001], [0.0, 5.0]], np.float32)
    near = reference + np.array([[2e-5, 0], [0, 0]], np.float32)
    assert compare(reference, near, LABELS).labels_differing == 1

    with pytest.raises(VerificationError, match="differ by up to"):
        compare(reference, reference + np.float32(2e-4), LABELS)


def test_tolerance_grows_with_the_logits() -> None:
    reference = np.array([[1000.0, 0.0]], np.float32)
    result = compare(reference, reference + np.float32(5e-3), LABELS[:1])
    assert result.tolerance == pytest.approx(0.0101)
