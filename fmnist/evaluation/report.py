"""Present an evaluation: as JSON, on the console, and as figures."""

from pathlib import Path
from typing import Any

import torch.nn.functional as F
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from fmnist.data.dataset import Split
from fmnist.data.sources import Source
from fmnist.evaluation import Combine, SplitName, plots
from fmnist.evaluation.calibration import fit_temperature, reliability
from fmnist.evaluation.ensemble import Member, ensemble_logits
from fmnist.evaluation.held_out import training_sample
from fmnist.evaluation.metrics import (
    AVERAGES,
    SCORES,
    accuracy_interval,
    classification_metrics,
    confused_pairs,
)
from fmnist.evaluation.predictions import surest_mistakes

SCORE_NAMES = {"precision": "precision", "recall": "recall", "f1": "F1"}
CONFUSED_SHOWN = 5


def describe(
    members: list[Member],
    logits: Tensor,
    split: Split,
    *,
    split_name: SplitName,
    how: Combine,
    source: Source,
) -> dict[str, Any]:
    """Collect all of evaluation-SPLIT.json but the temperature, which is None.

    Args:
        members: the model, or the members of an ensemble.
        logits: (N, classes) float32, theirs together, on the CPU.
        split: the N images that they were evaluated on.
        split_name: what the split is called.
        how: how the members' predictions are combined.
        source: where the training images come from, a sample of which is evaluated too.
    """
    first = members[0].checkpoint
    metrics = classification_metrics(logits, split.labels)
    correct = round(metrics["accuracy"] * len(split))
    # As many images as the split has, so that both accuracies are equally precise.
    train = _describe_training(members, len(split), how, source)
    train["gap"] = train["accuracy"] - metrics["accuracy"]

    return {
        "runs": [member.name for member in members],
        "models": [member.checkpoint.config.model for member in members],
        "combine": how if len(members) > 1 else None,
        "data": first.data.name,
        "split": split_name,
        **metrics,
        "accuracy_interval": accuracy_interval(correct, len(split)),
        "train": train,
        "confused": confused_pairs(metrics["confusion"], first.data.classes),
        "reliability": reliability(logits, split.labels),
        "temperature": None,
    }


def _describe_training(
    members: list[Member], count: int, how: Combine, source: Source
) -> dict[str, Any]:
    """Measure accuracy and loss on up to `count` training images."""
    # Members may have been trained on different images: these are the first one's.
    sample = training_sample(members[0].checkpoint, count, source)
    logits = ensemble_logits(members, sample, how)
    right = logits.argmax(1) == sample.labels

    return {
        "images": len(sample),
        "accuracy": right.double().mean().item(),
        "loss": F.cross_entropy(logits, sample.labels).item(),
    }


def describe_temperature(
    validation_logits: Tensor, validation: Split, logits: Tensor, split: Split
) -> dict[str, Any]:
    """Fit a temperature on the validation images, and measure its effect on another split.

    Returns:
        value (the temperature); loss, ece, mean_confidence and reliability of the scaled logits.
    """
    temperature = fit_temperature(validation_logits, validation.labels)
    scaled = logits / temperature
    metrics = classification_metrics(scaled, split.labels)
    return {
        "value": temperature,
        "loss": metrics["loss"],
        "ece": metrics["ece"],
        "mean_confidence": metrics["mean_confidence"],
        "reliability": reliability(scaled, split.labels),
    }


def show(evaluation: dict[str, Any], classes: tuple[str, ...], console: Console) -> None:
    """Print an evaluation, as `describe` gives it."""
    _show_accuracy(evaluation, console)
    _show_averages(evaluation, console)
    _show_classes(evaluation, classes, console)
    _show_confused(evaluation, console)
    _show_confidence(evaluation, console)


def _show_accuracy(evaluation: dict[str, Any], console: Console) -> None:
    split = evaluation["split"]
    networks: list[str] = []
    for run, model in zip(evaluation["runs"], evaluation["models"], strict=True):
        networks.append(f"{run} ({model})")
    how = ""
    if evaluation["combine"]:
        how = f", combined by {evaluation['combine']}"

    console.print(
        f"[bold]{escape(' + '.join(networks))}[/]{how}, "
        f"on {evaluation['images']:,} {split} images of {escape(evaluation['data'])}"
    )

    low, high = evaluation["accuracy_interval"]
    top5 = ""
    # Of up to five classes, the label is always among the first five.
    if evaluation["top5"] is not None:
        top5 = f", top-5 {evaluation['top5']:.2%}"
    console.print(
        f"accuracy [bold]{evaluation['accuracy']:.2%}[/] "
        f"(95 % interval {low:.2%} to {high:.2%}){top5}, loss {evaluation['loss']:.4f}"
    )

    train = evaluation["train"]
    whose = "its" if len(networks) == 1 else "the first member's"
    console.print(
        f"on {train['images']:,} of {whose} training images, not augmented: "
        f"accuracy {train['accuracy']:.2%}, loss {train['loss']:.4f}; "
        f"gap to {split} {100 * train['gap']:+.2f} points"
    )


def _show_averages(evaluation: dict[str, Any], console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("averaged")
    for average in AVERAGES:
        table.add_column(average, justify="right")
    for score, name in SCORE_NAMES.items():
        values = [f"{evaluation[score][average]:.2%}" for average in AVERAGES]
        table.add_row(name, *values)

    console.print(table)
    # Several reports give both, as if one confirmed the other.
    console.print(
        "with one label an image, micro precision, recall and F1 equal the accuracy, "
        "and so does macro recall where classes are balanced: "
        "equal figures do not prove that someone averaged by micro"
    )


def _show_classes(evaluation: dict[str, Any], classes: tuple[str, ...], console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("class")
    for heading in (*SCORE_NAMES.values(), "AUROC", "support"):
        table.add_column(heading, justify="right")

    auroc = evaluation["auroc"]
    for number, name in enumerate(classes):
        scores = [f"{evaluation[score]['per_class'][number]:.2%}" for score in SCORES]
        area = _auroc_text(auroc["per_class"][number])
        support = f"{evaluation['support'][number]:,}"
        table.add_row(escape(name), *scores, area, support)

    # The macro mean of the AUROC leaves out classes that do not occur, which have none.
    table.add_section()
    means = [f"{evaluation[score]['macro']:.2%}" for score in SCORES]
    images = f"{evaluation['images']:,}"
    table.add_row("[bold]macro", *means, _auroc_text(auroc["macro"]), images)
    console.print(table)


def _auroc_text(area: float | None) -> str:
    return "–" if area is None else f"{area:.4f}"


def _show_confused(evaluation: dict[str, Any], console: Console) -> None:
    shown: list[str] = []
    for pair in evaluation["confused"][:CONFUSED_SHOWN]:
        names = f"{escape(pair['true'])} → {escape(pair['predicted'])}"
        shown.append(f"{names} {pair['count']:,} ({pair['share']:.1%})")

    console.print(f"most confused (share of the true class): {'; '.join(shown) or 'none'}")


def _show_confidence(evaluation: dict[str, Any], console: Console) -> None:
    console.print(
        f"mean confidence {evaluation['mean_confidence']:.2%}, "
        f"expected calibration error {evaluation['ece']:.2%}"
    )

    scaled = evaluation["temperature"]
    if scaled is not None:
        console.print(
            f"temperature {scaled['value']:.3f}, fitted on the validation images: "
            f"mean confidence {scaled['mean_confidence']:.2%}, "
            f"calibration error {evaluation['ece']:.2%} → {scaled['ece']:.2%}, "
            f"loss {evaluation['loss']:.4f} → {scaled['loss']:.4f}; predictions do not change"
        )


def draw(
    members: list[Member], evaluation: dict[str, Any], logits: Tensor, split: Split, folder: Path
) -> None:
    """Draw an evaluation, as `describe` gives it, as PNG files in `folder`."""
    classes = members[0].checkpoint.data.classes
    # Members whose epochs were not kept have no curve.
    curves = {member.name: member.epochs for member in members if member.epochs}
    if curves:
        plots.plot_curves(curves, folder / "curves.png")

    probabilities = logits.softmax(1)
    plots.plot_roc(split.labels.numpy(), probabilities.numpy(), classes, folder / "roc.png")
    plots.plot_confusion(evaluation["confusion"], classes, folder / "confusion.png")

    scores = {score: evaluation[score]["per_class"] for score in SCORES}
    plots.plot_class_bars(scores, evaluation["support"], classes, folder / "classes.png")

    confidences, predicted = probabilities.max(1)
    wrong = surest_mistakes(logits, split.labels)
    mistakes: list[tuple[str, str, float]] = []
    for index in wrong.tolist():
        truth = classes[split.labels[index]]
        prediction = classes[predicted[index]]
        mistakes.append((truth, prediction, confidences[index].item()))
    plots.plot_mistakes(split.images[wrong].numpy(), mistakes, folder / "mistakes.png")

    # Predictions stay the same at every temperature: only the reliability is drawn for both.
    bins = {"as trained": evaluation["reliability"]}
    scaled = evaluation["temperature"]
    if scaled is not None:
        bins[f"temperature {scaled['value']:.2f}"] = scaled["reliability"]
    plots.plot_reliability(bins, folder / "reliability.png")
