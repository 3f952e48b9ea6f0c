"""`python -m fmnist.audit`: what is wrong with a data set, its labels included."""

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
    from fmnist.data.info import DataInfo

RECIPE = "airnet-quick"
EPOCHS = 4


@dataclass(frozen=True, kw_only=True)
class AuditOptions:
    """Look for copies, conflicting labels, blank, blurred and odd images in a data set, and with
    --labels for labels that networks contradict which were not trained on the image. The pictures
    are in audit.html, file names in audit.json.

    Example: python -m fmnist.audit --labels
    """

    labels: Annotated[bool, Flag] = False
    """Train a network for each fold, and name the labels that the others' images contradict.
    Interrupted, the same command goes on."""
    run: str | None = None
    """Train the folds with the config of this run (--labels); by default with the recipe
    airnet-quick and 4 epochs."""
    folds: int = 5
    """Parts that the training images are divided into: each is judged by the network that the
    others trained."""
    epochs: int | None = None
    """Epochs of each fold; by default those of the config."""
    out: str | None = None
    """Folder for the page and the JSON; by default runs/audit-NAME."""
    source: Annotated[Source, Topics()] = NOT_NAMED


def main(options: AuditOptions) -> None:
    # Here: PyTorch takes seconds to import, and --help does without.
    from fmnist.data.audit.report import audit
    from fmnist.data.dataset import load_info
    from fmnist.data.sources import find_data
    from fmnist.evaluation.label_issues import find_suspects

    if options.run is not None or options.epochs is not None:
        check(options.labels, "--run and --epochs: they say how the folds train; add --labels")
    console = Console(highlight=False, soft_wrap=True)
    folder = find_data(options.source)
    info = load_info(folder)
    out = Path(options.out) if options.out else RUNS / f"audit-{folder_name(info)}"

    report = audit(folder, info, out, console=console)
    if not options.labels:
        return

    config = fold_config(options.run, options.epochs)
    suspects = find_suspects(
        config, folder, info, report.groups, out, folds=options.folds, console=console
    )
    audit(folder, info, out, console=console, suspects=suspects)
