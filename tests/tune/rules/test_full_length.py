import math

from tests.tune.rules.scripted_curves import CURVES, feed
from tune.rules.full_length import FullLength


def test_only_what_diverges_stops() -> None:
    rule = FullLength()
    assert feed(rule, CURVES) == [4] * 5
    assert rule.report(9, 1, math.nan).decision == "stop"


def test_trials_are_neither_compared_nor_promoted() -> None:
    rule = FullLength()
    assert rule.rungs == []
    assert rule.report(0, 3, math.inf) == ("stop", "epoch 3: its accuracy is inf")
    assert rule.promotion(last=True) is None
