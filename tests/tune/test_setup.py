"""What a search starts from: candidates of an earlier search."""

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.storage import open_storage
from fmnist.config import TrainConfig
from fmnist.errors import InputError
from tune.journal import TRIALS
from tune.presets import SearchConfig
from tune.searchers.sobol import candidates
from tune.setup import warm_candidates
from tune.space import SPACES
from tune.state import Candidate, TrialRecord


def test_a_warm_start_begins_with_the_best_of_an_earlier_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    space = SPACES["quick"]
    drawn = candidates(space, 9, 0)
    records = [
        TrialRecord(
            n, TrainConfig().replace(**candidate), [0.5 + n / 100] * (1 + n % 2), outcome="finished"
        )
        for n, candidate in enumerate(drawn)
    ]
    records.append(TrialRecord(9, TrainConfig(lr=0.9), [0.99, 0.99], outcome="finished"))  # outside
    path = tmp_path / "runs/earlier" / TRIALS
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(record.to_dict()) + "\n" for record in records))

    def first(**changes: Any) -> list[Candidate]:
        return warm_candidates(
            SearchConfig(warm_start="earlier", **changes), space, open_storage(None)
        )

    assert first() == [drawn[7], drawn[5], drawn[3]]  # those that came furthest, the best first
    assert first(trials=4) == [drawn[7], drawn[5]]
    path.write_text(json.dumps(records[-1].to_dict()) + "\n")
    with pytest.raises(InputError, match="none of its 1 trials lies in the space"):
        first()
