import math
import statistics

import pytest

from tests.tune.rules.scripted_curves import feed
from tune.rules.median import MedianStopping


def test_the_definition() -> None:
    rule = MedianStopping(2, others=3)
    curves = [[0.2, 0.4, 0.6], [0.3, 0.5, 0.9], [0.1, 0.1, 0.1]]
    assert feed(rule, curves) == [3, 3, 3], "too few others"

    means = [statistics.mean(curve[:2]) for curve in curves]
    assert statistics.median_low(means) == pytest.approx(0.3)

    assert rule.report(3, 1, 0.0).decision == "continue", "within the grace period"
    assert rule.report(3, 2, 0.29) == ("stop", "epoch 2: below the median 0.3000 of 3")

    rule.report(4, 1, 0.31)
    assert rule.report(4, 2, 0.0).decision == "continue", "its best accuracy so far counts"
    assert rule.report(5, 1, math.nan).decision == "stop"


def test_a_trial_at_the_median_goes_on() -> None:
    rule = MedianStopping(1, others=1)
    assert rule.report(0, 1, 0.5) == ("continue", "")
    assert rule.report(1, 1, 0.5) == ("continue", "")
    assert rule.report(2, 1, 0.4999) == ("stop", "epoch 1: below the median 0.5000 of 2")
    assert rule.report(3, 1, math.nan) == ("stop", "epoch 1: its accuracy is nan")


def test_there_are_no_rungs_and_no_promotions() -> None:
    rule = MedianStopping(1, others=1)
    rule.report(0, 1, 0.5)

    assert rule.rungs == []
    assert rule.promotion() is None
    assert rule.promotion(last=True) is None
