"""Save the predictions on a split, so that they can be drawn without the data set."""

import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fmnist.data.dataset import Split
from fmnist.data.origins import file_names
from fmnist.evaluation.logits import answers, parts
from fmnist.runs.files import write_atomic

MISTAKES = 24
"""Mistakes that are drawn, at most."""
PREDICTIONS = "test_predictions.npz"
"""File beside a checkpoint: see save_predictions."""
SAVED_LOGITS = 10_000_000
"""Logits (images times classes) up to which all are saved: beyond, those of TOP classes."""
TOP = 5


@dataclass(frozen=True, slots=True)
class Mistake:
    """An image that a model is wrong about."""

    index: int
    """Its place in the split."""
    file: str | None
    """The file that it was imported from; None where the set was not imported."""
    true: str
    predicted: str
    confidence: float
    """The probability given to the class predicted."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def surest_mistakes(confidence: Tensor, predicted: Tensor, labels: Tensor) -> Tensor:
    """Indices of the mistakes with the highest probability, that one first: (M,) int64.

    M is at most MISTAKES.

    Args:
        confidence, predicted: (N,) each, as `fmnist.evaluation.logits.answers` gives them.
        labels: (N,) int64.
    """
    wrong = (predicted != labels).nonzero().flatten()
    # Stable, so that equals keep their order on every machine.
    order = confidence[wrong].argsort(descending=True, stable=True)
    return wrong[order][:MISTAKES]


def describe_mistakes(
    confidence: Tensor,
    predicted: Tensor,
    split: Split,
    classes: tuple[str, ...],
    folder: Path | str,
) -> list[Mistake]:
    """The surest mistakes, that with the highest probability first.

    Args:
        confidence, predicted: (N,) each, as `fmnist.evaluation.logits.answers` gives them.
        split: the N images.
        classes: names of the classes.
        folder: where the data set lies.
    """
    wrong = surest_mistakes(confidence, predicted, split.labels)
    files = names_of(split, wrong, folder) or [None] * len(wrong)

    mistakes: list[Mistake] = []
    for index, file in zip(wrong.tolist(), files, strict=True):
        mistake = Mistake(
            index,
            file,
            true=classes[split.labels[index]],
            predicted=classes[predicted[index]],
            confidence=confidence[index].item(),
        )
        mistakes.append(mistake)
    return mistakes


def names_of(split: Split, chosen: Tensor, folder: Path | str) -> list[str] | None:
    """Files that some images of a split were imported from; None where the set was not imported."""
    return file_names(folder, split.images.take(chosen).rows.tolist())


def save_predictions(path: Path, logits: Tensor, split: Split, folder: Path | str = "") -> None:
    """Save a model's predictions on a split, and its surest mistakes, as a compressed npz.

    The file holds labels (N,) and rows (N,) int64, the images' numbers in the set's file; and of
    the surest mistakes their indices in the split, mistakes (M,) int64, their images (M, H, W) or
    (M, 3, H, W) uint8, the classes predicted (M,) and their confidence (M,) float64; and where the
    set was imported the names of their files (M,). With them are logits (N, classes) float32, or
    where these are more than SAVED_LOGITS the likeliest classes of each image, top_classes (N, TOP)
    and top_probabilities (N, TOP) float32.

    Args:
        folder: where the data set lies; empty if it is not at hand.
    """
    confidence, predicted = answers(logits)
    wrong = surest_mistakes(confidence, predicted, split.labels)
    # A byte for each label, up to 256 classes.
    label_type = np.min_scalar_type(logits.shape[1])
    arrays: dict[str, NDArray[Any]] = {
        "labels": split.labels.numpy().astype(label_type),
        "rows": split.images.rows.numpy(),
        "mistakes": wrong.numpy(),
        "images": split.images[wrong].numpy(),
        "predicted": predicted[wrong].numpy().astype(label_type),
        "confidence": confidence[wrong].numpy(),
        **_saved_logits(logits, label_type),
    }
    files = names_of(split, wrong, folder) if folder else None
    if files:
        arrays["files"] = np.array(files)

    # By way of memory, so that the file is written whole or not at all.
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_atomic(path, buffer.getvalue())


def _saved_logits(logits: Tensor, label_type: np.dtype[Any]) -> dict[str, NDArray[Any]]:
    if logits.numel() <= SAVED_LOGITS:
        return {"logits": logits.float().numpy()}

    classes: list[Tensor] = []
    probabilities: list[Tensor] = []
    for part in parts(logits):
        best = logits[part].softmax(1).topk(min(TOP, logits.shape[1]))
        classes.append(best.indices)
        probabilities.append(best.values)
    return {
        "top_classes": torch.cat(classes).numpy().astype(label_type),
        "top_probabilities": torch.cat(probabilities).numpy(),
    }
