"""`python -m export.verify [RUN]`: does the ONNX file give PyTorch's answers, on the provider that will serve it?

In order, each with its own error: names and types, shapes at every batch size, then values over the whole test set.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime as ort
import torch
import tyro
from numpy.typing import NDArray
from rich.console import Console

from export.session import Provider, default_provider, open_session
from export.to_onnx import INPUT, OUTPUTS
from fmnist.checkpoint import Checkpoint, load_checkpoint
from fmnist.cli import command
from fmnist.data import NOT_NAMED, Source, Split
from fmnist.device import default_device
from fmnist.errors import InputError
from fmnist.evaluate import compute_logits, held_out_split
from fmnist.run import MODEL, find_bundle, find_checkpoint, write_json
from fmnist.summary import stage

ABSOLUTE, RELATIVE = 1e-4, 1e-5
"""The largest logit difference allowed is ABSOLUTE + RELATIVE · the largest logit."""
FULL_BATCH = 256
ODD_BATCHES = (1, 2, 7)
ODD_IMAGES = 500

Floats = NDArray[np.float32]
Run = Callable[[NDArray[np.uint8]], list[Floats]]


class VerificationError(InputError):
    """The exported model is not the trained one."""


@dataclass(frozen=True, slots=True)
class Parity:
    """What verification found."""

    provider: str
    images: int
    max_abs_diff: float
    tolerance: float
    labels_differing: int
    """Each of them where PyTorch's own margin is below twice the largest difference."""
    pytorch_accuracy: float
    onnx_accuracy: float


def verify(path: Path, checkpoint: Checkpoint, test: Split, provider: Provider) -> Parity:
    """Hold the ONNX file against its checkpoint.

    Raises:
        VerificationError: names, shapes or values differ.
        InputError: the provider cannot be had.
    """
    session = open_session(path, provider)
    check_names(session, checkpoint.data.problem.image_shape)
    pixels = test.images.numpy()
    classes = len(checkpoint.data.classes)
    reference = reference_logits(checkpoint, test)
    logits = np.concatenate([check_batch(session, pixels[i : i + FULL_BATCH], classes) for i in range(0, len(pixels), FULL_BATCH)])
    parity = compare(reference, logits, test.labels.numpy(), provider)
    for batch in ODD_BATCHES:
        few = pixels[:ODD_IMAGES]
        again = np.concatenate([check_batch(session, few[i : i + batch], classes) for i in range(0, len(few), batch)])
        compare(reference[:ODD_IMAGES], again, test.labels.numpy()[:ODD_IMAGES], provider, f" at batch {batch}")
    return parity


def reference_logits(checkpoint: Checkpoint, test: Split) -> Floats:
    """PyTorch's logits in true float32: TF32 is off."""
    device = default_device()
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        return compute_logits(checkpoint.model.to(device), test.images.to(device)).cpu().numpy()
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
        checkpoint.model.cpu()


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
        raise VerificationError(f"shapes: the graph refuses a batch of {len(pixels)}: {str(error).splitlines()[0]}") from error
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


def compare(reference: Floats, logits: Floats, labels: NDArray[np.int64], provider: str, where: str = "") -> Parity:
    """Raise VerificationError if a logit differs by more than the tolerance, or a label where the margin forbids it."""
    difference = float(np.abs(logits - reference).max())
    tolerance = ABSOLUTE + RELATIVE * float(np.abs(reference).max())
    if not difference <= tolerance:
        image = int(np.abs(logits - reference).max(1).argmax())
        raise VerificationError(
            f"values: logits differ by up to {difference:.2e}{where} (image {image}); at most {tolerance:.2e} is allowed"
        )
    ordered = np.sort(reference, 1)
    margins = ordered[:, -1] - ordered[:, -2]
    differing = logits.argmax(1) != reference.argmax(1)
    if (margins[differing] >= 2 * difference).any():
        raise VerificationError(f"values: {int(differing.sum())} labels differ{where} although PyTorch's margin is wide enough")
    return Parity(
        provider=provider,
        images=len(labels),
        max_abs_diff=difference,
        tolerance=tolerance,
        labels_differing=int(differing.sum()),
        pytorch_accuracy=float((reference.argmax(1) == labels).mean()),
        onnx_accuracy=float((logits.argmax(1) == labels).mean()),
    )


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """Verify an exported model against its checkpoint over the whole test set; exit 1 if it fails."""

    run: Annotated[str | None, tyro.conf.Positional] = None
    """Run folder; by default the newest run."""
    provider: Annotated[Provider | None, tyro.conf.arg(metavar="{cpu,cuda}")] = None
    """Where ONNX Runtime runs; by default cuda where PyTorch finds a GPU, else cpu. Never falls back to another."""
    source: Annotated[Source, tyro.conf.arg(name="")] = NOT_NAMED
    """By default the data that the model was trained on."""


def main(options: VerifyOptions) -> int:
    console = Console()
    bundle = find_bundle(options.run)
    checkpoint = load_checkpoint(find_checkpoint(bundle.parent))
    test = held_out_split(checkpoint, "test", options.source)
    provider = options.provider or default_provider()
    try:
        with stage(bundle.parent, "verify") as found:
            parity = verify(bundle / MODEL, checkpoint, test, provider)
            found |= summary_of(parity)
            write_json(bundle / "verify.json", asdict(parity))
    except VerificationError as error:
        console.print(f"[red]failed:[/] {error}", highlight=False, soft_wrap=True)
        return 1
    console.print(
        f"[green]passed[/] on {provider}: {parity.images:,} test images, largest logit difference {parity.max_abs_diff:.1e} "
        f"(at most {parity.tolerance:.1e}), {parity.labels_differing} labels differ; accuracy {parity.onnx_accuracy:.2%}, "
        f"PyTorch {parity.pytorch_accuracy:.2%}",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def summary_of(parity: Parity) -> dict[str, Any]:
    return {
        "parity_max_abs_diff": parity.max_abs_diff,
        "parity_tolerance": parity.tolerance,
        "parity_provider": parity.provider,
        "onnx_test_accuracy": parity.onnx_accuracy,
    }


if __name__ == "__main__":
    command(VerifyOptions, main)
