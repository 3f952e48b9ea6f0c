"""How long a trial trains: rules that decide from the reports alone."""

from typing import Literal, NamedTuple, Protocol

Decision = Literal["continue", "pause", "stop"]


class Verdict(NamedTuple):
    """What becomes of a trial after a report."""

    decision: Decision
    why: str = ""
    """The reason, where the decision is not to continue: "rung 3: 7th of 12"."""


GO_ON = Verdict("continue")


class Rule(Protocol):
    """Decides from the reports alone: the same reports in the same order give the same decisions,
    so that replaying a journal restores a search."""

    rungs: list[int]
    """Epochs at which trials are compared."""

    def report(self, number: int, epoch: int, value: float) -> Verdict:
        """Take trial `number`'s accuracy after `epoch`; an accuracy that is not finite ranks last,
        and its trial stops."""
        ...

    def promotion(self, *, last: bool = False) -> int | None:
        """Return the paused trial that may go on now, or None; each is returned once per pause.

        Args:
            last: nothing else is left to do, so let the best of those that came furthest go on.
        """
        ...


def not_finite(epoch: int, value: float) -> Verdict:
    """Return the verdict on a trial whose accuracy is not a finite number."""
    return Verdict("stop", f"epoch {epoch}: its accuracy is {value}")


def ordinal(number: int) -> str:
    """Return 1st, 2nd, 3rd, 4th, … 11th, … 21st."""
    if number % 100 in (11, 12, 13):
        return f"{number}th"
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
