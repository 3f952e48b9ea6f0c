"""`python -m fmnist.data`: fetch, verify and describe the data."""

from dataclasses import dataclass
from typing import Annotated

from rich.console import Console

from fmnist.cli import Topics, command
from fmnist.data.sources import NOT_NAMED, Source, find_data


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Fetch, verify and describe the data.

    Example: python -m fmnist.data --from-folder my-photos --image-size 64
    """

    source: Annotated[Source, Topics()] = NOT_NAMED


def main(options: DataOptions) -> None:
    # Here: PyTorch takes seconds to import, and --help does without.
    from fmnist.data.dataset import load_info, load_test, load_train, pixel_statistics

    console = Console(highlight=False, soft_wrap=True)
    folder = find_data(options.source)
    info = load_info(folder)
    train = load_train(folder, info)
    test = load_test(folder, info)

    mean, deviation = pixel_statistics(train.images)
    means = ", ".join(f"{value:.2f}" for value in mean.flatten())
    deviations = ", ".join(f"{value:.2f}" for value in deviation.flatten())
    colour = "gray" if info.channels == 1 else "colour"
    console.print(f"[bold]{info.name}[/] in {folder}")
    console.print(
        f"{len(train):,} training and {len(test):,} test images, "
        f"{info.image_size}×{info.image_size} {colour}; "
        f"pixel mean {means}, deviation {deviations}"
    )

    classes = len(info.classes)
    train_counts = train.labels.bincount(minlength=classes).tolist()
    test_counts = test.labels.bincount(minlength=classes).tolist()
    for number, name in enumerate(info.classes):
        console.print(
            f"  {number:3}  {name:<16} {train_counts[number]:>8,} {test_counts[number]:>8,}"
        )


if __name__ == "__main__":
    command(DataOptions, main)
