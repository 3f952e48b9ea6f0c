"""Grid search: every candidate of a space of lists once, in random order."""

import random
from typing import Any

from fmnist.errors import check
from tune.space import Candidate, Space, walk


def grid(space: Space, seed: int) -> list[Candidate]:
    """List every candidate of a space of lists, shuffled.

    ASHA compares a trial with those before it, so the order must mean nothing.

    Raises:
        InputError: a field has a range.
    """
    found: list[Candidate] = []
    paths: list[list[int]] = [[]]
    while paths:
        path = paths.pop()
        candidate, branches = _follow(space, path)

        # A path that is not complete yet stands for all its continuations.
        paths += [[*path, branch] for branch in range(branches)]
        if not branches and candidate not in found:
            found.append(candidate)

    random.Random(seed).shuffle(found)
    return found


def _follow(space: Space, path: list[int]) -> tuple[Candidate, int]:
    """Take at each list of a space the index that `path` gives.

    A space is no plain product of lists, since one field may decide which list another has; so the
    grid is explored as a tree, one list a level.

    Returns:
        the candidate, which takes index 0 beyond the path's end; and the length of the first list
        beyond it, 0 if the path is complete.
    """
    indices = iter(path)
    branches = 0

    def choose(name: str, domain: Any) -> Any:
        nonlocal branches
        check(
            isinstance(domain, list),
            f"searcher='grid': {name} has a range, {domain}; "
            "give it a list, or take --searcher random",
        )
        index = next(indices, None)
        if index is not None:
            return domain[index]
        branches = branches or len(domain)
        return domain[0]

    candidate = walk(space, choose)
    return candidate, branches
