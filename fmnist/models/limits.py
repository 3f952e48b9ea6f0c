"""Checks that several networks share: fixed widths, and the smallest image."""

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
    size = problem.size
    check(
        size >= least,
        f"images of {size}×{size}: {config.model} needs {least}×{least} or more",
    )
