"""Present an evaluation: as JSON and on the console."""

from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from fmnist.data.dataset import Split, load_train
from fmnist.data.origins import printable
from fmnist.data.sources import Source
from fmnist.evaluation import Combine, SplitName
from fmnist.evaluation.calibration import fit_temperature, reliability, reliability_of
from fmnist.evaluation.copies import copies_in_words, describe_copies
from fmnist.evaluation.ensemble import Member, ensemble_logits
from fmnist.evaluation.held_out import checkpoint_data, sample_trained, trained_on
from fmnist.evaluation.logits import answers, empty_logits, parts
from fmnist.evaluation.many_classes import worst_classes
from fmnist.evaluation.metrics import (
    AUROC_VALUES,
    AVERAGES,
    IMBALANCE,
    MANY_CLASSES,
    SCORES,
    accuracy_interval,
    classification_metrics,
    confused_pairs,
    imbalance,
    mean_loss,
)
from fmnist.evaluation.predictions import describe_mistakes

SCORE_NAMES = {"precision": "precision", "recall": "recall", "f1": "F1"}
CONFUSED_SHOWN = 5
EXTREMES = 10
"""Classes with the highest and with the lowest F1 that are printed where there are many."""


def describe(
    members: list[Member],
    metrics: dict[str, Any],
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
        metrics: `classification_metrics` of the logits.
        logits: (N, classes) float32, theirs together, on the CPU.
        split: the N images that they were evaluated on.
        split_name: what the split is called.
        how: how the members' predictions are combined.
        source: where the training images come from, a sample of which is evaluated too.
    """
    first = members[0].checkpoint
    correct = round(metrics["accuracy"] * len(split))
    folder, info = checkpoint_data(first, source)
    official = load_train(folder, info)
    # Validation images are of the training set, so they are compared with the rest of it.
    seen = official if split_name == "test" else trained_on(first, official)
    confidence, predicted = answers(logits)
    right = predicted == split.labels

    # As many images as the split has, so that both accuracies are equally precise.
    train = _describe_training(members, sample_trained(first, official, len(split)), how)
    train["gap"] = train["accuracy"] - metrics["accuracy"]
    mistakes = describe_mistakes(confidence, predicted, split, first.data.classes, folder)

    return {
        "runs": [member.name for member in members],
        "models": [member.checkpoint.config.model for member in members],
        "combine": how if len(members) > 1 else None,
        "data": first.data.name,
        "split": split_name,
        **metrics,
        "accuracy_interval": accuracy_interval(correct, len(split)),
        "copies": describe_copies(seen, split, right),
        "imbalance": {
            "train": imbalance(seen.labels.bincount().tolist()),
            split_name: imbalance(metrics["support"]),
        },
        "train": train,
        "confused": confused_pairs(metrics, first.data.classes),
        "surest_mistakes": [mistake.to_dict() for mistake in mistakes],
        "reliability": reliability_of(confidence, right),
        "temperature": None,
    }


def _describe_training(members: list[Member], sample: Split, how: Combine) -> dict[str, Any]:
    """Measure accuracy and loss on some training images of the first member.

    The other members may have been trained on others.
    """
    logits = ensemble_logits(members, sample, how)
    _, predicted = answers(logits)
    return {
        "images": len(sample),
        "accuracy": (predicted == sample.labels).double().mean().item(),
        "loss": mean_loss(logits, sample.labels),
    }


def describe_temperature(
    validation_logits: Tensor, validation: Split, logits: Tensor, split: Split
) -> dict[str, Any]:
    """Fit a temperature on the validation images, and measure its effect on another split.

    Returns:
        value (the temperature); loss, ece, mean_confidence and reliability of the scaled logits.
    """
    temperature = fit_temperature(validation_logits, validation.labels)
    scaled = empty_logits(*logits.shape)
    for part in parts(logits):
        scaled[part] = logits[part] / temperature
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
    console.print(copies_in_words(evaluation["copies"], evaluation["split"]))
    _show_imbalance(evaluation, console)
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


def _show_imbalance(evaluation: dict[str, Any], console: Console) -> None:
    ratios: list[str] = []
    for part, ratio in evaluation["imbalance"].items():
        if ratio >= IMBALANCE:
            ratios.append(f"{ratio:,.0f} times in the {part} images")
    if not ratios:
        return

    recall, f1 = evaluation["recall"]["macro"], evaluation["f1"]["macro"]
    console.print(
        f"[yellow]unequal classes[/]: the largest has the images of the smallest "
        f"{' and '.join(ratios)}, so that accuracy is mostly that of large classes; "
        f"each class alike: macro recall [bold]{recall:.2%}[/], macro F1 [bold]{f1:.2%}[/]"
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

    if len(classes) <= MANY_CLASSES:
        for number, name in enumerate(classes):
            table.add_row(*_class_row(evaluation, number, name))
    else:
        _add_extremes(table, evaluation, classes)

    # Macro means leave out classes that do not occur, which have no scores.
    table.add_section()
    auroc = evaluation["auroc"]["macro"]
    means = [f"{evaluation[score]['macro']:.2%}" for score in SCORES]
    images = f"{evaluation['images']:,}"
    table.add_row("[bold]macro", *means, _auroc_text(auroc), images)
    console.print(table)
    _show_left_out(evaluation, classes, console)


def _add_extremes(table: Table, evaluation: dict[str, Any], classes: tuple[str, ...]) -> None:
    """Add the classes with the highest and the lowest F1."""
    worst = worst_classes(evaluation)
    # Of up to twice as many, none is shown twice.
    low = worst[:EXTREMES]
    high = worst[EXTREMES:][::-1][:EXTREMES]
    for heading, chosen in (("[bold]highest F1", high), ("[bold]lowest F1", low)):
        table.add_section()
        table.add_row(heading)
        for number in chosen:
            table.add_row(*_class_row(evaluation, number, classes[number]))


def _class_row(evaluation: dict[str, Any], number: int, name: str) -> list[str]:
    scores: list[str] = []
    for score in SCORES:
        value = evaluation[score]["per_class"][number]
        scores.append("–" if value is None else f"{value:.2%}")
    area = _auroc_text(evaluation["auroc"]["per_class"][number])
    return [escape(printable(name)), *scores, area, f"{evaluation['support'][number]:,}"]


def _show_left_out(evaluation: dict[str, Any], classes: tuple[str, ...], console: Console) -> None:
    absent = evaluation["support"].count(0)
    if absent:
        console.print(
            f"{absent:,} of {len(classes):,} classes have no {evaluation['split']} image (–): "
            "macro averages leave them out"
        )
    if len(classes) > MANY_CLASSES:
        console.print(f"all {len(classes):,} classes: in the JSON file")
    probabilities = evaluation["images"] * len(classes)
    if probabilities > AUROC_VALUES:
        console.print(f"AUROC is left out: it would rank {probabilities:,} probabilities")


def _auroc_text(area: float | None) -> str:
    return "–" if area is None else f"{area:.4f}"


def _show_confused(evaluation: dict[str, Any], console: Console) -> None:
    shown: list[str] = []
    for pair in evaluation["confused"][:CONFUSED_SHOWN]:
        names = f"{escape(printable(pair['true']))} → {escape(printable(pair['predicted']))}"
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
