"""Build a variant, judge it, and publish it only where it is faster."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import onnx
import onnxruntime as ort

from export.providers import Provider
from export.session import open_session
from export.timing import measure
from export.variants.fp16 import fp16
from export.variants.gate import (
    GATES,
    Variant,
    difference,
    gate_failure,
    passes,
    predict_logits,
    run_graph,
    surely_passes,
)
from export.variants.int8 import build_int8, graph_logits
from fmnist.data.dataset import Split
from fmnist.data.images import Images

FASTER = 1.02
"""A variant must be this many times as fast as float32 at batch 1, or the difference is noise."""
TIMED_BATCHES = (1, 256)
TIMED_S = 0.4
LONGEST_S = 1.0
"""A batch whose call would take longer is not timed: one image decides what is published."""


def try_variants(
    model: onnx.ModelProto,
    judge: Split,
    calibration: Split,
    names: Sequence[str],
    provider: Provider,
) -> list[Variant]:
    """Build and judge the variants called `names`; give each of them, published or not."""
    images = calibration.images
    return [try_variant(name, model, images, judge, provider) for name in names]


def try_variant(
    name: str,
    model: onnx.ModelProto,
    calibration: Images,
    judge: Split,
    provider: Provider,
) -> Variant:
    """Build a variant and judge it.

    Args:
        calibration: (N, …) images that decide the ranges of int8.
        judge: other images.
        provider: where it is timed.
    """
    # Float32 on the CPU is the yardstick, whatever the provider rounds to.
    images, labels = judge.images, judge.labels.numpy()
    reference = graph_logits(model, images)
    excluded: tuple[str, ...] = ()
    if name == "int8":
        made, excluded, agreement, loss = build_int8(model, calibration, images, labels, reference)
    else:
        made = fp16(model)
        # Judged where it would run: kernels of another provider round otherwise.
        session = open_session(made.SerializeToString(), provider)
        agreement, loss = difference(reference, predict_logits(session, images), labels)

    variant = Variant(
        name,
        None,
        "",
        agreement=round(agreement, 5),
        accuracy_loss=round(loss, 5),
        excluded=excluded,
        judged_by=len(judge),
    )
    gate = GATES[name]
    if made is None or not surely_passes(gate, agreement, loss, len(judge)):
        why = gate_failure(name, agreement, loss)
        if passes(gate, agreement, loss):
            why += f", and {len(judge):,} images are too few to be sure of that"
        return replace(variant, why=why)

    # Last, since only a variant that passed is worth timing.
    ratios = speedups(model, made, provider, images.shape[1:])
    ratio = ratios[str(TIMED_BATCHES[0])]
    if ratio < FASTER:
        why = (
            f"at batch 1 it is {ratio:.2f} times as fast as float32 on this machine's {provider}; "
            f"{FASTER:g} is required"
        )
        return replace(variant, why=why, speedup=ratios)
    return replace(variant, model=made, speedup=ratios)


def speedups(
    original: onnx.ModelProto, variant: onnx.ModelProto, provider: Provider, image: Sequence[int]
) -> dict[str, float]:
    """How many times as fast a variant's median call is, by batch size; on a CPU with one thread.

    Args:
        image: shape of one image.

    Returns:
        Batch sizes whose call would take longer than LONGEST_S are left out.
    """
    calls = {
        "float": partial(run_graph, _one_thread(original, provider)),
        "variant": partial(run_graph, _one_thread(variant, provider)),
    }
    generator = np.random.default_rng(0)
    ratios: dict[str, float] = {}
    seconds_an_image = 0.0
    for batch in TIMED_BATCHES:
        # Foreseen from the smaller batch.
        if batch * seconds_an_image > LONGEST_S:
            break
        pixels = generator.integers(0, 256, (batch, *image), np.uint8)
        timed = measure(calls, pixels, TIMED_S)
        original_s = float(np.median(timed["float"].times))
        variant_s = float(np.median(timed["variant"].times))
        ratios[str(batch)] = round(original_s / variant_s, 3)
        seconds_an_image = original_s / batch
    return ratios


def _one_thread(model: onnx.ModelProto, provider: Provider) -> ort.InferenceSession:
    return open_session(model.SerializeToString(), provider, threads=1)
