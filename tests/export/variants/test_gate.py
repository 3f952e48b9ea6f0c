"""A variant passes its gate only where the images leave no doubt."""

from export.variants.gate import GATES, Gate, surely_fails, surely_passes


def test_few_images_leave_doubt() -> None:
    gate = Gate(0.99, 0.003)
    assert surely_passes(gate, 0.996, 0.0, 10_000)
    assert not surely_passes(gate, 0.996, 0.0, 500)
    assert surely_passes(gate, 1.0, 0.0, 500)
    assert not surely_passes(gate, 0.996, 0.0025, 10_000)
    assert not surely_passes(gate, 0.985, 0.0, 10_000)


def test_a_few_images_reject_only_what_fails_plainly() -> None:
    gate = GATES["int8"]
    assert surely_fails(gate, 0.95, 512)
    # It is below the gate, but 512 images do not settle it.
    assert not surely_fails(gate, 0.985, 512)
    assert surely_fails(gate, 0.985, 50_000)
    assert not surely_fails(gate, 1.0, 512)
