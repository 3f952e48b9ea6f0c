"""Which candidates a search tries. Each searcher is a function of a seed and of the records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tune.searchers.grid import grid
from tune.searchers.sobol import candidates
from tune.searchers.tpe import STARTUP, Tpe
from tune.space import Candidate, Space
from tune.state import Propose, TrialRecord


@dataclass(frozen=True, slots=True)
class Listed:
    """Proposes the candidates of a list, whatever the trials report."""

    candidates: Sequence[Candidate]

    def __call__(self, number: int, records: Mapping[int, TrialRecord]) -> Candidate | None:
        if number >= len(self.candidates):
            return None
        return self.candidates[number]


def build_searcher(
    name: str, space: Space, trials: int, seed: int, first: Sequence[Candidate] = ()
) -> Propose:
    """Build what proposes up to `trials` candidates.

    Args:
        name: random, grid or tpe.
        first: candidates of an earlier search, to begin with.

    Raises:
        InputError: a grid is asked for, and the space has a range.
    """
    drawn = grid(space, seed) if name == "grid" else candidates(space, trials, seed)
    others = [candidate for candidate in drawn if candidate not in first]
    listed = [*first, *others][:trials]
    if name != "tpe":
        return Listed(listed)

    # TPE has no grounds to choose on at the start: it begins with candidates of the random search.
    startup = listed[: len(first) + STARTUP]
    return Tpe(space, startup, trials, seed)
