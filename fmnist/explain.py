"""`python -m fmnist.explain [RUN]`: where a network looks, by Grad-CAM (Selvaraju et al., 2017)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from rich.console import Console
from torch import Tensor, nn

from fmnist.checkpoint import Checkpoint, load_checkpoint
from fmnist.cli import command
from fmnist.data import NOT_NAMED, DataInfo, Source
from fmnist.errors import InputError, check
from fmnist.evaluate import SplitName, held_out_split
from fmnist.models import Classifier
from fmnist.photo import ImageError, open_image, to_pixels
from fmnist.plots import plot_cams, short
from fmnist.run import find_checkpoint, run_of


def grad_cam(model: Classifier, pixels: Tensor, classes: Tensor | None = None) -> Tensor:
    """Where the evidence for a class lies: the last feature map, each channel weighted by the mean gradient of the class's logit.

    The feature map is what the last convolution whose output is larger than 1×1 ends in: of that size, after normalisation,
    activation, shortcut and concatenation where they are modules of their own.

    Args:
        pixels: (B, H, W) or (B, 3, H, W) uint8, on the model's device.
        classes: (B,) int64, by default those predicted.

    Returns:
        (B, H, W) float32; 1 is each image's highest, 0 is no evidence or evidence against; all 0 if nothing speaks for the class.
    """
    maps: list[tuple[nn.Module, Tensor]] = []

    def keep(module: nn.Module, _: Any, output: Any) -> None:
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
    size = [output.shape[2:] for module, output in maps if isinstance(module, nn.Conv2d)][-1]
    features = [output for _, output in maps if output.shape[2:] == size][-1]  # (B, C, h, w)
    chosen = logits.argmax(1) if classes is None else classes
    (gradients,) = torch.autograd.grad(logits.gather(1, chosen[:, None]).sum(), features)
    evidence = (gradients.mean((2, 3), keepdim=True) * features.detach()).sum(1, keepdim=True).relu()
    heat = F.interpolate(evidence.float(), pixels.shape[-2:], mode="bilinear")[:, 0]
    return heat / heat.amax((1, 2), keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)


@dataclass(frozen=True, kw_only=True)
class ExplainOptions:
    """Draw what of an image speaks for the class that a model predicts, for some images of each class or for pictures of your own.

    Example: python -m fmnist.explain demo --images shoe.jpg coat.png
    """

    run: Annotated[str | None, tyro.conf.Positional] = None
    """Run folder or checkpoint folder; by default the newest run."""
    images: tuple[str, ...] = ()
    """Picture files to explain in place of images of the data set."""
    per_class: int = 3
    """Images of each class, the first of the split."""
    split: SplitName = "test"
    """Where the images come from."""
    source: Annotated[Source, tyro.conf.arg(name="")] = NOT_NAMED
    """By default the data that the model was trained on."""


def main(options: ExplainOptions) -> None:
    check(options.per_class >= 1, f"per_class={options.per_class}: it must be at least 1")
    folder = find_checkpoint(options.run)
    checkpoint = load_checkpoint(folder)
    path = run_of(folder) / "figures" / "grad_cam.png"
    if options.images:
        explain_files(checkpoint, options.images, path)
    else:
        _explain_classes(checkpoint, options, path)
    Console(highlight=False, soft_wrap=True).print(f"saved in {path}")


def explain_files(checkpoint: Checkpoint, files: tuple[str, ...], path: Path) -> None:
    """Heat maps of the predicted classes of some picture files, as a PNG file. Raises InputError if one cannot be read."""
    pixels = torch.stack([_read(file, checkpoint.data) for file in files])
    heat, captions = _explain(checkpoint, pixels)
    columns = min(3, len(files))
    named = [f"{short(Path(file).name, 32)}\n→ {caption}" for file, caption in zip(files, captions, strict=True)]
    plot_cams(pixels.numpy(), heat.numpy(), named, path, columns)


def _explain_classes(checkpoint: Checkpoint, options: ExplainOptions, path: Path) -> None:
    """A row for each class that the split has."""
    split = held_out_split(checkpoint, options.split, options.source)
    counts = torch.bincount(split.labels, minlength=len(checkpoint.data.classes))
    columns = min(options.per_class, int(counts[counts > 0].min()))
    present = counts.nonzero().flatten().tolist()
    index = torch.cat([(split.labels == number).nonzero().flatten()[:columns] for number in present])
    heat, captions = _explain(checkpoint, split.images[index])
    names = [checkpoint.data.classes[number] for number in present]
    plot_cams(split.images[index].numpy(), heat.numpy(), [f"→ {caption}" for caption in captions], path, columns, names)


def _explain(checkpoint: Checkpoint, pixels: Tensor) -> tuple[Tensor, list[str]]:
    """Heat maps of the predicted classes, and each prediction with its probability."""
    with torch.inference_mode():
        confidence, predicted = checkpoint.model(pixels).softmax(1).max(1)
    captions = [
        f"{short(checkpoint.data.classes[number], 28)} {probability:.0%}"
        for number, probability in zip(predicted.tolist(), confidence.tolist(), strict=True)
    ]
    return grad_cam(checkpoint.model, pixels), captions


def _read(file: str, info: DataInfo) -> Tensor:
    try:
        pixels = to_pixels(open_image(file), size=info.image_size, channels=info.channels, fit=info.fit)
    except ImageError as error:
        raise InputError(str(error)) from error
    return torch.from_numpy(np.array(pixels))


if __name__ == "__main__":
    command(ExplainOptions, main)
