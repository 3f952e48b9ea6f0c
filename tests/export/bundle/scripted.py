"""A graph's session that answers as a script says, for tests of verification."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from export.bundle.integrity import VerificationError

Array = NDArray[Any]


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


def bundle_manifest(**variants: bool) -> dict[str, Any]:
    return {
        "labels": ["a", "b", "c"],
        "variants": {name: {"published": published} for name, published in variants.items()},
        "verified": None,
        "average_flips": True,
        "files": {"model.onnx": {"sha256": "abc"}},
    }
