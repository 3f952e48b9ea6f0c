"""Messages of a training survive the way to another process and back."""

import dataclasses
import json

import pytest

from fmnist.training.metrics import (
    WORST_ACCURACY,
    EpochMetrics,
    EpochReport,
    StepReport,
    TrainingFailed,
    parse_report,
)

METRICS = EpochMetrics(
    epoch=3,
    train_loss=0.5,
    train_accuracy=0.8,
    validation_loss=0.6,
    validation_accuracy=0.7,
    lr=0.01,
    images_per_s=1234.5,
    seconds=6.7,
)
ALONE = dataclasses.replace(METRICS, validation_loss=None, validation_accuracy=None)


def sent(values: dict[str, object]) -> dict[str, object]:
    """What arrives of a dict that travels as JSON, and that Ray Tune flattens."""
    assert not any(isinstance(value, dict | list | tuple) for value in values.values())
    return json.loads(json.dumps(values))


@pytest.mark.parametrize("metrics", [METRICS, ALONE], ids=["validated", "alone"])
def test_metrics_of_an_epoch(metrics: EpochMetrics) -> None:
    assert EpochMetrics.from_dict(sent(metrics.to_dict())) == metrics
    # Ray adds keys of its own.
    assert EpochMetrics.from_dict(metrics.to_dict() | {"trial_id": "a"}) == metrics


@pytest.mark.parametrize("replayed", [False, True])
def test_report_of_an_epoch(replayed: bool) -> None:
    report = EpochReport(METRICS, kept_epoch=2, replayed=replayed)
    values = sent(report.to_dict())
    assert values["epoch"] == 3
    assert values["validation_accuracy"] == 0.7
    assert EpochReport.from_dict(values) == report
    assert parse_report(values | {"trial_id": "a"}) == report


def test_a_report_of_an_older_version_keeps_its_own_epoch() -> None:
    assert EpochReport.from_dict(METRICS.to_dict()) == EpochReport(METRICS, kept_epoch=3)


def test_report_of_a_step() -> None:
    report = StepReport(1, 20, 100, loss=0.5, accuracy=0.75, images_per_s=1000.0)
    assert StepReport.from_dict(sent(report.to_dict())) == report


@pytest.mark.parametrize(
    ("failed", "outcome"),
    [
        (TrainingFailed(8, "the loss is nan", diverged=True), "diverged: the loss is nan"),
        (TrainingFailed(8, "widths=(4,)"), "error: widths=(4,)"),
    ],
)
def test_report_of_a_failure(failed: TrainingFailed, outcome: str) -> None:
    values = sent(failed.to_dict())
    # The scheduler looks at these two keys of every report.
    assert values["epoch"] == 8
    assert values["validation_accuracy"] == WORST_ACCURACY
    assert parse_report(values | {"trial_id": "a"}) == failed
    assert failed.outcome == outcome
