"""Show where a network looks, by Grad-CAM (Selvaraju et al., 2017)."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmnist.data.dataset import Split
from fmnist.data.info import DataInfo
from fmnist.data.picture import Fit, ImageError, read_pixels
from fmnist.errors import InputError
from fmnist.evaluation.many_classes import SHOWN_CLASSES
from fmnist.evaluation.plots import CAM_TITLE, plot_cams, short, short_file
from fmnist.evaluation.predictions import names_of
from fmnist.models import Classifier
from fmnist.training.checkpoint import Checkpoint

EXPLAINED_AT_ONCE = 32


def grad_cam(model: Classifier, pixels: Tensor, classes: Tensor | None = None) -> Tensor:
    """Locate the evidence for a class: the last feature map, weighted by the class's gradient.

    Each channel is weighted by the mean gradient of the class's logit. The feature map is the
    output of the last module whose output has the size of the last convolution's that is larger
    than 1×1: after normalisation, activation, shortcut and concatenation where these are modules.

    Args:
        model: stays in its mode; its parameters get no gradients.
        pixels: (B, H, W) or (B, 3, H, W) uint8, on the model's device.
        classes: (B,) int64, by default those predicted.

    Returns:
        (B, H, W) float32; 1 is each image's highest, 0 is no evidence or evidence against; all 0 if
        nothing speaks for the class.
    """
    logits, features = _forward_with_features(model, pixels)
    chosen = logits.argmax(1) if classes is None else classes
    score = logits.gather(1, chosen[:, None]).sum()
    (gradients,) = torch.autograd.grad(score, features)

    weights = gradients.mean((2, 3), keepdim=True)  # (B, C, 1, 1)
    evidence = (weights * features.detach()).sum(1, keepdim=True).relu()  # (B, 1, h, w)
    heat = F.interpolate(evidence.float(), pixels.shape[-2:], mode="bilinear")[:, 0]
    # Not 0, so that a map of zeros is divided into zeros rather than NaN.
    highest = heat.amax((1, 2), keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    return heat / highest


def _forward_with_features(model: Classifier, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (B, classes) and the last feature map (B, C, h, w), both with gradients."""
    maps: list[tuple[nn.Module, Tensor]] = []

    def keep(module: nn.Module, _: Any, output: Any) -> None:
        # A map of a single position could not show where anything is.
        if isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1:
            maps.append((module, output))

    hooks = [module.register_forward_hook(keep) for module in model.modules()]
    was_training = model.training
    model.eval()
    try:
        with torch.enable_grad():
            logits = model(pixels)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()

    size = torch.Size()
    for module, output in maps:
        if isinstance(module, nn.Conv2d):
            size = output.shape[2:]

    # What follows the last convolution without changing the size still belongs to its block.
    features = [output for _, output in maps if output.shape[2:] == size]
    return logits, features[-1]


def explain_files(checkpoint: Checkpoint, files: Sequence[str], path: Path) -> None:
    """Draw heat maps of the predicted classes of some picture files, as the PNG file `path`.

    Raises:
        InputError: a picture cannot be read.
    """
    pixels = torch.stack([_read_picture(file, checkpoint.data) for file in files])
    heat, predictions = _explain(checkpoint, pixels)

    captions: list[str] = []
    for file, prediction in zip(files, predictions, strict=True):
        captions.append(f"{short_file(file, 32)}\n→ {prediction}")
    plot_cams(pixels.numpy(), heat.numpy(), captions, path, columns=min(3, len(files)))


def explain_classes(
    checkpoint: Checkpoint, split: Split, per_class: int, path: Path, folder: Path
) -> None:
    """Draw heat maps of the first `per_class` images of each class that the split has.

    All classes get the same number: fewer where one of them has fewer images. Of many classes,
    SHOWN_CLASSES are drawn, from all over the list.

    Args:
        path: PNG file to write.
        folder: where the data set lies: pictures of an imported set are named.
    """
    classes = checkpoint.data.classes
    counts = torch.bincount(split.labels, minlength=len(classes))
    occurring = counts.nonzero().flatten()
    shown = occurring[:: math.ceil(len(occurring) / SHOWN_CLASSES)]
    columns = min(per_class, int(counts[shown].min()))

    # One row of the figure for each class.
    first: list[Tensor] = []
    for number in shown.tolist():
        own = (split.labels == number).nonzero().flatten()
        first.append(own[:columns])
    chosen = torch.cat(first)
    images = split.images[chosen]

    heat, predictions = _explain(checkpoint, images)
    captions = [f"→ {prediction}" for prediction in predictions]
    files = names_of(split, chosen, folder)
    if files is not None:
        lines = zip(files, captions, strict=True)
        captions = [f"{short_file(file, 32)}\n{caption}" for file, caption in lines]

    names = [short(classes[number], 40) for number in shown.tolist()]
    title = CAM_TITLE
    if len(shown) < len(occurring):
        title = f"{title}; {len(shown)} of {len(occurring):,} classes"
    plot_cams(images.numpy(), heat.numpy(), captions, path, columns, names, title)


def _explain(checkpoint: Checkpoint, pixels: Tensor) -> tuple[Tensor, list[str]]:
    """Heat maps of the predicted classes, and each prediction with its probability in words."""
    heat: list[Tensor] = []
    predictions: list[str] = []
    # A few at a time: with gradients, the activations of large images take gigabytes.
    for batch in pixels.split(EXPLAINED_AT_ONCE):
        with torch.inference_mode():
            confidences, predicted = checkpoint.model(batch).softmax(1).max(1)
        heat.append(grad_cam(checkpoint.model, batch))
        for number, confidence in zip(predicted.tolist(), confidences.tolist(), strict=True):
            name = short(checkpoint.data.classes[number], 28)
            predictions.append(f"{name} {confidence:.0%}")
    return torch.cat(heat), predictions


def _read_picture(file: str, info: DataInfo) -> Tensor:
    try:
        pixels = read_pixels(file, Fit.from_data(asdict(info)))
    except ImageError as error:
        raise InputError(str(error)) from error
    return torch.from_numpy(np.array(pixels))  # A copy: PyTorch wants an array it may write to.
