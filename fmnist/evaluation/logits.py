"""Logits of a whole split: held in memory while they are few, worked on part by part."""

import os
import tempfile
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fmnist.data.images import Images, batch_within
from fmnist.errors import InputError
from fmnist.training.inference import compute_logits

HELD_BYTES = 2**30
"""Logits of more bytes lie in a temporary file: 100,000 images of 20,000 classes have 8 GB."""
PART_BYTES = 2**26
"""Bytes of logits that are worked on at once."""
PART_IMAGES = 2000
"""Images whose logits are computed at once, where they go to a file."""
FLOAT_BYTES = 4


def model_logits(model: nn.Module, images: Images, classes: int) -> Tensor:
    """Compute logits (N, classes) float32 on the model's device; they are given on the CPU.

    Raises:
        InputError: there is no room for them.
    """
    if FLOAT_BYTES * len(images) * classes <= HELD_BYTES:
        return compute_logits(model, images)

    logits = empty_logits(len(images), classes)
    for start in range(0, len(images), PART_IMAGES):
        part = slice(start, start + PART_IMAGES)
        logits[part] = compute_logits(model, images.take(part))
    return logits


def empty_logits(images: int, classes: int) -> Tensor:
    """Make room for logits (N, classes) float32; many lie in a temporary file that has no name.

    Raises:
        InputError: the file system has no room for them.
    """
    size = FLOAT_BYTES * images * classes
    if size <= HELD_BYTES:
        return torch.empty(images, classes)

    with tempfile.TemporaryFile() as file:
        try:
            # Now, since a full file system would later end the process without a word.
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            raise InputError(
                f"TMPDIR={tempfile.gettempdir()!r}: no room for {size / 1e9:,.1f} GB of logits "
                f"({images:,} images of {classes:,} classes); name a folder with more"
            ) from error
        return torch.from_numpy(np.memmap(file, np.float32, "r+", shape=(images, classes)))


def parts(logits: Tensor | NDArray[np.float32]) -> Iterator[slice]:
    """Split the rows of logits (N, classes) into parts of a bounded size."""
    row_bytes = FLOAT_BYTES * logits.shape[1]
    size = batch_within(max(len(logits), 1), PART_BYTES, row_bytes)
    for start in range(0, len(logits), size):
        yield slice(start, start + size)


def answers(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Each image's highest probability, (N,) float64, and the class that has it, (N,) int64."""
    confidence = torch.empty(len(logits), dtype=torch.float64)
    predicted = torch.empty(len(logits), dtype=torch.int64)
    for part in parts(logits):
        values = logits[part].float()
        best = values.argmax(1)
        peaks = values.gather(1, best[:, None])
        # The softmax's highest value: its own exponential is 1.
        confidence[part] = 1 / (values - peaks).exp_().sum(1, dtype=torch.float64)
        predicted[part] = best
    return confidence, predicted


def softmax_parts(logits: Tensor) -> tuple[Tensor, Tensor]:
    """What makes logits probabilities: their maximum to subtract, and the sum of the exponentials
    to divide by, (N, 1) float32 each."""
    peaks: list[Tensor] = []
    totals: list[Tensor] = []
    for part in parts(logits):
        values = logits[part].float()
        peak = values.amax(1, keepdim=True)
        peaks.append(peak)
        totals.append((values - peak).exp().sum(1, keepdim=True))
    return torch.cat(peaks), torch.cat(totals)


def class_probabilities(logits: Tensor, classes: Sequence[int]) -> Tensor:
    """Probabilities of some classes alone, (N, M) float32."""
    peaks, totals = softmax_parts(logits)
    return (logits[:, list(classes)].float() - peaks).exp() / totals
