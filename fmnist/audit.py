"""`python -m fmnist.audit`: what is wrong with a data set, its labels included."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console

from fmnist.cli import Topics, command
from fmnist.config import TrainConfig
from fmnist.data.sources import NOT_NAMED, Source
from fmnist.recipes import recipe_config
from fmnist.runs.files import read_json
from fmnist.runs.run_folder import CONFIG, find_run

if TYPE_CHECKING:
    from fmnist.data.audit.findings import Suspect
    from fmnist.evaluation.label_issues import Groups

RECIPE = "airnet-quick"
EPOCHS = 4


@dataclass(frozen=True, kw_only=True)
class AuditOptions:
    """Audit a data set, its labels included: what `python -m fmnist.data --audit` finds, and the
    labels that networks contradict which were not trained on the image.

    It trains a network for each part (fold) of the training images, on the other parts;
    interrupted, the same command goes on. It leaves a page with the pictures, audit.html, and the
    file names, audit.json.

    Example: python -m fmnist.audit --data my-photos --image-size 64
    """

    run: str | None = None
    """Train the networks with the config of this run; by default by the recipe airnet-quick, 4
    epochs."""
    folds: int = 5
    """Parts that the training images are divided into."""
    epochs: int | None = None
    """Epochs of each network; by default the config's."""
    out: str | None = None
    """Folder for the page and the JSON; by default runs/audit-NAME."""
    source: Annotated[Source, Topics()] = NOT_NAMED


def main(options: AuditOptions) -> None:
    # Here: PyTorch takes seconds to import, and --help does without.
    from fmnist.data.audit.report import audit, audit_folder
    from fmnist.evaluation.label_issues import find_suspects
    from fmnist.training.checkpoint import open_data

    run = None if options.run is None else find_run(options.run)
    folder, info = open_data(options.source, run)
    console = Console(highlight=False, soft_wrap=True)
    out = Path(options.out) if options.out else audit_folder(info.name)

    def find(groups: "Groups") -> "list[Suspect]":
        config = fold_config(run, options.epochs)
        return find_suspects(
            config, folder, info, groups, out, folds=options.folds, console=console
        )

    audit(folder, info, out, console=console, find_suspects=find)


def fold_config(run: Path | None, epochs: int | None) -> TrainConfig:
    """The config that the folds are trained with, by a run or by the recipe."""
    if run is None:
        config = recipe_config(RECIPE).replace(epochs=EPOCHS)
    else:
        config = TrainConfig.from_dict(read_json(run / CONFIG)["train"])
    return config if epochs is None else config.replace(epochs=epochs)


if __name__ == "__main__":
    command(AuditOptions, main)
