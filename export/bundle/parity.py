"""Hold every graph of a bundle against the test set, and against PyTorch."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from export.bundle.integrity import (
    Floats,
    VerificationError,
    check_batch,
    graphs,
    provider_for,
    tolerance,
)
from export.bundle.layout import MODEL
from export.graph.conversion import averaged
from export.providers import Provider
from export.session import open_session
from export.variants.gate import GATES, difference, gate_failure, passes
from fmnist.data.dataset import Split
from fmnist.data.images import Images, batch_within
from fmnist.evaluation.copies import describe_copies
from fmnist.evaluation.logits import empty_logits, model_logits, parts
from fmnist.evaluation.metrics import classification_metrics, imbalance
from fmnist.training.checkpoint import Checkpoint
from fmnist.training.device import default_device
from fmnist.training.inference import EVALUATION_BYTES

ACCURACY_DRIFT = 0.001
"""How far accuracy may be from the manifest's: another processor adds in another order."""
FULL_BATCH = 256
ODD_BATCHES = (1, 2, 7)
ODD_IMAGES = 500


@dataclass(frozen=True, slots=True)
class Parity:
    """What verification against PyTorch measured."""

    max_abs_diff: float
    tolerance: float
    labels_differing: int
    """Each of them where PyTorch's own margin is below twice the largest difference."""
    pytorch_accuracy: float


def verify(
    bundle: Path,
    manifest: dict[str, Any],
    checkpoints: Sequence[Checkpoint],
    seen: Split,
    test: Split,
    provider: Provider,
) -> dict[str, Any]:
    """Hold every graph of a bundle against the test set, and the float32 one against its
    checkpoints.

    Args:
        manifest: of the bundle, checked.
        checkpoints: those it was exported from; empty where they are not at hand.
        seen: the official training set.
        test: the official test set; read batch by batch.

    Returns:
        provider, images, onnx_accuracy, metrics (of the float32 graph, see
        `classification_metrics`), copies (see `describe_copies`), imbalance (see `imbalance`, of
        train and test), variants (by name: agreement, accuracy, accuracy_loss), sha256 (of the
        float32 graph), and if there are checkpoints the fields of Parity.

    Raises:
        VerificationError: shapes or values are wrong, or a variant does not pass its gate.
        InputError: the provider cannot be had.
    """
    session = open_session(bundle / MODEL, provider)
    images, labels = test.images, test.labels.numpy()
    classes = len(manifest["labels"])
    logits = all_logits(session, images, FULL_BATCH, classes)
    correct = logits.argmax(1) == labels
    results: dict[str, Any] = {
        "provider": provider,
        "images": len(test),
        "onnx_accuracy": float(correct.mean()),
    }

    # Without PyTorch's, the graph's own logits are what other batch sizes are compared with.
    reference = logits
    if checkpoints:
        reference = reference_logits(checkpoints, manifest["average_flips"], test, classes)
        results |= asdict(compare(reference, logits, labels))

    # Kernels differ with the batch size, and so may their errors.
    some = slice(ODD_IMAGES)
    for batch in ODD_BATCHES:
        again = all_logits(session, images.take(some), batch, classes)
        compare(reference[some], again, labels[some], f" at batch {batch}")
    check_accuracy(manifest, results["onnx_accuracy"])

    # Variants are compared with the float32 graph, which has just passed.
    results["variants"] = compare_variants(bundle, manifest, test, provider, logits)
    results["metrics"] = classification_metrics(torch.from_numpy(logits), test.labels)
    results["copies"] = describe_copies(seen, test, torch.from_numpy(correct))
    results["imbalance"] = {
        "train": imbalance(seen.labels.bincount().tolist()),
        "test": imbalance(results["metrics"]["support"]),
    }
    results["sha256"] = manifest["files"][MODEL]["sha256"]
    return results


def compare_variants(
    bundle: Path, manifest: dict[str, Any], test: Split, provider: Provider, logits: Floats
) -> dict[str, Any]:
    """Compare every variant with the float32 graph.

    Args:
        logits: (N, classes) of the float32 graph.

    Returns:
        what `compare_variant` says of each, by its name.
    """
    found: dict[str, Any] = {}
    labels = test.labels.numpy()
    for name, path in graphs(bundle, manifest):
        if name == "float32":
            continue
        session = open_session(path, provider_for(name, provider))
        own = all_logits(session, test.images, FULL_BATCH, logits.shape[1])
        found[name] = compare_variant(name, logits, own, labels)
    return found


def all_logits(session: ort.InferenceSession, images: Images, batch: int, classes: int) -> Floats:
    """Logits (N, classes) of all images, up to `batch` at a time, each batch checked."""
    logits = empty_logits(len(images), classes).numpy()
    done = 0
    for pixels in images.batches(batch_within(batch, EVALUATION_BYTES, images.image_bytes)):
        logits[done : done + len(pixels)] = check_batch(session, pixels.numpy(), classes)
        done += len(pixels)
    return logits


def check_accuracy(manifest: dict[str, Any], accuracy: float) -> None:
    """Raise VerificationError if the accuracy is no longer the one in the manifest."""
    if manifest["verified"] is None:
        return
    expected = manifest["verified"]["onnx_accuracy"]
    if abs(expected - accuracy) > ACCURACY_DRIFT:
        raise VerificationError(
            f"accuracy: {accuracy:.2%} of the test images, but the manifest says {expected:.2%}; "
            "one was changed"
        )


def reference_logits(
    checkpoints: Sequence[Checkpoint], flips: bool, test: Split, classes: int
) -> Floats:
    """PyTorch's logits in true float32: TF32 is off."""
    device = default_device()
    # The settings are the process's own, so they are put back.
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    model = averaged(checkpoints, flips)
    try:
        return model_logits(model.to(device), test.images, classes).numpy()
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
        model.cpu()


def compare(
    reference: Floats, logits: Floats, labels: NDArray[np.int64], where: str = ""
) -> Parity:
    """Compare a graph's logits (N, classes) with PyTorch's, `reference`.

    Raises:
        VerificationError: a logit differs by more than the tolerance, or a label where PyTorch's
            margin forbids it.
    """
    differences = _differences(reference, logits)
    largest = float(differences.max())
    allowed = tolerance(reference)
    # Not "largest > allowed", which is false of NaN.
    if not largest <= allowed:
        image = int(differences.argmax())
        raise VerificationError(
            f"values: logits differ by up to {largest:.2e}{where} (image {image}); "
            f"at most {allowed:.2e} is allowed"
        )

    differing = logits.argmax(1) != reference.argmax(1)
    ordered = np.sort(reference[differing], 1)
    margins = ordered[:, -1] - ordered[:, -2]
    # Two logits that each move by `largest` can swap only across a margin of twice that.
    if (margins >= 2 * largest).any():
        raise VerificationError(
            f"values: {int(differing.sum())} labels differ{where} "
            "although PyTorch's margin is wide enough"
        )
    return Parity(
        max_abs_diff=largest,
        tolerance=allowed,
        labels_differing=int(differing.sum()),
        pytorch_accuracy=float((reference.argmax(1) == labels).mean()),
    )


def _differences(reference: Floats, logits: Floats) -> Floats:
    """The largest difference of each image's logits, (N,)."""
    largest = np.empty(len(reference), np.float32)
    for part in parts(reference):
        largest[part] = np.abs(logits[part] - reference[part]).max(1)
    return largest


def compare_variant(
    name: str, reference: Floats, logits: Floats, labels: NDArray[np.int64]
) -> dict[str, float]:
    """Compare a variant's logits (N, classes) with float32's, `reference`.

    Returns:
        agreement, accuracy_loss, accuracy.

    Raises:
        VerificationError: the variant does not pass its gate.
    """
    agreement, loss = difference(reference, logits, labels)
    if not passes(GATES[name], agreement, loss):
        raise VerificationError(
            f"{name}: {gate_failure(name, agreement, loss)}; export again without it: --variants"
        )
    return {
        "agreement": agreement,
        "accuracy_loss": loss,
        "accuracy": float((logits.argmax(1) == labels).mean()),
    }
