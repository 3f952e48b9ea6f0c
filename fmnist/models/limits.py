"""What several networks share: fixed widths, the smallest image, and the size of a map."""

from collections.abc import Callable

from fmnist.config import Problem, TrainConfig
from fmnist.errors import check


def check_fixed_widths(config: TrainConfig) -> None:
    """Raise InputError if the config gives widths to a network that has its own."""
    check(
        not config.widths,
        f"widths={config.widths}: {config.model} has fixed widths; leave it empty",
    )


def check_image_size(config: TrainConfig, problem: Problem, least: int) -> None:
    """Raise InputError if the images are smaller than `least` pixels on a side."""
    height, width = problem.height, problem.width
    check(
        min(height, width) >= least,
        f"images of {height}×{width}: {config.model} needs {least}×{least} or more",
    )


def map_pixels(problem: Problem, left_of: Callable[[int], int]) -> int:
    """Return the pixels of a network's last map.

    Args:
        left_of: a side of that map, by the image's.
    """
    return left_of(problem.height) * left_of(problem.width)
