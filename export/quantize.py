"""Variants of the exported graph in int8 and fp16, published only where they are faster and give nearly the same answers.

Nothing here sees the test set: scales come from training images chosen by class, and a variant is judged by other images.
"""

import logging
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from export.graph import INPUT, OUTPUTS
from export.session import Provider, open_session
from export.timing import measure
from fmnist.evaluate import accuracy_interval

CALIBRATION_BATCH = 32
SENSITIVITY_IMAGES, FIRST_IMAGES = 128, 512
"""Of those that judge: what a layer alone changes is measured on so many; what fails plainly on so many is not judged on all."""
QUANTISED = ("Conv", "Gemm", "MatMul")
FASTER = 1.02
"""A variant must be this many times as fast as float32 at batch 1, or the difference is noise."""
TIMED_BATCHES = (1, 256)
TIMED_S = 0.4
LONGEST_S = 1.0
"""A batch that would take a call longer is not timed: what is published is decided by one image."""
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
    """Of the median call against float32's, by batch size; one CPU thread."""
    excluded: tuple[str, ...] = ()
    """Layers left in float32, since the gate failed with them."""
    judged_by: int = 0
    """Images."""

    def to_dict(self) -> dict[str, Any]:
        kept = ("why", "agreement", "accuracy_loss", "speedup", "judged_by")
        return {"published": self.model is not None, "excluded": list(self.excluded), **{key: getattr(self, key) for key in kept}}


class Batches(CalibrationDataReader):
    """Calibration images, a batch at a time."""

    def __init__(self, pixels: Pixels) -> None:
        self.batches = iter([pixels[i : i + CALIBRATION_BATCH] for i in range(0, len(pixels), CALIBRATION_BATCH)])

    def get_next(self) -> dict[str, Any]:
        batch = next(self.batches, None)
        return {} if batch is None else {INPUT: batch}


class Int8:
    """Static quantisation in QDQ form: activations uint8, weights int8 by channel, ranges from the calibration images."""

    def __init__(self, model: onnx.ModelProto, calibration: Pixels, folder: Path) -> None:
        self.original, self.calibration, self.folder = model, calibration, folder
        onnx.save(model, folder / "float.onnx")
        quant_pre_process(folder / "float.onnx", folder / "prepared.onnx", skip_symbolic_shape=True)
        prepared = onnx.load(folder / "prepared.onnx")
        self.layers = [node.name for node in prepared.graph.node if node.op_type in QUANTISED]

    def make(self, excluded: Collection[str] = ()) -> onnx.ModelProto:
        """The graph with all layers in int8 but those excluded."""
        logging.getLogger().setLevel(logging.ERROR)  # it advises on the root logger to do what was done
        quantize_static(
            self.folder / "prepared.onnx",
            self.folder / "int8.onnx",
            Batches(self.calibration),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,  # eight bits overflow 16-bit sums on processors without VNNI: a LeNet lost 3.7 points on one
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=[layer for layer in self.layers if layer not in excluded],
            calibration_cache_path=self.folder / "ranges.json",  # they are the same whatever is excluded
        )
        return described_as(onnx.load(self.folder / "int8.onnx"), self.original)


def fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph in float16 but for its inputs and outputs."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return described_as(convert_float_to_float16(copy, keep_io_types=True), model)


def described_as(variant: onnx.ModelProto, original: onnx.ModelProto) -> onnx.ModelProto:
    """With the labels and the config of the original."""
    del variant.metadata_props[:]
    variant.metadata_props.extend(original.metadata_props)
    variant.model_version = original.model_version
    variant.graph.name = original.graph.name
    return variant


def calibration_indices(labels: NDArray[np.int64], per_class: int, seed: int = 0) -> NDArray[np.int64]:
    """Up to so many images of each class, always the same."""
    source = np.random.default_rng(seed)
    chosen = [source.permutation(np.flatnonzero(labels == label))[:per_class] for label in np.unique(labels)]
    return np.sort(np.concatenate(chosen))


def answers(session: ort.InferenceSession, pixels: Pixels) -> Floats:
    """Logits (N, classes)."""
    said = (session.run([OUTPUTS[0]], {INPUT: pixels[i : i + 256]})[0] for i in range(0, len(pixels), 256))
    return np.concatenate([np.asarray(logits) for logits in said])


def difference(reference: Floats, found: Floats, labels: NDArray[np.int64]) -> tuple[float, float]:
    """Share of images on which both name the same class, and the accuracy lost."""
    said, then = found.argmax(1), reference.argmax(1)
    return float((said == then).mean()), float((then == labels).mean() - (said == labels).mean())


def passes(gate: Gate, agreement: float, loss: float) -> bool:
    return agreement >= gate.agreement and loss <= gate.loss


def surely_passes(gate: Gate, agreement: float, loss: float, images: int) -> bool:
    """Whether other images would very likely say the same: the lower end of the agreement's 95 % interval passes, and so does the
    upper end of the loss's, which comes from the images on which the answers differ."""
    least, _ = accuracy_interval(round(agreement * images), images)
    most = loss + 1.96 * ((1 - agreement) * images) ** 0.5 / images
    return passes(gate, least, most)


def surely_fails(gate: Gate, agreement: float, images: int) -> bool:
    """Whether more images would very likely not pass either: the upper end of the agreement's 95 % interval does not."""
    _, most = accuracy_interval(round(agreement * images), images)
    return most < gate.agreement


def failing(name: str, agreement: float, loss: float) -> str:
    gate = GATES[name]
    return (
        f"it agrees with float32 on {agreement:.2%} of the images and loses {100 * loss:.2f} points; "
        f"at least {gate.agreement:.1%} and at most {100 * gate.loss:.1f} are asked for"
    )


def by_sensitivity(int8: Int8, reference: Floats, judge: Pixels) -> list[str]:
    """The layers, first those whose quantisation alone changes the logits most."""
    changes: dict[str, float] = {}
    for layer in int8.layers:
        alone = int8.make([other for other in int8.layers if other != layer])
        changes[layer] = float(np.abs(answers(open_session(alone.SerializeToString(), "cpu"), judge) - reference).mean())
    return sorted(changes, key=changes.__getitem__, reverse=True)


def build_int8(
    model: onnx.ModelProto, calibration: Pixels, judge: Pixels, labels: NDArray[np.int64], reference: Floats
) -> tuple[onnx.ModelProto | None, tuple[str, ...], float, float]:
    """The int8 graph with as few layers in float32 as the gate needs, these, and what it was judged to be; None if it needs all."""
    with tempfile.TemporaryDirectory() as name:
        int8 = Int8(model, calibration, Path(name))
        excluded: list[str] = []
        order: list[str] = []
        while True:
            made = int8.make(excluded)
            session = open_session(made.SerializeToString(), "cpu")
            more = max(2 * len(excluded), 1)
            last = more >= len(int8.layers)
            few = slice(FIRST_IMAGES)
            agreement, loss = difference(reference[few], answers(session, judge[few]), labels[few])
            if last or not surely_fails(GATES["int8"], agreement, len(judge[few])):
                agreement, loss = difference(reference, answers(session, judge), labels)
                if surely_passes(GATES["int8"], agreement, loss, len(judge)):
                    return made, tuple(excluded), agreement, loss
            if last:
                return None, tuple(excluded), agreement, loss
            order = order or by_sensitivity(int8, reference[:SENSITIVITY_IMAGES], judge[:SENSITIVITY_IMAGES])
            excluded = order[:more]


def speedups(original: onnx.ModelProto, variant: onnx.ModelProto, provider: Provider, image: Sequence[int]) -> dict[str, float]:
    """How many times as fast the variant's median call is, by batch size, as far as LONGEST_S allows; on a CPU with one thread."""
    graphs = {"float": original, "variant": variant}
    sessions = {name: open_session(graph.SerializeToString(), provider, threads=1) for name, graph in graphs.items()}
    source = np.random.default_rng(0)
    found: dict[str, float] = {}
    one = 0.0  # seconds an image
    for batch in TIMED_BATCHES:
        if batch * one > LONGEST_S:
            break
        pixels = source.integers(0, 256, (batch, *image), np.uint8)
        calls = {name: partial(answers, session) for name, session in sessions.items()}
        times = {name: float(np.median(timed.times)) for name, timed in measure(calls, pixels, TIMED_S).items()}
        found[str(batch)] = round(times["float"] / times["variant"], 3)
        one = times["float"] / batch
    return found


def try_variant(
    name: str, model: onnx.ModelProto, calibration: Pixels, judge: Pixels, labels: NDArray[np.int64], provider: Provider
) -> Variant:
    """Build a variant and judge it.

    Args:
        calibration: (N, …) images for the ranges of int8.
        judge, labels: (M, …) other images and their classes.
    """
    reference = answers(open_session(model.SerializeToString(), "cpu"), judge)
    if name == "int8":
        made, excluded, agreement, loss = build_int8(model, calibration, judge, labels, reference)
    else:
        made, excluded = fp16(model), ()
        agreement, loss = difference(reference, answers(open_session(made.SerializeToString(), provider), judge), labels)
    found = partial(
        Variant,
        name,
        agreement=round(agreement, 5),
        accuracy_loss=round(loss, 5),
        excluded=excluded,
        judged_by=len(judge),
    )
    if made is None or not surely_passes(GATES[name], agreement, loss, len(judge)):
        few = f", and {len(judge):,} images are too few to be sure of that" if passes(GATES[name], agreement, loss) else ""
        return found(None, failing(name, agreement, loss) + few)
    faster = speedups(model, made, provider, judge.shape[1:])
    if (ratio := faster[str(TIMED_BATCHES[0])]) < FASTER:
        slow = f"at batch 1 it is {ratio:.2f} times as fast as float32 on this machine's {provider}; {FASTER:g} is asked for"
        return found(None, slow, speedup=faster)
    return found(made, "", speedup=faster)
