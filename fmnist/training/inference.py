"""Logits of many images, in batches."""

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fmnist.data.images import Images, batch_within

EVALUATION_BATCH = 500
EVALUATION_BYTES = 2**23
"""Bytes of pixels in a batch, at most: activations of large images take a hundred times as much."""


@contextmanager
def evaluating(model: nn.Module) -> Generator[None]:
    """Put the model into evaluation mode without gradients, and restore its mode afterwards."""
    # Validation comes between two epochs of training.
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)


def compute_logits(model: nn.Module, images: Images | Tensor) -> Tensor:
    """Compute logits in batches, on the model's device.

    Args:
        images: uint8, (N, H, W) or (N, 3, H, W), on any device or in a file.

    Returns:
        (N, classes) float32, on the CPU.
    """
    if isinstance(images, Tensor):
        images = Images(images)
    device = next(model.parameters()).device
    size = batch_within(EVALUATION_BATCH, EVALUATION_BYTES, images.image_bytes)
    with evaluating(model):
        logits = [model(batch.to(device)).float() for batch in images.batches(size)]
        return torch.cat(logits).cpu()
