"""From logits to numbers: accuracy, precision, recall and F1 (micro, macro, weighted), AUROC, confusion matrix.

`python -m fmnist.evaluate [RUN]` prints them for a checkpoint.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from fmnist.checkpoint import Checkpoint, load_checkpoint
from fmnist.cli import command
from fmnist.data import NOT_NAMED, Source, Split, find_data, load_info, load_test, load_train, split_train
from fmnist.device import default_device
from fmnist.errors import check
from fmnist.run import find_checkpoint

EVALUATION_BATCH = 500


@contextmanager
def evaluating(model: nn.Module) -> Generator[None]:
    """Evaluation mode without gradients; the mode found is restored."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)


def compute_logits(model: nn.Module, images: Tensor) -> Tensor:
    """Logits (N, classes) float32, on the images' device, of uint8 images (N, H, W) or (N, 3, H, W), in batches."""
    with evaluating(model):
        return torch.cat([model(batch).float() for batch in images.split(EVALUATION_BATCH)])


def classification_metrics(logits: Tensor, labels: Tensor) -> dict[str, Any]:
    """Everything the reports give, and what they left out.

    With balanced classes macro recall equals accuracy; micro precision, recall and F1 always equal it.

    Args:
        logits: (N, classes) float32.
        labels: (N,) int64.

    Returns:
        accuracy, loss, precision, recall and f1 (each micro, macro, weighted and per_class), auroc (macro and per_class,
        one against the rest; null for a class that does not occur), confusion (rows: true class); fractions all.
    """
    from sklearn.metrics import (  # pyright: ignore[reportMissingTypeStubs]  # here: slow to import, and workers do without
        confusion_matrix,
        precision_recall_fscore_support,
        roc_auc_score,
    )

    classes = range(logits.shape[1])
    truth, predicted = labels.cpu().numpy(), logits.argmax(1).cpu().numpy()
    probabilities = logits.float().softmax(1).cpu().numpy()
    scores: dict[str, dict[str, Any]] = {"precision": {}, "recall": {}, "f1": {}}
    for average in ("micro", "macro", "weighted", None):
        values = precision_recall_fscore_support(truth, predicted, labels=list(classes), average=average, zero_division=0)  # pyright: ignore[reportArgumentType]
        for name, value in zip(scores, values[:3], strict=True):
            scores[name][average or "per_class"] = np.asarray(value).tolist()
    auroc = [
        float(roc_auc_score(truth == number, probabilities[:, number])) if 0 < (truth == number).sum() < len(truth) else None
        for number in classes
    ]
    known = [value for value in auroc if value is not None]
    return {
        "images": len(truth),
        "accuracy": float((truth == predicted).mean()),
        "loss": F.cross_entropy(logits.float(), labels).item(),
        **scores,
        "auroc": {"macro": sum(known) / len(known) if known else None, "per_class": auroc},
        "confusion": confusion_matrix(truth, predicted, labels=list(classes)).tolist(),
    }


def evaluate(checkpoint: Checkpoint, split: Split, device: torch.device) -> dict[str, Any]:
    """`classification_metrics` of a checkpoint on a split, in float32."""
    model = checkpoint.model.to(device)
    return classification_metrics(compute_logits(model, split.images.to(device)), split.labels.to(device))


def held_out_split(checkpoint: Checkpoint, name: str, source: Source) -> Split:
    """The split called `name`, of the data set that the checkpoint was trained on.

    Raises:
        InputError: the model was trained on that split, or the data is another set.
    """
    folder = find_data(source, checkpoint.data)
    info = load_info(folder, checkpoint.data)
    if name == "test":
        return load_test(folder, info)
    check(
        bool(checkpoint.config.validation_images),
        "split='validation': this model was trained on all training images; use --split test",
    )
    validation = split_train(checkpoint.config, load_train(folder, info))[2]
    assert validation is not None
    return validation


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Evaluate a checkpoint in float32 on images that it was not trained on."""

    run: Annotated[str | None, tyro.conf.Positional] = None
    """Run folder or checkpoint folder; by default the newest run."""
    split: Literal["validation", "test"] = "test"
    """The test set is for final models: never choose by it."""
    source: Annotated[Source, tyro.conf.arg(name="")] = NOT_NAMED
    """By default the data that the model was trained on."""


def main(options: EvaluateOptions) -> None:
    checkpoint = load_checkpoint(find_checkpoint(options.run))
    split = held_out_split(checkpoint, options.split, options.source)
    metrics = evaluate(checkpoint, split, default_device())
    table = Table(title=f"{checkpoint.config.model} on {len(split):,} {options.split} images")
    for column in ("class", "precision %", "recall %", "F1 %", "AUROC"):
        table.add_column(column, justify="left" if column == "class" else "right")
    rows = [("[bold]all (macro)", *(metrics[score]["macro"] for score in ("precision", "recall", "f1", "auroc")))]
    per_class = (metrics[score]["per_class"] for score in ("precision", "recall", "f1", "auroc"))
    rows += list(zip(checkpoint.data.classes, *per_class, strict=True))
    for name, precision, recall, f1, auroc in rows:
        table.add_row(name, f"{precision:.2%}", f"{recall:.2%}", f"{f1:.2%}", "–" if auroc is None else f"{auroc:.4f}")
    Console().print(table)
    Console().print(f"accuracy [bold]{metrics['accuracy']:.2%}[/], loss {metrics['loss']:.4f}")


if __name__ == "__main__":
    command(EvaluateOptions, main)
