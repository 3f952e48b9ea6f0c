"""`python -m fmnist.explain [RUN]`: where a network looks, by Grad-CAM (Selvaraju et al., 2017)."""

from dataclasses import dataclass
from typing import Annotated

from rich.console import Console

from fmnist.cli import Positional, Topics, command
from fmnist.data.sources import NOT_NAMED, Source, find_data
from fmnist.errors import check
from fmnist.evaluation import SplitName
from fmnist.runs.run_folder import find_checkpoint, run_of


@dataclass(frozen=True, kw_only=True)
class ExplainOptions:
    """Draw which parts of an image speak for the class that a model predicts, for some images of
    each class or for pictures of your own.

    Example: python -m fmnist.explain demo --images shoe.jpg coat.png
    """

    run: Annotated[str | None, Positional] = None
    """Run folder or checkpoint folder; by default the newest run that has a trained model."""
    images: tuple[str, ...] = ()
    """Picture files to explain in place of images of the data set."""
    per_class: int = 3
    """Images of each class, the first of the split."""
    split: SplitName = "test"
    """Where the images come from."""
    source: Annotated[Source, Topics()] = NOT_NAMED
    """By default the data that the model was trained on."""


def main(options: ExplainOptions) -> None:
    # Here: PyTorch takes seconds to import, and --help does without.
    from fmnist.evaluation.grad_cam import explain_classes, explain_files
    from fmnist.evaluation.held_out import held_out_split
    from fmnist.training.checkpoint import load_checkpoint

    check(options.per_class >= 1, f"per_class={options.per_class}: it must be at least 1")
    folder = find_checkpoint(options.run)
    checkpoint = load_checkpoint(folder)
    path = run_of(folder) / "figures" / "grad_cam.png"
    if options.images:
        explain_files(checkpoint, options.images, path)
    else:
        split = held_out_split(checkpoint, options.split, options.source)
        folder = find_data(options.source, checkpoint.data)
        explain_classes(checkpoint, split, options.per_class, path, folder)

    Console(highlight=False, soft_wrap=True).print(f"saved in {path}")


if __name__ == "__main__":
    command(ExplainOptions, main)
