"""Evaluate several trained models together: open them, and combine their predictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from fmnist.data.dataset import Split
from fmnist.errors import check, one_of
from fmnist.evaluation import Combine, SplitName
from fmnist.evaluation.held_out import split_logits
from fmnist.evaluation.logits import empty_logits, parts
from fmnist.runs.files import read_json
from fmnist.runs.run_folder import RUNS, find_checkpoint, run_of
from fmnist.training.checkpoint import Checkpoint, load_checkpoint

LONGEST_NAME = 200
"""Characters of a folder's name: file systems allow 255 bytes."""


def combine(members: list[Tensor], how: str) -> Tensor:
    """Combine the members' predictions into log-probabilities (N, classes), to be used as logits.

    Args:
        members: each member's logits (N, classes) float32.
        how: "average" takes the mean of the members' probabilities. "vote" gives each class its
            share of the members' votes; half a vote more is divided by the mean of the
            probabilities, which decides ties and never overturns a majority.

    Raises:
        InputError: `how` is neither.
    """
    one_of("combine", how, get_args(Combine))
    combined = empty_logits(*members[0].shape)
    for part in parts(combined):
        combined[part] = _combine_part([logits[part] for logits in members], how)
    return combined


def _combine_part(members: list[Tensor], how: str) -> Tensor:
    each = [logits.float().softmax(1) for logits in members]
    probabilities = torch.stack(each)  # (members, N, classes)
    combined = probabilities.mean(0)
    if how == "vote":
        votes = F.one_hot(probabilities.argmax(2), combined.shape[1]).sum(0)
        combined = (votes + combined / 2) / (len(members) + 0.5)

    # A class that all members exclude has probability 0, whose logarithm would be infinite.
    return combined.clamp_min(torch.finfo(torch.float32).tiny).log()


@dataclass(frozen=True, slots=True)
class Member:
    """A trained model that is evaluated, alone or beside others."""

    name: str
    """Name of its run; the path of its checkpoint where two runs have the same name."""
    run: Path
    checkpoint: Checkpoint
    metrics: dict[str, Any]
    """Its metrics.json; empty if there is none."""

    @property
    def epochs(self) -> list[dict[str, Any]]:
        """EpochMetrics of its training as dicts; empty if they were not kept."""
        return self.metrics.get("epochs", [])


def open_members(runs: Sequence[str | None], split: SplitName) -> list[Member]:
    """Load the checkpoints of `runs`, which must be comparable on the same images.

    Args:
        runs: run folders or checkpoint folders; None is the newest run with a trained model.
        split: the images that they are to be evaluated on.

    Raises:
        InputError: a run is named twice, or two have other classes, other data or, for the
            validation split, other such images.
    """
    folders = [find_checkpoint(run) for run in runs]
    names = [run_of(folder).name for folder in folders]
    if len(set(names)) < len(names):
        # Runs of the same name in different folders: only their paths tell them apart.
        names = [str(folder) for folder in folders]

    members: list[Member] = []
    for folder, name in zip(folders, names, strict=True):
        metrics: dict[str, Any] = {}
        if (folder / "metrics.json").exists():
            metrics = read_json(folder / "metrics.json")
        members.append(Member(name, run_of(folder), load_checkpoint(folder), metrics))

    seen: set[Path] = set()
    for member in members:
        check(member.run not in seen, f"run={member.name!r} is named twice; name others")
        seen.add(member.run)
        check_same_images(members[0], member, split)

    return members


def check_same_images(first: Member, second: Member, split: SplitName) -> None:
    """Raise InputError unless both models can be evaluated on the same images of `split`."""
    both = f"runs {first.name!r} and {second.name!r}"
    remedy = "name runs of the same data"
    first_data = first.checkpoint.data
    second_data = second.checkpoint.data

    counts = f"{len(first_data.classes)} and {len(second_data.classes)}"
    check(
        first_data.classes == second_data.classes,
        f"{both} have different classes ({counts} of them); {remedy}",
    )
    names = f"{first_data.name} and {second_data.name}"
    check(
        first_data.sha256 == second_data.sha256,
        f"{both} were trained on different data ({names}); {remedy}",
    )

    # The same number held out of the same data means the same images: the split is fixed.
    first_count = first.checkpoint.config.validation_images
    second_count = second.checkpoint.config.validation_images
    check(
        split == "test" or first_count == second_count,
        f"{both} hold out different validation images ({first_count} and {second_count}); "
        "use --split test",
    )


def check_temperature(members: Sequence[Member]) -> None:
    """Raise InputError unless there are validation images to fit a temperature on."""
    for member in members:
        check(
            bool(member.checkpoint.config.validation_images),
            f"temperature: run {member.name!r} held out no validation images to fit it on; "
            "train with --validation-images",
        )
        check_same_images(members[0], member, "validation")


def ensemble_logits(members: Sequence[Member], split: Split, how: Combine) -> Tensor:
    """Logits (N, classes) of the model, or of the ensemble of several, on the CPU."""
    logits = [split_logits(member.checkpoint, split) for member in members]
    if len(logits) == 1:
        return logits[0]
    return combine(logits, how)


def output_folder(members: Sequence[Member], out: str | None) -> Path:
    """Choose the folder of the results: `out`, the run's own, or one named after several runs.

    No run's name can contain a plus, so that the latter never is a run's folder.
    """
    if out is not None:
        return Path(out)
    if len(members) == 1:
        return members[0].run
    names = [member.run.name for member in members]
    return RUNS / "+".join(names)[:LONGEST_NAME]
