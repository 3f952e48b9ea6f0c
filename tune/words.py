"""A search in words: durations, configs, curves and failures in a line."""

from fmnist.config import TrainConfig

BARS = "▁▂▃▄▅▆▇█"
OUT_OF_MEMORY = (
    "OutOfMemoryError",
    "out of memory",
    "MemoryError",
    "OOM killer",
    "low on memory",
)
"""What PyTorch, Python, Linux and Ray write when memory runs out."""


def duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def describe(config: TrainConfig) -> str:
    """The values of a config that matter most."""
    return (
        f"{config.network_name}, {config.optimizer}, lr {config.lr:.3g}, "
        f"batch {config.global_batch_size}, {config.schedule}"
    )


def sparkline(values: list[float], scale: tuple[float, float], width: int = 16) -> str:
    """A bar for each value; a curve that is longer than `width` is thinned.

    Args:
        scale: values of the lowest and of the highest bar; those beyond get the same bars.
    """
    shown = values
    if len(values) > width:
        # Evenly spaced, the first and the last value among them.
        last = len(values) - 1
        shown = [values[round(place * last / (width - 1))] for place in range(width)]

    low, high = scale
    # Not 0, where all values are the same.
    span = max(high - low, 1e-9)
    bars: list[str] = []
    for value in shown:
        level = int((value - low) / span * len(BARS))
        bars.append(BARS[min(max(level, 0), len(BARS) - 1)])

    return "".join(bars)


def failure(text: str) -> str:
    """Why a trial failed, in one line, from the traceback that Ray wrote."""
    stripped = map(str.strip, text.splitlines())
    lines = [line for line in stripped if line]
    # A traceback ends with the exception that ended the process.
    last = lines[-1] if lines else "the process died"

    # Memory first: whatever the kernel kills for memory is a dead actor too.
    if any(sign in text for sign in OUT_OF_MEMORY):
        return f"error: killed for memory: {_first_with('memory', lines, last)}"
    if "ActorDiedError" in text or "ActorUnavailableError" in text:
        return f"error: its process died: {_first_with('exit', lines, last)}"

    return f"error: {last}"


def _first_with(word: str, lines: list[str], otherwise: str) -> str:
    for line in lines:
        if word in line.lower():
            return line
    return otherwise
