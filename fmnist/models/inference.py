"""Logits of many images, in batches."""

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

EVALUATION_BATCH = 500


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


def compute_logits(model: nn.Module, images: Tensor) -> Tensor:
    """Compute logits in batches, on the images' device.

    Args:
        images: uint8, (N, H, W) or (N, 3, H, W).

    Returns:
        (N, classes) float32.
    """
    with evaluating(model):
        return torch.cat([model(batch).float() for batch in images.split(EVALUATION_BATCH)])
