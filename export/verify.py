"""`python -m export.verify [RUN]`: is the bundle whole, and does each of its graphs give the answers it should, where it will run?

In order, each with its own error: the manifest, every file's hash, each graph's form, names and shapes, the golden samples; then,
where the data is at hand, values over the whole test set, against PyTorch where the checkpoint is there too. The test set only
rejects: nothing is chosen by it.
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime as ort
import torch
import tyro
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape

from export.bundle import SIGNATURE, VERIFIED, checkpoints_of, refresh
from export.check import Floats, VerificationError, check_batch, check_bundle, graphs, tolerance_of
from export.graph import averaged
from export.quantize import GATES, difference, failing, passes
from export.session import Provider, default_provider, open_session
from export.sign import check_signature
from fmnist.checkpoint import Checkpoint, data_info
from fmnist.cli import command
from fmnist.data import NOT_NAMED, DataError, DataInfo, Source, Split, find_data, load_info, load_test
from fmnist.device import default_device
from fmnist.evaluate import classification_metrics, compute_logits
from fmnist.run import MODEL, find_bundle, write_json
from fmnist.summary import stage

ACCURACY_DRIFT = 0.001
"""How far accuracy may be from the manifest's: another processor adds in another order."""
FULL_BATCH = 256
ODD_BATCHES = (1, 2, 7)
ODD_IMAGES = 500


@dataclass(frozen=True, slots=True)
class Parity:
    """What verification against PyTorch found."""

    max_abs_diff: float
    tolerance: float
    labels_differing: int
    """Each of them where PyTorch's own margin is below twice the largest difference."""
    pytorch_accuracy: float


def verify(
    bundle: Path, manifest: dict[str, Any], checkpoints: Sequence[Checkpoint], test: Split, provider: Provider
) -> dict[str, Any]:
    """Hold every graph of a bundle against the test set, and the float32 one against its checkpoints.

    Args:
        manifest: of the bundle, checked.
        checkpoints: those it was exported from; empty where they are not at hand.

    Returns:
        provider, images, onnx_accuracy, metrics (of the float32 graph, see `classification_metrics`), variants (by name:
        agreement, accuracy, accuracy_loss), sha256 (of the float32 graph), and if there are checkpoints the fields of Parity.

    Raises:
        VerificationError: shapes or values are wrong, or a variant does not pass its gate.
        InputError: the provider cannot be had.
    """
    session = open_session(bundle / MODEL, provider)
    pixels, labels = test.images.numpy(), test.labels.numpy()
    classes = len(manifest["labels"])
    logits = all_logits(session, pixels, FULL_BATCH, classes)
    few = {batch: all_logits(session, pixels[:ODD_IMAGES], batch, classes) for batch in ODD_BATCHES}
    found: dict[str, Any] = {"provider": provider, "images": len(test), "onnx_accuracy": float((logits.argmax(1) == labels).mean())}
    reference = logits
    if checkpoints:
        reference = reference_logits(checkpoints, manifest["average_flips"], test)
        found |= asdict(compare(reference, logits, labels))
    for batch, again in few.items():
        compare(reference[:ODD_IMAGES], again, labels[:ODD_IMAGES], f" at batch {batch}")
    check_accuracy(manifest, found["onnx_accuracy"])
    variants: dict[str, Any] = {}
    for name, path in graphs(bundle, manifest):
        if name == "float32":
            continue
        said = all_logits(open_session(path, "cpu" if name == "int8" else provider), pixels, FULL_BATCH, classes)
        agreement, loss = difference(logits, said, labels)
        if not passes(GATES[name], agreement, loss):
            raise VerificationError(f"{name}: {failing(name, agreement, loss)}; export again without it: --variants")
        variants[name] = {"agreement": agreement, "accuracy_loss": loss, "accuracy": float((said.argmax(1) == labels).mean())}
    metrics = classification_metrics(torch.from_numpy(logits), test.labels)
    return found | {"variants": variants, "metrics": metrics, "sha256": manifest["files"][MODEL]["sha256"]}


def all_logits(session: ort.InferenceSession, pixels: NDArray[np.uint8], batch: int, classes: int) -> Floats:
    return np.concatenate([check_batch(session, pixels[i : i + batch], classes) for i in range(0, len(pixels), batch)])


def check_accuracy(manifest: dict[str, Any], accuracy: float) -> None:
    """Raise VerificationError if the graph is no longer as good as the manifest says that it was."""
    then = manifest["verified"] and manifest["verified"]["onnx_accuracy"]
    if then and abs(then - accuracy) > ACCURACY_DRIFT:
        raise VerificationError(f"accuracy: {accuracy:.2%} of the test images, but the manifest says {then:.2%}; one was changed")


def reference_logits(checkpoints: Sequence[Checkpoint], flips: bool, test: Split) -> Floats:
    """PyTorch's logits in true float32: TF32 is off."""
    device = default_device()
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    model = averaged(checkpoints, flips)
    try:
        return compute_logits(model.to(device), test.images.to(device)).cpu().numpy()
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
        model.cpu()


def compare(reference: Floats, logits: Floats, labels: NDArray[np.int64], where: str = "") -> Parity:
    """Raise VerificationError if a logit differs by more than the tolerance, or a label where the margin forbids it."""
    largest = float(np.abs(logits - reference).max())
    tolerance = tolerance_of(reference)
    if not largest <= tolerance:
        image = int(np.abs(logits - reference).max(1).argmax())
        raise VerificationError(
            f"values: logits differ by up to {largest:.2e}{where} (image {image}); at most {tolerance:.2e} is allowed"
        )
    ordered = np.sort(reference, 1)
    margins = ordered[:, -1] - ordered[:, -2]
    differing = logits.argmax(1) != reference.argmax(1)
    if (margins[differing] >= 2 * largest).any():
        raise VerificationError(f"values: {int(differing.sum())} labels differ{where} although PyTorch's margin is wide enough")
    accuracy = float((reference.argmax(1) == labels).mean())
    return Parity(max_abs_diff=largest, tolerance=tolerance, labels_differing=int(differing.sum()), pytorch_accuracy=accuracy)


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """Verify an exported bundle: the bundle itself anywhere; over the whole test set where the data is at hand; and against the
    checkpoint where that is. Exit 1 if it fails."""

    run: Annotated[str | None, tyro.conf.Positional] = None
    """Run folder or bundle; by default the newest run."""
    provider: Annotated[Provider | None, tyro.conf.arg(metavar="{cpu,cuda}")] = None
    """Where ONNX Runtime runs; by default cuda where PyTorch finds a GPU, else cpu. Never falls back to another."""
    key: Path | None = None
    """Public elliptic-curve key (PEM) by which the bundle must be signed."""
    source: Annotated[Source, tyro.conf.arg(name="")] = NOT_NAMED
    """By default the data that the model was trained on."""


def main(options: VerifyOptions) -> int:
    console = Console(highlight=False, soft_wrap=True)
    bundle = find_bundle(options.run)
    provider = options.provider or default_provider()
    run = bundle.parent if (bundle.parent / "config.json").exists() else None
    try:
        # A bundle alone, on another machine, is only read.
        with stage(run, "verify") if run else nullcontext({}) as found:
            if options.key:
                check_signature(bundle, options.key)
            manifest = check_bundle(bundle, provider)
            signed = (bundle / SIGNATURE).exists()
            signature = "; signed by this key" if options.key else "; its signature is not checked: --key" if signed else ""
            published = [name for name, variant in manifest["variants"].items() if variant["published"]]
            what = " and ".join(("the graph", *published))
            console.print(f"[green]whole[/]: manifest, {len(manifest['files'])} files, {what}, golden samples{signature}")
            checkpoints = checkpoints_of(manifest, run)
            test = test_set(checkpoints[0].data if checkpoints else data_info(manifest["data"]), options.source)
            if test is None:
                console.print(f"[yellow]not over the test set:[/] {manifest['data']['name']} is not at hand; name it with --data")
                return 0
            verified = verify(bundle, manifest, checkpoints, test, provider)
            if run and not options.key:  # what is signed stays as it is
                found |= summary_of(verified)
                write_json(bundle / VERIFIED, verified)
                refresh(bundle)
    except VerificationError as error:
        console.print(f"[red]failed:[/] {escape(str(error))}")
        return 1
    for line in said_of_values(verified):
        console.print(line)
    return 0


def test_set(info: DataInfo, source: Source) -> Split | None:
    """The test set of that data; None if it is not at hand. Raises InputError if another one is named."""
    try:
        folder = find_data(source, info)
        return load_test(folder, load_info(folder, info))
    except DataError:
        if source != NOT_NAMED:
            raise
        return None


def said_of_values(found: dict[str, Any]) -> Iterator[str]:
    parity = "no checkpoint at hand to compare with"
    if "max_abs_diff" in found:
        largest = f"largest logit difference {found['max_abs_diff']:.1e} (at most {found['tolerance']:.1e})"
        parity = f"{largest}, {found['labels_differing']} labels differ; PyTorch {found['pytorch_accuracy']:.2%}"
    yield (
        f"[green]passed[/] on {found['provider']}: {found['images']:,} test images, accuracy {found['onnx_accuracy']:.2%}; {parity}"
    )
    for name, variant in found["variants"].items():
        lost = f"{100 * variant['accuracy_loss']:+.2f} points lost"
        yield f"[green]passed[/] {name}: accuracy {variant['accuracy']:.2%}, {lost}, the same class on {variant['agreement']:.2%}"


def summary_of(found: dict[str, Any]) -> dict[str, Any]:
    parity = {f"parity_{key}": found[key] for key in ("max_abs_diff", "tolerance") if key in found}
    return {"parity_provider": found["provider"], "onnx_test_accuracy": found["onnx_accuracy"], **parity}


if __name__ == "__main__":
    command(VerifyOptions, main)
