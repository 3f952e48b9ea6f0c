"""`python -m fmnist.audit`: what is wrong with a data set, its labels included."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console

from fmnist.cli import Flag, Topics, command
from fmnist.config import TrainConfig
from fmnist.data.sources import NOT_NAMED, Source
from fmnist.errors import check
from fmnist.recipes import recipe_config
from fmnist.runs.files import read_json
from fmnist.runs.run_folder import CONFIG, RUNS, find_run

if TYPE_CHECKING:
    from fmnist.data.audit.findings import Suspect
    from fmnist.evaluation.label_issues import Groups

RECIPE = "airnet-quick"
EPOCHS = 4


@dataclass(frozen=True, kw_only=True)
class AuditOptions:
    """Look for copies, conflicting labels, and blank, blurred and odd images in a data set, and
    with --labels for labels that look wrong to networks which were not trained on the image. It
    leaves a page with the pictures, audit.html, and the file names, audit.json.

    Example: python -m fmnist.audit --labels
    """

    labels: Annotated[bool, Flag] = False
    """Train networks, each on all parts of the training images but one, and name the labels that
    they contradict in the part left out, and in the test set. Interrupted, the same command goes
    on."""
    run: str | None = None
    """Train them with the config of this run (--labels); by default by the recipe airnet-quick, 4
    epochs."""
    folds: int = 5
    """Parts that the training images are divided into (--labels)."""
    epochs: int | None = None
    """Epochs of each (--labels); by default the config's."""
    out: str | None = None
    """Folder for the page and the JSON; by default runs/audit-NAME."""
    source: Annotated[Source, Topics()] = NOT_NAMED


def main(options: AuditOptions) -> None:
    # Here: PyTorch takes seconds to import, and --help does without.
    from fmnist.data.audit.report import audit
    from fmnist.training.checkpoint import open_data

    judged = options.labels
    check(
        judged or (options.run is None and options.epochs is None),
        "--run and --epochs: they say how networks are trained to judge labels; add --labels",
    )
    run = None if options.run is None else find_run(options.run)
    folder, info = open_data(options.source, run)
    console = Console(highlight=False, soft_wrap=True)
    out = Path(options.out) if options.out else RUNS / f"audit-{file_name(info.name)}"

    def find(groups: "Groups") -> "list[Suspect]":
        from fmnist.evaluation.label_issues import find_suspects

        config = fold_config(run, options.epochs)
        return find_suspects(
            config, folder, info, groups, out, folds=options.folds, console=console
        )

    audit(folder, info, out, console=console, find_suspects=find if judged else None)


def fold_config(run: Path | None, epochs: int | None) -> TrainConfig:
    """The config that the folds are trained with, by a run or by the recipe."""
    if run is None:
        config = recipe_config(RECIPE).replace(epochs=EPOCHS)
    else:
        config = TrainConfig.from_dict(read_json(run / CONFIG)["train"])
    return config if epochs is None else config.replace(epochs=epochs)


def file_name(name: str) -> str:
    """A name that every file system takes: "Fashion-MNIST" is fashion-mnist."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:100] or "set"


if __name__ == "__main__":
    command(AuditOptions, main)
