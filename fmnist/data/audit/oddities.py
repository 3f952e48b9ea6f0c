"""Images that stand out: of one colour, nearly blank, blurred, dark, bright, or oddly sized."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fmnist.data.audit.catalogue import Numbers
from fmnist.data.audit.features import Features

KINDS: dict[str, str] = {
    "one colour": "Every pixel has the same value: nothing can be learned from such an image.",
    "nearly blank": "Fewer than one pixel in a hundred differs visibly from the ground.",
    "blurred": "Much less fine detail, in its contrast, than the set's other images have.",
    "dark": "99 of 100 pixels are below a quarter of white.",
    "bright": "99 of 100 pixels are above three quarters of white.",
    "elongated": "The original is more than three times as long as it is wide.",
    "small original": "Enlarged: both sides of the original are below half the set's image size.",
    "odd size": "The original is far larger or smaller than the set's others.",
}
"""Kinds of oddity, and what each means."""
ALWAYS_ODD = ("one colour", "nearly blank")
"""However many images have it."""
USUAL_SHARE = 0.05
"""What more images than this share have is the set's way, and no image's oddity."""
FEWEST_USUAL = 20
"""Images of a small set that have it, however large their share, are named."""
LEAST_VISIBLE = 0.01
DARK, BRIGHT = 64, 191
BLURRED_DEVIATIONS = 3.5
"""Below the median, of the sharpness's logarithm."""
SIZE_DEVIATIONS = 5.0
LEAST_DEVIATION = 0.2
"""Of a logarithm: a set of images that are all alike makes no small difference odd."""
LONGEST = 3.0


@dataclass(frozen=True, slots=True)
class Odd:
    """Numbers of the images with one oddity, the worst first, and what was measured of each."""

    kind: str
    numbers: Numbers
    details: list[str]


def find_odd(features: Features, sizes: Numbers | None, image_size: tuple[int, int]) -> list[Odd]:
    """Find the images that stand out.

    Args:
        sizes: width and height of the originals, (N, 2), where they are known.
        image_size: height and width of the set's images.
    """
    found = _odd_pixels(features)
    if sizes is not None:
        found += _odd_sizes(sizes, image_size)
    return [odd for odd in found if len(odd.numbers)]


def split_usual(found: list[Odd], images: int) -> tuple[list[Odd], list[str]]:
    """Tell what is odd from what is usual in this set, which is told in words."""
    odd: list[Odd] = []
    usual: list[str] = []
    for one in found:
        count = len(one.numbers)
        share = count / images
        many = share > USUAL_SHARE and count >= FEWEST_USUAL
        if many and one.kind not in ALWAYS_ODD:
            usual.append(f"{one.kind}: {share:.0%} of the images, so that it is usual here")
        else:
            odd.append(one)
    return odd, usual


def _odd_pixels(features: Features) -> list[Odd]:
    one_colour = features.value_range == 0
    blank = ~one_colour & (features.visible < LEAST_VISIBLE)
    rest = ~one_colour & ~blank
    dark = rest & (features.light_end < DARK)
    bright = rest & (features.dark_end > BRIGHT)
    sharpness = np.log(features.sharpness + 1e-3)
    blurred = rest & (_deviations(sharpness, rest) < -BLURRED_DEVIATIONS)

    median = float(np.median(features.sharpness[rest])) if rest.any() else 1.0
    relative = features.sharpness / max(median, 1e-3)
    return [
        _odd("one colour", one_colour, features.value_range, ""),
        _odd("nearly blank", blank, features.visible, "{0:.1%} of its pixels are visible"),
        _odd("blurred", blurred, relative, "{0:.2f} of the median sharpness"),
        _odd("dark", dark, features.light_end, "99 of 100 pixels are at most {0:.0f} of 255"),
        _odd("bright", bright, -features.dark_end.astype(np.int64), "its darkest are {1:.0f}"),
    ]


def _odd_sizes(sizes: Numbers, image_size: tuple[int, int]) -> list[Odd]:
    longer, shorter = sizes.max(1), sizes.min(1)
    everywhere = np.full(len(sizes), True)
    aspect = longer / np.maximum(shorter, 1)
    elongated = aspect > LONGEST
    small = longer < max(image_size) / 2
    deviations = _deviations(np.log(np.maximum(sizes.prod(1), 1)) / 2, everywhere)
    odd = ~small & (np.abs(deviations) > SIZE_DEVIATIONS)

    found = [
        _odd("elongated", elongated, -aspect, "{1:.1f} times as long as wide"),
        _odd("small original", small, longer, ""),
        _odd("odd size", odd, -np.abs(deviations), ""),
    ]
    for one in found:
        for place, number in enumerate(one.numbers):
            width, height = sizes[number]
            words = f"{width} × {height}"
            before = one.details[place]
            one.details[place] = f"{words}, {before}" if before else words
    return found


def _odd(kind: str, odd: NDArray[np.bool_], measured: NDArray[np.number], detail: str) -> Odd:
    """Order the odd images by what was measured, the smallest first.

    Args:
        detail: a format for the measured value and for its negative, which is what is measured
            where the largest is the worst.
    """
    numbers = np.flatnonzero(odd)
    numbers = numbers[np.argsort(measured[numbers], kind="stable")]
    values = measured[numbers].tolist()
    return Odd(kind, numbers, [detail.format(value, -value) for value in values])


def _deviations(values: NDArray[np.floating], counted: NDArray[np.bool_]) -> NDArray[np.floating]:
    """How far each value lies from the median of those counted, in robust deviations."""
    if not counted.any():
        return np.zeros_like(values)
    median = np.median(values[counted])
    deviation = 1.4826 * np.median(np.abs(values[counted] - median))
    return (values - median) / max(float(deviation), LEAST_DEVIATION)
