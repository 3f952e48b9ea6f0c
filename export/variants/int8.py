"""The graph in int8, by static quantisation."""

import logging
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from export.client import INPUT
from export.graph.conversion import describe_as
from export.session import open_session
from export.variants.gate import (
    GATES,
    Floats,
    difference,
    predict_logits,
    surely_fails,
    surely_passes,
)
from fmnist.data.images import Images

CALIBRATION_BATCH = 32
SENSITIVITY_IMAGES = 128
"""Images on which it is measured how much one layer alone changes the logits."""
FIRST_IMAGES = 512
"""A graph that plainly fails on the first images is not judged on all."""
QUANTISED = ("Conv", "Gemm", "MatMul")


class Batches(CalibrationDataReader):
    """Calibration images, a batch at a time."""

    def __init__(self, images: Images) -> None:
        self.batches = images.batches(CALIBRATION_BATCH)

    def get_next(self) -> dict[str, Any]:
        batch = next(self.batches, None)
        return {} if batch is None else {INPUT: batch.numpy()}


class Int8:
    """Static quantisation in QDQ form: activations uint8, weights int8 by channel.

    Args:
        calibration: (N, …) images that decide the ranges of the activations.
        folder: for intermediate files.
    """

    def __init__(self, model: onnx.ModelProto, calibration: Images, folder: Path) -> None:
        self.original = model
        self.calibration = calibration
        self.folder = folder
        self.prepared = folder / "prepared.onnx"

        original = folder / "float.onnx"
        onnx.save(model, original)
        quant_pre_process(original, self.prepared, skip_symbolic_shape=True)
        nodes = onnx.load(self.prepared).graph.node
        self.layers = [node.name for node in nodes if node.op_type in QUANTISED]

    def make(self, excluded: Collection[str] = ()) -> onnx.ModelProto:
        """The graph with all layers in int8 but those excluded."""
        # quantize_static advises, on the root logger, to do what __init__ has done.
        logging.getLogger().setLevel(logging.ERROR)
        path = self.folder / "int8.onnx"
        quantize_static(
            self.prepared,
            path,
            Batches(self.calibration),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            # Eight bits overflow 16-bit sums on processors without VNNI: a LeNet lost 3.7 points.
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=[layer for layer in self.layers if layer not in excluded],
            # The ranges are the same whatever is excluded.
            calibration_cache_path=self.folder / "ranges.json",
        )
        return describe_as(onnx.load(path), self.original)


def graph_logits(model: onnx.ModelProto, images: Images) -> Floats:
    """Logits (N, classes) of a graph on the CPU."""
    return predict_logits(open_session(model.SerializeToString(), "cpu"), images)


def calibration_indices(
    labels: NDArray[np.int64], per_class: int, seed: int = 0
) -> NDArray[np.int64]:
    """Indices of up to `per_class` images of each class, always the same, in ascending order."""
    # Drawn by class: a random sample could lack one.
    generator = np.random.default_rng(seed)
    chosen: list[NDArray[np.int64]] = []
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        chosen.append(generator.permutation(of_class)[:per_class])
    return np.sort(np.concatenate(chosen))


def by_sensitivity(int8: Int8, reference: Floats, judge: Images) -> list[str]:
    """The layers, first those whose quantisation alone changes the logits most."""
    changes: dict[str, float] = {}
    for layer in int8.layers:
        others = [other for other in int8.layers if other != layer]
        logits = graph_logits(int8.make(others), judge)
        changes[layer] = float(np.abs(logits - reference).mean())
    return sorted(changes, key=changes.__getitem__, reverse=True)


def exclusion_counts(layers: int) -> Sequence[int]:
    """How many layers are left in float32, try by try: 0, 1, 2, 4, …, fewer than all."""
    counts = [0]
    count = 1
    while count < layers:
        counts.append(count)
        count *= 2
    return counts


def build_int8(
    model: onnx.ModelProto,
    calibration: Images,
    judge: Images,
    labels: NDArray[np.int64],
    reference: Floats,
) -> tuple[onnx.ModelProto | None, tuple[str, ...], float, float]:
    """Quantise as many layers as the gate allows.

    Args:
        calibration: (N, …) images that decide the ranges of the activations.
        judge, labels: (M, …) other images and their classes.
        reference: (M, classes) float32's logits of `judge`.

    Returns:
        The graph, None if the gate needs all layers in float32; the layers left in float32; and the
        agreement and the loss of the last try.
    """
    gate = GATES["int8"]
    few = slice(FIRST_IMAGES)
    some = slice(SENSITIVITY_IMAGES)
    order: list[str] = []
    excluded: tuple[str, ...] = ()
    agreement = loss = 0.0

    with tempfile.TemporaryDirectory() as folder:
        int8 = Int8(model, calibration, Path(folder))
        counts = exclusion_counts(len(int8.layers))
        for count in counts:
            # Only where all layers in int8 fail: it makes a graph for each layer.
            if count > 0 and not order:
                order = by_sensitivity(int8, reference[some], judge.take(some))
            excluded = tuple(order[:count])
            made = int8.make(excluded)
            session = open_session(made.SerializeToString(), "cpu")

            first = predict_logits(session, judge.take(few))
            agreement, loss = difference(reference[few], first, labels[few])
            # The last try is judged on all images: its figures are those reported.
            if count != counts[-1] and surely_fails(gate, agreement, len(first)):
                continue
            agreement, loss = difference(reference, predict_logits(session, judge), labels)
            if surely_passes(gate, agreement, loss, len(judge)):
                return made, excluded, agreement, loss
    return None, excluded, agreement, loss
