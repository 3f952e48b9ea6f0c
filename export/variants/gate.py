"""How far a variant's answers may be from float32's."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from export.client import INPUT, OUTPUTS
from fmnist.data.images import Images, batch_within
from fmnist.evaluation.metrics import accuracy_interval
from fmnist.training.inference import EVALUATION_BYTES

BATCH = 256
NORMAL_95 = 1.96
"""Standard deviations to each side that hold 95 % of a normal distribution."""

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Gate:
    """How far a variant's answers may be from float32's."""

    agreement: float
    """Least share of images on which both name the same class."""
    loss: float
    """Largest loss of accuracy, a fraction."""


GATES = {"int8": Gate(0.99, 0.003), "fp16": Gate(0.999, 0.001)}


@dataclass(frozen=True, slots=True)
class Variant:
    """A variant that was tried, published or not."""

    name: str
    model: onnx.ModelProto | None
    """None if it is not published."""
    why: str
    """Why it is not published; empty if it is."""
    agreement: float = 0.0
    accuracy_loss: float = 0.0
    speedup: dict[str, float] = field(default_factory=dict[str, float])
    """Float32's median call divided by the variant's, by batch size; on a CPU with one thread."""
    excluded: tuple[str, ...] = ()
    """Layers left in float32, since the gate failed with them."""
    judged_by: int = 0
    """Number of images."""

    def outcome(self) -> str:
        """Whether it is published, and why not, in words."""
        if self.model is None:
            return f"not published: {self.why}"
        return f"published, {self.speedup['1']:.2f} times as fast at batch 1"

    def to_dict(self) -> dict[str, Any]:
        return {
            "published": self.model is not None,
            "excluded": list(self.excluded),
            "why": self.why,
            "agreement": self.agreement,
            "accuracy_loss": self.accuracy_loss,
            "speedup": self.speedup,
            "judged_by": self.judged_by,
        }


def predict_logits(session: ort.InferenceSession, images: Images) -> Floats:
    """Logits (N, classes) of images, read and computed in batches."""
    size = batch_within(BATCH, EVALUATION_BYTES, images.image_bytes)
    return np.concatenate([run_graph(session, batch.numpy()) for batch in images.batches(size)])


def run_graph(session: ort.InferenceSession, pixels: Pixels) -> Floats:
    """Logits (B, classes) of one batch."""
    outputs = session.run([OUTPUTS[0]], {INPUT: pixels})
    return np.asarray(outputs[0])


def difference(reference: Floats, logits: Floats, labels: NDArray[np.int64]) -> tuple[float, float]:
    """Compare a variant's logits (N, classes) with float32's.

    Returns:
        The share of images on which both name the same class, and the accuracy lost.
    """
    expected = reference.argmax(1)
    predicted = logits.argmax(1)
    agreement = (predicted == expected).mean()
    loss = (expected == labels).mean() - (predicted == labels).mean()
    return float(agreement), float(loss)


def passes(gate: Gate, agreement: float, loss: float) -> bool:
    return agreement >= gate.agreement and loss <= gate.loss


def surely_passes(gate: Gate, agreement: float, loss: float, images: int) -> bool:
    """Whether other images would very likely pass too.

    The lower end of the agreement's 95 % interval must pass, and the upper end of the loss's, which
    comes from the images on which the answers differ.
    """
    least_agreement, _ = accuracy_interval(round(agreement * images), images)
    # The loss is images lost less images won, and both together are at most those that differ: its
    # deviation is at most their root.
    differing = (1 - agreement) * images
    most_loss = loss + NORMAL_95 * differing**0.5 / images
    return passes(gate, least_agreement, most_loss)


def surely_fails(gate: Gate, agreement: float, images: int) -> bool:
    """Whether more images would very likely fail too: the upper end of the agreement's 95 %
    interval does."""
    _, most_agreement = accuracy_interval(round(agreement * images), images)
    return most_agreement < gate.agreement


def gate_failure(name: str, agreement: float, loss: float) -> str:
    """Why a variant fails its gate, in words."""
    gate = GATES[name]

    return (
        f"it agrees with float32 on {agreement:.2%} of the images and loses {100 * loss:.2f} "
        f"points; at least {gate.agreement:.1%} and at most {100 * gate.loss:.1f} are required"
    )
