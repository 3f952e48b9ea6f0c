import pytest
import torch

from fmnist.evaluation.calibration import calibration_error, fit_temperature, reliability


def test_reliability_by_hand() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.95, 0.05], [0.4, 0.6]])
    rows = reliability(probabilities.log(), torch.tensor([0, 1, 0, 1]))
    assert [row["images"] for row in rows] == [1, 2, 1]
    assert [row["accuracy"] for row in rows] == [1, 0.5, 1]
    assert [row["confidence"] for row in rows] == pytest.approx([0.6, 0.9, 0.95])
    for row in rows:
        assert row["low"] < row["confidence"] <= row["high"]
    assert calibration_error(rows) == pytest.approx((0.4 + 2 * 0.4 + 0.05) / 4)


def test_temperature_finds_what_the_logits_were_multiplied_by() -> None:
    source = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(5000, 4, generator=source)
    # Drawn from the model's own probabilities: perfectly calibrated, but for chance.
    labels = logits.softmax(1).multinomial(1, generator=source).flatten()

    overconfident = 3 * logits
    temperature = fit_temperature(overconfident, labels)
    assert temperature == pytest.approx(3, rel=0.08)
    before = calibration_error(reliability(overconfident, labels))
    after = calibration_error(reliability(overconfident / temperature, labels))
    assert after < before / 5
