"""`python -m fmnist.evaluate [RUN…]`: evaluate a checkpoint, or an ensemble of several.

It prints accuracy and its interval, precision, recall and F1 (micro, macro, weighted), AUROC and
calibration, and leaves them as JSON and figures.
"""

from dataclasses import dataclass
from typing import Annotated

from rich.console import Console

from fmnist.cli import Flag, Positional, Topics, command
from fmnist.data.sources import NOT_NAMED, Source
from fmnist.errors import check
from fmnist.evaluation import Combine, SplitName
from fmnist.runs.files import write_json


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Evaluate a checkpoint, or an ensemble of several, in float32 on images that it was not
    trained on.

    Examples: python -m fmnist.evaluate demo --temperature
    python -m fmnist.evaluate first second third --combine vote
    """

    runs: Annotated[tuple[str, ...], Positional] = ()
    """Run folder or checkpoint folder, several for an ensemble; by default the newest run that has
    a trained model."""
    split: SplitName = "test"
    """The test set is for final models: select nothing on it."""
    combine: Combine = "average"
    """How an ensemble decides: by the mean of its members' probabilities, or by majority vote,
    where ties go to the larger sum of probabilities."""
    temperature: Annotated[bool, Flag] = False
    """Fit one temperature on the validation images, and show its effect on confidence on the test
    set."""
    out: str | None = None
    """Folder for the JSON and the figures; by default the run's own, or runs/FIRST+SECOND… for
    an ensemble."""
    source: Annotated[Source, Topics()] = NOT_NAMED
    """By default the data that the model was trained on."""


def main(options: EvaluateOptions) -> None:
    # Here: PyTorch takes seconds to import, and --help does without.
    from fmnist.evaluation.ensemble import (
        check_temperature,
        ensemble_logits,
        open_members,
        output_folder,
    )
    from fmnist.evaluation.figures import draw
    from fmnist.evaluation.held_out import held_out_split
    from fmnist.evaluation.metrics import classification_metrics
    from fmnist.evaluation.report import describe, describe_temperature, show

    check(
        not options.temperature or options.split == "test",
        "temperature: it is fitted on the validation images, so they would flatter it; "
        "use --split test",
    )
    members = open_members(options.runs or (None,), options.split)
    if options.temperature:
        check_temperature(members)

    first = members[0].checkpoint
    split = held_out_split(first, options.split, options.source)
    logits = ensemble_logits(members, split, options.combine)
    metrics = classification_metrics(logits, split.labels)
    evaluation = describe(
        members,
        metrics,
        logits,
        split,
        split_name=options.split,
        how=options.combine,
        source=options.source,
    )
    if options.temperature:
        # Fitted on images that are not in the test set, which therefore shows its real effect.
        validation = held_out_split(first, "validation", options.source)
        validation_logits = ensemble_logits(members, validation, options.combine)
        scaled = describe_temperature(validation_logits, validation, logits, split)
        evaluation["temperature"] = scaled

    # Before anything is printed: the reader of a pipe may leave after the first lines.
    folder = output_folder(members, options.out)
    path = folder / f"evaluation-{options.split}.json"
    write_json(path, evaluation)
    console = Console(highlight=False, soft_wrap=True)
    show(evaluation, first.data.classes, console)
    draw(members, evaluation, metrics, logits, split, folder / "figures")
    console.print(f"saved in {path} and {folder / 'figures'}")


if __name__ == "__main__":
    command(EvaluateOptions, main)
