"""Images that are evaluated although the model has seen them: copies of training images."""

from typing import Any

import torch
from torch import Tensor

from fmnist.data.dataset import Split, image_hashes


def find_copies(seen: Split, split: Split) -> Tensor:
    """Which images of `split` are, pixel for pixel, among those seen: (N,) bool."""
    # An import has compared all images of a set, and writes no groups where no two are alike.
    imported = split.images.in_file and split.images.sums is not None
    if imported and (seen.groups is None or split.groups is None):
        return torch.zeros(len(split), dtype=torch.bool)
    if seen.groups is not None and split.groups is not None:
        return torch.isin(split.groups, seen.groups)

    known = set(image_hashes(seen.images))
    return torch.tensor([digest in known for digest in image_hashes(split.images)])


def describe_copies(seen: Split, split: Split, correct: Tensor) -> dict[str, Any]:
    """Count the copies among the images evaluated, and what the accuracy is without them.

    Args:
        seen: what the model was trained and selected on.
        split: the N images that it was evaluated on.
        correct: (N,) bool, whether it has each of them right.

    Returns:
        images (how many are copies) and accuracy_without (null where there are none, or nothing
        else).
    """
    copies = find_copies(seen, split)
    accuracy: float | None = None
    if copies.any() and not copies.all():
        accuracy = correct[~copies].double().mean().item()
    return {"images": int(copies.sum()), "accuracy_without": accuracy}


def copies_in_words(copies: dict[str, Any], split: str) -> str:
    """A line about `describe_copies`."""
    count = copies["images"]
    if not count:
        return f"no {split} image is a copy of a training image"

    line = f"{count:,} {split} images are copies of training images, pixel for pixel"
    if count == 1:
        line = f"one {split} image is a copy of a training image, pixel for pixel"
    if copies["accuracy_without"] is None:
        return f"{line}: there are no others"
    return f"{line}; accuracy without: {copies['accuracy_without']:.2%}"
