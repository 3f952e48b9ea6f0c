"""From logits to numbers: accuracy and its interval, precision, recall and F1 (micro, macro, weighted), AUROC, calibration.

`python -m fmnist.evaluate [RUN…]` prints them for a checkpoint or an ensemble of several, and leaves JSON and figures.
"""

import io
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor, nn

from fmnist.checkpoint import Checkpoint, load_checkpoint
from fmnist.cli import command
from fmnist.data import NOT_NAMED, SPLIT_SEED, DataInfo, Source, Split, find_data, load_info, load_test, load_train, split_train
from fmnist.device import default_device
from fmnist.errors import check, one_of
from fmnist.run import RUNS, find_checkpoint, read_json, run_of, write_atomic, write_json

EVALUATION_BATCH = 500
CALIBRATION_BINS = 15
MISTAKES = 24
"""Drawn at most."""
PREDICTIONS = "test_predictions.npz"
"""Beside a checkpoint: see save_predictions."""
SCORES = ("precision", "recall", "f1")
AVERAGES = ("micro", "macro", "weighted")
SplitName = Literal["validation", "test"]
Combine = Literal["average", "vote"]


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
        images, accuracy, loss, precision, recall and f1 (each micro, macro, weighted and per_class), auroc (macro and per_class,
        one against the rest; null for a class that does not occur), support (images of each class), confusion (rows: true
        class), top5 (null up to 5 classes), mean_confidence, ece (see `reliability`); fractions all.
    """
    from sklearn.metrics import (  # here: slow to import, and workers do without
        confusion_matrix,
        precision_recall_fscore_support,
        roc_auc_score,
    )

    classes = range(logits.shape[1])
    truth, predicted = labels.cpu().numpy(), logits.argmax(1).cpu().numpy()
    probabilities = logits.float().softmax(1).cpu().numpy()
    scores: dict[str, dict[str, Any]] = {score: {} for score in SCORES}
    for average in (*AVERAGES, None):
        values = precision_recall_fscore_support(truth, predicted, labels=list(classes), average=average, zero_division=0)  # pyright: ignore[reportArgumentType]
        for name, value in zip(scores, values[:3], strict=True):
            scores[name][average or "per_class"] = np.asarray(value).tolist()
    confusion = confusion_matrix(truth, predicted, labels=list(classes))
    auroc = [
        float(roc_auc_score(truth == number, probabilities[:, number])) if 0 < (truth == number).sum() < len(truth) else None
        for number in classes
    ]
    known = [value for value in auroc if value is not None]
    bins = reliability(logits, labels)
    return {
        "images": len(truth),
        "accuracy": float((truth == predicted).mean()),
        "loss": F.cross_entropy(logits.float(), labels).item(),
        **scores,
        "auroc": {"macro": sum(known) / len(known) if known else None, "per_class": auroc},
        "support": confusion.sum(1).tolist(),
        "confusion": confusion.tolist(),
        "top5": (logits.topk(5).indices == labels[:, None]).any(1).double().mean().item() if len(classes) > 5 else None,
        "mean_confidence": float(probabilities.max(1).mean()),
        "ece": sum(row["images"] * abs(row["confidence"] - row["accuracy"]) for row in bins) / len(truth),
    }


def reliability(logits: Tensor, labels: Tensor) -> list[dict[str, Any]]:
    """How often the model is right by how sure it is: confidence in 15 bins of equal width (Guo et al., 2017).

    The expected calibration error is the mean of |confidence - accuracy| over the bins, weighted by their images.

    Returns:
        a row for each bin that is not empty: low and high (its bounds), images, confidence and accuracy (means, fractions).
    """
    confidence, predicted = logits.double().softmax(1).max(1)
    right = (predicted == labels).double()
    number = (confidence * CALIBRATION_BINS).ceil().long().clamp(1, CALIBRATION_BINS) - 1
    rows: list[dict[str, Any]] = []
    for bin_number in number.unique().tolist():
        inside = number == bin_number
        rows.append({
            "low": bin_number / CALIBRATION_BINS,
            "high": (bin_number + 1) / CALIBRATION_BINS,
            "images": int(inside.sum()),
            "confidence": confidence[inside].mean().item(),
            "accuracy": right[inside].mean().item(),
        })  # fmt: skip
    return rows


def surest_mistakes(logits: Tensor, labels: Tensor) -> Tensor:
    """Places of the mistakes with the highest probability, the surest first; (M,) int64, at most MISTAKES of them.

    Args:
        logits: (N, classes) float32.
        labels: (N,) int64.
    """
    confidence, predicted = logits.float().softmax(1).max(1)
    wrong = (predicted != labels).nonzero().flatten()
    return wrong[confidence[wrong].argsort(descending=True, stable=True)][:MISTAKES]


def save_predictions(path: Path, logits: Tensor, split: Split) -> None:
    """What a model said of a split, for those who draw it without the data set, as a compressed npz.

    It holds logits (N, classes) float32, labels (N,), and of the surest mistakes their place in the split, mistakes (M,) int64,
    and their images (M, H, W) or (M, 3, H, W) uint8.
    """
    wrong = surest_mistakes(logits, split.labels)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        logits=logits.float().numpy(),
        labels=split.labels.numpy().astype(np.min_scalar_type(logits.shape[1])),
        mistakes=wrong.numpy(),
        images=split.images[wrong].numpy(),
    )
    write_atomic(path, buffer.getvalue())


def combine(members: list[Tensor], how: str) -> Tensor:
    """What an ensemble says: log-probabilities (N, classes), to be used as logits.

    Args:
        members: each member's logits (N, classes) float32.
        how: "average" takes the mean of the members' probabilities. "vote" gives each class its share of the members' votes,
            where half a vote more is divided by the mean of the probabilities: it decides ties and never a majority.

    Raises:
        InputError: `how` is neither.
    """
    one_of("combine", how, ("average", "vote"))
    probabilities = torch.stack([logits.float().softmax(1) for logits in members])  # (members, N, classes)
    mean = probabilities.mean(0)
    if how == "vote":
        votes = F.one_hot(probabilities.argmax(2), mean.shape[1]).sum(0)
        mean = (votes + mean / 2) / (len(members) + 0.5)
    return mean.clamp_min(torch.finfo(torch.float32).tiny).log()


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The number that the logits are to be divided by for the least loss on these images (Guo et al., 2017).

    It changes how sure a model is and never what it says. Fit it on validation images.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        return F.cross_entropy(logits.double() / np.exp(log_temperature), labels).item()

    return float(np.exp(minimize_scalar(loss, bounds=(-4, 4), method="bounded").x))  # pyright: ignore[reportAttributeAccessIssue]


def accuracy_interval(correct: int, images: int) -> tuple[float, float]:
    """95 % interval of an accuracy (Wilson, 1927), as fractions."""
    from scipy.stats import binomtest

    low, high = binomtest(correct, images).proportion_ci(method="wilson")
    return float(low), float(high)


def confused_pairs(confusion: list[list[int]], classes: Sequence[str]) -> list[dict[str, Any]]:
    """All pairs that occur, the most frequent first: true, predicted, count, and share of the true class's images."""
    pairs = [
        {"true": classes[row], "predicted": classes[column], "count": count, "share": count / sum(counts)}
        for row, counts in enumerate(confusion)
        for column, count in enumerate(counts)
        if row != column and count
    ]
    return sorted(pairs, key=lambda pair: -pair["count"])


def evaluate(checkpoint: Checkpoint, split: Split, device: torch.device) -> dict[str, Any]:
    """`classification_metrics` of a checkpoint on a split, in float32."""
    return classification_metrics(logits_of(checkpoint, split, device), split.labels.to(device))


def logits_of(checkpoint: Checkpoint, split: Split, device: torch.device) -> Tensor:
    """`compute_logits` of a checkpoint on a split."""
    return compute_logits(checkpoint.model.to(device), split.images.to(device))


def held_out_split(checkpoint: Checkpoint, name: str, source: Source) -> Split:
    """The split called `name`, of the data set that the checkpoint was trained on.

    Raises:
        InputError: the model was trained on that split, or the data is another set.
    """
    folder, info = _data_of(checkpoint, source)
    if name == "test":
        return load_test(folder, info)
    check(
        bool(checkpoint.config.validation_images),
        "split='validation': this model was trained on all training images; use --split test",
    )
    validation = split_train(checkpoint.config, load_train(folder, info))[2]
    assert validation is not None
    return validation


def training_sample(checkpoint: Checkpoint, count: int, source: Source) -> Split:
    """Up to `count` of the images that the checkpoint was trained on, always the same, as they are before augmentation."""
    folder, info = _data_of(checkpoint, source)
    train = split_train(checkpoint.config, load_train(folder, info))[1]
    return train.take(np.random.default_rng(SPLIT_SEED).permutation(len(train))[:count])


def _data_of(checkpoint: Checkpoint, source: Source) -> tuple[Path, DataInfo]:
    folder = find_data(source, checkpoint.data)
    return folder, load_info(folder, checkpoint.data)


@dataclass(frozen=True, slots=True)
class Member:
    """A trained model that is evaluated, alone or beside others."""

    name: str
    """Of its run; where two are alike, their whole paths."""
    run: Path
    checkpoint: Checkpoint
    metrics: dict[str, Any]
    """Its metrics.json; empty if there is none."""

    @property
    def epochs(self) -> list[dict[str, Any]]:
        """EpochMetrics of its training as dicts; empty if they were not kept."""
        return self.metrics.get("epochs", [])


def open_members(runs: Sequence[str | None], split: SplitName) -> list[Member]:
    """The checkpoints of `runs`, which must be fit to be evaluated on the same images.

    Raises:
        InputError: a run is named twice, or two have other classes, other data or, for the validation split, other such images.
    """
    folders = [find_checkpoint(run) for run in runs]
    names = [run_of(folder).name for folder in folders]
    distinct = len(set(names)) == len(names)
    members: list[Member] = []
    for folder, name in zip(folders, names, strict=True):
        kept = folder / "metrics.json"
        metrics = read_json(kept) if kept.exists() else {}
        members.append(Member(name if distinct else str(folder), run_of(folder), load_checkpoint(folder), metrics))
    for position, member in enumerate(members):
        check(member.run not in [other.run for other in members[:position]], f"run={member.name!r} is named twice; name others")
        _check_same_images(members[0], member, split)
    return members


def _check_same_images(first: Member, second: Member, split: SplitName) -> None:
    mine, theirs = first.checkpoint, second.checkpoint
    both = f"runs {first.name!r} and {second.name!r}"
    remedy = "name runs of the same data"
    counts = f"{len(mine.data.classes)} and {len(theirs.data.classes)}"
    check(mine.data.classes == theirs.data.classes, f"{both} have different classes ({counts} of them); {remedy}")
    check(
        mine.data.sha256 == theirs.data.sha256,
        f"{both} were trained on different data ({mine.data.name} and {theirs.data.name}); {remedy}",
    )
    held_out = [checkpoint.config.validation_images for checkpoint in (mine, theirs)]
    check(
        split == "test" or held_out[0] == held_out[1],
        f"{both} hold out different validation images ({held_out[0]} and {held_out[1]}); use --split test",
    )


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Evaluate a checkpoint, or an ensemble of several, in float32 on images that it was not trained on.

    Examples: python -m fmnist.evaluate demo --temperature
    python -m fmnist.evaluate first second third --combine vote
    """

    runs: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Run folder or checkpoint folder, several for an ensemble; by default the newest run."""
    split: SplitName = "test"
    """The test set is for final models: never choose by it."""
    combine: Combine = "average"
    """How an ensemble's members make one answer: by the mean of their probabilities or by majority; ties go to the larger sum of
    probabilities."""
    temperature: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Fit one temperature on the validation images, and show what it does to confidence on the test set."""
    out: str | None = None
    """Folder for the JSON and the figures; by default the run's own, or runs/FIRST+SECOND… for an ensemble."""
    source: Annotated[Source, tyro.conf.arg(name="")] = NOT_NAMED
    """By default the data that the model was trained on."""


def output_folder(members: Sequence[Member], out: str | None) -> Path:
    """`out`, or the run's folder, or, of several, one named after them all: no run can have a name with a plus."""
    if out is not None:
        return Path(out)
    return members[0].run if len(members) == 1 else RUNS / "+".join(member.run.name for member in members)[:200]


def main(options: EvaluateOptions) -> None:
    check(
        not options.temperature or options.split == "test",
        "temperature: it is fitted on the validation images, which then flatter it; use --split test",
    )
    members = open_members(options.runs or (None,), options.split)
    first, source = members[0].checkpoint, options.source
    for member in members if options.temperature else []:
        check(
            bool(member.checkpoint.config.validation_images),
            f"temperature: run {member.name!r} held out no validation images to fit it on; train with --validation-images",
        )
        _check_same_images(members[0], member, "validation")
    split = held_out_split(first, options.split, source)
    logits = _answers(members, split, options.combine)
    found = _describe(members, options, logits, split)
    scaled = None
    if options.temperature:
        validation = held_out_split(first, "validation", source)
        temperature = fit_temperature(_answers(members, validation, options.combine), validation.labels)
        scaled = logits / temperature
        metrics = classification_metrics(scaled, split.labels)
        found["temperature"] = {"value": temperature, **{key: metrics[key] for key in ("loss", "ece", "mean_confidence")}}
        found["temperature"]["reliability"] = reliability(scaled, split.labels)
    console = Console(highlight=False, soft_wrap=True)
    _show(found, first.data.classes, console)
    folder = output_folder(members, options.out)
    path = folder / f"evaluation-{options.split}.json"
    write_json(path, found)
    _draw(members, found, logits, split, folder / "figures")
    console.print(f"saved in {path} and {folder / 'figures'}")


def _answers(members: list[Member], split: Split, how: Combine) -> Tensor:
    """Logits (N, classes) of the model, or the ensemble, on the CPU."""
    logits = [logits_of(member.checkpoint, split, default_device()).cpu() for member in members]
    return logits[0] if len(logits) == 1 else combine(logits, how)


def _describe(members: list[Member], options: EvaluateOptions, logits: Tensor, split: Split) -> dict[str, Any]:
    """All that goes into evaluation-SPLIT.json, but for the temperature."""
    metrics = classification_metrics(logits, split.labels)
    sample = training_sample(members[0].checkpoint, len(split), options.source)
    train_logits = _answers(members, sample, options.combine)
    train_accuracy = (train_logits.argmax(1) == sample.labels).double().mean().item()
    return {
        "runs": [member.name for member in members],
        "models": [member.checkpoint.config.model for member in members],
        "combine": options.combine if len(members) > 1 else None,
        "data": members[0].checkpoint.data.name,
        "split": options.split,
        **metrics,
        "accuracy_interval": accuracy_interval(round(metrics["accuracy"] * len(split)), len(split)),
        "train": {
            "images": len(sample),
            "accuracy": train_accuracy,
            "loss": F.cross_entropy(train_logits, sample.labels).item(),
            "gap": train_accuracy - metrics["accuracy"],
        },
        "confused": confused_pairs(metrics["confusion"], members[0].checkpoint.data.classes),
        "reliability": reliability(logits, split.labels),
        "temperature": None,
    }


def _show(found: dict[str, Any], classes: tuple[str, ...], console: Console) -> None:
    what = " + ".join(f"{run} ({model})" for run, model in zip(found["runs"], found["models"], strict=True))
    how = f", combined by {found['combine']}" if found["combine"] else ""
    low, high = found["accuracy_interval"]
    train, split = found["train"], found["split"]
    whose = "its" if len(found["runs"]) == 1 else "the first member's"
    console.print(f"[bold]{escape(what)}[/]{how}, on {found['images']:,} {split} images of {escape(found['data'])}")
    top5 = "" if found["top5"] is None else f", top-5 {found['top5']:.2%}"
    console.print(
        f"accuracy [bold]{found['accuracy']:.2%}[/] (95 % interval {low:.2%} to {high:.2%}){top5}, loss {found['loss']:.4f}\n"
        f"on {train['images']:,} of {whose} training images, not augmented: accuracy {train['accuracy']:.2%}, loss "
        f"{train['loss']:.4f}; gap to {split} {100 * train['gap']:+.2f} points"
    )
    _show_averages(found, console)
    _show_classes(found, classes, console)
    pairs = [
        f"{escape(pair['true'])} → {escape(pair['predicted'])} {pair['count']:,} ({pair['share']:.1%})"
        for pair in found["confused"][:5]
    ]
    console.print(f"most confused (share of the true class): {'; '.join(pairs) or 'none'}")
    console.print(f"mean confidence {found['mean_confidence']:.2%}, expected calibration error {found['ece']:.2%}")
    if scaled := found["temperature"]:
        console.print(
            f"temperature {scaled['value']:.3f}, fitted on the validation images: mean confidence {scaled['mean_confidence']:.2%}, "
            f"calibration error {found['ece']:.2%} → {scaled['ece']:.2%}, loss {found['loss']:.4f} → {scaled['loss']:.4f}; "
            "every prediction stays"
        )


def _show_averages(found: dict[str, Any], console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("averaged", *AVERAGES):
        table.add_column(column, justify="left" if column == "averaged" else "right")
    for score, name in zip(SCORES, ("precision", "recall", "F1"), strict=True):
        table.add_row(name, *(f"{found[score][average]:.2%}" for average in AVERAGES))
    console.print(table)
    console.print(
        "micro precision, recall and F1 are the accuracy wherever an image has one label, and so is macro recall where classes are "
        "balanced: equal figures do not show that someone averaged by micro"
    )


def _show_classes(found: dict[str, Any], classes: tuple[str, ...], console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("class", "precision", "recall", "F1", "AUROC", "support"):
        table.add_column(column, justify="left" if column == "class" else "right")
    for number, name in enumerate(classes):
        auroc = found["auroc"]["per_class"][number]
        scores = (f"{found[score]['per_class'][number]:.2%}" for score in SCORES)
        table.add_row(escape(name), *scores, "–" if auroc is None else f"{auroc:.4f}", f"{found['support'][number]:,}")
    macro = found["auroc"]["macro"]
    table.add_section()
    means = (f"{found[score]['macro']:.2%}" for score in SCORES)
    table.add_row("[bold]macro", *means, "–" if macro is None else f"{macro:.4f}", f"{found['images']:,}")
    console.print(table)


def _draw(members: list[Member], found: dict[str, Any], logits: Tensor, split: Split, folder: Path) -> None:
    from fmnist import plots  # here: workers, which import this module too, draw nothing

    classes = members[0].checkpoint.data.classes
    if curves := {member.name: member.epochs for member in members if member.epochs}:
        plots.plot_curves(curves, folder / "curves.png")
    probabilities = logits.softmax(1)
    plots.plot_roc(split.labels.numpy(), probabilities.numpy(), classes, folder / "roc.png")
    plots.plot_confusion(found["confusion"], classes, folder / "confusion.png")
    plots.plot_class_bars({score: found[score]["per_class"] for score in SCORES}, found["support"], classes, folder / "classes.png")
    confidence, predicted = probabilities.max(1)
    wrong = surest_mistakes(logits, split.labels)
    said = [(classes[split.labels[i]], classes[predicted[i]], confidence[i].item()) for i in wrong.tolist()]
    plots.plot_mistakes(split.images[wrong].numpy(), said, folder / "mistakes.png")
    bins = {"as trained": found["reliability"]}
    if scaled := found["temperature"]:
        bins[f"temperature {scaled['value']:.2f}"] = scaled["reliability"]
    plots.plot_reliability(bins, folder / "reliability.png")


if __name__ == "__main__":
    command(EvaluateOptions, main)
