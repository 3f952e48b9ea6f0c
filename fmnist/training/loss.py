"""Cross-entropy with label smoothing and class weights together."""

import torch.nn.functional as F
from torch import Tensor


def smoothed_cross_entropy(
    logits: Tensor, target: Tensor, weights: Tensor | None, smoothing: float
) -> Tensor:
    """Sum the loss of a batch's images, each weighted by its own class.

    PyTorch's CrossEntropyLoss weights the smoothed share of every class by that class's weight
    instead, so that where one weight is large the loss is least if every image is given that class
    (pytorch/pytorch#104776).

    Args:
        logits: (B, classes) float32.
        target: (B,) int64 labels, or (B, classes) shares of the classes.
        weights: (classes,) float32; None where all classes are equal.
        smoothing: share of the target that all classes have in common, 0 to 1.
    """
    if weights is None:
        return F.cross_entropy(logits, target, reduction="sum", label_smoothing=smoothing)

    # A mixed image has the mean weight of its classes.
    weight = weights[target] if target.ndim == 1 else target @ weights  # (B,)
    own = F.cross_entropy(logits, target, weights, reduction="sum")
    everywhere = -(weight * logits.log_softmax(1).mean(1)).sum()
    return (1 - smoothing) * own + smoothing * everywhere
